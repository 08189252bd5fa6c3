//! A schema on a PostgreSQL server. `synchronous_commit` is on, so that a commit that returned is durable.
//!
//! Changes are written one at a time across all processes, as in a file: a transaction begins by taking a lock of the server.
//! While the server cannot be reached, every call fails at once; a probe finds out when it answers again.

use super::{Error, Location, Result, Server, query};
use crate::disk::Trouble;
use anyhow::{Context as _, ensure};
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{ConnectOptions as _, Connection as _, PgConnection, Postgres};
use std::io;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::Notify;

/// The oldest version of PostgreSQL that is used, as its `server_version_num`.
const OLDEST: i32 = 150_000;
/// The longest wait for the connection that writes.
const PATIENCE: Duration = Duration::from_secs(30);
/// The interval of probes while the server answers. The next constant is the interval while it does not.
const PROBE: Duration = Duration::from_secs(5);
const PROBE_IN_TROUBLE: Duration = Duration::from_millis(500);
/// The longest wait for the answer to a probe.
const PROBE_PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Store {
    /// The only connection of this process that writes.
    writer: PgPool,
    options: PgConnectOptionsOf,
    schema: &'static str,
    place: String,
    begin: String,
    /// The reason why the server does not answer, if it does not.
    trouble: Mutex<Option<String>>,
    /// The signal that an operation failed or waits: the server is probed at once.
    failed: Notify,
}

/// The options for connections. They contain the password, so they are not printed.
struct PgConnectOptionsOf(PgConnectOptions);

impl std::fmt::Debug for PgConnectOptionsOf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PgConnectOptions")
    }
}

impl Store {
    /// Connects to the server, and probes it until the store is dropped.
    pub(super) async fn open(server: &Server, schema: &'static str) -> anyhow::Result<Arc<Self>> {
        let place = Location::Server(server.clone(), schema).to_string();
        if !server.is_verified() {
            tracing::warn!(
                database = place,
                "database-not-verified: write sslmode=verify-full, or leave sslmode out"
            );
        }
        let options = server.options().application_name(schema).options([
            ("search_path", schema),
            ("synchronous_commit", "on"),
            ("lock_timeout", "30s"),
            ("idle_in_transaction_session_timeout", "60s"),
        ]);
        let mut first = options
            .connect()
            .await
            .with_context(|| format!("connect to {place}"))?;
        check_version(&mut first)
            .await
            .with_context(|| format!("use {place}"))?;
        let _ = first.close().await;
        let store = Arc::new(Self {
            writer: pool(1, PATIENCE).connect_lazy_with(options.clone()),
            options: PgConnectOptionsOf(options),
            schema,
            place,
            begin: format!(
                "BEGIN; SELECT pg_advisory_xact_lock(hashtextextended('{schema}: writer', 0))"
            ),
            trouble: Mutex::default(),
            failed: Notify::new(),
        });
        tokio::spawn(probe(Arc::downgrade(&store)));
        Ok(store)
    }

