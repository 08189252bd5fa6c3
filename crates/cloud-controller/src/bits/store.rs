//! Keeps the files of packages and droplets: uploads in a local folder ([`super::staging`]), and blobs in a folder or a bucket
//! ([`super::blobs`]).
//!
//! A blob of a package or droplet is stored before the transaction that accepts it, under a name of the attempt, and the row names
//! it. So no transaction waits for a disk or a server, and of several uploads exactly one is accepted. A blob that no row names
//! is removed: at once if its request learns it ([`Stored`]), otherwise by the clean-up.

pub use super::blobs::{Kind, Listed, Opened, Unavailable};
pub use super::staging::{Blob, Upload};
pub use s3_client::{S3, S3Settings};

use super::blobs::Blobs;
use super::folder::Folder;
use super::s3::Bucket;
use super::staging::Staging;
use anyhow::{Context as _, Result};
use std::io;
use std::path::Path;
use std::sync::Arc;
use tokio::runtime::Handle;

/// The folder of this process's uploads and the place of all blobs; it is cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    staging: Staging,
    blobs: Arc<dyn Blobs>,
}

impl Store {
    /// Opens the store below `<data_dir>/blobs`. Uploads leave `reserve` bytes of the disk free (`None`: see `Reserve::new`).
    pub fn open(data_dir: &Path, reserve: Option<u64>) -> Result<Self> {
        let root = data_dir.join("blobs");
        Ok(Self {
            staging: Staging::open(&root.join("uploads"), reserve)?,
            blobs: Arc::new(Folder::open(&root)?),
        })
    }

    /// Opens the store in a bucket. Uploads are below `<data_dir>/blobs`. It must be called within a runtime, and it makes one request.
    ///
    /// # Errors
    /// It fails if the server refuses the bucket or the key. A server that cannot be reached is no error.
    pub fn in_bucket(data_dir: &Path, reserve: Option<u64>, s3: &S3) -> Result<Self> {
        let uploads = data_dir.join("blobs").join("uploads");
        Ok(Self {
            staging: Staging::open(&uploads, reserve)?,
            blobs: Arc::new(Bucket::open(s3)?),
        })
    }

    /// Starts an upload. The caller writes to it, may read its file, and then stores it. If it is dropped before that, its file is
    /// removed.
    pub fn begin(&self) -> Result<Upload> {
        self.staging.begin()
    }

    /// Stores an upload for a package or droplet under a name of its own.
    pub fn store(&self, upload: Upload, kind: Kind, guid: &str) -> Result<Stored> {
        let attempt = uuid::Uuid::new_v4().simple().to_string();
        let name = format!("{guid}-{}", &attempt[..12]);
        Ok(Stored {
            blob: self.store_as(upload, kind, &name)?,
            name,
            kind,
            store: Some(self.clone()),
        })
    }

    /// Stores an upload under this name, replacing a blob of the same name.
    pub fn store_as(&self, upload: Upload, kind: Kind, name: &str) -> Result<Blob> {
        self.blobs.put(kind, name, upload.path())?;
        Ok(upload.digest())
    }

    /// Stores all that a reader returns under this name.
    pub fn put(&self, kind: Kind, name: &str, reader: impl io::Read) -> Result<Blob> {
        self.store_as(self.read_in(reader)?, kind, name)
    }

    /// Stores the same content for another package or droplet. The content is read and hashed again, so that a damaged blob is not
    /// copied unnoticed.
    pub fn copy(&self, kind: Kind, from: &str, guid: &str) -> Result<Stored> {
        let blob = self
            .read(kind, from)?
            .with_context(|| format!("{} {from} has no bits", kind.directory()))?;
        let length = blob.length;
        let upload = self.read_in(blob)?;
        anyhow::ensure!(
            upload.size() == length,
            "{} {from} ended after {} of {length} bytes",
            kind.directory(),
            upload.size()
        );
        self.store(upload, kind, guid)
    }

    fn read_in(&self, mut reader: impl io::Read) -> Result<Upload> {
        let mut upload = self.begin()?;
        io::copy(&mut reader, &mut upload).context("copy bits")?;
        Ok(upload)
    }

