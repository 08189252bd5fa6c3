//! Keeps blobs in a bucket of an S3 server, under keys such as `packages/NAME`. The functions block: they run on threads for blocking
//! work and wait for the runtime.

use super::blobs::{Blobs, Kind, Listed, Opened, Unavailable};
use anyhow::{Context as _, Result, bail};
use s3_client::{Client, Fault, S3};
use std::path::Path;
use tokio::runtime::Handle;

/// The section of the configuration that has the bucket's keys.
const SECTION: &str = "blobs.s3";

/// The bucket of the blobs.
#[derive(Debug)]
pub(super) struct Bucket {
    client: Client,
    runtime: Handle,
}

impl Bucket {
    /// Makes the client and lists one blob, so that a wrong key or bucket is found at the start.
    pub(super) fn open(s3: &S3) -> Result<Self> {
        let bucket = Self {
            client: Client::new(s3, SECTION)?,
            runtime: Handle::try_current().context("open the blob store within a runtime")?,
        };
        let prefix = prefix(Kind::Package);
        let checked = bucket.client.check(&prefix);
        match bucket.runtime.block_on(checked) {
            Ok(()) => {}
            Err(fault) if fault.is_temporary() => {
                tracing::warn!(error = %bucket.unavailable("list", &fault), "blob-store-not-reached");
            }
            Err(fault) => bail!(bucket.unavailable("list", &fault)),
        }
        Ok(bucket)
    }

    fn unavailable(&self, verb: &str, fault: &Fault) -> Unavailable {
        Unavailable(format!(
            "the blob store {} did not {verb}: {fault}",
            self.client.url()
        ))
    }
}

fn prefix(kind: Kind) -> String {
    format!("{}/", kind.directory())
}

fn key(kind: Kind, name: &str) -> String {
    format!("{}/{name}", kind.directory())
}

impl Blobs for Bucket {
    fn put(&self, kind: Kind, name: &str, file: &Path) -> Result<()> {
        let key = key(kind, name);
        let stored = self.runtime.block_on(self.client.put(&key, file));
        stored.map_err(|fault| self.unavailable(&format!("store {key}"), &fault))?;
        Ok(())
    }

    fn open(&self, kind: Kind, name: &str) -> Result<Option<Opened>> {
        let key = key(kind, name);
        let opened = self.runtime.block_on(self.client.get(&key));
        let object = opened.map_err(|fault| self.unavailable(&format!("return {key}"), &fault))?;
        Ok(
            object
                .map(|object| Opened::remote(object.length, object.content, self.runtime.clone())),
        )
    }

    fn written(&self, kind: Kind, name: &str) -> Result<Option<i64>> {
        let key = key(kind, name);
        let found = self.runtime.block_on(self.client.written(&key));
        Ok(found.map_err(|fault| self.unavailable(&format!("find {key}"), &fault))?)
    }

    fn delete(&self, kind: Kind, name: &str) -> Result<()> {
        let key = key(kind, name);
        let deleted = self.runtime.block_on(self.client.delete(&key));
        Ok(deleted.map_err(|fault| self.unavailable(&format!("delete {key}"), &fault))?)
    }

    fn list(&self, kind: Kind) -> Result<Vec<Listed>> {
        let prefix = prefix(kind);
        let listed = self.runtime.block_on(self.client.list(&prefix));
        let listed = listed.map_err(|fault| self.unavailable(&format!("list {prefix}"), &fault))?;
        let entry = |object: s3_client::Listed| Listed {
            name: object.name,
            written: object.written,
        };
        Ok(listed.into_iter().map(entry).collect())
    }

    fn trouble(&self) -> Option<String> {
        self.client.trouble()
    }
}
