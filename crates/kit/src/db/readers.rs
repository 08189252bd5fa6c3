//! Connections that read.

use super::{Connection, Error, Result, postgres, sqlite};
use sqlx::PgPool;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

/// A class of connections that read; cheap to clone.
#[derive(Clone, Debug)]
pub struct Readers {
    class: Class,
}

#[derive(Clone, Debug)]
enum Class {
    Sqlite(sqlite::Pool, Option<Duration>),
    Postgres(PgPool, Arc<postgres::Store>),
}

impl Readers {
    pub(super) fn of_file(pool: sqlite::Pool, limit: Option<Duration>) -> Self {
        Self {
            class: Class::Sqlite(pool, limit),
        }
    }

    pub(super) fn of_server(pool: PgPool, store: Arc<postgres::Store>) -> Self {
        Self {
            class: Class::Postgres(pool, store),
        }
    }

    /// Returns a connection.
    pub async fn acquire(&self) -> Result<Reader> {
        let connection = match &self.class {
            Class::Sqlite(pool, limit) => {
                let mut connection = pool.acquire().await?;
                if let Some(limit) = limit {
                    connection.interrupt_after(*limit)?;
                }
                Connection::Sqlite(connection)
            }
            Class::Postgres(pool, store) => Connection::Postgres(store.acquire(pool).await?),
        };
        Ok(Reader(connection))
    }

    /// Waits until every connection is returned, and closes it.
    pub async fn close(&self) {
        match &self.class {
            Class::Sqlite(pool, _) => pool.close().await,
            Class::Postgres(pool, _) => pool.close().await,
        }
    }
}

/// A connection that reads. It is returned when it is dropped.
#[derive(Debug)]
pub struct Reader(Connection);

impl Deref for Reader {
    type Target = Connection;
    fn deref(&self) -> &Connection {
        &self.0
    }
}

impl DerefMut for Reader {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.0
    }
}

/// Returns whether a statement was ended because it read for longer than its class of readers may.
pub fn is_interrupted(error: &Error) -> bool {
    // The codes are SQLITE_INTERRUPT and query_canceled.
    error
        .as_database_error()
        .and_then(|error| error.code())
        .is_some_and(|code| code == "9" || code == "57014")
}
