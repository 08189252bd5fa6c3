//! Keeps a part of the disk free of large files, so that databases and logs can still be written.

use kit::disk;
use std::io;
use std::path::{Path, PathBuf};

/// The room that large files leave to databases and logs.
#[derive(Clone, Debug)]
pub(crate) struct Reserve {
    folder: PathBuf,
    bytes: Option<u64>,
}

/// The reserve in bytes unless the operator chose one, and the divisor of the disk's size that bounds it.
const RESERVE: u64 = 512 << 20;
const RESERVE_PART: u64 = 20;

impl Reserve {
    /// Makes the reserve of a disk. `None` means 512 MiB, and on a small disk a twentieth of it.
    pub(crate) fn new(folder: &Path, bytes: Option<u64>) -> Self {
        Self {
            folder: folder.to_owned(),
            bytes,
        }
    }

    /// Checks that `more` bytes fit beside the reserve.
    ///
    /// # Errors
    /// It fails with [`io::ErrorKind::StorageFull`] if they do not fit.
    pub(crate) fn check(&self, more: u64) -> io::Result<()> {
        let Ok((free, size)) = disk::room(&self.folder) else {
            // A write to a folder that cannot be examined fails anyway.
            return Ok(());
        };
        let reserve = self
            .bytes
            .unwrap_or_else(|| RESERVE.min(size / RESERVE_PART));
        if free >= reserve.saturating_add(more) {
            return Ok(());
        }
        Err(io::Error::new(
            io::ErrorKind::StorageFull,
            format!(
                "the disk of {} has {free} bytes free, of which {reserve} are kept in reserve: make room, or lower disk_reserve_mb",
                self.folder.display()
            ),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kit::disk::Trouble;

    #[test]
    fn large_files_leave_the_reserve() {
        let folder = tempfile::tempdir().unwrap();
        let free = disk::free(folder.path()).unwrap();
        let none = Reserve::new(folder.path(), Some(0));
        none.check(free / 2).unwrap();
        let error = Reserve::new(folder.path(), Some(u64::MAX / 2))
            .check(1)
            .unwrap_err();
        assert_eq!(Trouble::of_io(&error), Some(Trouble::Full));
        assert!(error.to_string().contains("disk_reserve_mb"), "{error}");
    }
}
