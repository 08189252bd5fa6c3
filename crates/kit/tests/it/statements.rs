//! Statements have the same results on both databases.

use kit::db::{
    Builder, Database, Location, Migration, NulInText, Row, Schema, Server, Value, is_interrupted,
    query, query_as, query_scalar,
};
use std::time::Duration;
use testkit::postgres;

pub(crate) const SCHEMA: Schema = Schema {
    migrations: &[Migration::both(
        1,
        "things",
        "CREATE TABLE things (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, active INTEGER NOT NULL DEFAULT 1, weight REAL, content BLOB);
         CREATE INDEX things_lower ON things (lower(name));",
    )],
    unversioned: &[],
};

/// Returns a database of each kind that this run tests.
async fn databases(folder: &tempfile::TempDir) -> Vec<Database> {
    let file = Location::new(None, "things", folder.path().join("x.db"));
    let server = postgres::server(folder.path());
    let server = server.map(|server| Location::Server(server, "things"));
    let mut databases = Vec::new();
    for location in [Some(file), server].into_iter().flatten() {
        databases.push(Database::open(&location, &SCHEMA).await.unwrap());
    }
    databases
}

async fn insert(database: &Database, name: &str) -> kit::db::Result<u64> {
    let insert =
        query("INSERT INTO things (name, active, weight, content) VALUES ($1, $2, $3, $4)");
    let insert = insert.bind(name).bind(true).bind(1.5).bind(vec![0u8, 255]);
    database.execute(insert).await
}

#[tokio::test]
async fn values_are_written_and_read_alike() {
    let folder = tempfile::tempdir().unwrap();
    for database in databases(&folder).await {
        assert_eq!(insert(&database, "Ä'\"$1").await.unwrap(), 1);
        let nulls = query("INSERT INTO things (name, weight, content) VALUES ($1, $2, $3)");
        let nulls = nulls.bind("nulls").bind(None::<f64>).bind(None::<Vec<u8>>);
        database.execute(nulls).await.unwrap();
        let mut reader = database.read().await.unwrap();
        let rows = query("SELECT id, name, active, weight, content FROM things ORDER BY id")
            .fetch_all(&mut reader)
            .await
            .unwrap();
        let whole = |row: &Row| {
            let name: String = row.try_get("name").unwrap();
            let active: bool = row.try_get("active").unwrap();
            let weight: Option<f64> = row.try_get("weight").unwrap();
            let content: Option<Vec<u8>> = row.try_get(4).unwrap();
            (
                row.try_get::<i64, _>(0).unwrap(),
                name,
                active,
                weight,
                content,
            )
        };
        let first = (1, "Ä'\"$1".to_owned(), true, Some(1.5), Some(vec![0, 255]));
        assert_eq!(whole(&rows[0]), first);
        assert_eq!(whole(&rows[1]), (2, "nulls".to_owned(), true, None, None));
        assert!(rows[0].try_get::<i64, _>("name").is_err(), "it is a text");
        assert!(rows[1].try_get::<f64, _>("weight").is_err(), "it is NULL");
        assert!(rows[0].try_get::<i64, _>("nothing").is_err());
        assert_eq!(rows[0].len(), 5);
        let error = insert(&database, "a\0b").await.unwrap_err();
        assert!(NulInText::caused(&error), "{error}");
    }
}

#[tokio::test]
async fn lists_counts_and_conditions() {
    let folder = tempfile::tempdir().unwrap();
    for database in databases(&folder).await {
        for name in ["a", "b", "C"] {
            insert(&database, name).await.unwrap();
        }
        let mut reader = database.read().await.unwrap();
        let names = |condition: &'static str, value: Value| {
            let sql = format!("SELECT name FROM things WHERE {condition} ORDER BY id");
            query(kit::db::AssertSqlSafe(sql))
                .bind(value)
                .scalar::<String>()
        };
        for (condition, value, found) in [
            ("name IN LIST($1)", Value::texts(["a", "C", "x"]), "a C"),
            ("name NOT IN LIST($1)", Value::texts(["a"]), "b C"),
            ("name IN LIST($1)", Value::texts([""; 0]), ""),
            ("id IN LIST($1)", vec![2i64, 3].into(), "b C"),
            ("lower(name) = lower($1)", "c".into(), "C"),
            ("active = $1", true.into(), "a b C"),
        ] {
            let found_here = names(condition, value).fetch_all(&mut reader).await;
            assert_eq!(found_here.unwrap().join(" "), found, "{condition}");
        }
        let sums: (i64, i64, bool) = query_as(
            "SELECT COUNT(*), CAST(SUM(id) AS BIGINT), EXISTS (SELECT 1 FROM things) FROM things",
        )
        .fetch_one(&mut reader)
        .await
        .unwrap();
        assert_eq!(sums, (3, 6, true));
        let mut built = Builder::new("SELECT name FROM things WHERE name <> ");
        built.push_bind("a").push(" AND id < ").push_bind(3i64);
        let built = built
            .build()
            .scalar::<String>()
            .fetch_all(&mut reader)
            .await;
        assert_eq!(built.unwrap(), ["b"]);
    }
}

