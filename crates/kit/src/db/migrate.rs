//! Schemas that change over time. Migrations lead forward only. The table `schema_versions` holds those that were applied.

use super::{Connection, Database, Result, query, query_as, query_scalar, spelling};
use anyhow::{Context as _, bail, ensure};

/// The migrations of a component.
#[derive(Clone, Copy, Debug)]
pub struct Schema {
    /// The migrations, with the versions 1, 2 and so on. A migration that was released is never changed.
    pub migrations: &'static [Migration],
    /// Idempotent statements for files that were written before there were versions. They make such a file equal to one of version
    /// 1. `ALTER TABLE … ADD COLUMN` counts as idempotent.
    pub unversioned: &'static [&'static str],
}

/// One step from a version of a schema to the next.
#[derive(Clone, Copy, Debug)]
pub struct Migration {
    version: i64,
    name: &'static str,
    sqlite: &'static str,
    /// The text for PostgreSQL, if the text for SQLite cannot be spelled for it.
    postgres: Option<&'static str>,
}

impl Migration {
    /// Creates a migration whose text is written once, in the words of SQLite. For PostgreSQL the types `INTEGER`, `BLOB` and `REAL`
    /// become `BIGINT`, `BYTEA` and `DOUBLE PRECISION`, `TEXT` gets the order of its bytes, `INTEGER PRIMARY KEY` becomes an identity
    /// column, and `WITHOUT ROWID` is left out.
    pub const fn both(version: i64, name: &'static str, sql: &'static str) -> Self {
        Self {
            version,
            name,
            sqlite: sql,
            postgres: None,
        }
    }

    /// Creates a migration with a text for each database.
    pub const fn each(
        version: i64,
        name: &'static str,
        sqlite: &'static str,
        postgres: &'static str,
    ) -> Self {
        Self {
            version,
            name,
            sqlite,
            postgres: Some(postgres),
        }
    }
}

const VERSIONS: &str = "CREATE TABLE schema_versions (version INTEGER NOT NULL PRIMARY KEY, name TEXT NOT NULL, applied_at INTEGER NOT NULL)";

/// Brings a database to the last version that the program knows. It writes nothing if that is reached already, so that a component
/// also starts on a full disk.
pub(super) async fn migrate(database: &Database, schema: &Schema) -> anyhow::Result<()> {
    for (at, migration) in (1..).zip(schema.migrations) {
        ensure!(
            migration.version == at,
            "the migration {:?} has the version {}, but it must be {at}",
            migration.name,
            migration.version
        );
    }
    let mut connection = database.read().await.context("connect")?;
    if pending(&mut connection, schema).await?.is_empty() {
        return Ok(());
    }
    drop(connection);
    let mut transaction = database.begin().await.context("begin a transaction")?;
    if let super::Backend::Postgres(store) = &database.backend {
        let create = format!("CREATE SCHEMA IF NOT EXISTS {}", store.schema());
        transaction.run(&create).await.with_context(|| {
            format!(
                "create the schema {}: the database's user needs the right CREATE on the database",
                store.schema()
            )
        })?;
    }
    if !has_table(&mut transaction, "schema_versions").await? {
        let versions = spelled(&transaction, VERSIONS);
        let is_old = has_tables(&mut transaction).await?;
        transaction.run(&versions).await?;
        if is_old {
            adopt(&mut transaction, schema).await?;
        }
    }
    // Another process may have been faster.
    for migration in pending(&mut transaction, schema).await? {
        let text = match (&*transaction, migration.postgres) {
            (Connection::Postgres(_), Some(text)) => text.to_owned(),
            (connection, _) => spelled(connection, migration.sqlite),
        };
        transaction
            .run(&text)
            .await
            .with_context(|| format!("apply version {} ({})", migration.version, migration.name))?;
        record(&mut transaction, migration).await?;
        tracing::info!(
            database = database.place(),
            version = migration.version,
            name = migration.name,
            "database-migrated"
        );
    }
    transaction.commit().await.context("commit the migration")
}

fn spelled(connection: &Connection, sql: &str) -> String {
    match connection {
        Connection::Sqlite(_) => sql.to_owned(),
        Connection::Postgres(_) => spelling::postgres_schema(sql),
    }
}

/// Returns the migrations that are not applied.
async fn pending<'s>(
    connection: &mut Connection,
    schema: &'s Schema,
) -> anyhow::Result<&'s [Migration]> {
    if !has_table(connection, "schema_versions").await? {
        return Ok(schema.migrations);
    }
    let newest: Option<(i64, String)> =
        query_as("SELECT version, name FROM schema_versions ORDER BY version DESC LIMIT 1")
            .fetch_optional(connection)
            .await
            .context("read the version of the schema")?;
    let Some((version, name)) = newest else {
        return Ok(schema.migrations);
    };
    let known = schema.migrations.len();
    let applied = usize::try_from(version).context("the version of the schema")?;
    if applied > known {
        bail!(
            "its schema has the version {version} ({name}), but this program knows versions up to {known}: start the program that wrote it or a newer one, or restore a backup from before the upgrade"
        );
    }
    Ok(&schema.migrations[applied..])
}

/// Brings a file without versions to version 1.
async fn adopt(connection: &mut Connection, schema: &Schema) -> anyhow::Result<()> {
    ensure!(
        matches!(connection, Connection::Sqlite(_)),
        "its schema contains tables, but not the table schema_versions: another program uses it; configure a database of its own, or drop the schema"
    );
    for statement in schema.unversioned {
        match connection.run(statement).await {
            Err(error) if !is_there_already(&error) => {
                return Err(error).context("adopt the tables of an earlier program");
            }
            _ => {}
        }
    }
    if let Some(first) = schema.migrations.first() {
        record(connection, first).await?;
    }
    Ok(())
}

async fn record(connection: &mut Connection, migration: &Migration) -> Result<()> {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| {
            i64::try_from(since.as_secs()).unwrap_or_default()
        });
    query("INSERT INTO schema_versions (version, name, applied_at) VALUES ($1, $2, $3)")
        .bind(migration.version)
        .bind(migration.name)
        .bind(now)
        .execute(connection)
        .await
        .map(drop)
}

async fn has_table(connection: &mut Connection, name: &str) -> Result<bool> {
    let sql = match connection {
        Connection::Sqlite(_) => {
            "SELECT COUNT(*) FROM sqlite_master WHERE type = 'table' AND name = $1"
        }
        Connection::Postgres(_) => {
            "SELECT COUNT(*) FROM pg_tables WHERE schemaname = current_schema() AND tablename = $1"
        }
    };
    let found: i64 = query_scalar(sql).bind(name).fetch_one(connection).await?;
    Ok(found > 0)
}

async fn has_tables(connection: &mut Connection) -> Result<bool> {
    let sql = match connection {
        Connection::Sqlite(_) => {
            "SELECT COUNT(*) FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
        }
        Connection::Postgres(_) => {
            "SELECT COUNT(*) FROM pg_tables WHERE schemaname = current_schema()"
        }
    };
    let found: i64 = query_scalar(sql).fetch_one(connection).await?;
    Ok(found > 0)
}

/// Returns whether a column exists already. SQLite has no `ADD COLUMN IF NOT EXISTS`.
fn is_there_already(error: &super::Error) -> bool {
    error
        .as_database_error()
        .is_some_and(|error| error.message().starts_with("duplicate column name"))
}
