use crate::db::app::App;
use crate::db::domain;
use crate::db::job::{Job, JobState};
use crate::db::network_policy;
use crate::db::organization::{self, Organization};
use crate::db::package::Package;
use crate::db::process::Process;
use crate::db::route;
use crate::db::security_group::{self, Phase};
use crate::db::space;
use crate::db::usage_event::AppUsageEvent;
use crate::db::{self, Connection, Db, Select, label};
use kit::db::Location;
use std::path::Path;
use std::time::Duration;

/// Runs statements on a file, as an earlier program did.
fn write(path: &Path, statements: &str) {
    let file = rusqlite::Connection::open(path).unwrap();
    file.execute_batch(statements).unwrap();
}

async fn open(path: &Path) -> Db {
    let location = Location::File(path.to_owned());
    let (db, _writer) = Db::open(&location, Duration::from_secs(10)).await.unwrap();
    db
}

#[tokio::test]
async fn a_file_of_the_last_program_without_versions_is_upgraded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cc.db");
    write(&path, include_str!("unversioned.sql"));
    // The second start finds nothing to do.
    for _ in 0..2 {
        let db = open(&path).await;
        let mut conn = db.read().await.unwrap();
        check_rows(&mut conn).await;
        drop(conn);
        db.close().await;
    }
    let db = open(&path).await;
    check_triggers(&db).await;
    db.close().await;
}

async fn check_rows(conn: &mut Connection) {
    let found = organization::by_name(conn, "dEMO").await.unwrap().unwrap();
    assert_eq!((found.guid.as_str(), found.name.as_str()), ("o", "Demo"));
    let blue = Select::new().that(label::is_among("team", &["blue".to_owned()]));
    assert_eq!(blue.count::<Organization>(conn).await.unwrap(), 1);
    assert!(space::by_name(conn, "o", "dev").await.unwrap().is_some());
    let domain = domain::by_name(conn, "apps.example").await.unwrap();
    assert_eq!(domain.unwrap().guid, "d");
    let found = route::find(conn, "www", "d", "/path", 0).await.unwrap();
    assert_eq!(found.unwrap().host, "Www");

    // Relationships keep the order of their creation, which is not that of the guids.
    let pair = |guid: &str| ("d".to_owned(), guid.to_owned());
    let shares = domain::shares(conn, &["d".to_owned()]).await.unwrap();
    assert_eq!(shares, [pair("o"), pair("a")]);
    assert_eq!(route::shares(conn, "r").await.unwrap(), ["b"]);
    let spaces = security_group::spaces(conn, "g", Phase::Running).await;
    assert_eq!(spaces.unwrap(), ["s", "b"]);
    let policies = network_policy::all(conn).await.unwrap();
    let numbers: Vec<_> = policies.iter().map(|(p, n)| (p.first_port, *n)).collect();
    assert_eq!(numbers, [(9000, 7), (8000, 7)]);

    let process: Process = db::by_guid(conn, "app").await.unwrap().unwrap();
    assert_eq!(process.user.as_deref(), Some("vcap"));
    let job: Job = db::by_guid(conn, "j").await.unwrap().unwrap();
    assert_eq!((job.state, job.parts), (JobState::Complete, 0));
}

async fn check_triggers(db: &Db) {
    let mut upkeep = db.upkeep().await.unwrap();
    let mut process: Process = db::by_guid(&mut upkeep, "app").await.unwrap().unwrap();
    process.instances = 3;
    db::update(&mut upkeep, &process).await.unwrap();
    assert!(db::delete::<Package>(&mut upkeep, "k").await.unwrap());
    upkeep.commit().await.unwrap();

    let mut conn = db.read().await.unwrap();
    let events: Vec<AppUsageEvent> = Select::new().all(&mut conn).await.unwrap();
    let [event] = &events[..] else {
        panic!("{events:?}");
    };
    assert_eq!((event.instances, event.previous_instances), (3, Some(2)));
    let dead = crate::db::cleanup::dead_blobs(&mut conn, 10).await.unwrap();
    assert_eq!(dead, [("packages".to_owned(), "k".to_owned())]);
}

#[tokio::test]
async fn names_that_differ_in_case_are_the_same_in_new_files_too() {
    let folder = tempfile::tempdir().unwrap();
    let db = open(&folder.path().join("cc.db")).await;
    let mut upkeep = db.upkeep().await.unwrap();
    let named = |name: &str| Organization {
        name: name.to_owned(),
        ..Organization::fresh()
    };
    db::insert(&mut upkeep, &named("Demo")).await.unwrap();
    let again = db::insert(&mut upkeep, &named("dEMO")).await.unwrap_err();
    let is_refused = again
        .as_database_error()
        .is_some_and(|error| error.is_unique_violation());
    assert!(is_refused, "{again}");
    let apps: Vec<App> = Select::new().all(&mut upkeep).await.unwrap();
    assert!(apps.is_empty());
    drop(upkeep);
    db.close().await;
}
