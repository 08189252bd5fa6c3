//! A database in a file of SQLite, with WAL and `synchronous=FULL`, so that a commit that returned is durable.

mod pool;
mod statement;

pub(super) use pool::Pool;
pub use pool::SqliteConnection;
pub use statement::SqliteRow;
pub(super) use statement::in_place;

use super::{Error, Result};
use crate::disk::{self, Trouble};
use anyhow::Context as _;
use pool::Access;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The free room below which no transaction begins, because it would fail at its end.
const ROOM: u64 = 1 << 20;
/// The size of a file beside the database whose room the next start may use. SQLite cannot even read without a little room.
const BALLAST: u64 = 256 << 10;
/// The longest wait for the connection that writes.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct Store {
    /// The only connection that writes.
    writer: Pool,
    path: PathBuf,
    folder: PathBuf,
    /// The device and inode at the time of opening.
    identity: (u64, u64),
}

impl Store {
    pub(super) async fn open(path: &Path) -> anyhow::Result<Self> {
        Ok(Self {
            writer: open_writer(path).await?,
            identity: identity(path).with_context(|| format!("examine {}", path.display()))?,
            folder: path.parent().unwrap_or(Path::new("/")).to_owned(),
            path: path.to_owned(),
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns the connection that writes, unless a change would fail or be lost.
    pub(super) async fn writer(&self) -> Result<SqliteConnection> {
        if let Some(trouble) = self.find_trouble() {
            return Err(self.error(trouble));
        }
        self.writer.acquire().await
    }

    pub(super) fn readers(&self, connections: u32, patience: Duration) -> Pool {
        Pool::new(&self.path, Access::Read, connections, patience)
    }

    pub(super) async fn close(&self) {
        self.writer.close().await;
    }

    pub(super) fn trouble(&self) -> Option<String> {
        Some(self.find_trouble()?.text(&self.folder))
    }

    fn find_trouble(&self) -> Option<Trouble> {
        if identity(&self.path).ok() != Some(self.identity) {
            return Some(Trouble::Gone);
        }
        (!disk::has(&self.folder, ROOM)).then_some(Trouble::Full)
    }

    fn error(&self, trouble: Trouble) -> Error {
        tracing::error!(file = %self.path.display(), why = trouble.text(&self.folder), "database-not-written");
        Error::Io(trouble.error(&self.folder))
    }

    /// Returns the error, with a text that names the disk if it is a failure of the disk.
    pub(super) fn named(&self, error: Error) -> Error {
        match Trouble::of_database(&error) {
            Some(trouble @ (Trouble::Full | Trouble::ReadOnly | Trouble::Gone)) => {
                self.error(trouble)
            }
            Some(trouble) => {
                tracing::error!(file = %self.path.display(), %error, ?trouble, "database-failed");
                error
            }
            None => error,
        }
    }

    /// Writes the ballast if it is missing and the disk has room for it. Its bytes are not zero, because holes would not hold the
    /// room.
    pub(super) fn ensure_ballast(&self) {
        let ballast = ballast(&self.path);
        let is_there = std::fs::metadata(&ballast).is_ok_and(|meta| meta.len() == BALLAST);
        if is_there || !disk::has(&self.folder, BALLAST + ROOM) {
            return;
        }
        let bytes = vec![b'.'; usize::try_from(BALLAST).unwrap_or_default()];
        if let Err(error) = std::fs::write(&ballast, bytes) {
            tracing::warn!(%error, file = %ballast.display(), "ballast-not-kept");
        }
    }

    #[cfg(test)]
    pub(super) fn pool(&self) -> &Pool {
        &self.writer
    }
}

fn identity(path: &Path) -> std::io::Result<(u64, u64)> {
    let meta = std::fs::metadata(path)?;
    Ok((meta.dev(), meta.ino()))
}

pub(super) fn ballast(path: &Path) -> PathBuf {
    beside(path, "ballast")
}

/// Returns the path of a file beside the database.
pub(super) fn beside(path: &Path, extension: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(extension);
    PathBuf::from(name)
}

/// Opens the connection that writes. On a disk without room it removes the ballast, so that the file can be opened.
async fn open_writer(path: &Path) -> anyhow::Result<Pool> {
    match open_pool(path).await {
        Err(error) if std::fs::remove_file(ballast(path)).is_ok() => {
            tracing::warn!(error = format!("{error:#}"), "ballast-dropped");
            open_pool(path).await
        }
        opened => opened,
    }
}

async fn open_pool(path: &Path) -> anyhow::Result<Pool> {
    if !path.exists() {
        use std::os::unix::fs::OpenOptionsExt as _;
        std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(path)
            .with_context(|| format!("create database {}", path.display()))?;
    }
    let pool = Pool::new(path, Access::Write, 1, PATIENCE);
    let opened = pool.acquire().await;
    opened.with_context(|| {
        format!(
            "open database {}: if the file is damaged, replace it with a backup",
            path.display()
        )
    })?;
    Ok(pool)
}
