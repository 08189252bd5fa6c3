//! A server that goes away and comes back.

use crate::statements::SCHEMA;
use kit::db::{Database, Location, Server, query, query_scalar};
use kit::disk::Trouble;
use testkit::postgres::{self, Postgres};
use testkit::wait::wait_for;

#[tokio::test]
async fn an_outage_is_named_and_ends_by_itself() {
    if !postgres::is_chosen() {
        return;
    }
    let mut server = Postgres::start();
    let url = Server::parse(&server.database("outage"), None).unwrap();
    let location = Location::Server(url, "things");
    let database = Database::open(&location, &SCHEMA).await.unwrap();
    let insert = |name: &'static str| query("INSERT INTO things (name) VALUES ($1)").bind(name);
    database.execute(insert("before")).await.unwrap();
    let mut lock = database.try_lock("held").await.unwrap().unwrap();
    let transaction = database.begin().await.unwrap();

    server.stop();
    assert!(transaction.commit().await.is_err());
    assert!(lock.check().await.is_err(), "the server has released it");
    wait_for("the outage to be noticed", async || database.trouble()).await;
    for _ in 0..3 {
        let error = database.execute(insert("during")).await.unwrap_err();
        assert_eq!(Trouble::of_database(&error), Some(Trouble::Unreachable));
        let error = database.read().await.unwrap_err();
        assert_eq!(Trouble::of_database(&error), Some(Trouble::Unreachable));
        let text = error.to_string();
        assert!(
            text.contains(&location.to_string()) && !text.contains("sesame"),
            "{text}"
        );
    }
    assert!(database.try_lock("held").await.is_err());

    server.start_again();
    wait_for("the server to be reached again", async || {
        database.trouble().is_none()
    })
    .await;
    database.execute(insert("after")).await.unwrap();
    let mut reader = database.read().await.unwrap();
    let names: Vec<String> = query_scalar("SELECT name FROM things ORDER BY id")
        .fetch_all(&mut reader)
        .await
        .unwrap();
    assert_eq!(names, ["before", "after"]);
    assert!(database.try_lock("held").await.unwrap().is_some());
}
