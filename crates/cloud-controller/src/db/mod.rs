//! The Cloud Controller's truth: what users want. One file per noun; SQL stands here and nowhere else.
//!
//! Reads borrow a pooled connection. Every change goes through [`Db::write`]: one transaction at a time, durable when
//! [`Tx::commit`] returned. A handler takes either a reading connection or a transaction, never both at once.

pub(crate) mod app;
pub(crate) mod audit_event;
pub(crate) mod build;
pub(crate) mod deployment;
pub(crate) mod domain;
pub(crate) mod organization;
pub(crate) mod package;
pub(crate) mod platform;
pub(crate) mod process;
pub(crate) mod role;
pub(crate) mod route;
mod row;
mod schema;
mod select;
pub(crate) mod sight;
pub(crate) mod space;
pub(crate) mod task;

pub(crate) use row::{Json, Row, by_guid, column, delete, insert, rows, update};
pub(crate) use select::{Arg, Select, execute};
pub(crate) use sqlx::SqliteConnection as Connection;

use sqlx::Sqlite;
use sqlx::pool::PoolConnection;
use std::ops::{Deref, DerefMut};
use std::path::Path;

#[derive(Clone, Debug)]
pub(crate) struct Db {
    database: kit::db::Database,
}

impl Db {
    pub(crate) async fn open(path: &Path) -> anyhow::Result<Self> {
        Ok(Self {
            database: kit::db::Database::open(path, schema::STATEMENTS).await?,
        })
    }

    /// Cannot write.
    pub(crate) async fn read(&self) -> sqlx::Result<PoolConnection<Sqlite>> {
        self.database.read().await
    }

    /// Waits for its turn; nothing else changes the database until the transaction is committed or dropped.
    pub(crate) async fn write(&self) -> sqlx::Result<Tx> {
        Ok(Tx {
            inner: self.database.begin().await?,
        })
    }

    pub(crate) async fn close(&self) {
        self.database.close().await;
    }
}

/// A write transaction: rolled back when dropped.
#[derive(Debug)]
pub(crate) struct Tx {
    inner: kit::db::Transaction,
}

impl Tx {
    pub(crate) async fn commit(self) -> sqlx::Result<()> {
        self.inner.commit().await
    }
}

impl Deref for Tx {
    type Target = Connection;
    fn deref(&self) -> &Connection {
        &self.inner
    }
}

impl DerefMut for Tx {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.inner
    }
}
