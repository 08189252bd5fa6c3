//! The database of a component: a file of SQLite, or a schema on a PostgreSQL server. Callers write each statement once and hold
//! no type of either database.
//!
//! Every change goes through [`Database::begin`]: one transaction writes at a time, across all processes that use the database.
//! After a commit that returned `Ok` the change is durable. Reads borrow one of a few connections, which cannot write. A
//! connection is closed if its BEGIN, COMMIT or ROLLBACK failed, or if its transaction was abandoned and cannot be rolled back, so
//! that every caller gets a connection in a known state. Errors of the disk or of the server carry a text that names it
//! ([`crate::disk::Trouble`]).
//!
//! | Statements are written once | |
//! |---|---|
//! | arguments | `$1`, `$2`; a list is `x IN LIST($1)` or `x NOT IN LIST($1)` |
//! | conflicts | `ON CONFLICT … DO NOTHING` or `DO UPDATE`; in the latter an own column is written `table.column` |
//! | truth values | integers 0 and 1: `WHERE active = 1` |
//! | sums | `CAST(SUM(x) AS BIGINT)` |
//! | texts without case | `lower(x)` on both sides, and an index on it |
//! | after an error | the transaction is over: PostgreSQL refuses further statements, and a commit fails |

mod location;
mod lock;
mod migrate;
mod postgres;
mod query;
mod readers;
mod row;
mod spelling;
mod sqlite;
mod transaction;
mod value;

pub use location::{Location, Server};
pub use lock::Lock;
pub use migrate::{Migration, Schema};
pub use query::{Builder, Query, QueryAs, QueryScalar, query, query_as, query_scalar};
pub use readers::{Reader, Readers, is_interrupted};
pub use row::{FromRow, Index, Row};
pub use sqlite::{SqliteConnection, SqliteRow};
pub use sqlx::error::BoxDynError;
pub use sqlx::{AssertSqlSafe, Error};
pub use transaction::Transaction;
pub use value::{Cell, FromCell, NulInText, Value};

use anyhow::Context as _;
use sqlx::Postgres;
use sqlx::pool::PoolConnection;
use std::sync::Arc;
use std::time::Duration;

/// A result whose error is one of the database.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The number of concurrent readers of [`Database::read`].
const READERS: u32 = 4;
/// The longest wait for one of these connections.
const PATIENCE: Duration = Duration::from_secs(30);

/// An open database; cheap to clone.
#[derive(Clone, Debug)]
pub struct Database {
    backend: Backend,
    readers: Readers,
}

#[derive(Clone, Debug)]
enum Backend {
    Sqlite(Arc<sqlite::Store>),
    Postgres(Arc<postgres::Store>),
}

/// A connection to either database.
#[derive(Debug)]
pub enum Connection {
    Sqlite(SqliteConnection),
    Postgres(PoolConnection<Postgres>),
}

impl Connection {
    fn close_on_drop(&mut self) {
        match self {
            Self::Sqlite(connection) => connection.close(),
            Self::Postgres(connection) => connection.close_on_drop(),
        }
    }

    /// Runs a statement that begins or ends a transaction.
    async fn command(&mut self, sql: &str) -> Result<()> {
        match self {
            Self::Sqlite(connection) => connection.execute(sql, &[]).map(drop),
            Self::Postgres(_) => self.run(sql).await,
        }
    }

    /// Runs a text of one or more statements without arguments.
    async fn run(&mut self, sql: &str) -> Result<()> {
        match self {
            Self::Sqlite(connection) => sqlite::in_place(|| connection.run(sql)),
            Self::Postgres(connection) => {
                let sql = sqlx::raw_sql(AssertSqlSafe(sql));
                query::in_time(sql.execute(&mut **connection))
                    .await
                    .map(drop)
            }
        }
    }
}

