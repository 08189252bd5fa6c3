//! Tests of dumps and restores.

use crate::fixture::{BINDING, INSTANCE, OTHER, World, connect, number, run};
use postgres_broker::{DumpPlace, Operator, Source};
use s3_client::{S3, S3Settings};
use serde_json::json;
use sqlx::PgConnection;
use testkit::moto::Moto;

async fn count(conn: &mut PgConnection) -> i64 {
    number(conn, "SELECT COUNT(*) FROM t").await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_is_restored_and_bindings_stay_valid() {
    let world = World::start().await;
    world.provision(INSTANCE, "large").await;
    let credentials = world.bind(INSTANCE, BINDING).await;
    let mut app = connect(&credentials).await.unwrap();
    // Row security hides rows from their owner as well, but not from a dump.
    run(
        &mut app,
        "CREATE TABLE t (x int); INSERT INTO t VALUES (1), (2), (3);
         ALTER TABLE t ENABLE ROW LEVEL SECURITY; ALTER TABLE t FORCE ROW LEVEL SECURITY;
         CREATE POLICY p ON t USING (x < 3)",
    )
    .await
    .unwrap();
    assert_eq!(count(&mut app).await, 2);
    let operator = world.operator();
    let made = operator.dump(Some("demo/dev/db")).await.unwrap();
    assert_eq!(made[0].0, INSTANCE);
    run(&mut app, "DROP TABLE t").await.unwrap();

    let (guid, dump) = operator.restore("db", &Source::NEWEST).await.unwrap();
    assert_eq!((guid.as_str(), &dump), (INSTANCE, &made[0].1));
    assert!(run(&mut app, "SELECT 1").await.is_err(), "old sessions end");
    let mut app = connect(&credentials).await.unwrap();
    assert_eq!(count(&mut app).await, 2);
    run(
        &mut app,
        "DROP POLICY p ON t; ALTER TABLE t NO FORCE ROW LEVEL SECURITY",
    )
    .await
    .unwrap();
    assert_eq!(count(&mut app).await, 3);
    run(&mut app, "ALTER TABLE t ADD COLUMN y int")
        .await
        .unwrap();

    // The limits of the plan hold for the new database too.
    let limit = "SELECT datconnlimit::bigint FROM pg_database WHERE datname = current_database()";
    assert_eq!(number(&mut app, limit).await.unwrap(), 7);
    let listed = operator.list().await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(
        (listed[0].path.as_str(), &*listed[0].plan),
        ("demo/dev/db", "large")
    );
    assert_eq!(listed[0].dumps[0].0, made[0].1);
    let left = "SELECT COUNT(*) FROM pg_roles WHERE rolname LIKE 't\\_%'";
    assert_eq!(
        number(&mut app, left).await.unwrap(),
        0,
        "temporary users are gone"
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_has_no_more_rights_than_its_instance() {
    let world = World::start().await;
    world.provision(INSTANCE, "large").await;
    let credentials = world.bind(INSTANCE, BINDING).await;
    let mut app = connect(&credentials).await.unwrap();
    // The function runs while the rows are restored. A superuser would become one for good.
    run(
        &mut app,
        "CREATE TABLE seen (who text);
         CREATE FUNCTION look(x int) RETURNS boolean LANGUAGE plpgsql AS $$
           BEGIN
             PERFORM set_config('role', 'none', false);
             IF (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = session_user) THEN
               RAISE EXCEPTION 'a superuser reads the dump';
             END IF;
             RETURN true;
           END $$;
         CREATE TABLE t (x int CHECK (public.look(x)));
         INSERT INTO t VALUES (1)",
    )
    .await
    .unwrap();
    let operator = world.operator();
    operator.dump(Some(INSTANCE)).await.unwrap();
    operator.restore(INSTANCE, &Source::NEWEST).await.unwrap();
    let mut app = connect(&credentials).await.unwrap();
    assert_eq!(count(&mut app).await, 1);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_uses_all_of_its_connections_is_dumped_too() {
    let world = World::start().await;
    world.provision(INSTANCE, "small").await;
    let credentials = world.bind(INSTANCE, BINDING).await;
    let (_one, _two) = (
        connect(&credentials).await.unwrap(),
        connect(&credentials).await.unwrap(),
    );
    let refused = connect(&credentials).await.unwrap_err().to_string();
    assert!(refused.contains("too many connections"), "{refused}");
    let operator = world.operator();
    assert_eq!(operator.dump(None).await.unwrap().len(), 1);
    operator.restore("db", &Source::NEWEST).await.unwrap();
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_fails_changes_nothing() {
    let world = World::start().await;
    world.provision(INSTANCE, "large").await;
    let credentials = world.bind(INSTANCE, BINDING).await;
    let mut app = connect(&credentials).await.unwrap();
    run(&mut app, "CREATE TABLE t (x int); INSERT INTO t VALUES (1)")
        .await
        .unwrap();
    let operator = world.operator();
    let broken = world.settings.data_dir.join("broken.dump");
    std::fs::write(&broken, "no dump").unwrap();
    let error = operator
        .restore(INSTANCE, &Source::File(broken))
        .await
        .unwrap_err();
    assert!(
        format!("{error:#}").contains("pg_restore failed"),
        "{error:#}"
    );
    assert_eq!(count(&mut app).await, 1, "the session is still there");
    for (instance, source, wanted) in [
        (INSTANCE, Source::NEWEST, "has no dump"),
        (
            INSTANCE,
            Source::Dump {
                of: None,
                name: Some("2026-01-01T00-00-00Z".to_owned()),
            },
            "has no dump 2026",
        ),
        (
            INSTANCE,
            Source::Dump {
                of: Some("db".to_owned()),
                name: None,
            },
            "is no guid",
        ),
        (OTHER, Source::NEWEST, "no instance has the guid"),
        ("nobody", Source::NEWEST, "no instance is named"),
    ] {
        let error = operator.restore(instance, &source).await.unwrap_err();
        assert!(format!("{error:#}").contains(wanted), "{error:#}");
    }
    let databases = "SELECT COUNT(*) FROM pg_database WHERE datname LIKE 'r\\_%'";
    assert_eq!(number(&mut app, databases).await.unwrap(), 0);
    world.stop().await;
}

/// Removes an instance of which there is a dump, and restores another one from it, as after the loss of a server.
async fn comes_back_as_another(world: &World, operator: &Operator) {
    world.provision(INSTANCE, "small").await;
    let credentials = world.bind(INSTANCE, BINDING).await;
    let mut app = connect(&credentials).await.unwrap();
    run(&mut app, "CREATE TABLE t (x int); INSERT INTO t VALUES (1)")
        .await
        .unwrap();
    let made = operator.dump(None).await.unwrap();
    let query = world.query("small").await;
    for path in [
        format!("/service_instances/{INSTANCE}/service_bindings/{BINDING}{query}"),
        format!("/service_instances/{INSTANCE}{query}"),
    ] {
        let (status, answer) = world.call("DELETE", &path, None).await;
        assert_eq!((status, answer), (200, json!({})));
    }

    let listed = operator.list().await.unwrap();
    assert_eq!((listed.len(), listed[0].path.as_str()), (1, "(removed)"));
    assert_eq!(listed[0].dumps.len(), 1);
    assert_eq!(listed[0].dumps[0].0, made[0].1);
    world.provision(OTHER, "small").await;
    let credentials = world.bind(OTHER, BINDING).await;
    for name in [Some(made[0].1.clone()), None] {
        let of = Some(INSTANCE.to_owned());
        let source = Source::Dump { of, name };
        operator.restore("demo/dev/db", &source).await.unwrap();
        let mut app = connect(&credentials).await.unwrap();
        assert_eq!(count(&mut app).await, 1);
        run(&mut app, "INSERT INTO t VALUES (2)").await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_instance_comes_back_as_another() {
    let world = World::start().await;
    comes_back_as_another(&world, &world.operator()).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_keeps_dumps() {
    let Some(moto) = Moto::start().await else {
        eprintln!("skipped: moto is not installed; scripts/setup-tests installs it");
        return;
    };
    moto.create("dumps").await;
    let s3 = S3Settings {
        endpoint: moto.endpoint(),
        bucket: "dumps".to_owned(),
        region: "eu-central-1".to_owned(),
        access_key: "cupola".to_owned(),
        secret_key: "open-sesame".to_owned(),
        ca_pem: None,
    };
    let world = World::start().await;
    let mut settings = world.settings.clone();
    settings.dumps.place = DumpPlace::Bucket {
        s3: Box::new(S3::new(s3).unwrap()),
        prefix: "postgres/".to_owned(),
    };
    let work = settings.data_dir.join("dumps");
    let operator = Operator::open(settings).unwrap();
    comes_back_as_another(&world, &operator).await;
    // Dumps that were on their way are no longer on the disk.
    let left = std::fs::read_dir(work).unwrap().count();
    assert_eq!(left, 0);
    world.stop().await;
}
