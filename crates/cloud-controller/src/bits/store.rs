//! Keeps the files of packages and droplets under the data directory, by guid. A file exists completely or not at all: it is
//! written beside its place, synced, and renamed.

use super::reserve::Reserve;
use anyhow::{Context as _, Result};
use sha1::Sha1;
use sha2::{Digest as _, Sha256};
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Package,
    Droplet,
    /// A file of a package, by its SHA-256.
    Resource,
}

impl Kind {
    pub(crate) fn directory(self) -> &'static str {
        match self {
            Self::Package => "packages",
            Self::Droplet => "droplets",
            Self::Resource => "resources",
        }
    }
}

impl Kind {
    /// Returns the kind that a folder belongs to.
    pub(crate) fn named(directory: &str) -> Option<Self> {
        [Self::Package, Self::Droplet]
            .into_iter()
            .find(|kind| kind.directory() == directory)
    }
}

/// The size and checksums of a stored file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    /// The SHA-256 in lower-case hex, like the SHA-1.
    pub sha256: String,
    pub sha1: String,
    pub size: u64,
}

/// The folder of all blobs; it is cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
    reserve: Arc<Reserve>,
}

impl Store {
    /// Creates `<data_dir>/blobs` and removes the files of interrupted uploads. Uploads leave `reserve` bytes of the disk free
    /// (`None`: see `Reserve::new`).
    pub fn open(data_dir: &Path, reserve: Option<u64>) -> Result<Self> {
        let root = data_dir.join("blobs");
        let uploads = root.join("uploads");
        if uploads.exists() {
            fs::remove_dir_all(&uploads).with_context(|| format!("clear {}", uploads.display()))?;
        }
        for directory in [
            "uploads",
            Kind::Package.directory(),
            Kind::Droplet.directory(),
            Kind::Resource.directory(),
        ] {
            let path = root.join(directory);
            fs::create_dir_all(&path).with_context(|| format!("make {}", path.display()))?;
        }
        let reserve = Arc::new(Reserve::new(&root, reserve));
        Ok(Self { root, reserve })
    }

    /// Starts an upload. The caller writes to it, may read its file, and then commits it under a guid. If it is dropped before
    /// the commit, its file is removed.
    pub fn begin(&self) -> Result<Upload> {
        self.reserve.check(CHECKED)?;
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let path = self.root.join("uploads").join(format!(
            "{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        ));
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .with_context(|| format!("make {}", path.display()))?;
        Ok(Upload {
            store: self.clone(),
            path,
            file,
            sha256: Sha256::new(),
            sha1: Sha1::new(),
            size: 0,
            checked: CHECKED,
        })
    }

    /// Stores all that a reader returns.
    pub fn put(&self, kind: Kind, guid: &str, mut reader: impl io::Read) -> Result<Blob> {
        let mut upload = self.begin()?;
        io::copy(&mut reader, &mut upload)
            .with_context(|| format!("store {} {guid}", kind.directory()))?;
        upload.commit(kind, guid)
    }

    /// Returns the path that the blob has or would have.
    pub fn path(&self, kind: Kind, guid: &str) -> PathBuf {
        // A guid comes from our own database. Even if it does not, the path must not leave the folder.
        let name: String = guid
            .chars()
            .map(|c| {
                if c.is_ascii_alphanumeric() || c == '-' || c == '_' {
                    c
                } else {
                    '_'
                }
            })
            .collect();
        self.root.join(kind.directory()).join(name)
    }

    pub fn exists(&self, kind: Kind, guid: &str) -> bool {
        self.path(kind, guid).is_file()
    }

    /// Opens a blob. Returns `None` when there is no such blob.
    pub fn read(&self, kind: Kind, guid: &str) -> Result<Option<File>> {
        let path = self.path(kind, guid);
        match File::open(&path) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
        }
    }

    /// Removes a blob. A blob that does not exist is no error.
    pub fn delete(&self, kind: Kind, guid: &str) -> Result<()> {
        let path = self.path(kind, guid);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("delete {}", path.display()))
            }
            _ => Ok(()),
        }
    }

    /// Returns the guids of blobs that were written before a moment (microseconds since the epoch).
    pub fn written_before(&self, kind: Kind, moment: i64) -> Result<Vec<String>> {
        let folder = self.root.join(kind.directory());
        let mut old = Vec::new();
        for entry in fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))? {
            let entry = entry.with_context(|| format!("list {}", folder.display()))?;
            let written = entry.metadata().and_then(|metadata| metadata.modified());
            let age = match written {
                Ok(at) => at.duration_since(std::time::UNIX_EPOCH).unwrap_or_default(),
                // The file was removed in the meantime.
                Err(_) => continue,
            };
            if i64::try_from(age.as_micros()).is_ok_and(|at| at < moment)
                && let Ok(name) = entry.file_name().into_string()
            {
                old.push(name);
            }
        }
        Ok(old)
    }

    /// Stores the same content under another guid, for copied packages and droplets. The content is read and hashed again, so
    /// that a damaged blob is not copied unnoticed.
    pub fn copy(&self, kind: Kind, from: &str, to: &str) -> Result<Blob> {
        let file = self
            .read(kind, from)?
            .with_context(|| format!("{} {from} has no bits", kind.directory()))?;
        self.put(kind, to, file)
    }

    /// Returns the guids of all blobs of a kind.
    pub fn names(&self, kind: Kind) -> Result<Vec<String>> {
        let folder = self.root.join(kind.directory());
        let list = fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))?;
        list.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect()
    }
}

