//! The embedded database: one SQLite file per role, WAL, `synchronous=FULL`: a commit that returned is durable.

use anyhow::{Context as _, Result};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use std::path::Path;
use std::time::Duration;

/// Opens (creating it, mode 0600) the database file and applies `schema`, a list of idempotent statements; `ALTER TABLE …
/// ADD COLUMN` counts as one.
pub async fn open(path: &Path, schema: &[&str]) -> Result<SqlitePool> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(Duration::from_secs(10));
    if !path.exists() {
        use std::os::unix::fs::OpenOptionsExt as _;
        std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(path)
            .with_context(|| format!("create database {}", path.display()))?;
    }
    let pool = SqlitePoolOptions::new()
        .max_connections(4)
        .connect_with(options)
        .await
        .with_context(|| format!("open database {}", path.display()))?;
    for statement in schema {
        match sqlx::raw_sql(sqlx::AssertSqlSafe(*statement))
            .execute(&pool)
            .await
        {
            Err(error) if !is_there_already(&error) => {
                return Err(error).with_context(|| format!("migrate database {}", path.display()));
            }
            _ => {}
        }
    }
    Ok(pool)
}

/// SQLite has no `ADD COLUMN IF NOT EXISTS`.
fn is_there_already(error: &sqlx::Error) -> bool {
    error
        .as_database_error()
        .is_some_and(|error| error.message().starts_with("duplicate column name"))
}
