//! Keeps blobs as files in a folder, by kind and name. A file is synced and then renamed to its place.

use super::blobs::{Blobs, Kind, Listed, Opened};
use anyhow::{Context as _, Result};
use std::fs::{self, File, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

#[derive(Debug)]
pub(super) struct Folder {
    root: PathBuf,
}

impl Folder {
    /// Creates the folders of all kinds below `root`.
    pub(super) fn open(root: &Path) -> Result<Self> {
        for kind in Kind::ALL {
            let path = root.join(kind.directory());
            fs::create_dir_all(&path).with_context(|| format!("make {}", path.display()))?;
        }
        Ok(Self {
            root: root.to_owned(),
        })
    }

    /// Returns the path that a blob has or would have.
    fn path(&self, kind: Kind, name: &str) -> PathBuf {
        // A name comes from our own database. Even if it does not, the path must not leave the folder.
        let name: String = name
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
}

impl Blobs for Folder {
    fn put(&self, kind: Kind, name: &str, file: &Path) -> Result<()> {
        let place = self.path(kind, name);
        File::open(file)
            .and_then(|file| file.sync_all())
            .with_context(|| format!("sync {}", file.display()))?;
        fs::rename(file, &place).with_context(|| format!("move upload to {}", place.display()))?;
        let directory = place.parent().expect("a blob lies in a folder");
        File::open(directory)
            .and_then(|directory| directory.sync_all())
            .with_context(|| format!("sync {}", directory.display()))
    }

    fn open(&self, kind: Kind, name: &str) -> Result<Option<Opened>> {
        let path = self.path(kind, name);
        match File::open(&path).and_then(Opened::file) {
            Ok(opened) => Ok(Some(opened)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
        }
    }

    fn written(&self, kind: Kind, name: &str) -> Result<Option<i64>> {
        let path = self.path(kind, name);
        match fs::metadata(&path) {
            Ok(metadata) => Ok(Some(written(&metadata))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
        }
    }

    fn delete(&self, kind: Kind, name: &str) -> Result<()> {
        let path = self.path(kind, name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("delete {}", path.display()))
            }
            _ => Ok(()),
        }
    }

    fn list(&self, kind: Kind) -> Result<Vec<Listed>> {
        let folder = self.root.join(kind.directory());
        let list = || format!("list {}", folder.display());
        let mut found = Vec::new();
        for entry in fs::read_dir(&folder).with_context(list)? {
            let entry = entry.with_context(list)?;
            // A file without metadata was removed in the meantime. No blob has another name than a text.
            if let (Ok(metadata), Ok(name)) = (entry.metadata(), entry.file_name().into_string()) {
                found.push(Listed {
                    name,
                    written: written(&metadata),
                });
            }
        }
        Ok(found)
    }

    fn trouble(&self) -> Option<String> {
        None
    }
}

fn written(metadata: &Metadata) -> i64 {
    let at = metadata.modified().unwrap_or(UNIX_EPOCH);
    let age = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(age.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_leave_the_folder() {
        let folder = Folder {
            root: "/data/blobs".into(),
        };
        assert_eq!(
            folder.path(Kind::Package, "../../etc/passwd"),
            Path::new("/data/blobs/packages/______etc_passwd")
        );
    }
}
