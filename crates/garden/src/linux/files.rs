//! Reading a container's files from the host, never led astray by its links.

use anyhow::{Context, Result, bail};
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// A container's root file system, as its shim sees it (which holds also when the container's init is gone).
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

    /// At most `limit` bytes of a regular file.
    pub(crate) fn read(&self, path: &str, limit: u64) -> Result<Vec<u8>> {
        // Not blocking: a pipe in the place of the file would hold us.
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
            .with_context(|| format!("look at {path}"))?
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
