//! The database of several BBSs, one that an earlier program wrote, and a server that goes away.

use crate::fixture::desired;
use kit::db::{AssertSqlSafe, Database, Location, Schema, Server, query};
use prost::Message as _;
use std::path::Path;
use testkit::certs::shared_identity;
use testkit::components::Bbs;
use testkit::net::unused_address;
use testkit::postgres::{self, Postgres};
use testkit::wait::wait_for;
use wire::bbs as m;

async fn start(data: &Path) -> Bbs {
    Bbs::start(data, &shared_identity(), &auctioneer()).await
}

/// Returns the URL of no auctioneer. The effects of these tests are not looked at.
fn auctioneer() -> String {
    format!("https://{}", unused_address())
}

async fn guids(bbs: &Bbs) -> Result<Vec<String>, String> {
    let (client, all) = (bbs.client(), m::DesiredLrpsRequest::default());
    let lrps = client.desired_lrps(&all).await;
    let lrps = lrps.map_err(|error| format!("{error:?}"))?;
    Ok(lrps.into_iter().map(|lrp| lrp.process_guid).collect())
}

/// Waits until the BBS serves these desired LRPs.
async fn wait_for_guids(bbs: &Bbs, expected: &[&str]) {
    wait_for("the desired LRPs", async || {
        guids(bbs).await.is_ok_and(|guids| guids == expected)
    })
    .await;
}

#[tokio::test]
async fn one_bbs_is_active_and_the_next_one_takes_over_what_it_stored() {
    let data = tempfile::tempdir().unwrap();
    let first = start(data.path()).await;
    wait_for_guids(&first, &[]).await;
    let second = start(data.path()).await;
    first.client().desire_lrp(desired("p", 1)).await.unwrap();
    assert!(guids(&second).await.is_err(), "it waits");
    assert!(!second.observed.readiness.unmet().is_empty());
    assert_eq!(guids(&first).await.unwrap(), ["p"]);
    first.stop().await;
    // It reads the database after it has the lock, so nothing is missing.
    wait_for_guids(&second, &["p"]).await;
    second.client().desire_lrp(desired("q", 1)).await.unwrap();
    second.stop().await;
}

#[tokio::test]
async fn a_bbs_that_waits_ends_well() {
    let data = tempfile::tempdir().unwrap();
    let first = start(data.path()).await;
    wait_for_guids(&first, &[]).await;
    start(data.path()).await.stop().await;
    first.stop().await;
}

/// Tests a BBS whose connection with the lock breaks: the other one takes over, and the first one neither writes nor stays.
#[tokio::test]
async fn a_bbs_that_lost_its_lock_writes_nothing_more() {
    let data = tempfile::tempdir().unwrap();
    let Some(url) = postgres::of(data.path()) else {
        return;
    };
    let first = start(data.path()).await;
    wait_for_guids(&first, &[]).await;
    let second = start(data.path()).await;
    let client = first.client();
    wait_for("the second BBS to take over", async || {
        // Other tests have locks on other databases of the same server.
        let end =
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted
                   AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
        // The first one may be faster, and take its lock again.
        if guids(&second).await.is_err() {
            postgres::run(&url, end).unwrap();
        }
        guids(&second).await.is_ok()
    })
    .await;
    let late = client.desire_lrp(desired("late", 1)).await;
    assert!(late.is_err(), "it is not the active one");
    let ended = format!("{:#}", first.ended().await.unwrap_err());
    assert!(ended.contains("another BBS has taken over"), "{ended}");
    assert_eq!(guids(&second).await.unwrap(), [] as [&str; 0]);
    second.stop().await;
}

#[tokio::test]
async fn an_outage_of_the_server_refuses_changes_and_ends_by_itself() {
    if !postgres::is_chosen() {
        return;
    }
    let mut server = Postgres::start();
    let database = Server::parse(&server.database("bbs"), None).unwrap();
    let data = tempfile::tempdir().unwrap();
    let bbs = Bbs::start_on(
        Some(database),
        data.path(),
        &shared_identity(),
        &auctioneer(),
    )
    .await;
    wait_for_guids(&bbs, &[]).await;
    let client = bbs.client();
    client.desire_lrp(desired("p", 1)).await.unwrap();
    server.stop();
    for _ in 0..3 {
        let refused = client.desire_lrp(desired("q", 1)).await;
        let text = refused.unwrap_err().to_string();
        assert!(
            text.contains("cannot be written") && !text.contains("sesame"),
            "{text}"
        );
        assert!(client.remove_desired_lrp("p").await.is_err());
        let unread = guids(&bbs).await.unwrap_err();
        assert!(unread.contains("cannot be written"), "{unread}");
    }
    server.start_again();
    wait_for("changes to be accepted again", async || {
        client.desire_lrp(desired("after", 1)).await
    })
    .await;
    assert_eq!(guids(&bbs).await.unwrap(), ["after", "p"]);
    bbs.stop().await;
}

/// The statements of the last program without versions.
const UNVERSIONED: &[&str] = &[
    "CREATE TABLE desired_lrps (process_guid TEXT PRIMARY KEY, lrp BLOB NOT NULL) WITHOUT ROWID",
    "CREATE TABLE actual_lrps (process_guid TEXT NOT NULL, instance_index INTEGER NOT NULL, presence INTEGER NOT NULL, lrp BLOB NOT NULL,
       PRIMARY KEY (process_guid, instance_index, presence)) WITHOUT ROWID",
    "CREATE TABLE tasks (guid TEXT PRIMARY KEY, task BLOB NOT NULL) WITHOUT ROWID",
    "CREATE TABLE domains (domain TEXT PRIMARY KEY, expires_at INTEGER) WITHOUT ROWID",
    "CREATE TABLE locks (key TEXT PRIMARY KEY, resource BLOB NOT NULL, ttl_seconds INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
];

#[tokio::test]
async fn files_without_versions_are_upgraded() {
    if postgres::is_chosen() {
        return;
    }
    const NONE: Schema = Schema {
        migrations: &[],
        unversioned: &[],
    };
    let data = tempfile::tempdir().unwrap();
    let location = Location::new(None, "bbs", data.path().join("bbs.db"));
    let database = Database::open(&location, &NONE).await.unwrap();
    for statement in UNVERSIONED {
        let statement = query(AssertSqlSafe((*statement).to_owned()));
        database.execute(statement).await.unwrap();
    }
    let insert = query("INSERT INTO desired_lrps (process_guid, lrp) VALUES ($1, $2)");
    let insert = insert.bind("p").bind(desired("p", 1).encode_to_vec());
    database.execute(insert).await.unwrap();
    database.close().await;
    for _ in 0..2 {
        let bbs = start(data.path()).await;
        wait_for_guids(&bbs, &["p"]).await;
        bbs.stop().await;
    }
}
