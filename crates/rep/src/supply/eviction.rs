//! Keeps the download cache within its maximum size.
//!
//! A user of a key holds a [`Pin`] on it. The container's record ([`PINS`]) lists what the container has mounted, even after a
//! restart of the rep. Versions that are neither current nor mounted are removed at once; whole keys are removed in the order of
//! their last use.

use crate::supply::cache::{ENTRY, read_entry};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

/// The file in a container's record that lists the cache paths that the container has mounted, one per line.
pub(crate) const PINS: &str = "pins";

#[derive(Clone, Debug)]
pub(crate) struct Room {
    root: PathBuf,
    containers: PathBuf,
    limit: u64,
    pinned: Arc<Mutex<BTreeMap<PathBuf, usize>>>,
}

/// A guard that keeps a key of the cache while it is used.
#[derive(Debug)]
pub(crate) struct Pin {
    room: Room,
    dir: PathBuf,
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut pinned = self.room.pinned();
        if let Some(count) = pinned.get_mut(&self.dir) {
            *count -= 1;
            if *count == 0 {
                pinned.remove(&self.dir);
            }
        }
    }
}

/// A key without a pin.
#[derive(Debug)]
struct Key {
    dir: PathBuf,
    size: u64,
    used: SystemTime,
    mounted: bool,
}

impl Room {
    pub(crate) fn new(root: PathBuf, containers: PathBuf, limit: u64) -> Self {
        Self {
            root,
            containers,
            limit,
            pinned: Arc::default(),
        }
    }

    pub(crate) fn pin(&self, dir: &Path) -> Pin {
        *self.pinned().entry(dir.to_owned()).or_default() += 1;
        Pin {
            room: self.clone(),
            dir: dir.to_owned(),
        }
    }

    /// Records the time of a use.
    pub(crate) fn used(&self, dir: &Path) {
        let entry = fs::File::options().write(true).open(dir.join(ENTRY));
        if let Err(error) = entry.and_then(|file| file.set_modified(SystemTime::now())) {
            tracing::debug!(%error, dir = %dir.display(), "use-of-cache-not-noted");
        }
    }

    /// Removes old versions, and then the keys not used for longest until the rest fits. A failure to remove is logged, and the
    /// files stay.
    pub(crate) fn make(&self) {
        let mounted = self.mounted();
        let dirs: Vec<PathBuf> = fs::read_dir(&self.root)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .collect();
        let mut keys: Vec<Key> = dirs
            .into_iter()
            .map(|dir| self.inspect(dir, &mounted))
            .collect();
        let mut total: u64 = keys.iter().map(|key| key.size).sum();
        keys.sort_by_key(|key| key.used);
        for key in keys.iter().filter(|key| !key.mounted) {
            if total <= self.limit {
                return;
            }
            if self.remove_key(&key.dir) {
                tracing::info!(dir = %key.dir.display(), bytes = key.size, "cache-entry-evicted");
                total -= key.size;
            }
        }
        if total > self.limit {
            tracing::warn!(
                bytes = total,
                limit = self.limit,
                "cache-over-its-limit: the rest is mounted in containers"
            );
        }
    }

    /// Removes what is not current in a key's folder, and measures the rest.
    fn inspect(&self, dir: PathBuf, mounted: &BTreeSet<PathBuf>) -> Key {
        let current = read_entry(&dir).map(|entry| dir.join(entry.version));
        let mut key = Key {
            size: 0,
            used: fs::metadata(dir.join(ENTRY))
                .and_then(|about| about.modified())
                .unwrap_or(SystemTime::UNIX_EPOCH),
            mounted: false,
            dir,
        };
        for path in fs::read_dir(&key.dir)
            .into_iter()
            .flatten()
            .flatten()
            .map(|e| e.path())
        {
            let is_mounted = mounted.contains(&path);
            key.mounted |= is_mounted;
            let keep = is_mounted || path.ends_with(ENTRY) || Some(&path) == current.as_ref();
            if keep || !self.unless_pinned(&key.dir, || remove(&path)) {
                key.size += size(&path);
            }
        }
        key
    }

    fn remove_key(&self, dir: &Path) -> bool {
        // The name is removed first, so that a concurrent reader finds no entry rather than an incomplete one.
        self.unless_pinned(dir, || remove(&dir.join(ENTRY)) && remove(dir))
    }

    /// Does the work unless the key is pinned. Returns whether it was done. The key cannot be pinned meanwhile.
    fn unless_pinned(&self, dir: &Path, work: impl FnOnce() -> bool) -> bool {
        let pinned = self.pinned();
        !pinned.contains_key(dir) && work()
    }