impl Database {
    /// Opens the database and brings its schema up to date. A missing file is created with mode 0600, and a missing schema on a
    /// server is created.
    ///
    /// # Errors
    /// It fails if the database cannot be opened, or if a newer program has changed its schema.
    pub async fn open(location: &Location, schema: &Schema) -> anyhow::Result<Self> {
        let backend = match location {
            Location::File(path) => Backend::Sqlite(Arc::new(sqlite::Store::open(path).await?)),
            Location::Server(server, name) => {
                Backend::Postgres(postgres::Store::open(server, name).await?)
            }
        };
        let readers = backend.readers(READERS, PATIENCE, None);
        let database = Self { backend, readers };
        migrate::migrate(&database, schema)
            .await
            .with_context(|| format!("migrate database {location}"))?;
        if let Backend::Sqlite(store) = &database.backend {
            store.ensure_ballast();
        }
        Ok(database)
    }

    /// Returns a connection that reads.
    pub async fn read(&self) -> Result<Reader> {
        self.readers.acquire().await
    }

    /// Makes further connections, for a class of readers of its own. They cannot write. A caller that waits longer than `patience`
    /// for one of them gets [`Error::PoolTimedOut`]. A reader that has its connection for longer than `limit` is interrupted
    /// ([`is_interrupted`]); on a server the limit holds for each statement.
    pub fn readers(
        &self,
        connections: u32,
        patience: Duration,
        limit: Option<Duration>,
    ) -> Readers {
        self.backend.readers(connections, patience, limit)
    }

    /// Makes a change of one statement, in a transaction of its own. Returns the number of rows that it changed.
    pub async fn execute(&self, change: Query) -> Result<u64> {
        let mut transaction = self.begin().await?;
        let changed = change.execute(&mut transaction).await?;
        transaction.commit().await?;
        Ok(changed)
    }

    /// Begins a transaction when its turn has come. Nothing else changes the database until it is committed or dropped.
    pub async fn begin(&self) -> Result<Transaction> {
        let connection = match &self.backend {
            Backend::Sqlite(store) => Connection::Sqlite(store.writer().await?),
            Backend::Postgres(store) => Connection::Postgres(store.writer().await?),
        };
        Transaction::begin(connection, self.backend.clone()).await
    }

    /// Returns the reason why no change can begin at present, if there is one.
    pub fn trouble(&self) -> Option<String> {
        match &self.backend {
            Backend::Sqlite(store) => store.trouble(),
            Backend::Postgres(store) => store.trouble(),
        }
    }

    /// Returns the text for users about an error, if it is a failure of the disk or of the server. It names the place.
    pub fn trouble_of(&self, error: &anyhow::Error) -> Option<String> {
        let trouble = crate::disk::Trouble::of_chain(error)?;
        Some(match &self.backend {
            Backend::Sqlite(store) => trouble.text(store.folder()),
            Backend::Postgres(store) => store.text(error),
        })
    }

    /// Returns the path of the file, or the URL of the server without its password.
    pub fn place(&self) -> String {
        match &self.backend {
            Backend::Sqlite(store) => store.path().display().to_string(),
            Backend::Postgres(store) => store.place().to_owned(),
        }
    }

    /// Returns whether other processes can use the database at the same time.
    pub fn is_shared(&self) -> bool {
        matches!(self.backend, Backend::Postgres(_))
    }

    /// Takes the named lock if no other process and no other caller holds it.
    pub async fn try_lock(&self, name: &str) -> Result<Option<Lock>> {
        match &self.backend {
            Backend::Sqlite(store) => Ok(lock::of_file(store.path(), name)?.map(Lock::File)),
            Backend::Postgres(store) => Ok(store.try_lock(name).await?.map(Lock::Server)),
        }
    }

    /// Waits until every connection is returned, and closes it.
    pub async fn close(&self) {
        self.readers.close().await;
        match &self.backend {
            Backend::Sqlite(store) => store.close().await,
            Backend::Postgres(store) => store.close().await,
        }
    }
}

impl Backend {
    fn readers(&self, connections: u32, patience: Duration, limit: Option<Duration>) -> Readers {
        match self {
            Self::Sqlite(store) => Readers::of_file(store.readers(connections, patience), limit),
            Self::Postgres(store) => {
                Readers::of_server(store.readers(connections, patience, limit), store.clone())
            }
        }
    }

    /// Returns the error, with a text that names the disk or the server if that failed.
    fn named(&self, error: Error) -> Error {
        match self {
            Self::Sqlite(store) => store.named(error),
            Self::Postgres(store) => store.named(error),
        }
    }
}

#[cfg(test)]
mod tests;
