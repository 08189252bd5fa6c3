//! Named locks of which each has one holder at a time among all processes that use a database.

use super::{Error, Result, sqlite};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use sqlx::{Connection as _, PgConnection};
use std::fs::File;
use std::path::Path;

/// A lock that is held until it is dropped, or until the process ends.
#[derive(Debug)]
pub enum Lock {
    /// A lock on a file beside the database.
    File(Flock<File>),
    /// A lock that a connection to the server holds.
    Server(Box<PgConnection>),
}

impl Lock {
    /// Checks that the lock is still held. A server releases it when the connection breaks.
    pub async fn check(&mut self) -> Result<()> {
        match self {
            Self::File(_) => Ok(()),
            Self::Server(connection) => super::query::in_time(connection.ping()).await,
        }
    }

    /// Releases the lock, and returns when the next holder can take it.
    pub async fn release(self) {
        match self {
            Self::File(file) => drop(file),
            Self::Server(connection) => {
                // If it fails, the connection is broken, and the server releases the lock as well.
                let _ = connection.close().await;
            }
        }
    }
}

/// Takes a lock on a file beside the database, unless another holder has it.
pub(super) fn of_file(path: &Path, name: &str) -> Result<Option<Flock<File>>> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let path = sqlite::beside(path, &format!("{name}.lock"));
    let file = File::options()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(&path)
        .map_err(Error::Io)?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, error)) => Err(Error::Io(error.into())),
    }
}