    /// Returns the paths that containers have mounted.
    fn mounted(&self) -> BTreeSet<PathBuf> {
        let records = fs::read_dir(&self.containers)
            .into_iter()
            .flatten()
            .flatten();
        records
            .filter_map(|record| fs::read_to_string(record.path().join(PINS)).ok())
            .flat_map(|text| text.lines().map(PathBuf::from).collect::<Vec<_>>())
            .collect()
    }

    fn pinned(&self) -> MutexGuard<'_, BTreeMap<PathBuf, usize>> {
        self.pinned.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn remove(path: &Path) -> bool {
    let is_dir = fs::symlink_metadata(path).is_ok_and(|about| about.is_dir());
    let removed = match is_dir {
        true => fs::remove_dir_all(path),
        false => fs::remove_file(path),
    };
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(%error, path = %path.display(), "cache-entry-not-removed");
            false
        }
        _ => true,
    }
}

/// Returns the bytes on disk. Symbolic links are counted but not followed.
fn size(path: &Path) -> u64 {
    let Ok(about) = fs::symlink_metadata(path) else {
        return 0;
    };
    let below = match about.is_dir() {
        true => fs::read_dir(path)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| size(&entry.path()))
            .sum(),
        false => 0,
    };
    about.blocks() * 512 + below
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const SIZE: usize = 64 << 10;

    struct Folder {
        dir: tempfile::TempDir,
    }

    impl Folder {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            fs::create_dir(dir.path().join("cache")).unwrap();
            fs::create_dir(dir.path().join("containers")).unwrap();
            Self { dir }
        }

        fn room(&self, entries: u64) -> Room {
            // A folder, its entry and the version take at most 12 KiB beside the content.
            let limit = entries * (SIZE as u64 + (12 << 10));
            Room::new(
                self.dir.path().join("cache"),
                self.dir.path().join("containers"),
                limit,
            )
        }

        /// Creates a key that was last used the given number of hours ago.
        fn key(&self, name: &str, hours: u64) -> PathBuf {
            let dir = self.dir.path().join("cache").join(name);
            fs::create_dir(&dir).unwrap();
            fs::write(dir.join("v1"), vec![1; SIZE]).unwrap();
            let entry = r#"{"version":"v1","etag":null,"sha256":"","size":1}"#;
            fs::write(dir.join(ENTRY), entry).unwrap();
            let used = SystemTime::now() - Duration::from_secs(3600 * hours);
            let file = fs::File::options().write(true).open(dir.join(ENTRY));
            file.unwrap().set_modified(used).unwrap();
            dir
        }

        fn keys(&self) -> Vec<String> {
            let mut keys: Vec<String> = fs::read_dir(self.dir.path().join("cache"))
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            keys.sort();
            keys
        }
    }

    #[test]
    fn the_least_recently_used_entry_is_evicted_first() {
        let folder = Folder::new();
        for (name, hours) in [("a", 3), ("b", 4), ("c", 1), ("d", 2)] {
            folder.key(name, hours);
        }
        let room = folder.room(4);
        room.make();
        assert_eq!(folder.keys(), ["a", "b", "c", "d"]);
        room.used(&folder.dir.path().join("cache/b"));
        folder.room(2).make();
        assert_eq!(folder.keys(), ["b", "c"]);
    }

    #[test]
    fn entries_that_are_used_or_mounted_stay() {
        let folder = Folder::new();
        let (used, mounted) = (folder.key("used", 9), folder.key("mounted", 8));
        folder.key("old", 7);
        let record = folder.dir.path().join("containers/guid");
        fs::create_dir(&record).unwrap();
        fs::write(
            record.join(PINS),
            format!("{}\n", mounted.join("v1").display()),
        )
        .unwrap();
        let room = folder.room(0);
        let pin = room.pin(&used);
        room.make();
        assert_eq!(folder.keys(), ["mounted", "used"]);
        drop(pin);
        room.make();
        assert_eq!(folder.keys(), ["mounted"]);
        fs::remove_dir_all(record).unwrap();
        room.make();
        assert!(folder.keys().is_empty());
    }

    #[test]
    fn versions_that_are_not_current_are_removed_at_once() {
        let folder = Folder::new();
        let dir = folder.key("a", 0);
        fs::create_dir(dir.join("v0")).unwrap();
        fs::write(dir.join("v0/file"), "x").unwrap();
        folder.room(9).make();
        assert!(dir.join("v1").exists() && dir.join(ENTRY).exists());
        assert!(!dir.join("v0").exists());
    }
}
