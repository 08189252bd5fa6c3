//! The download cache: files and unpacked directories on disk, by URL, kept across restarts.
//!
//! `<cache>/<key>/entry.json` names the current version, which is beside it. Versions are never changed in place, because
//! containers have them mounted. A download with a checksum is final. For one without a checksum, every use asks the server
//! whether the content has changed.
//!
//! The cache has a maximum size: the entries that were not used for longest are removed first ([`crate::supply::eviction`]).
//! Content that a container has mounted stays.

use crate::files::{replace, set_mode};
use crate::supply::archive;
use crate::supply::eviction::{Pin, Room};
use crate::supply::transfer::{Checksum, Fetched, TempFile, Transfers};
use anyhow::{Context as _, Result};
use sha2::Digest as _;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

#[derive(Debug)]
pub(crate) struct Cache {
    pub(crate) transfers: Transfers,
    root: PathBuf,
    room: Room,
    locks: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(crate) struct Entry {
    pub(crate) version: String,
    etag: Option<String>,
    sha256: String,
    size: u64,
}

/// The file that names a key's current version. Its modification time is the time of the last use.
pub(crate) const ENTRY: &str = "entry.json";

/// The form in which content is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    File,
    Directory,
}

/// Content on disk, either in the cache or in a temporary file of its own.
#[derive(Debug)]
pub(crate) struct Content {
    path: PathBuf,
    pub(crate) size: u64,
    _temporary: Option<TempFile>,
    /// The pin that keeps the content in the cache as long as it is used.
    _pin: Option<Pin>,
}

impl Content {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Cache {
    /// Creates the cache. It keeps at most `limit` bytes in `root`, beside the content that containers with records in
    /// `containers` have mounted.
    pub(crate) fn new(
        transfers: Transfers,
        root: PathBuf,
        containers: PathBuf,
        limit: u64,
    ) -> Result<Self> {
        std::fs::create_dir_all(&root)
            .with_context(|| format!("make directory {}", root.display()))?;
        let room = Room::new(root.clone(), containers, limit);
        room.make();
        Ok(Self {
            transfers,
            root,
            room,
            locks: Mutex::default(),
        })
    }

    /// Returns the archive behind `url`, unpacked. It may be mounted read-only until the machine restarts.
    pub(crate) async fn directory(
        &self,
        url: &str,
        cache_key: &str,
        checksum: &Checksum<'_>,
    ) -> Result<Content> {
        self.current(url, cache_key, checksum, Form::Directory)
            .await
    }

    /// Returns the file behind `url`. It is kept only if it has a cache key.
    pub(crate) async fn file(
        &self,
        url: &str,
        cache_key: &str,
        checksum: &Checksum<'_>,
    ) -> Result<Content> {
        if !cache_key.is_empty() {
            return self.current(url, cache_key, checksum, Form::File).await;
        }
        let fetched = self
            .transfers
            .fetch(url, checksum, None)
            .await?
            .context("the server answered 304 to a request without an ETag")?;
        Ok(Content {
            path: fetched.file.path().to_owned(),
            size: fetched.size,
            _temporary: Some(fetched.file),
            _pin: None,
        })
    }

    async fn current(
        &self,
        url: &str,
        cache_key: &str,
        checksum: &Checksum<'_>,
        form: Form,
    ) -> Result<Content> {
        let key = hex::encode(sha2::Sha256::digest(format!(
            "{form:?}\n{url}\n{cache_key}\n{}",
            checksum.value
        )));
        let dir = self.root.join(&key[..32]);
        let lock = self
            .locks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(key)
            .or_default()
            .clone();
        let _held = lock.lock().await;
        // The key is pinned before it is looked up, so that an entry that is found stays.
        let pin = self.room.pin(&dir);
        let known = read_entry(&dir);
        if let Some(entry) = known.as_ref().filter(|_| checksum.is_given()) {
            return Ok(self.content(&dir, entry, pin));
        }
        let etag = known.as_ref().and_then(|entry| entry.etag.clone());
        match (
            self.transfers.fetch(url, checksum, etag.as_deref()).await,
            known,
        ) {
            (Ok(None), Some(entry)) => Ok(self.content(&dir, &entry, pin)),
            (Ok(None), None) => {
                anyhow::bail!("the server answered 304 to a request without an ETag")
            }
            (Ok(Some(fetched)), Some(entry)) if fetched.sha256 == entry.sha256 => {
                Ok(self.content(&dir, &entry, pin))
            }
            (Ok(Some(fetched)), _) => {
                let to = dir.clone();
                let entry =
                    tokio::task::spawn_blocking(move || store(&to, fetched, form)).await??;
                let room = self.room.clone();
                tokio::task::spawn_blocking(move || room.make()).await?;
                Ok(self.content(&dir, &entry, pin))
            }
            (Err(error), Some(entry)) => {
                tracing::warn!(
                    error = format!("{error:#}"),
                    "cached-content-used-unchecked"
                );
                Ok(self.content(&dir, &entry, pin))
            }
            (Err(error), None) => Err(error),
        }
    }

    fn content(&self, dir: &Path, entry: &Entry, pin: Pin) -> Content {
        self.room.used(dir);
        Content {
            path: dir.join(&entry.version),
            size: entry.size,
            _temporary: None,
            _pin: Some(pin),
        }
    }
}

pub(crate) fn read_entry(dir: &Path) -> Option<Entry> {
    let entry: Entry = serde_json::from_slice(&std::fs::read(dir.join(ENTRY)).ok()?).ok()?;
    dir.join(&entry.version).exists().then_some(entry)
}

fn store(dir: &Path, fetched: Fetched, form: Form) -> Result<Entry> {
    std::fs::create_dir_all(dir).with_context(|| format!("make directory {}", dir.display()))?;
    set_mode(dir, 0o755)?;
    let entry = Entry {
        version: uuid::Uuid::new_v4().to_string(),
        etag: fetched.etag,
        sha256: fetched.sha256,
        size: fetched.size,
    };
    let target = dir.join(&entry.version);
    match form {
        Form::File => drop(
            std::fs::rename(fetched.file.path(), &target)
                .with_context(|| format!("move the content to {}", target.display()))?,
        ),
        Form::Directory => {
            let unpacked = archive::unpack(fetched.file.path(), &target)
                .and_then(|()| set_mode(&target, 0o755));
            if unpacked.is_err() {
                let _ = std::fs::remove_dir_all(&target);
            }
            unpacked?;
        }
    }
    replace(&dir.join(ENTRY), &serde_json::to_vec(&entry)?)?;
    Ok(entry)
}
