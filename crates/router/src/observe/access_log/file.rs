//! The access log's file. It is appended to, rotated by size if that is configured, and opened again when another program has
//! rotated it.
//!
//! Rotation renames: `access.log` becomes `access.log.1`, which becomes `access.log.2`, and so on; the last one is removed. A
//! portion of lines is written as a whole, before or after the rotation, so no line is lost and none is torn.

use crate::config::Rotation;
use anyhow::{Context as _, Result};
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// The bytes that are written without a pause.
const PIECE: usize = 64 << 10;

#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    file: File,
    rotation: Option<Rotation>,
}

impl LogFile {
    pub(super) fn open(path: &Path, rotation: Option<Rotation>) -> Result<Self> {
        let file = append(path).with_context(|| {
            format!(
                "open access log {}: check that its directory exists and is writable",
                path.display()
            )
        })?;
        Ok(Self {
            path: path.to_owned(),
            file,
            rotation,
        })
    }

    /// Continues with the file that is at the path now.
    pub(super) fn reopen(&mut self) -> io::Result<()> {
        self.file = append(&self.path)?;
        Ok(())
    }

    /// Writes whole lines. After an error some of them may be in the file.
    pub(super) fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        if let Some(rotation) = self.rotation
            && let Err(error) = self.rotate_if_full(rotation, lines.len() as u64)
        {
            // The log continues in the current file.
            tracing::error!(%error, file = %self.path.display(), "access-log-rotation-failed");
        }
        for piece in lines.chunks(PIECE) {
            self.file.write_all(piece)?;
            // Requests that wait for this core go first.
            std::thread::yield_now();
        }
        Ok(())
    }

    fn rotate_if_full(&mut self, rotation: Rotation, more: u64) -> io::Result<()> {
        let own = self.file.metadata()?;
        if own.len() == 0 || own.len() + more <= rotation.max_bytes {
            return Ok(());
        }
        // During an upgrade two processes write; only one of them finds its own file at the path.
        let at_path = std::fs::metadata(&self.path);
        let is_own =
            at_path.is_ok_and(|at_path| (at_path.dev(), at_path.ino()) == (own.dev(), own.ino()));
        if is_own {
            let named = |number: u32| match number {
                0 => self.path.clone(),
                number => {
                    let mut name = self.path.clone().into_os_string();
                    name.push(format!(".{number}"));
                    name.into()
                }
            };
            for number in (0..rotation.keep).rev() {
                match std::fs::rename(named(number), named(number + 1)) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
            if rotation.keep == 0 {
                std::fs::remove_file(&self.path)?;
            }
        }
        self.reopen()
    }
}

/// Opens the file for appending, so that it may also be rotated by copy and truncate.
fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(folder: &Path, name: &str) -> Vec<usize> {
        let text = std::fs::read_to_string(folder.join(name)).unwrap_or_default();
        text.lines()
            .map(|line| line.trim().parse().unwrap())
            .collect()
    }

    #[test]
    fn a_full_file_moves_on_and_the_oldest_goes() {
        let folder = tempfile::tempdir().unwrap();
        let rotation = Rotation {
            max_bytes: 100,
            keep: 2,
        };
        let mut file = LogFile::open(&folder.path().join("log"), Some(rotation)).unwrap();
        for n in 0..40 {
            file.write(format!("{n:9}\n").as_bytes()).unwrap();
        }
        // The file has room for ten lines.
        assert_eq!(numbers(folder.path(), "log"), (30..40).collect::<Vec<_>>());
        assert_eq!(
            numbers(folder.path(), "log.1"),
            (20..30).collect::<Vec<_>>()
        );
        assert_eq!(
            numbers(folder.path(), "log.2"),
            (10..20).collect::<Vec<_>>()
        );
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 3);
        // A portion that is larger than the file may be is written whole.
        file.write(" 1\n".repeat(50).as_bytes()).unwrap();
        assert_eq!(numbers(folder.path(), "log").len(), 50);
    }

    #[test]
    fn two_writers_of_one_file_rotate_it_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let rotation = Some(Rotation {
            max_bytes: 100,
            keep: 5,
        });
        let mut old = LogFile::open(&path, rotation).unwrap();
        let mut new = LogFile::open(&path, rotation).unwrap();
        for n in 0..12 {
            new.write(format!("{n:9}\n").as_bytes()).unwrap();
        }
        old.write(format!("{:9}\n", 12).as_bytes()).unwrap();
        assert_eq!(numbers(folder.path(), "log"), [10, 11, 12]);
        assert_eq!(numbers(folder.path(), "log.1").len(), 10);
        assert!(!folder.path().join("log.2").exists());
    }
}
