use super::*;
use crate::disk::{self, Trouble};
use std::future::Future as _;
use std::task::{Context, Poll, Waker};

const SCHEMA: Schema = Schema {
    migrations: &[Migration::both(
        1,
        "t",
        "CREATE TABLE t (n INTEGER PRIMARY KEY, text TEXT)",
    )],
    unversioned: &["CREATE TABLE IF NOT EXISTS t (n INTEGER PRIMARY KEY, text TEXT)"],
};

async fn open_at(path: &std::path::Path) -> Database {
    let location = Location::new(None, "t", path.to_owned());
    Database::open(&location, &SCHEMA).await.unwrap()
}

async fn open(folder: &tempfile::TempDir) -> Database {
    open_at(&folder.path().join("x.db")).await
}

async fn insert(connection: &mut Connection, n: i64, text: &str) -> Result<()> {
    query("INSERT INTO t (n, text) VALUES ($1, $2)")
        .bind(n)
        .bind(text)
        .execute(connection)
        .await
        .map(drop)
}

async fn numbers(database: &Database) -> Vec<i64> {
    let mut connection = database.read().await.unwrap();
    let numbers = query_scalar("SELECT n FROM t ORDER BY n");
    numbers.fetch_all(&mut connection).await.unwrap()
}

/// Checks that the database accepts another change.
async fn works(database: &Database, n: i64) {
    let mut transaction = database.begin().await.unwrap();
    insert(&mut transaction, n, "").await.unwrap();
    transaction.commit().await.unwrap();
    assert!(numbers(database).await.contains(&n));
}

fn file(database: &Database) -> &sqlite::Store {
    match &database.backend {
        Backend::Sqlite(store) => store,
        Backend::Postgres(_) => panic!("the database is a file"),
    }
}

/// Makes SQLite itself refuse further pages, as on a full disk.
async fn limit(database: &Database, pages: i64) {
    let mut connection = file(database).pool().acquire().await.unwrap();
    let limit = format!("PRAGMA max_page_count = {pages}");
    connection.run(&limit).unwrap();
}

#[tokio::test]
async fn a_full_database_fails_the_change_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let database = open(&folder).await;
    works(&database, 1).await;
    for _ in 0..3 {
        // The limit belongs to the connection, which may be a new one by now.
        limit(&database, 3).await;
        let mut transaction = database.begin().await.unwrap();
        let big = "x".repeat(100_000);
        let error = insert(&mut transaction, 2, &big).await.unwrap_err();
        assert_eq!(Trouble::of_database(&error), Some(Trouble::Full), "{error}");
    }
    assert_eq!(numbers(&database).await, [1], "reads go on");
    limit(&database, 1_000_000).await;
    works(&database, 3).await;
}

/// Tests the original fault: SQLite had rolled back by itself, and every later BEGIN on that connection failed.
#[tokio::test]
async fn a_transaction_that_ended_by_itself_spoils_no_connection() {
    let folder = tempfile::tempdir().unwrap();
    let database = open(&folder).await;
    let mut transaction = database.begin().await.unwrap();
    insert(&mut transaction, 1, "").await.unwrap();
    transaction.run("ROLLBACK").await.unwrap();
    assert!(transaction.commit().await.is_err(), "there was none left");
    works(&database, 2).await;
    let mut transaction = database.begin().await.unwrap();
    transaction.run("ROLLBACK").await.unwrap();
    drop(transaction);
    works(&database, 3).await;
    assert_eq!(numbers(&database).await, [2, 3]);
}

#[tokio::test]
async fn an_abandoned_change_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let database = open(&folder).await;
    for n in 0..20 {
        let mut transaction = database.begin().await.unwrap();
        insert(&mut transaction, n, "").await.unwrap();
    }
    assert_eq!(numbers(&database).await, [] as [i64; 0]);
    works(&database, 30).await;
}

/// Tests a request whose client disconnected: its future is dropped at each of its steps in turn.
#[tokio::test]
async fn a_future_dropped_half_way_spoils_no_connection() {
    let folder = tempfile::tempdir().unwrap();
    let database = open(&folder).await;
    for polls in 0..60 {
        let change = async {
            let mut transaction = database.begin().await?;
            insert(&mut transaction, 1000 + polls, "").await?;
            transaction.commit().await
        };
        let mut change = Box::pin(change);
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..polls {
            if matches!(change.as_mut().poll(&mut context), Poll::Ready(_)) {
                break;
            }
            tokio::task::yield_now().await;
            std::thread::yield_now();
        }
        drop(change);
        works(&database, polls).await;
    }
}

