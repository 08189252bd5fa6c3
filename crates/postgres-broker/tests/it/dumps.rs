//! Tests of dumps and restores.

use crate::fixture::{BINDING, INSTANCE, OTHER, World, connect, number, run};
use postgres_broker::Source;
use sqlx::PgConnection;

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

    let (guid, dump) = operator.restore("db", &Source::Newest).await.unwrap();
    assert_eq!((guid.as_str(), &dump), (INSTANCE, &made[0].1));
    assert!(
        number(&mut app, "SELECT 1").await.is_err(),
        "old sessions end"
    );
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
    assert_eq!(number(&mut app, limit).await.unwrap(), 5);
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
    operator.restore(INSTANCE, &Source::Newest).await.unwrap();
    let mut app = connect(&credentials).await.unwrap();
    assert_eq!(count(&mut app).await, 1);
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
        (INSTANCE, Source::Newest, "has no dump"),
        (
            INSTANCE,
            Source::Named("2026-01-01T00-00-00Z".to_owned()),
            "has no dump 2026",
        ),
        (OTHER, Source::Newest, "no instance has the guid"),
        ("nobody", Source::Newest, "no instance is named"),
    ] {
        let error = operator.restore(instance, &source).await.unwrap_err();
        assert!(format!("{error:#}").contains(wanted), "{error:#}");
    }
    let databases = "SELECT COUNT(*) FROM pg_database WHERE datname LIKE 'r\\_%'";
    assert_eq!(number(&mut app, databases).await.unwrap(), 0);
    world.stop().await;
}