    /// Opens a blob. Returns `None` when there is no such blob.
    pub fn read(&self, kind: Kind, name: &str) -> Result<Option<Opened>> {
        self.blobs.open(kind, name)
    }

    /// Returns when a blob was written, in microseconds since the epoch. Returns `None` when there is no such blob.
    pub fn written(&self, kind: Kind, name: &str) -> Result<Option<i64>> {
        self.blobs.written(kind, name)
    }

    /// Removes a blob. A blob that does not exist is no error.
    pub fn delete(&self, kind: Kind, name: &str) -> Result<()> {
        self.blobs.delete(kind, name)
    }

    pub fn list(&self, kind: Kind) -> Result<Vec<Listed>> {
        self.blobs.list(kind)
    }

    /// Returns why the last attempt to reach the blobs failed.
    pub fn trouble(&self) -> Option<String> {
        self.blobs.trouble()
    }

    /// Removes blobs in the background. Blobs that remain after a failure are removed by the clean-up.
    pub(crate) fn delete_later(&self, kind: Kind, names: Vec<String>) {
        if names.is_empty() {
            return;
        }
        let store = self.clone();
        let delete = move || {
            for name in &names {
                if let Err(error) = store.delete(kind, name) {
                    tracing::warn!(error = format!("{error:#}"), "blob-not-deleted");
                }
            }
        };
        match Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(delete)),
            Err(_) => delete(),
        }
    }
}

/// A blob that no row names yet. If it is dropped, the blob is removed.
#[derive(Debug)]
#[must_use = "a blob that is not kept is removed"]
pub struct Stored {
    pub blob: Blob,
    /// The name that the row gets.
    pub name: String,
    kind: Kind,
    store: Option<Store>,
}

impl Stored {
    /// Keeps the blob. It is called just before the commit of the row: if the outcome of the commit is not known, the blob must stay.
    pub fn keep(mut self) {
        self.store = None;
    }
}

impl Drop for Stored {
    fn drop(&mut self) {
        if let Some(store) = self.store.take() {
            store.delete_later(self.kind, vec![std::mem::take(&mut self.name)]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn a_blob_is_stored_and_copied_and_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), Some(0)).unwrap();
        let blob = store
            .put(Kind::Droplet, "guid-1", b"abc".as_slice())
            .unwrap();
        assert_eq!(
            (blob.size, blob.sha1.as_str()),
            (3, "a9993e364706816aba3e25717850c26c9cd0d89d")
        );
        assert_eq!(
            blob.sha256,
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        let copy = store.copy(Kind::Droplet, "guid-1", "guid-2").unwrap();
        assert_eq!(copy.blob, blob);
        let name = copy.name.clone();
        assert!(name.starts_with("guid-2-"), "{name}");
        copy.keep();
        store.delete(Kind::Droplet, "guid-1").unwrap();
        store.delete(Kind::Droplet, "guid-1").unwrap();
        assert!(store.read(Kind::Droplet, "guid-1").unwrap().is_none());
        let opened = store.read(Kind::Droplet, &name).unwrap().unwrap();
        assert_eq!(opened.length, 3);
        assert_eq!(io::read_to_string(opened).unwrap(), "abc");
        assert_eq!(store.written(Kind::Package, &name).unwrap(), None);
        let names: Vec<String> = store
            .list(Kind::Droplet)
            .unwrap()
            .into_iter()
            .map(|listed| listed.name)
            .collect();
        assert_eq!(names, [name]);
    }

    #[tokio::test]
    async fn a_blob_that_is_not_kept_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), Some(0)).unwrap();
        store.put(Kind::Package, "a", b"abc".as_slice()).unwrap();
        drop(store.copy(Kind::Package, "a", "b").unwrap());
        let removed = async {
            while store.list(Kind::Package).unwrap().len() > 1 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), removed)
            .await
            .unwrap();
        assert!(store.read(Kind::Package, "a").unwrap().is_some());
    }
}