/// An upload that is under way.
#[derive(Debug)]
pub struct Upload {
    store: Store,
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
    /// Returns the path of what has been written so far, for checks before the commit.
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
        self.store.reserve.check(room)?;
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

    /// Syncs the file to the disk. This takes time, so that [`Upload::place`] takes none.
    pub fn seal(&self) -> Result<()> {
        self.file
            .sync_all()
            .with_context(|| format!("sync {}", self.path.display()))
    }

    /// Commits the upload, replacing a blob of the same guid. The blob is durable when this function returns.
    pub fn commit(self, kind: Kind, guid: &str) -> Result<Blob> {
        self.seal()?;
        self.place(kind, guid)
    }

    /// Moves a sealed upload to its place. A caller that does so within a transaction decides which of several uploads is
    /// stored.
    pub fn place(self, kind: Kind, guid: &str) -> Result<Blob> {
        let place = self.store.path(kind, guid);
        fs::rename(&self.path, &place)
            .with_context(|| format!("move upload to {}", place.display()))?;
        let directory = place.parent().expect("a blob lies in a folder");
        File::open(directory)
            .and_then(|directory| directory.sync_all())
            .with_context(|| format!("sync {}", directory.display()))?;
        Ok(self.digest())
    }
}

impl Write for Upload {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.size + bytes.len() as u64 > self.checked {
            let more = CHECKED.max(bytes.len() as u64);
            self.store.reserve.check(more)?;
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
        // After a commit the file has been renamed, and this call has no effect.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder(PathBuf);
    impl Folder {
        fn new(name: &str) -> Self {
            let path =
                std::env::temp_dir().join(format!("cupola-store-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            Self(path)
        }
    }
    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn put_read_copy_delete() {
        let folder = Folder::new("put");
        let store = Store::open(&folder.0, Some(0)).unwrap();
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
        assert_eq!(store.copy(Kind::Droplet, "guid-1", "guid-2").unwrap(), blob);
        store.delete(Kind::Droplet, "guid-1").unwrap();
        store.delete(Kind::Droplet, "guid-1").unwrap();
        assert!(store.read(Kind::Droplet, "guid-1").unwrap().is_none());
        assert_eq!(
            io::read_to_string(store.read(Kind::Droplet, "guid-2").unwrap().unwrap()).unwrap(),
            "abc"
        );
        assert!(!store.exists(Kind::Package, "guid-2"));
    }

    #[test]
    fn an_upload_that_is_not_committed_leaves_nothing() {
        let folder = Folder::new("drop");
        let store = Store::open(&folder.0, Some(0)).unwrap();
        let mut upload = store.begin().unwrap();
        upload.write_all(b"half").unwrap();
        let path = upload.path().to_owned();
        assert_eq!(fs::read(&path).unwrap(), b"half");
        drop(upload);
        assert!(!path.exists());
        fs::write(folder.0.join("blobs/uploads/left"), "x").unwrap();
        Store::open(&folder.0, Some(0)).unwrap();
        assert!(!folder.0.join("blobs/uploads/left").exists());
    }

    #[test]
    fn a_guid_cannot_leave_the_folder() {
        let store = Store {
            root: "/data/blobs".into(),
            reserve: Arc::new(Reserve::new(Path::new("/data"), None)),
        };
        assert_eq!(
            store.path(Kind::Package, "../../etc/passwd"),
            Path::new("/data/blobs/packages/______etc_passwd")
        );
    }
}
