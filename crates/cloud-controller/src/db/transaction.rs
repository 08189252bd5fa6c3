//! Write transactions. One runs at a time, and it is rolled back when it is dropped.
//!
//! ```text
//!  Tx      begins at the Writer, which only `crate::change` owns: users' changes and what follows from them
//!  Upkeep  begins at every `Db`: rows that the platform writes for itself. A test lists the files that use it.
//! ```

use super::{Connection, Trail, usage_event};
use kit::db::{Database, Transaction};
use std::ops::{Deref, DerefMut};

/// The right to begin transactions. An open database has one writer, and it cannot be cloned, so that its owner sees every change.
#[derive(Debug)]
pub(crate) struct Writer(Database);

impl Writer {
    pub(super) fn new(database: Database) -> Self {
        Self(database)
    }

    /// Begins a transaction when the previous one has ended. Nothing else changes the database until it is committed or dropped.
    pub(crate) async fn begin(&self) -> sqlx::Result<Tx> {
        Tx::begin(&self.0).await
    }
}

/// A transaction that changes what users want.
#[derive(Debug)]
pub(crate) struct Tx(Transaction);

impl Tx {
    async fn begin(database: &Database) -> sqlx::Result<Self> {
        Ok(Self(database.begin().await?))
    }

    /// Commits the transaction, together with the usage events of what it changed; both are durable when this function returns.
    /// The trail comes from the transaction's audit event, or names the reason why there is none.
    pub(crate) async fn commit(self, _trail: Trail) -> sqlx::Result<()> {
        self.finish().await
    }

    async fn finish(mut self) -> sqlx::Result<()> {
        usage_event::write_events(&mut self.0).await?;
        self.0.commit().await
    }
}

impl Deref for Tx {
    type Target = Connection;
    fn deref(&self) -> &Connection {
        &self.0
    }
}

impl DerefMut for Tx {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.0
    }
}

/// A transaction for rows that the platform writes for itself: seeds, users seen, clean-up, LRPs that are gone. It leaves no audit
/// event, and nothing in it changes what Diego must run.
#[derive(Debug)]
pub(crate) struct Upkeep(Tx);

impl Upkeep {
    pub(super) async fn begin(database: &Database) -> sqlx::Result<Self> {
        Ok(Self(Tx::begin(database).await?))
    }

    /// Commits the transaction, together with the usage events of what it changed; both are durable when this function returns.
    pub(crate) async fn commit(self) -> sqlx::Result<()> {
        self.0.finish().await
    }
}

impl Deref for Upkeep {
    type Target = Connection;
    fn deref(&self) -> &Connection {
        &self.0
    }
}

impl DerefMut for Upkeep {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.0
    }
}
