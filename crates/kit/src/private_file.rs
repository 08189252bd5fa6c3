//! Writes files that only their owner may read (mode 0600). Components and clients keep their keys and passwords in such files.
//!
//! ```text
//! replace  text ──▶ .NAME.RANDOM in the same folder ──▶ mode 0600, owner ──▶ disk ──▶ renamed to NAME ──▶ disk
//! create   text ──▶ .NAME.RANDOM in the same folder ──▶ mode 0600 ──▶ disk ──▶ linked as NAME, unless NAME exists ──▶ disk
//! ```
//!
//! The mode depends neither on the umask nor on the file that is replaced. A reader finds the old text or the new one and never a
//! part of either, also after a crash. Several writers of one file do not disturb each other. A crash can leave `.NAME.RANDOM`
//! behind; nothing reads that file, and no later call needs its name.
//!
//! A call returns when the file and its name are on the disk: it syncs the file, and then the folder. No call makes a folder.

use anyhow::{Context as _, Result};
use nix::unistd::User;
use std::ffi::OsString;
use std::fs::{File, Permissions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

const MODE: u32 = 0o600;

/// Writes a private file. A file that exists is replaced as a whole.
///
/// # Errors
/// It fails if the folder does not exist, if this process may not write there, if the disk is full, if the file system keeps
/// no modes, or if `path` is a folder. The error names `path` and the reason. The old file stays as it was.
pub fn replace(path: &Path, text: &str) -> Result<()> {
    Beside::write(path, text, None)?.rename(path)
}

/// Does the same as [`replace`] for a file that another user reads. The file belongs to that user before it gets its name.
///
/// # Errors
/// It fails like [`replace`], and if this process may not give files to the user.
pub fn replace_for(path: &Path, text: &str, user: &User) -> Result<()> {
    Beside::write(path, text, Some(user))?.rename(path)
}

/// Writes a private file unless it exists, and returns whether it did. If several processes do that at the same time, the text of one
/// of them stays.
///
/// # Errors
/// It fails like [`replace`], and if the file system has no hard links. A file that exists is no error.
pub fn create(path: &Path, text: &str) -> Result<bool> {
    let new = Beside::write(path, text, None)?;
    match std::fs::hard_link(&new.0, path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        linked => linked
            .and_then(|()| sync_folder(path))
            .map(|()| true)
            .with_context(|| format!("write {}", path.display())),
    }
}

/// A complete file with another name in the same folder. It is removed when the value is dropped, unless it was renamed.
struct Beside(PathBuf);

impl Beside {
    fn write(path: &Path, text: &str, user: Option<&User>) -> Result<Self> {
        let write = || -> Result<Self> {
            let mut name = OsString::from(".");
            name.push(path.file_name().context("the path has no file name")?);
            name.push(format!(".{:016x}", rand::random::<u64>()));
            let place = path.with_file_name(name);
            let mut file = File::options()
                .write(true)
                .create_new(true)
                .mode(MODE)
                .open(&place)?;
            let new = Self(place);
            file.write_all(text.as_bytes())?;
            if let Some(user) = user {
                fchown(&file, Some(user.uid.as_raw()), Some(user.gid.as_raw()))
                    .with_context(|| format!("give it to the user {}", user.name))?;
            }
            // The umask may have taken bits from the mode.
            file.set_permissions(Permissions::from_mode(MODE))
                .context("set its mode to 600")?;
            file.sync_all()?;
            Ok(new)
        };
        write().with_context(|| format!("write {}", path.display()))
    }

    fn rename(self, path: &Path) -> Result<()> {
        std::fs::rename(&self.0, path)
            .and_then(|()| sync_folder(path))
            .with_context(|| format!("write {}", path.display()))
    }
}

/// Makes the name of a file durable.
fn sync_folder(path: &Path) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| *folder != Path::new(""));
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

impl Drop for Beside {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::unistd::Uid;
    use std::os::unix::fs::MetadataExt as _;
    use std::process::{Command, Stdio};

