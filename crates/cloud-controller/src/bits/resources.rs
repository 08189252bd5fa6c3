//! The files of uploaded packages that a later upload may name by checksum instead of sending them again.
//!
//! A file is kept by its SHA-256. Clients name files by SHA-1, which can be forged. The content that belongs to a SHA-1 is
//! therefore known per space only, from what was uploaded there (`db::resource`). So nobody can insert a file into the package
//! of somebody else, and nobody receives a file that was not uploaded to a space of their own.

use super::store::{Kind, Store, Upload};
use crate::clock;
use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::{Mutex, PoisonError, mpsc};
use zip::write::SimpleFileOptions;
use zip::{ZipArchive, ZipWriter};

/// The minimum size of a kept file: smaller files are sent faster than they are looked up.
pub const SMALLEST: u64 = 64 << 10;
/// The maximum size of a kept file.
pub const LARGEST: u64 = 512 << 20;
/// The number of files that are stored at the same time, because a bucket takes its time for each of them.
const AT_ONCE: usize = 4;
/// The age from which a file is stored again, in microseconds.
const RENEWED_AFTER: i64 = 12 * 3600 * 1_000_000;

/// A file as a request names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    pub path: String,
    pub sha1: String,
    pub size: i64,
    /// The mode in octal digits.
    pub mode: Option<String>,
}

/// A file that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    pub sha1: String,
    pub sha256: String,
    pub size: i64,
}

impl Resource {
    /// Reads `{"checksum": {"value": …}, "size_in_bytes": …, "path": …, "mode": …}`, or the older form `{"sha1", "size", "fn",
    /// "mode"}`.
    pub fn read(json: &Value) -> Result<Self, String> {
        const PREAMBLE: &str = "Resources array contains at least one resource with";
        let sha1 = match (json.pointer("/checksum/value"), json.get("sha1")) {
            (Some(Value::String(sha1)), _) | (None, Some(Value::String(sha1))) => sha1,
            (Some(_), _) | (None, Some(_)) => {
                return Err(format!("{PREAMBLE} a non-string checksum value"));
            }
            (None, None) => return Err(format!("{PREAMBLE} a non-object checksum")),
        };
        if sha1.len() != 40 || !sha1.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(format!("{PREAMBLE} a non-SHA1 checksum value"));
        }
        let size = json
            .get("size_in_bytes")
            .or_else(|| json.get("size"))
            .and_then(Value::as_i64)
            .ok_or_else(|| format!("{PREAMBLE} a non-integer size_in_bytes"))?;
        if size < 0 {
            return Err(format!("{PREAMBLE} a negative size_in_bytes"));
        }
        let mode = match json.get("mode") {
            None | Some(Value::Null) => None,
            Some(Value::String(mode)) => Some(mode.clone()),
            Some(_) => return Err(format!("{PREAMBLE} a non-string mode")),
        };
        if mode.as_deref().is_some_and(|mode| {
            mode.is_empty() || mode.len() > 7 || !mode.bytes().all(|b| (b'0'..=b'7').contains(&b))
        }) {
            return Err(format!("{PREAMBLE} an incorrect mode"));
        }
        let path = json
            .get("path")
            .or_else(|| json.get("fn"))
            .and_then(Value::as_str)
            .unwrap_or_default();
        Ok(Self {
            path: path.to_owned(),
            sha1: sha1.to_ascii_lowercase(),
            size,
            mode,
        })
    }

    pub fn present(&self) -> Value {
        json!({
            "checksum": { "value": self.sha1 },
            "size_in_bytes": self.size,
            "path": self.path,
            "mode": self.mode,
        })
    }

    fn permissions(&self) -> u32 {
        let mode = self.mode.as_deref().unwrap_or("0744");
        u32::from_str_radix(mode, 8).unwrap_or(0o744) & 0o777
    }
}

/// Keeps the files of a package whose size is neither too small nor too large. Returns the files that were kept.
pub fn keep(store: &Store, package: &Path) -> Result<Vec<Kept>> {
    let archive = ZipArchive::new(File::open(package)?)?;
    let (files, unpacked) = mpsc::sync_channel(0);
    let unpacked = Mutex::new(unpacked);
    std::thread::scope(|scope| {
        let store_files = || store_unpacked(store, &unpacked);
        let threads: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(store_files)).collect();
        let done = unpack(store, archive, &files);
        // The threads end when no more files can come.
        drop(files);
        let mut kept = Vec::new();
        for thread in threads {
            match thread.join() {
                Ok(stored) => kept.extend(stored),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        done.map(|()| kept)
    })
}

/// Unpacks the files that are kept, one after the other.
fn unpack(
    store: &Store,
    mut archive: ZipArchive<File>,
    files: &mpsc::SyncSender<Upload>,
) -> Result<()> {
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index)?;
        if !entry.is_file() || !(SMALLEST..=LARGEST).contains(&entry.size()) {
            continue;
        }
        let copied = store.begin().and_then(|mut copy| {
            io::copy(&mut entry, &mut copy).context("unpack a file of the package")?;
            Ok(copy)
        });
        match copied {
            Ok(copy) => files.send(copy).context("store a file of the package")?,
            Err(error) => {
                not_kept(&error);
                break;
            }
        }
    }
    Ok(())
}

