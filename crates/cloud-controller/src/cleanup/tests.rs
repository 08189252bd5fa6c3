//! These tests run passes over a database and a blob store, at a time that the test chooses.

use super::*;
use crate::bits::store::Kind;
use crate::db::app::App;
use crate::db::audit_event::AuditEvent;
use crate::db::build::Build;
use crate::db::deployment::Deployment;
use crate::db::droplet::Droplet;
use crate::db::job::Job;
use crate::db::organization::Organization;
use crate::db::package::Package;
use crate::db::space::Space;
use crate::db::task::Task;
use crate::db::{self, Row, Select};

const DAY: i64 = 24 * 3600 * 1_000_000;

struct Bench {
    _folder: tempfile::TempDir,
    db: Db,
    store: Store,
    app: App,
}

impl Bench {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let location = kit::db::Location::File(folder.path().join("cc.db"));
        let (db, _writer) = Db::open(&location, Duration::from_secs(10)).await.unwrap();
        let store = Store::open(folder.path(), Some(0)).unwrap();
        let organization = Organization {
            name: "o".into(),
            ..Organization::fresh()
        };
        let space = Space {
            name: "s".into(),
            organization_guid: organization.guid.clone(),
            ..Space::fresh()
        };
        let app = App {
            name: "a".into(),
            space_guid: space.guid.clone(),
            ..App::fresh()
        };
        let bench = Self {
            _folder: folder,
            db,
            store,
            app: app.clone(),
        };
        bench.add(&organization).await;
        bench.add(&space).await;
        bench.add(&app).await;
        bench
    }

    async fn add<R: Row>(&self, row: &R) {
        let mut upkeep = self.db.upkeep().await.unwrap();
        db::insert(&mut upkeep, row).await.unwrap();
        upkeep.commit().await.unwrap();
    }

    /// Creates a droplet with a file, `age` seconds before now.
    async fn droplet(&self, guid: &str, state: &str, age: i64) {
        let at = clock::now() - age * 1_000_000;
        let droplet = Droplet {
            guid: guid.into(),
            app_guid: self.app.guid.clone(),
            blob: Some(guid.into()),
            state: state.parse().unwrap(),
            created_at: at,
            updated_at: at,
            ..Droplet::default()
        };
        self.add(&droplet).await;
        self.store
            .put(Kind::Droplet, guid, b"bits".as_slice())
            .unwrap();
    }

    async fn package(&self, guid: &str, age: i64) {
        let at = clock::now() - age * 1_000_000;
        let package = Package {
            guid: guid.into(),
            app_guid: self.app.guid.clone(),
            blob: Some(guid.into()),
            state: "READY".parse().unwrap(),
            created_at: at,
            updated_at: at,
            ..Package::default()
        };
        self.add(&package).await;
        self.store
            .put(Kind::Package, guid, b"bits".as_slice())
            .unwrap();
    }

    async fn pass(&self, now: i64) -> u64 {
        let retention = Retention {
            droplets_per_app: 2,
            packages_per_app: 2,
            ..Retention::default()
        };
        pass(&self.db, &self.store, &retention, now).await.unwrap()
    }

    async fn count<R: Row>(&self) -> i64 {
        let mut conn = self.db.read().await.unwrap();
        Select::new().count::<R>(&mut conn).await.unwrap()
    }

    /// Returns the guids out of `guids` whose file exists.
    fn files<'a>(&self, kind: Kind, guids: &[&'a str]) -> Vec<&'a str> {
        let there = |guid: &&&str| self.store.written(kind, guid).unwrap().is_some();
        guids.iter().filter(there).copied().collect()
    }
}

#[tokio::test]
async fn the_last_droplets_and_those_in_use_stay() {
    let b = Bench::new().await;
    let names = ["d9", "d8", "d7", "d6", "d5", "d4", "d3", "d2", "d1"];
    for (age, name) in (1..).zip(names) {
        b.droplet(name, "STAGED", age).await;
    }
    let mut upkeep = b.db.upkeep().await.unwrap();
    let current = App {
        droplet_guid: Some("d1".into()),
        ..b.app.clone()
    };
    db::update(&mut upkeep, &current).await.unwrap();
    upkeep.commit().await.unwrap();
    b.add(&Task {
        app_guid: b.app.guid.clone(),
        state: "RUNNING".parse().unwrap(),
        droplet_guid: "d2".into(),
        ..Task::fresh()
    })
    .await;
    b.add(&Deployment {
        app_guid: b.app.guid.clone(),
        state: "ACTIVE".parse().unwrap(),
        droplet_guid: "d3".into(),
        previous_droplet_guid: Some("d4".into()),
        ..Deployment::fresh()
    })
    .await;
    b.add(&Build {
        app_guid: b.app.guid.clone(),
        state: "STAGING".parse().unwrap(),
        droplet_guid: Some("d5".into()),
        ..Build::fresh()
    })
    .await;
    assert!(b.pass(clock::now()).await > 0);
    let left = ["d9", "d8", "d5", "d4", "d3", "d2", "d1"];
    assert_eq!(b.files(Kind::Droplet, &names), left);
    let mut conn = b.db.read().await.unwrap();
    let expired: Option<Droplet> = db::by_guid(&mut conn, "d7").await.unwrap();
    let expired = expired.unwrap();
    assert_eq!(
        (expired.state.as_str(), expired.checksum),
        ("EXPIRED", None)
    );
    drop(conn);
    assert_eq!(b.pass(clock::now()).await, 0, "nothing is left to do");
}

