//! Tests of instances and bindings: what the platform is answered, and what a user of a database may do.

use crate::fixture::{BINDING, INSTANCE, OTHER, SECOND, World, binding_path, connect, number, run};
use postgres_broker::Source;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_is_created_bound_changed_and_removed() {
    let world = World::start().await;
    let path = format!("/service_instances/{INSTANCE}");
    let (query, body) = (world.query("small").await, world.body("small").await);
    let absent = world.call("GET", &path, None).await;
    assert_eq!(absent.0, 404, "{absent:?}");
    let created = world.call("PUT", &path, Some(&body)).await;
    assert_eq!(created, (201, json!({})));
    let again = world.call("PUT", &path, Some(&body)).await;
    assert_eq!(again, (200, json!({})));
    let large = world.body("large").await;
    let (status, _) = world.call("PUT", &path, Some(&large)).await;
    assert_eq!(status, 409);
    let (status, shown) = world.call("GET", &path, None).await;
    assert_eq!((status, &shown["plan_id"]), (200, &body["plan_id"]));
    let last = format!("{path}/last_operation{query}");
    let (status, shown) = world.call("GET", &last, None).await;
    assert_eq!((status, shown), (200, json!({"state": "succeeded"})));

    let binding = binding_path(INSTANCE, BINDING);
    let first = world.call("PUT", &binding, Some(&body)).await;
    assert_eq!(first.0, 201, "{}", first.1);
    assert_eq!(first.1["endpoints"][0]["protocol"], "tcp");
    let second = world.call("PUT", &binding, Some(&body)).await;
    assert_eq!(second.0, 200);
    assert_eq!(first.1, second.1, "a repeated request has the same answer");
    let fetched = world.call("GET", &binding, None).await;
    assert_eq!(fetched, (200, first.1.clone()));
    let elsewhere = binding_path(OTHER, BINDING);
    let (status, _) = world.call("PUT", &elsewhere, Some(&body)).await;
    assert_eq!(status, 404, "the instance does not exist");

    // The plan's limit holds, and that of the new plan after a change.
    let credentials = &first.1["credentials"];
    let (_one, _two) = (
        connect(credentials).await.unwrap(),
        connect(credentials).await.unwrap(),
    );
    let refused = connect(credentials).await.unwrap_err().to_string();
    assert!(refused.contains("too many connections"), "{refused}");
    let changed = world.call("PATCH", &path, Some(&large)).await;
    assert_eq!(changed, (200, json!({})));
    connect(credentials).await.unwrap();
    let mut unknown = large.clone();
    unknown["plan_id"] = json!("other");
    let (status, _) = world.call("PATCH", &path, Some(&unknown)).await;
    assert_eq!(status, 400, "no plan has this id");

    let (status, _) = world.call("DELETE", &path, None).await;
    assert_eq!(status, 400, "both ids are required");
    let gone = world.call("DELETE", &format!("{path}{query}"), None).await;
    assert_eq!(gone, (200, json!({})));
    let again = world.call("DELETE", &format!("{path}{query}"), None).await;
    assert_eq!(again, (410, json!({})));
    assert!(connect(credentials).await.is_err());
    let (status, _) = world.call("GET", &binding, None).await;
    assert_eq!(status, 404);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn users_share_their_database_and_reach_no_other() {
    let world = World::start().await;
    world.provision(INSTANCE, "large").await;
    world.provision(OTHER, "large").await;
    let (first, second) = (
        world.bind(INSTANCE, BINDING).await,
        world.bind(INSTANCE, SECOND).await,
    );
    let (mut one, mut two) = (
        connect(&first).await.unwrap(),
        connect(&second).await.unwrap(),
    );
    run(
        &mut one,
        "CREATE TABLE t (x int); INSERT INTO t VALUES (1), (2)",
    )
    .await
    .unwrap();
    run(&mut two, "ALTER TABLE t ADD COLUMN y int; CREATE SCHEMA s")
        .await
        .unwrap();
    assert_eq!(number(&mut two, "SELECT COUNT(*) FROM t").await.unwrap(), 2);
    // One of the users makes a table of its own all the same.
    run(
        &mut one,
        "SET ROLE NONE; CREATE TABLE s.own (x int); RESET ROLE",
    )
    .await
    .unwrap();

    let database = first["database"].as_str().unwrap();
    for refused in [
        format!("ALTER DATABASE {database} CONNECTION LIMIT 100"),
        format!("DROP DATABASE {database}"),
        format!("COMMENT ON DATABASE {database} IS 'mine'"),
        "CREATE DATABASE mine".to_owned(),
        "CREATE ROLE mine".to_owned(),
        "ALTER ROLE CURRENT_USER SUPERUSER".to_owned(),
        "COPY t TO PROGRAM 'true'".to_owned(),
        "SET temp_file_limit = -1".to_owned(),
    ] {
        let error = run(&mut two, &refused).await.unwrap_err().to_string();
        assert!(
            error.contains("must be") || error.contains("permission denied"),
            "{refused}: {error}"
        );
    }
    let mut foreign = second.clone();
    let other = OTHER.replace('-', "");
    let uri = second["uri"].as_str().unwrap();
    foreign["uri"] = json!(uri.replace(database, &format!("db_{other}")));
    let error = connect(&foreign).await.unwrap_err().to_string();
    assert!(error.contains("permission denied"), "{error}");

    // An unbound user is out at once, and what it made stays.
    let query = world.query("large").await;
    let binding = binding_path(INSTANCE, BINDING);
    let unbound = world
        .call("DELETE", &format!("{binding}{query}"), None)
        .await;
    assert_eq!(unbound, (200, json!({})));
    assert!(run(&mut one, "SELECT 1").await.is_err());
    assert!(connect(&first).await.is_err());
    assert_eq!(number(&mut two, "SELECT COUNT(*) FROM t").await.unwrap(), 2);
    run(&mut two, "ALTER TABLE s.own ADD COLUMN y int")
        .await
        .unwrap();
    let again = world
        .call("DELETE", &format!("{binding}{query}"), None)
        .await;
    assert_eq!(again, (410, json!({})));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_requests_at_once_leave_nothing_behind() {
    let world = World::start().await;
    let (query, body) = (world.query("small").await, world.body("small").await);
    let path = format!("/service_instances/{INSTANCE}");
    // Several want one instance at once, and exactly one of them makes it.
    let calls = (0..8).map(|_| world.call("PUT", &path, Some(&body)));
    let statuses: Vec<u16> = futures::future::join_all(calls)
        .await
        .into_iter()
        .map(|(status, _)| status)
        .collect();
    let made = statuses.iter().filter(|status| **status == 201).count();
    assert_eq!(made, 1, "{statuses:?}");
    assert!(
        statuses.iter().all(|status| [200, 201].contains(status)),
        "{statuses:?}"
    );

    let bindings: Vec<String> = (0..20)
        .map(|n| format!("30000000-0000-4000-8000-{n:012}"))
        .collect();
    let paths: Vec<String> = bindings
        .iter()
        .map(|binding| binding_path(INSTANCE, binding))
        .collect();
    let calls = paths
        .iter()
        .map(|path| world.call("PUT", path, Some(&body)));
    for (status, answer) in futures::future::join_all(calls).await {
        assert_eq!(status, 201, "{answer}");
    }
    let (status, answer) = world.call("DELETE", &format!("{path}{query}"), None).await;
    assert_eq!((status, answer), (200, json!({})));
    // The instance left no users: each binding could be made anew.
    world.provision(OTHER, "small").await;
    let binding = binding_path(OTHER, &bindings[0]);
    let (status, answer) = world.call("PUT", &binding, Some(&body)).await;
    assert_eq!(status, 201, "{answer}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_number_of_instances_is_bounded() {
    let world = World::start().await;
    let body = world.body("small").await;
    let path = |n: u32| format!("/service_instances/40000000-0000-4000-8000-{n:012}");
    for n in 0..3 {
        let (status, answer) = world.call("PUT", &path(n), Some(&body)).await;
        assert_eq!(status, 201, "{answer}");
    }
    let (status, answer) = world.call("PUT", &path(3), Some(&body)).await;
    assert_eq!(status, 400);
    let text = answer["description"].as_str().unwrap();
    assert!(text.contains("at most 3 are permitted"), "{text}");
    let (status, _) = world.call("PUT", &path(2), Some(&body)).await;
    assert_eq!(status, 200, "one that exists is still answered");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_the_platform_has_forgotten_is_removed() {
    let world = World::start().await;
    world.provision(INSTANCE, "small").await;
    let credentials = world.bind(INSTANCE, BINDING).await;
    connect(&credentials).await.unwrap();
    let operator = world.operator();
    for (guid, wanted) in [("db", "is no guid"), (OTHER, "it does not exist")] {
        let error = operator.remove(guid).await.unwrap_err();
        assert!(format!("{error:#}").contains(wanted), "{error:#}");
    }
    operator.remove(INSTANCE).await.unwrap();
    assert!(operator.list().await.unwrap().is_empty());
    assert!(connect(&credentials).await.is_err());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_need_not_be_a_superuser() {
    let world = World::start_limited().await;
    world.provision(INSTANCE, "large").await;
    let (first, second) = (
        world.bind(INSTANCE, BINDING).await,
        world.bind(INSTANCE, SECOND).await,
    );
    let mut one = connect(&first).await.unwrap();
    run(
        &mut one,
        "CREATE TABLE t (x int); INSERT INTO t VALUES (1);
         SET ROLE NONE; CREATE TABLE own (x int); RESET ROLE",
    )
    .await
    .unwrap();
    let operator = world.operator();
    operator.dump(None).await.unwrap();
    operator.restore("db", &Source::NEWEST).await.unwrap();
    let (mut one, mut two) = (
        connect(&first).await.unwrap(),
        connect(&second).await.unwrap(),
    );
    assert_eq!(number(&mut two, "SELECT COUNT(*) FROM t").await.unwrap(), 1);
    let query = world.query("large").await;
    let binding = binding_path(INSTANCE, BINDING);
    for path in [binding, format!("/service_instances/{INSTANCE}")] {
        let removed = world.call("DELETE", &format!("{path}{query}"), None).await;
        assert_eq!(removed, (200, json!({})), "{path}");
        assert!(run(&mut one, "SELECT 1").await.is_err());
    }
    assert!(run(&mut two, "SELECT 1").await.is_err());
    world.stop().await;
}
