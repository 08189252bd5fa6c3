//! The database: one that an earlier program wrote, and a server that goes away.

use kit::db::{AssertSqlSafe, Database, Location, Schema, Server, query};
use testkit::components::Uaa;
use testkit::postgres::{self, Postgres};
use testkit::wait::wait_for;

/// The statements of the last program without versions, with a user `ann` whose password is `first`.
const UNVERSIONED: &[&str] = &[
    "CREATE TABLE users (
        id TEXT PRIMARY KEY, user_name TEXT NOT NULL, name_key TEXT NOT NULL, origin TEXT NOT NULL,
        given_name TEXT NOT NULL, family_name TEXT NOT NULL, email TEXT NOT NULL, password_hash TEXT,
        created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL, password_changed_at INTEGER NOT NULL,
        version INTEGER NOT NULL DEFAULT 0, tokens_epoch INTEGER NOT NULL DEFAULT 0, UNIQUE (name_key, origin))",
    "CREATE TABLE user_groups (
        user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE, name TEXT NOT NULL, PRIMARY KEY (user_id, name))",
    "CREATE TABLE clients (
        id TEXT PRIMARY KEY, secret_hash TEXT NOT NULL, scopes TEXT NOT NULL, authorities TEXT NOT NULL,
        grant_types TEXT NOT NULL, redirect_uri TEXT NOT NULL)",
    "CREATE TABLE revoked_tokens (jti TEXT PRIMARY KEY, expires_at INTEGER NOT NULL)",
    "ALTER TABLE users ADD COLUMN active INTEGER NOT NULL DEFAULT 1",
    "ALTER TABLE clients ADD COLUMN configured INTEGER NOT NULL DEFAULT 1",
    "ALTER TABLE clients ADD COLUMN name TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE clients ADD COLUMN access_validity INTEGER",
    "ALTER TABLE clients ADD COLUMN refresh_validity INTEGER",
    "ALTER TABLE clients ADD COLUMN tokens_epoch INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE clients ADD COLUMN updated_at INTEGER NOT NULL DEFAULT 0",
    "CREATE TABLE token_epochs (
        user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE, client_id TEXT NOT NULL, epoch INTEGER NOT NULL,
        PRIMARY KEY (user_id, client_id))",
    "INSERT INTO users (id, user_name, name_key, origin, given_name, family_name, email, password_hash, created_at, updated_at, password_changed_at)
     VALUES ('ann', 'Ann', 'ann', 'uaa', 'Ann', '', 'ann@example', '$2y$04$abcdefghijklmnopqrstuuXnVy0tDZsWhcEJW4oZW4C1pPcaz4Szi', 1, 1, 1)",
    "INSERT INTO user_groups (user_id, name) VALUES ('ann', 'openid')",
];

/// Writes the files of a program without versions.
async fn write_unversioned(folder: &std::path::Path, statements: &[&str]) {
    const NONE: Schema = Schema {
        migrations: &[],
        unversioned: &[],
    };
    let location = Location::new(None, "uaa", folder.join("uaa.db"));
    let database = Database::open(&location, &NONE).await.unwrap();
    for statement in statements {
        let statement = query(AssertSqlSafe((*statement).to_owned()));
        database.execute(statement).await.unwrap();
    }
    database.close().await;
}

#[tokio::test]
async fn files_without_versions_are_upgraded() {
    if postgres::is_chosen() {
        return;
    }
    // The columns of even earlier programs are missing.
    let oldest: Vec<&str> = UNVERSIONED
        .iter()
        .copied()
        .filter(|statement| !statement.starts_with("ALTER") && !statement.contains("token_epochs"))
        .collect();
    for statements in [UNVERSIONED, &oldest] {
        let folder = tempfile::tempdir().unwrap();
        write_unversioned(folder.path(), statements).await;
        for _ in 0..2 {
            let uaa = Uaa::start(folder.path(), |_| ()).await;
            let admin = uaa.token("admin", "sesame").await;
            let users = reqwest::Client::new()
                .get(format!("{}/Users/ann", uaa.url))
                .header("authorization", &admin)
                .send()
                .await
                .unwrap();
            let user: serde_json::Value = users.json().await.unwrap();
            assert_eq!(
                (&user["userName"], &user["active"]),
                (&"Ann".into(), &true.into())
            );
            let groups = user["groups"].to_string();
            assert!(groups.contains("cloud_controller_service_permissions.read"));
            assert_eq!(uaa.login("ann", "wrong").await.0, 401, "it is counted");
            uaa.stop();
        }
    }
}

#[tokio::test]
async fn an_outage_of_the_server_gets_503_and_ends_by_itself() {
    if !postgres::is_chosen() {
        return;
    }
    let mut server = Postgres::start();
    let database = Server::parse(&server.database("uaa"), None).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let uaa = Uaa::start(folder.path(), |config| config.database = Some(database)).await;
    assert_eq!(uaa.login("admin", "sesame").await.0, 200);
    server.stop();
    for _ in 0..3 {
        let (status, body) = uaa.login("admin", "sesame").await;
        assert_eq!(status, 503, "{body}");
        let text = body["error_description"].as_str().unwrap().to_owned();
        assert!(
            text.contains("postgres://") && text.contains("cannot be reached"),
            "{text}"
        );
        assert!(!text.contains("sesame"), "{text}");
    }
    let keys = reqwest::get(format!("{}/token_keys", uaa.url))
        .await
        .unwrap();
    assert_eq!(keys.status(), 200);
    wait_for("the UAA to be unready", async || {
        !uaa.observed.readiness.unmet().is_empty()
    })
    .await;
    server.start_again();
    wait_for("a login", async || {
        uaa.login("admin", "sesame").await.0 == 200
    })
    .await;
    wait_for("the UAA to be ready", async || {
        uaa.observed.readiness.unmet().is_empty()
    })
    .await;
}

#[tokio::test]
async fn a_name_with_a_nul_is_refused_on_both_databases() {
    let folder = tempfile::tempdir().unwrap();
    let uaa = Uaa::start(folder.path(), |_| ()).await;
    let (status, body) = uaa.login("an\0n", "x").await;
    assert_eq!(status, 400, "{body}");
    assert!(
        body["error_description"].as_str().unwrap().contains("NUL"),
        "{body}"
    );
}