    pub(super) fn schema(&self) -> &'static str {
        self.schema
    }

    pub(super) fn place(&self) -> &str {
        &self.place
    }

    /// Returns the statements that begin a change.
    pub(super) fn begin(&self) -> &str {
        &self.begin
    }

    pub(super) async fn writer(&self) -> Result<PoolConnection<Postgres>> {
        self.acquire(&self.writer).await
    }

    pub(super) fn readers(
        &self,
        connections: u32,
        patience: Duration,
        limit: Option<Duration>,
    ) -> PgPool {
        let mut options = self
            .options
            .0
            .clone()
            .options([("default_transaction_read_only", "on")]);
        if let Some(limit) = limit {
            let milliseconds = limit.as_millis().max(1).to_string();
            options = options.options([("statement_timeout", milliseconds)]);
        }
        pool(connections, patience).connect_lazy_with(options)
    }

    /// Returns a connection of the pool. It fails at once while the server does not answer.
    pub(super) async fn acquire(&self, pool: &PgPool) -> Result<PoolConnection<Postgres>> {
        if let Some(why) = self.trouble() {
            return Err(unreachable_server(why));
        }
        let acquired = tokio::select! {
            acquired = pool.acquire() => acquired,
            why = self.becomes_unreachable() => return Err(unreachable_server(why)),
        };
        acquired.map_err(|error| self.named(error))
    }

    /// Probes the server until it does not answer, and returns why.
    async fn becomes_unreachable(&self) -> String {
        loop {
            tokio::time::sleep(PROBE_IN_TROUBLE).await;
            self.failed.notify_one();
            if let Some(why) = self.trouble() {
                return why;
            }
        }
    }

    /// Takes a lock of the server on a connection of its own, unless another holder has it.
    pub(super) async fn try_lock(&self, name: &str) -> Result<Option<Box<PgConnection>>> {
        if let Some(why) = self.trouble() {
            return Err(unreachable_server(why));
        }
        // The connection stays idle for as long as the lock is held.
        let options = self
            .options
            .0
            .clone()
            .options([("idle_session_timeout", "0")]);
        let connected = query::in_time(options.connect()).await;
        let mut connection = connected.map_err(|error| self.named(error))?;
        let taken: bool =
            sqlx::query_scalar("SELECT pg_try_advisory_lock(hashtextextended($1, 0))")
                .bind(format!("{}: {name}", self.schema))
                .fetch_one(&mut connection)
                .await
                .map_err(|error| self.named(error))?;
        if taken {
            return Ok(Some(Box::new(connection)));
        }
        let _ = connection.close().await;
        Ok(None)
    }

    pub(super) async fn close(&self) {
        self.writer.close().await;
    }

    pub(super) fn trouble(&self) -> Option<String> {
        self.lock().clone()
    }

    /// Returns the text for users about an error of the server.
    pub(super) fn text(&self, error: &anyhow::Error) -> String {
        self.trouble().unwrap_or_else(|| format!("{error:#}"))
    }

    /// Returns the error, with a text that names the server if it failed.
    pub(super) fn named(&self, error: Error) -> Error {
        let Some(trouble) = Trouble::of_database(&error) else {
            return error;
        };
        self.failed.notify_one();
        tracing::error!(database = self.place, %error, ?trouble, "database-failed");
        match trouble {
            Trouble::Unreachable => unreachable_server(self.describe(&error)),
            _ => error,
        }
    }

    fn describe(&self, error: &Error) -> String {
        format!(
            "the database {} cannot be reached ({error}): start its server, or correct its address in the configuration",
            self.place
        )
    }

    /// Records the result of a probe.
    fn probed(&self, result: Result<()>) {
        let mut trouble = self.lock();
        match result {
            Ok(()) if trouble.take().is_some() => {
                tracing::warn!(database = self.place, "database-reached-again");
            }
            Ok(()) => {}
            Err(error) => {
                let why = self.describe(&error);
                if trouble.is_none() {
                    tracing::error!(database = self.place, why, "database-unreachable");
                }
                *trouble = Some(why);
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn pool(connections: u32, patience: Duration) -> PgPoolOptions {
    PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(patience)
}

/// Returns the error of calls that a server does not answer. Its kind leads to [`Trouble::Unreachable`].
fn unreachable_server(why: String) -> Error {
    Error::Io(io::Error::new(io::ErrorKind::NotConnected, why))
}

async fn check_version(connection: &mut PgConnection) -> anyhow::Result<()> {
    let number: String = sqlx::query_scalar("SELECT current_setting('server_version_num')")
        .fetch_one(connection)
        .await
        .context("read the version of the server")?;
    let number: i32 = number.parse().context("the version of the server")?;
    ensure!(
        number >= OLDEST,
        "the server runs PostgreSQL {}, but {} or newer is needed: upgrade it",
        number / 10_000,
        OLDEST / 10_000
    );
    Ok(())
}

/// Probes the server again and again, on a connection of its own.
async fn probe(store: Weak<Store>) {
    let mut connection: Option<PgConnection> = None;
    loop {
        let Some(store) = store.upgrade() else {
            return;
        };
        if store.writer.is_closed() {
            return;
        }
        let probed = tokio::time::timeout(PROBE_PATIENCE, reach(&store, connection.take())).await;
        let probed = probed.unwrap_or_else(|_| {
            let text = format!("it did not answer within {PROBE_PATIENCE:?}");
            Err(Error::Io(io::Error::new(io::ErrorKind::TimedOut, text)))
        });
        store.probed(probed.map(|reached| connection = Some(reached)));
        let interval = match store.trouble() {
            Some(_) => PROBE_IN_TROUBLE,
            None => PROBE,
        };
        tokio::select! {
            () = tokio::time::sleep(interval) => {}
            () = store.failed.notified() => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn reach(store: &Store, connection: Option<PgConnection>) -> Result<PgConnection> {
    if let Some(mut connection) = connection
        && connection.ping().await.is_ok()
    {
        return Ok(connection);
    }
    // Only the connection may have ended.
    let mut connection = store.options.0.connect().await?;
    connection.ping().await?;
    Ok(connection)
}