    /// The variable with the path of the file that a test's own process writes.
    const WRITTEN: &str = "KIT_TEST_PRIVATE_FILE";

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().mode() & 0o7777
    }

    fn text(path: &Path) -> String {
        std::fs::read_to_string(path).unwrap()
    }

    /// Returns the names in a folder, in order.
    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// A umask belongs to a whole process, so the test starts itself again for each umask.
    #[test]
    fn the_mode_is_0600_whatever_the_umask_is() {
        if let Some(path) = std::env::var_os(WRITTEN) {
            replace(Path::new(&path), "secret").unwrap();
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let test = "private_file::tests::the_mode_is_0600_whatever_the_umask_is";
        for umask in ["000", "022", "777"] {
            let path = folder.path().join(umask);
            let script = format!("umask {umask}; exec \"$0\" --exact {test}");
            let status = Command::new("sh")
                .args(["-c", &script])
                .arg(std::env::current_exe().unwrap())
                .env(WRITTEN, &path)
                .stdout(Stdio::null())
                .status()
                .unwrap();
            assert!(status.success(), "umask {umask}: {status}");
            assert_eq!(mode(&path), 0o600, "umask {umask}");
            assert_eq!(text(&path), "secret", "umask {umask}");
        }
    }

    #[test]
    fn a_file_is_replaced_as_a_whole_and_becomes_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        std::fs::write(&path, "the old text").unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        let old = File::open(&path).unwrap();
        replace(&path, "new").unwrap();
        assert_eq!((text(&path).as_str(), mode(&path)), ("new", 0o600));
        let read = std::io::read_to_string(old).unwrap();
        assert_eq!(
            read, "the old text",
            "a reader keeps the file that it opened"
        );
        assert_eq!(names(folder.path()), ["key"]);
    }

    #[test]
    fn a_file_that_a_crash_left_is_in_nobody_s_way() {
        let folder = tempfile::tempdir().unwrap();
        let left = [".key.0123456789abcdef", "key.partial"];
        for name in left {
            std::fs::write(folder.path().join(name), "half").unwrap();
        }
        let path = folder.path().join("key");
        assert!(create(&path, "one").unwrap());
        replace(&path, "two").unwrap();
        assert_eq!(text(&path), "two");
        assert_eq!(names(folder.path()), [left[0], "key", left[1]]);
    }

    #[test]
    fn an_error_names_the_path_and_the_reason_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (taken, missing) = (folder.path().join("key"), folder.path().join("none/key"));
        std::fs::create_dir(&taken).unwrap();
        for (path, reason) in [
            (taken.as_path(), "Is a directory"),
            (missing.as_path(), "No such file or directory"),
            (Path::new("/"), "the path has no file name"),
        ] {
            let error = format!("{:#}", replace(path, "new").unwrap_err());
            let wanted = format!("write {}: {reason}", path.display());
            assert!(error.starts_with(&wanted), "{error}");
        }
        let error = format!("{:#}", create(&missing, "new").unwrap_err());
        let wanted = format!("write {}: No such file", missing.display());
        assert!(error.starts_with(&wanted), "{error}");
        assert_eq!(names(folder.path()), ["key"]);
    }

    #[test]
    fn one_of_many_creates_a_file_and_nobody_replaces_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let winners: Vec<u8> = std::thread::scope(|scope| {
            let path = &path;
            let threads: Vec<_> = (0..8u8)
                .map(|n| scope.spawn(move || create(path, &n.to_string()).unwrap().then_some(n)))
                .collect();
            threads
                .into_iter()
                .filter_map(|thread| thread.join().unwrap())
                .collect()
        });
        assert_eq!(winners.len(), 1, "{winners:?}");
        assert!(!create(&path, "later").unwrap());
        assert_eq!(text(&path), winners[0].to_string());
        assert_eq!(mode(&path), 0o600);
        assert_eq!(names(folder.path()), ["key"]);
    }

    #[test]
    fn the_named_user_owns_the_file() {
        // Only root may give a file to another user.
        let own = Uid::effective();
        let found = if own.is_root() {
            User::from_name("nobody")
        } else {
            User::from_uid(own)
        };
        let Ok(Some(user)) = found else {
            return;
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        replace_for(&path, "secret", &user).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().uid(), user.uid.as_raw());
        assert_eq!(std::fs::metadata(&path).unwrap().gid(), user.gid.as_raw());
        assert_eq!(mode(&path), 0o600);
    }
}