#[tokio::test]
async fn conflicts_and_broken_transactions() {
    let folder = tempfile::tempdir().unwrap();
    for database in databases(&folder).await {
        insert(&database, "a").await.unwrap();
        let error = insert(&database, "a").await.unwrap_err();
        let database_error = error.as_database_error().unwrap();
        assert!(database_error.is_unique_violation());
        let mut transaction = database.begin().await.unwrap();
        let upsert = "INSERT INTO things (name) VALUES ('a') ON CONFLICT (name) DO UPDATE SET active = things.active + 1";
        assert_eq!(query(upsert).execute(&mut transaction).await.unwrap(), 1);
        let nothing = "INSERT INTO things (name) VALUES ('a') ON CONFLICT DO NOTHING";
        assert_eq!(query(nothing).execute(&mut transaction).await.unwrap(), 0);
        transaction.commit().await.unwrap();
        // A transaction that is dropped leaves nothing.
        let mut transaction = database.begin().await.unwrap();
        query("DELETE FROM things")
            .execute(&mut transaction)
            .await
            .unwrap();
        drop(transaction);
        let mut reader = database.read().await.unwrap();
        let active: i64 = query_scalar("SELECT active FROM things")
            .fetch_one(&mut reader)
            .await
            .unwrap();
        assert_eq!(active, 2);
        let write = query("DELETE FROM things").execute(&mut reader).await;
        assert!(write.is_err(), "readers cannot write");
    }
}

/// Tests that no caller takes a commit for durable that kept nothing.
#[tokio::test]
async fn a_commit_after_an_error_fails_on_a_server() {
    let folder = tempfile::tempdir().unwrap();
    for database in databases(&folder)
        .await
        .into_iter()
        .filter(Database::is_shared)
    {
        insert(&database, "a").await.unwrap();
        let mut transaction = database.begin().await.unwrap();
        for name in ["b", "a"] {
            let insert = query("INSERT INTO things (name) VALUES ($1)").bind(name);
            let _ = insert.execute(&mut transaction).await;
        }
        assert!(transaction.commit().await.is_err());
        let mut reader = database.read().await.unwrap();
        let count = query_scalar::<i64>("SELECT COUNT(*) FROM things");
        assert_eq!(count.fetch_one(&mut reader).await.unwrap(), 1);
        assert_eq!(
            insert(&database, "c").await.unwrap(),
            1,
            "the next one works"
        );
    }
}

#[tokio::test]
async fn one_transaction_writes_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    for database in databases(&folder).await {
        // Another handle is what another process has.
        let others = databases(&folder).await;
        let other = others
            .into_iter()
            .find(|other| other.place() == database.place());
        let other = other.unwrap();
        insert(&database, "n").await.unwrap();
        let add = async |database: Database| {
            for _ in 0..20 {
                let mut transaction = database.begin().await.unwrap();
                let number: i64 = query_scalar("SELECT active FROM things WHERE name = 'n'")
                    .fetch_one(&mut transaction)
                    .await
                    .unwrap();
                query("UPDATE things SET active = $1 WHERE name = 'n'")
                    .bind(number + 1)
                    .execute(&mut transaction)
                    .await
                    .unwrap();
                transaction.commit().await.unwrap();
            }
        };
        tokio::join!(add(database.clone()), add(other.clone()), add(other));
        let mut reader = database.read().await.unwrap();
        let count = query_scalar::<i64>("SELECT active FROM things");
        assert_eq!(count.fetch_one(&mut reader).await.unwrap(), 61);
    }
}

#[tokio::test]
async fn locks_have_one_holder() {
    let folder = tempfile::tempdir().unwrap();
    for database in databases(&folder).await {
        let mut lock = database.try_lock("sync").await.unwrap().unwrap();
        lock.check().await.unwrap();
        assert!(database.try_lock("sync").await.unwrap().is_none());
        assert!(database.try_lock("purge").await.unwrap().is_some());
        lock.release().await;
        assert!(database.try_lock("sync").await.unwrap().is_some());
    }
}

#[tokio::test]
async fn a_reader_is_interrupted_at_its_limit() {
    const LONG: &str = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000000) SELECT COUNT(*) FROM n";
    let folder = tempfile::tempdir().unwrap();
    for database in databases(&folder).await {
        let limit = Some(Duration::from_millis(100));
        let readers = database.readers(2, Duration::from_secs(10), limit);
        let mut reader = readers.acquire().await.unwrap();
        let error = query(LONG).fetch_one(&mut reader).await.unwrap_err();
        assert!(is_interrupted(&error), "{error}");
    }
}

#[tokio::test]
async fn a_server_is_verified_over_tls() {
    if !postgres::is_chosen() {
        return;
    }
    let identity = testkit::certs::Ca::new().issue(&["localhost"]);
    let server = postgres::Postgres::with_tls(&identity);
    let url = server.database("tls").replace("127.0.0.1", "localhost");
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, &identity.ca_pem).unwrap();
    let open = async |url: &str, ca: Option<&std::path::Path>| {
        let server = Server::parse(url, ca).unwrap();
        Database::open(&Location::Server(server, "things"), &SCHEMA).await
    };
    let verified = format!("{url}?sslmode=verify-full");
    open(&verified, Some(&ca)).await.unwrap();
    let unknown = format!("{:#}", open(&verified, None).await.unwrap_err());
    assert!(
        unknown.contains("connect to postgres://") && !unknown.contains("sesame"),
        "{unknown}"
    );
    let by_address = verified.replace("localhost", "127.0.0.1");
    open(&by_address, Some(&ca)).await.unwrap_err();
    let plain = format!("{:#}", open(&url, None).await.unwrap_err());
    assert!(
        plain.contains("hba") || plain.contains("encryption"),
        "{plain}"
    );
}
