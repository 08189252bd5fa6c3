//! The local folder of uploads: they are written, hashed and checked here before they become blobs.
//!
//! Each process has a folder of its own, so that none removes the uploads of another one. A file beside the folder is locked as
//! long as the process lives. A start removes the uploads of processes that have ended, and takes over the folder of one of them,
//! so that it needs no space on a full disk.

use super::reserve::Reserve;
use anyhow::{Context as _, Result};
use sha1::Sha1;
use sha2::{Digest as _, Sha256};
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The size and checksums of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    /// The SHA-256 in lower-case hex, like the SHA-1.
    pub sha256: String,
    pub sha1: String,
    pub size: u64,
}

/// The folder of this process's uploads; it is cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Staging(Arc<Own>);

#[derive(Debug)]
struct Own {
    folder: PathBuf,
    /// The open file holds the lock.
    _locked: File,
    next: AtomicU64,
    reserve: Reserve,
}

/// The ending of the file that is locked while a process uses the folder of the same name.
const LOCK: &str = "lock";

impl Staging {
    /// Opens a folder below `root`. Uploads leave `reserve` bytes of the disk free (`None`: see `Reserve::new`).
    pub(super) fn open(root: &Path, reserve: Option<u64>) -> Result<Self> {
        fs::create_dir_all(root).with_context(|| format!("make {}", root.display()))?;
        let taken = take_over(root).with_context(|| format!("clear {}", root.display()))?;
        let (folder, locked) = match taken {
            Some(taken) => taken,
            None => create(root).with_context(|| format!("make a folder in {}", root.display()))?,
        };
        Ok(Self(Arc::new(Own {
            folder,
            _locked: locked,
            next: AtomicU64::new(0),
            reserve: Reserve::new(root, reserve),
        })))
    }

    /// Starts an upload.
    pub(super) fn begin(&self) -> Result<Upload> {
        self.0.reserve.check(CHECKED)?;
        let number = self.0.next.fetch_add(1, Ordering::Relaxed);
        let path = self.0.folder.join(number.to_string());
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .with_context(|| format!("make {}", path.display()))?;
        Ok(Upload {
            staging: self.clone(),
            path,
            file,
            sha256: Sha256::new(),
            sha1: Sha1::new(),
            size: 0,
            checked: CHECKED,
        })
    }
}

/// Clears the folders of processes that have ended, and removes the uploads of programs that had no folders. Returns one of the
/// folders, if there is one, with its lock.
fn take_over(root: &Path) -> io::Result<Option<(PathBuf, File)>> {
    let mut taken = None;
    for entry in fs::read_dir(root)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == LOCK) {
            continue;
        }
        if !path.is_dir() {
            ignore_missing(fs::remove_file(&path))?;
            continue;
        }
        let Some(locked) = lock(&path)? else {
            continue;
        };
        for upload in fs::read_dir(&path)? {
            ignore_missing(fs::remove_file(upload?.path()))?;
        }
        taken.get_or_insert((path, locked));
    }
    Ok(taken)
}

/// Locks a folder. Returns `None` if another process uses it.
fn lock(folder: &Path) -> io::Result<Option<File>> {
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(folder.with_extension(LOCK))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(fs::TryLockError::WouldBlock) => Ok(None),
        Err(fs::TryLockError::Error(error)) => Err(error),
    }
}

/// Creates a folder and locks it. The lock comes first, because another process takes over a folder without one.
fn create(root: &Path) -> Result<(PathBuf, File)> {
    let folder = root.join(uuid::Uuid::new_v4().to_string());
    let locked = lock(&folder)?.context("a new folder is locked")?;
    fs::create_dir(&folder)?;
    Ok((folder, locked))
}

/// Accepts that another process has removed the file already.
fn ignore_missing(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// An upload that is under way. Its file is removed when it is dropped.
#[derive(Debug)]
pub struct Upload {
    staging: Staging,
    path: PathBuf,
    file: File,
    sha256: Sha256,
    sha1: Sha1,
    size: u64,
    /// The number of bytes for which there was room at the last check.
    checked: u64,
}

/// The number of bytes between two checks of the disk.
const CHECKED: u64 = 1 << 20;

impl Upload {
    /// Returns the path of what has been written so far.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn size(&self) -> u64 {
        self.size
    }

    /// Returns the checksums and size of what has been written so far.
    pub fn digest(&self) -> Blob {
        Blob {
            sha256: hex::encode(self.sha256.clone().finalize()),
            sha1: hex::encode(self.sha1.clone().finalize()),
            size: self.size,
        }
    }

    /// Writes the content with `write`, for formats that seek in their file. The content needs `room` bytes.
    pub fn fill(mut self, room: u64, write: impl FnOnce(&mut File) -> Result<()>) -> Result<Self> {
        self.staging.0.reserve.check(room)?;
        let mut file = &self.file;
        write(&mut file.try_clone().context("share the upload's file")?)?;
        file.rewind().context("read the upload")?;
        let (mut sha256, mut sha1) = (Sha256::new(), Sha1::new());
        let mut buffer = vec![0; 256 << 10];
        let mut size = 0;
        loop {
            let read = file.read(&mut buffer).context("read the upload")?;
            if read == 0 {
                break;
            }
            sha256.update(&buffer[..read]);
            sha1.update(&buffer[..read]);
            size += read as u64;
        }
        (self.sha256, self.sha1, self.size) = (sha256, sha1, size);
        Ok(self)
    }
}

impl Write for Upload {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.size + bytes.len() as u64 > self.checked {
            let more = CHECKED.max(bytes.len() as u64);
            self.staging.0.reserve.check(more)?;
            self.checked = self.size + more;
        }
        let written = self.file.write(bytes)?;
        self.sha256.update(&bytes[..written]);
        self.sha1.update(&bytes[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        // If the file has become a blob by a rename, this call has no effect.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upload_that_is_dropped_leaves_nothing() {
        let root = tempfile::tempdir().unwrap();
        let staging = Staging::open(root.path(), Some(0)).unwrap();
        let mut upload = staging.begin().unwrap();
        upload.write_all(b"half").unwrap();
        let path = upload.path().to_owned();
        assert_eq!(fs::read(&path).unwrap(), b"half");
        drop(upload);
        assert!(!path.exists());
    }

    #[test]
    fn a_start_takes_over_the_folder_of_a_process_that_has_ended_only() {
        let root = tempfile::tempdir().unwrap();
        let folder = |staging: &Staging| staging.0.folder.clone();
        let alive = Staging::open(root.path(), Some(0)).unwrap();
        let upload = alive.begin().unwrap();
        // An older program left a file, and a process that crashed left a folder and an unlocked file.
        let (file, crashed) = (root.path().join("12-3"), root.path().join("crashed"));
        fs::write(&file, "x").unwrap();
        fs::create_dir(&crashed).unwrap();
        fs::write(crashed.join("0"), "x").unwrap();
        fs::write(crashed.with_extension(LOCK), "").unwrap();
        let second = Staging::open(root.path(), Some(0)).unwrap();
        assert!(!file.exists());
        assert_eq!(folder(&second), crashed);
        assert_eq!(fs::read_dir(&crashed).unwrap().count(), 0);
        assert!(upload.path().exists());
        // Both folders are in use, so a third process gets one of its own.
        let third = Staging::open(root.path(), Some(0)).unwrap();
        assert!(![folder(&alive), folder(&second)].contains(&folder(&third)));
        let ended = folder(&third);
        drop(third);
        assert_eq!(folder(&Staging::open(root.path(), Some(0)).unwrap()), ended);
    }
}
