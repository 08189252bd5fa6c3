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

use sqlx::pool::PoolConnection;
use sqlx::{Sqlite, SqlitePool, Transaction};
use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::sync::Arc;
use tokio::sync::{Mutex, OwnedMutexGuard};

#[derive(Clone, Debug)]
pub(crate) struct Db {
    pool: SqlitePool,
    writer: Arc<Mutex<()>>,
}

impl Db {
    pub(crate) async fn open(path: &Path) -> anyhow::Result<Self> {
        Ok(Self {
            pool: kit::db::open(path, schema::STATEMENTS).await?,
            writer: Arc::default(),
        })
    }

    pub(crate) async fn read(&self) -> sqlx::Result<PoolConnection<Sqlite>> {
        self.pool.acquire().await
    }

    /// Waits for its turn; nothing else changes the database until the answer is committed or dropped.
    pub(crate) async fn write(&self) -> sqlx::Result<Tx> {
        let turn = self.writer.clone().lock_owned().await;
        Ok(Tx {
            inner: self.pool.begin_with("BEGIN IMMEDIATE").await?,
            _turn: turn,
        })
    }

    pub(crate) async fn close(&self) {
        self.pool.close().await;
    }
}

/// A write transaction: rolled back when dropped.
#[derive(Debug)]
pub(crate) struct Tx {
    inner: Transaction<'static, Sqlite>,
    _turn: OwnedMutexGuard<()>,
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