#[tokio::test]
async fn the_last_packages_and_that_of_the_current_droplet_stay() {
    let b = Bench::new().await;
    for (age, name) in (1..).zip(["p5", "p4", "p3", "p2", "p1"]) {
        b.package(name, age).await;
    }
    let mut upkeep = b.db.upkeep().await.unwrap();
    let droplet = Droplet {
        app_guid: b.app.guid.clone(),
        package_guid: Some("p1".into()),
        state: "STAGED".parse().unwrap(),
        ..Droplet::fresh()
    };
    db::insert(&mut upkeep, &droplet).await.unwrap();
    let current = App {
        droplet_guid: Some(droplet.guid.clone()),
        ..b.app.clone()
    };
    db::update(&mut upkeep, &current).await.unwrap();
    upkeep.commit().await.unwrap();
    b.pass(clock::now()).await;
    assert_eq!(
        b.files(Kind::Package, &["p5", "p4", "p3", "p2", "p1"]),
        ["p5", "p4", "p1"]
    );
}

#[tokio::test]
async fn files_go_with_whatever_deletes_their_rows() {
    let b = Bench::new().await;
    b.droplet("d", "STAGED", 1).await;
    b.package("p", 1).await;
    b.pass(clock::now()).await;
    assert_eq!(b.files(Kind::Droplet, &["d"]), ["d"]);
    // The whole organization is removed, and the rows of its droplets and packages with it.
    let mut upkeep = b.db.upkeep().await.unwrap();
    let all: Vec<Organization> = Select::new().all(&mut upkeep).await.unwrap();
    db::delete::<Organization>(&mut upkeep, &all[0].guid)
        .await
        .unwrap();
    upkeep.commit().await.unwrap();
    assert_eq!(b.pass(clock::now()).await, 2);
    assert!(b.files(Kind::Droplet, &["d"]).is_empty());
    assert!(b.files(Kind::Package, &["p"]).is_empty());
}

#[tokio::test]
async fn a_file_without_a_row_goes_after_a_day() {
    let b = Bench::new().await;
    b.store
        .put(Kind::Package, "nobodys", b"bits".as_slice())
        .unwrap();
    b.package("somebodys", 1).await;
    b.pass(clock::now()).await;
    let both = ["nobodys", "somebodys"];
    assert_eq!(b.files(Kind::Package, &both), both);
    b.pass(clock::now() + DAY + DAY / 24).await;
    assert_eq!(b.files(Kind::Package, &both), ["somebodys"]);
}

#[tokio::test]
async fn records_go_after_thirty_days_in_batches() {
    let b = Bench::new().await;
    let many = BATCH + BATCH / 2;
    let mut upkeep = b.db.upkeep().await.unwrap();
    for _ in 0..many {
        db::insert(&mut upkeep, &AuditEvent::fresh()).await.unwrap();
    }
    db::insert(&mut upkeep, &Job::fresh()).await.unwrap();
    for state in ["SUCCEEDED", "FAILED", "RUNNING"] {
        let task = Task {
            app_guid: b.app.guid.clone(),
            state: state.parse().unwrap(),
            ..Task::fresh()
        };
        db::insert(&mut upkeep, &task).await.unwrap();
    }
    for state in ["STAGED", "FAILED", "STAGING"] {
        let build = Build {
            app_guid: b.app.guid.clone(),
            state: state.parse().unwrap(),
            ..Build::fresh()
        };
        db::insert(&mut upkeep, &build).await.unwrap();
    }
    for state in ["FINALIZED", "ACTIVE"] {
        let deployment = Deployment {
            app_guid: b.app.guid.clone(),
            state: state.parse().unwrap(),
            ..Deployment::fresh()
        };
        db::insert(&mut upkeep, &deployment).await.unwrap();
    }
    upkeep.commit().await.unwrap();
    b.pass(clock::now() + 29 * DAY).await;
    assert_eq!(b.count::<AuditEvent>().await, many);
    assert_eq!(b.count::<Task>().await, 3);
    b.pass(clock::now() + 31 * DAY).await;
    assert_eq!(b.count::<AuditEvent>().await, 0);
    assert_eq!(b.count::<Job>().await, 0);
    assert_eq!(b.count::<Task>().await, 1, "the running one");
    assert_eq!(b.count::<Build>().await, 1, "the one being staged");
    assert_eq!(b.count::<Deployment>().await, 1, "the active one");
}

#[tokio::test]
async fn failed_and_expired_rows_go_last() {
    let b = Bench::new().await;
    b.droplet("failed", "FAILED", 1).await;
    b.droplet("old", "STAGED", 4).await;
    for (age, name) in (1..).zip(["new", "newer"]) {
        b.droplet(name, "STAGED", age).await;
    }
    b.pass(clock::now()).await;
    assert_eq!(b.count::<Droplet>().await, 4);
    b.pass(clock::now() + 31 * DAY).await;
    assert_eq!(b.count::<Droplet>().await, 2);
    assert_eq!(
        b.files(Kind::Droplet, &["failed", "old", "new", "newer"]),
        ["new", "newer"]
    );
}
