//! Reads a container's files from the host. Links in the container cannot lead out of it.

use anyhow::{Context, Result, bail};
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// A container's root file system, as its shim sees it. It is also readable when the container's init has ended.
#[derive(Debug)]
pub(crate) struct Root {
    folder: File,
}

impl Root {
    pub(crate) fn of(shim: i32, root: &Path) -> Result<Self> {
        let place = format!("/proc/{shim}/root{}", root.display());
        let folder = File::open(&place).with_context(|| format!("open {place}"))?;
        Ok(Self { folder })
    }

    /// Reads at most `limit` bytes of a regular file.
    pub(crate) fn read(&self, path: &str, limit: u64) -> Result<Vec<u8>> {
        // The open does not block, because there may be a pipe in the place of the file.
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        let resolve = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        let fd = openat2(
            &self.folder,
            path,
            OpenHow::new().flags(flags).resolve(resolve),
        )
        .with_context(|| format!("open {path}"))?;
        let file = File::from(fd);
        if !file
            .metadata()
            .with_context(|| format!("examine {path}"))?
            .is_file()
        {
            bail!("{path} is not a regular file");
        }
        let mut content = Vec::new();
        file.take(limit)
            .read_to_end(&mut content)
            .with_context(|| format!("read {path}"))?;
        Ok(content)
    }
}
