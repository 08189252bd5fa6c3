//! Migrations: from nothing, from an earlier version, from several processes at once, and not from a newer version.

use kit::db::{Database, Location, Migration, Schema, query, query_scalar};
use testkit::postgres;

const FIRST: Migration = Migration::both(1, "first", "CREATE TABLE a (n INTEGER NOT NULL)");
const SECOND: Migration = Migration::each(
    2,
    "second",
    "ALTER TABLE a ADD COLUMN b TEXT NOT NULL DEFAULT 'sqlite'; INSERT INTO a (n) VALUES (1)",
    "ALTER TABLE a ADD COLUMN b TEXT NOT NULL DEFAULT 'postgres'; INSERT INTO a (n) VALUES (1)",
);
const OLD: Schema = Schema {
    migrations: &[FIRST],
    unversioned: &[],
};
const NEW: Schema = Schema {
    migrations: &[FIRST, SECOND],
    unversioned: &[],
};

fn locations(folder: &tempfile::TempDir) -> Vec<Location> {
    let file = Location::new(None, "a", folder.path().join("a.db"));
    let server = postgres::server(folder.path()).map(|server| Location::Server(server, "a"));
    [Some(file), server].into_iter().flatten().collect()
}

#[tokio::test]
async fn an_older_database_is_upgraded_and_a_newer_one_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for location in locations(&folder) {
        let old = Database::open(&location, &OLD).await.unwrap();
        old.execute(query("INSERT INTO a (n) VALUES (7)"))
            .await
            .unwrap();
        old.close().await;
        for _ in 0..2 {
            let new = Database::open(&location, &NEW).await.unwrap();
            let mut reader = new.read().await.unwrap();
            let words: Vec<String> = query_scalar("SELECT b FROM a ORDER BY n DESC")
                .fetch_all(&mut reader)
                .await
                .unwrap();
            let word = if new.is_shared() {
                "postgres"
            } else {
                "sqlite"
            };
            assert_eq!(words, [word, word], "each migration runs once");
            drop(reader);
            new.close().await;
        }
        let error = Database::open(&location, &OLD).await.unwrap_err();
        let text = format!("{error:#}");
        assert!(
            text.contains(
                "its schema has the version 2 (second), but this program knows versions up to 1"
            ),
            "{text}"
        );
        assert!(text.contains(&location.to_string()), "{text}");
    }
}

#[tokio::test]
async fn many_processes_migrate_at_once() {
    let folder = tempfile::tempdir().unwrap();
    for location in locations(&folder) {
        Database::open(&location, &OLD).await.unwrap();
        let open = || Database::open(&location, &NEW);
        let opened = futures::future::join_all((0..5).map(|_| open())).await;
        for database in opened {
            database.unwrap();
        }
    }
}

#[tokio::test]
async fn a_failed_migration_leaves_nothing() {
    const BROKEN: Schema = Schema {
        migrations: &[
            FIRST,
            Migration::both(
                2,
                "broken",
                "CREATE TABLE b (n INTEGER); INSERT INTO nowhere VALUES (1)",
            ),
        ],
        unversioned: &[],
    };
    let folder = tempfile::tempdir().unwrap();
    for location in locations(&folder) {
        let error = Database::open(&location, &BROKEN).await.unwrap_err();
        let text = format!("{error:#}");
        assert!(text.contains("apply version 2 (broken)"), "{text}");
        Database::open(&location, &NEW).await.unwrap();
    }
}

#[tokio::test]
async fn the_tables_of_another_program_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let Some(url) = postgres::of(folder.path()) else {
        return;
    };
    let create = "CREATE SCHEMA a; CREATE TABLE a.theirs (n BIGINT)";
    postgres::run(&url, create).unwrap();
    for location in locations(&folder).into_iter().skip(1) {
        let error = Database::open(&location, &NEW).await.unwrap_err();
        let text = format!("{error:#}");
        assert!(text.contains("another program uses it"), "{text}");
    }
}
