//! Write transactions.

use super::{Backend, Connection, Result};
use std::ops::{Deref, DerefMut};

/// The way in which a transaction's connection is returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// No transaction is open on it, so the next caller may use it.
    Return,
    RollBack,
    /// Its state is unknown, so it is closed.
    Close,
}

/// A write transaction. It is rolled back if it is dropped without [`Self::commit`].
#[derive(Debug)]
pub struct Transaction {
    /// The connection, which is only absent during the drop.
    connection: Option<Connection>,
    backend: Backend,
    end: End,
}

impl Transaction {
    pub(super) async fn begin(connection: Connection, backend: Backend) -> Result<Self> {
        let begin = match &backend {
            Backend::Sqlite(_) => "BEGIN IMMEDIATE",
            Backend::Postgres(store) => store.begin(),
        }
        .to_owned();
        // If the future is dropped before the answer comes, it is unknown whether the transaction has begun.
        let mut transaction = Self {
            connection: Some(connection),
            backend,
            end: End::Close,
        };
        let begun = transaction.command(&begin).await;
        begun.map_err(|error| transaction.backend.named(error))?;
        transaction.end = End::RollBack;
        Ok(transaction)
    }

    /// Commits the changes. After `Ok` all of them are durable.
    ///
    /// # Errors
    /// After an error none is kept, with one exception: if the connection to a server broke, it is unknown. A caller that has a copy
    /// of the data in memory reads them again.
    pub async fn commit(mut self) -> Result<()> {
        self.end = End::Close;
        // After a failed statement, COMMIT alone would succeed on PostgreSQL and keep nothing; the statement before it fails.
        let commit = match &self.backend {
            Backend::Sqlite(_) => "COMMIT",
            Backend::Postgres(_) => "SELECT 1; COMMIT",
        };
        let committed = self.command(commit).await;
        committed.map_err(|error| self.backend.named(error))?;
        self.end = End::Return;
        Ok(())
    }
}

const HELD: &str = "a transaction has its connection until it is dropped";

impl Deref for Transaction {
    type Target = Connection;
    fn deref(&self) -> &Connection {
        self.connection.as_ref().expect(HELD)
    }
}

impl DerefMut for Transaction {
    fn deref_mut(&mut self) -> &mut Connection {
        self.connection.as_mut().expect(HELD)
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        let Some(mut connection) = self.connection.take() else {
            return;
        };
        let runtime = tokio::runtime::Handle::try_current();
        match (self.end, &mut connection, runtime) {
            (End::Return, ..) => {}
            (End::RollBack, Connection::Sqlite(file), _) => {
                // It waits for nothing.
                if file.run(ROLLBACK).is_err() {
                    file.close();
                }
            }
            (End::RollBack, Connection::Postgres(_), Ok(runtime)) => {
                runtime.spawn(roll_back(connection));
            }
            (End::RollBack | End::Close, ..) => connection.close_on_drop(),
        }
    }
}

const ROLLBACK: &str = "ROLLBACK";

/// Rolls a transaction back. A statement that failed may have ended the transaction already; then there is nothing to roll back,
/// and it is unknown what the connection has done since, so it is closed.
async fn roll_back(mut connection: Connection) {
    if connection.run(ROLLBACK).await.is_err() {
        connection.close_on_drop();
    }
}
