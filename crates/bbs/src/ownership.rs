//! The BBS's lock on its database. Of several BBSs on one database only the holder is active; the others wait here. The lock in
//! locket names the active BBS for clients, but it is itself a row of the database, so it cannot protect the database.

use crate::db::{self, Fence, TakenOver};
use anyhow::{Context as _, Result, bail};
use kit::CancellationToken;
use kit::db::{Database, Lock};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Mutex;

/// The name of the lock.
const ACTIVE: &str = "active";
/// The interval at which a BBS tries to become the active one.
const RETRY: Duration = Duration::from_secs(1);

/// The ownership of the database, from the time at which the lock was taken.
#[derive(Debug)]
pub(crate) struct Ownership {
    database: Database,
    /// `None` means that the lock was lost with its connection.
    lock: Mutex<Option<Lock>>,
    pub(crate) fence: Fence,
}

impl Ownership {
    /// Waits until no other BBS is active, and takes the database over.
    /// It cancels `waits` when it finds that another one is active.
    pub(crate) async fn take(database: &Database, waits: &CancellationToken) -> Result<Self> {
        let lock = loop {
            match database.try_lock(ACTIVE).await {
                Ok(Some(lock)) => break lock,
                Ok(None) if !waits.is_cancelled() => {
                    tracing::info!(
                        database = database.place(),
                        "bbs-waits: another one is active"
                    );
                    waits.cancel();
                }
                Ok(None) => {}
                Err(error) => tracing::warn!(%error, "bbs-lock-not-taken"),
            }
            tokio::time::sleep(RETRY).await;
        };
        Ok(Self {
            fence: Fence::raise(database).await?,
            database: database.clone(),
            lock: Mutex::new(Some(lock)),
        })
    }

    /// Takes the lock again if it was lost with its connection.
    ///
    /// # Errors
    /// It fails if another BBS has taken the database over. As long as the database cannot be reached, nobody knows that.
    pub(crate) async fn renew(&self) -> Result<()> {
        let mut held = self.lock.lock().await;
        if let Some(lock) = held.as_mut() {
            let Err(error) = lock.check().await else {
                return Ok(());
            };
            tracing::warn!(%error, "bbs-lock-lost");
            *held = None;
        }
        match self.database.try_lock(ACTIVE).await {
            Ok(Some(lock)) => *held = Some(lock),
            Ok(None) => bail!(TakenOver),
            Err(error) => {
                tracing::warn!(%error, "bbs-lock-not-taken");
                return Ok(());
            }
        }
        tracing::warn!("bbs-lock-taken-again");
        match db::try_to_write(&self.database, &self.fence).await {
            Err(error) if error.is::<TakenOver>() => Err(error),
            _ => Ok(()),
        }
    }

    /// Releases the lock. Nothing may be written after that.
    pub(crate) async fn release(&self) {
        if let Some(lock) = self.lock.lock().await.take() {
            lock.release().await;
        }
    }
}

/// Closes each connection at once, until `shutdown`: a client of a BBS that waits tries another one instead of waiting as well.
pub(crate) async fn refuse(listener: &TcpListener) -> Result<()> {
    loop {
        drop(listener.accept().await.context("accept a connection")?);
    }
}

/// Waits for the ownership. It returns `None` if `shutdown` comes first. Connections are refused while another BBS is active; before
/// that is known they wait in the kernel's queue.
pub(crate) async fn wait(
    database: &Database,
    listeners: [&TcpListener; 2],
    shutdown: &CancellationToken,
) -> Result<Option<Ownership>> {
    let waits = CancellationToken::new();
    let refuse = async |listener| {
        waits.cancelled().await;
        refuse(listener).await
    };
    tokio::select! {
        taken = Ownership::take(database, &waits) => taken.map(Some),
        refused = refuse(listeners[0]) => refused.map(|()| None),
        refused = refuse(listeners[1]) => refused.map(|()| None),
        () = shutdown.cancelled() => Ok(None),
    }
}