#[tokio::test]
async fn a_removed_file_accepts_no_change() {
    let folder = tempfile::tempdir().unwrap();
    let database = open(&folder).await;
    works(&database, 1).await;
    let (path, aside) = (folder.path().join("x.db"), folder.path().join("aside"));
    std::fs::rename(&path, &aside).unwrap();
    for _ in 0..2 {
        let error = database.begin().await.unwrap_err();
        assert_eq!(Trouble::of_database(&error), Some(Trouble::Gone));
        let text = error.to_string();
        assert!(text.contains(&*folder.path().to_string_lossy()), "{text}");
        std::fs::write(&path, b"another file").unwrap();
    }
    assert_eq!(numbers(&database).await, [1], "reads go on");
    std::fs::rename(&aside, &path).unwrap();
    works(&database, 2).await;
}

#[tokio::test]
async fn readers_cannot_write() {
    let folder = tempfile::tempdir().unwrap();
    let database = open(&folder).await;
    let mut reader = database.read().await.unwrap();
    assert!(insert(&mut reader, 1, "").await.is_err());
}

#[tokio::test]
async fn a_busy_database_is_reported_as_busy() {
    let folder = tempfile::tempdir().unwrap();
    let database = open(&folder).await;
    let other = open(&folder).await;
    let held = other.begin().await.unwrap();
    let mut connection = file(&database).pool().acquire().await.unwrap();
    connection.run("PRAGMA busy_timeout = 1").unwrap();
    drop(connection);
    let error = database.begin().await.unwrap_err();
    assert_eq!(Trouble::of_database(&error), Some(Trouble::Busy), "{error}");
    drop(held);
    works(&database, 1).await;
}

/// Tests a disk that is really full (root only: it needs a mount).
#[tokio::test]
async fn a_full_disk_is_named_and_healed_by_room() {
    if std::env::var_os("CUPOLA_ROOT_TESTS").is_none() {
        return;
    }
    let mount = Tmpfs::new();
    let database = open_at(&mount.0.path().join("x.db")).await;
    works(&database, 1).await;
    let filler = mount.0.path().join("filler");
    // The free room is less than a transaction needs, and then a little more than that.
    for leave in [0, 1536 << 10] {
        let free = disk::free(mount.0.path()).unwrap();
        std::fs::write(&filler, vec![0; usize::try_from(free - leave).unwrap()]).unwrap();
        for _ in 0..3 {
            let failed: Result<()> = async {
                let mut transaction = database.begin().await?;
                insert(&mut transaction, 2, &"x".repeat(4 << 20)).await?;
                transaction.commit().await
            }
            .await;
            let error = failed.unwrap_err();
            assert_eq!(Trouble::of_database(&error), Some(Trouble::Full), "{error}");
        }
        assert!(!numbers(&database).await.contains(&2), "reads go on");
        std::fs::remove_file(&filler).unwrap();
        works(&database, 10 + i64::try_from(leave).unwrap()).await;
    }
}

/// Tests that a start on a disk without room serves reads (root only: it needs a mount).
#[tokio::test]
async fn a_database_opens_on_a_full_disk() {
    if std::env::var_os("CUPOLA_ROOT_TESTS").is_none() {
        return;
    }
    let mount = Tmpfs::new();
    let path = mount.0.path().join("x.db");
    let database = open_at(&path).await;
    works(&database, 1).await;
    database.close().await;
    let filler = mount.0.path().join("filler");
    for n in 2..4 {
        let free = usize::try_from(disk::free(mount.0.path()).unwrap()).unwrap();
        std::fs::write(&filler, vec![b'x'; free]).unwrap();
        assert_eq!(disk::free(mount.0.path()).unwrap(), 0);
        let database = open_at(&path).await;
        assert!(numbers(&database).await.contains(&1));
        let error = database.begin().await.unwrap_err();
        assert_eq!(Trouble::of_database(&error), Some(Trouble::Full), "{error}");
        database.close().await;
        std::fs::remove_file(&filler).unwrap();
        // With room on the disk, the next start keeps the ballast again.
        let database = open_at(&path).await;
        assert!(sqlite::ballast(&path).exists());
        works(&database, n).await;
        database.close().await;
    }
}

#[tokio::test]
async fn a_lock_of_a_file_has_one_holder() {
    let folder = tempfile::tempdir().unwrap();
    let (database, other) = (open(&folder).await, open(&folder).await);
    let lock = database.try_lock("sync").await.unwrap().unwrap();
    assert!(other.try_lock("sync").await.unwrap().is_none());
    assert!(other.try_lock("purge").await.unwrap().is_some());
    lock.release().await;
    assert!(other.try_lock("sync").await.unwrap().is_some());
}

struct Tmpfs(tempfile::TempDir);

impl Tmpfs {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let status = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=8m", "none"])
            .arg(folder.path())
            .status()
            .unwrap();
        assert!(status.success());
        Self(folder)
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount")
            .arg("-l")
            .arg(self.0.path())
            .status();
    }
}
