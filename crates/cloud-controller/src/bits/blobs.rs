//! The interface of a place for blobs, which is a folder ([`super::folder`]) or a bucket ([`super::s3`]).

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use tokio::runtime::Handle;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Package,
    Droplet,
    /// A file of a package, by its SHA-256.
    Resource,
}

impl Kind {
    pub const ALL: [Self; 3] = [Self::Package, Self::Droplet, Self::Resource];

    /// Returns the name of the folder, or the first part of the key in a bucket.
    pub fn directory(self) -> &'static str {
        match self {
            Self::Package => "packages",
            Self::Droplet => "droplets",
            Self::Resource => "resources",
        }
    }

    /// Returns the kind that a folder belongs to.
    pub(crate) fn named(directory: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.directory() == directory)
    }
}

/// A place for blobs. A blob exists completely or not at all, and it is durable when `put` returns. The functions block.
pub(super) trait Blobs: fmt::Debug + Send + Sync {
    /// Stores a local file, replacing a blob of the same name. The file may be moved.
    fn put(&self, kind: Kind, name: &str, file: &Path) -> anyhow::Result<()>;

    /// Opens a blob. Returns `None` when there is no such blob.
    fn open(&self, kind: Kind, name: &str) -> anyhow::Result<Option<Opened>>;

    /// Returns when a blob was written, in microseconds since the epoch. Returns `None` when there is no such blob.
    fn written(&self, kind: Kind, name: &str) -> anyhow::Result<Option<i64>>;

    /// Removes a blob. A blob that does not exist is no error.
    fn delete(&self, kind: Kind, name: &str) -> anyhow::Result<()>;

    fn list(&self, kind: Kind) -> anyhow::Result<Vec<Listed>>;

    /// Returns why the last attempt to reach the place failed.
    fn trouble(&self) -> Option<String>;
}

/// An entry of a list of blobs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub name: String,
    /// The time at which the blob was written, in microseconds since the epoch.
    pub written: i64,
}

/// A blob that is being read, from a blocking thread ([`Read`]) or as a stream.
pub struct Opened {
    /// The number of bytes.
    pub length: u64,
    content: Content,
}

enum Content {
    File(File),
    Remote {
        stream: BoxStream<'static, io::Result<Bytes>>,
        /// The bytes that have arrived and were not read yet.
        arrived: Bytes,
        runtime: Handle,
    },
}

impl Opened {
    pub(super) fn file(file: File) -> io::Result<Self> {
        Ok(Self {
            length: file.metadata()?.len(),
            content: Content::File(file),
        })
    }

    pub(super) fn remote(
        length: u64,
        stream: BoxStream<'static, io::Result<Bytes>>,
        runtime: Handle,
    ) -> Self {
        let arrived = Bytes::new();
        Self {
            length,
            content: Content::Remote {
                stream,
                arrived,
                runtime,
            },
        }
    }

    /// Returns the content in chunks.
    pub fn into_stream(self) -> BoxStream<'static, io::Result<Bytes>> {
        const CHUNK: usize = 256 << 10;
        match self.content {
            Content::File(file) => {
                let file = tokio::fs::File::from_std(file);
                tokio_util::io::ReaderStream::with_capacity(file, CHUNK).boxed()
            }
            Content::Remote { stream, .. } => stream,
        }
    }
}

impl Read for Opened {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (stream, arrived, runtime) = match &mut self.content {
            Content::File(file) => return file.read(buffer),
            Content::Remote {
                stream,
                arrived,
                runtime,
            } => (stream, arrived, runtime),
        };
        while arrived.is_empty() {
            match runtime.block_on(stream.next()) {
                Some(chunk) => *arrived = chunk?,
                None => return Ok(0),
            }
        }
        let part = arrived.split_to(buffer.len().min(arrived.len()));
        buffer[..part.len()].copy_from_slice(&part);
        Ok(part.len())
    }
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened")
            .field("length", &self.length)
            .finish_non_exhaustive()
    }
}

/// The error for a place that does not do now what it must do. The operator can correct it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unavailable(pub(super) String);