/// Stores unpacked files until no more can come. Returns the files that were stored.
fn store_unpacked(store: &Store, unpacked: &Mutex<mpsc::Receiver<Upload>>) -> Vec<Kept> {
    let mut kept = Vec::new();
    let mut has_failed = false;
    loop {
        let next = unpacked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .recv();
        let Ok(file) = next else {
            return kept;
        };
        // After a failure the other files are received and dropped.
        if has_failed {
            continue;
        }
        match keep_one(store, file) {
            Ok(file) => kept.push(file),
            Err(error) => {
                not_kept(&error);
                has_failed = true;
            }
        }
    }
}

/// Logs why a file is not kept. The package is still good.
fn not_kept(error: &anyhow::Error) {
    tracing::warn!(error = format!("{error:#}"), "resource-not-kept");
}

fn keep_one(store: &Store, copy: Upload) -> Result<Kept> {
    let blob = copy.digest();
    // The clean-up removes a file that no space has once it is a day old. A file that may be removed soon is stored again.
    let written = store.written(Kind::Resource, &blob.sha256)?;
    if written.is_none_or(|at| at < clock::now() - RENEWED_AFTER) {
        store.store_as(copy, Kind::Resource, &blob.sha256)?;
    }
    Ok(Kept {
        sha1: blob.sha1,
        sha256: blob.sha256,
        size: i64::try_from(blob.size)?,
    })
}

/// Returns the uploaded package (if any) with the named files added, or the reason why they cannot be added.
pub fn complete(
    store: &Store,
    package: Option<&Upload>,
    resources: &[(Resource, String)],
) -> Result<Result<Upload, String>> {
    let mut problem = None;
    let named = resources
        .iter()
        .map(|(resource, _)| resource.size.unsigned_abs());
    let room = package.map_or(0, Upload::size) + named.sum::<u64>();
    let whole = store.begin()?.fill(room, |file| {
        let mut writer = ZipWriter::new(file);
        if let Some(package) = package {
            let mut archive = ZipArchive::new(File::open(package.path())?)?;
            for index in 0..archive.len() {
                writer.raw_copy_file(archive.by_index_raw(index)?)?;
            }
        }
        for (resource, sha256) in resources {
            let Some(mut content) = store.read(Kind::Resource, sha256)? else {
                problem = Some(format!(
                    "The file '{}' is not kept any more; push again",
                    resource.path
                ));
                break;
            };
            let options = SimpleFileOptions::default().unix_permissions(resource.permissions());
            if let Err(error) = writer.start_file(resource.path.as_str(), options) {
                problem = Some(format!(
                    "The file '{}' cannot be added: {error}",
                    resource.path
                ));
                break;
            }
            io::copy(&mut content, &mut writer)?;
        }
        writer.finish()?;
        Ok(())
    })?;
    Ok(match problem {
        Some(problem) => Err(problem),
        None => Ok(whole),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};

    #[test]
    fn both_spellings_and_their_mistakes() {
        let sha1 = "a9993e364706816aba3e25717850c26c9cd0d89d";
        let new = json!({"checksum": {"value": sha1.to_uppercase()}, "size_in_bytes": 3, "path": "a/b", "mode": "0644"});
        let old = json!({"sha1": sha1, "size": 3, "fn": "a/b", "mode": "0644"});
        assert_eq!(Resource::read(&new), Resource::read(&old));
        assert_eq!(Resource::read(&new).unwrap().permissions(), 0o644);
        for (bad, why) in [
            (json!({"size_in_bytes": 3}), "non-object checksum"),
            (
                json!({"checksum": {"value": 1}, "size_in_bytes": 3}),
                "non-string checksum",
            ),
            (
                json!({"checksum": {"value": "abc"}, "size_in_bytes": 3}),
                "non-SHA1",
            ),
            (json!({"sha1": sha1}), "non-integer size"),
            (json!({"sha1": sha1, "size": -1}), "negative size"),
            (
                json!({"sha1": sha1, "size": 1, "mode": "rwx"}),
                "incorrect mode",
            ),
            (json!("text"), "non-object checksum"),
        ] {
            let problem = Resource::read(&bad).unwrap_err();
            assert!(problem.contains(why), "{bad}: {problem}");
        }
    }

    #[test]
    fn large_files_are_kept_and_put_into_the_next_package() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), Some(0)).unwrap();
        let content = vec![7_u8; SMALLEST as usize];
        let first = store.begin().unwrap().fill(0, |file| {
            let mut writer = ZipWriter::new(file);
            for (name, content) in [("big", content.as_slice()), ("small", b"x".as_slice())] {
                writer.start_file(name, SimpleFileOptions::default())?;
                writer.write_all(content)?;
            }
            writer.finish()?;
            Ok(())
        });
        let kept = keep(&store, first.unwrap().path()).unwrap();
        assert_eq!(kept.len(), 1);
        let resource = Resource {
            path: "lib/big".into(),
            sha1: kept[0].sha1.clone(),
            size: kept[0].size,
            mode: Some("0755".into()),
        };
        let named = [(resource, kept[0].sha256.clone())];
        let whole = complete(&store, None, &named).unwrap().unwrap();
        let mut archive = ZipArchive::new(File::open(whole.path()).unwrap()).unwrap();
        let mut entry = archive.by_name("lib/big").unwrap();
        assert_eq!(entry.unix_mode().map(|mode| mode & 0o777), Some(0o755));
        let mut read = Vec::new();
        entry.read_to_end(&mut read).unwrap();
        assert_eq!(read, content);

        store.delete(Kind::Resource, &kept[0].sha256).unwrap();
        let problem = complete(&store, None, &named).unwrap().unwrap_err();
        assert!(
            problem.contains("'lib/big' is not kept any more"),
            "{problem}"
        );
    }
}
