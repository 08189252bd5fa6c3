//! Decides which files of a folder belong to the app: a sorted list with modes, sizes and link targets.

use super::ignore::Ignore;
use anyhow::{Context as _, Result, ensure};
use sha1::{Digest as _, Sha1};
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Folder,
    File { size: u64 },
    Link { target: String },
}

/// One file, folder or symbolic link of the app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// The path relative to the app's folder, with `/`.
    pub(super) path: String,
    pub(super) source: PathBuf,
    /// The permission bits.
    pub(super) mode: u32,
    pub(super) modified: SystemTime,
    pub(super) kind: Kind,
}

/// Returns everything under `root` that `.cfignore` does not exclude, sorted by path.
pub(super) fn collect(root: &Path) -> Result<Vec<Entry>> {
    let text = match std::fs::read_to_string(root.join(".cfignore")) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        read => read.with_context(|| format!("read {}", root.join(".cfignore").display()))?,
    };
    let mut entries = Vec::new();
    walk(root, "", &Ignore::parse(&text)?, &mut entries)?;
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    ensure!(
        entries.iter().any(|e| e.kind != Kind::Folder),
        "No app files found in '{}'",
        root.display()
    );
    Ok(entries)
}

fn walk(folder: &Path, prefix: &str, ignore: &Ignore, entries: &mut Vec<Entry>) -> Result<()> {
    for item in
        std::fs::read_dir(folder).with_context(|| format!("read folder {}", folder.display()))?
    {
        let item = item?;
        let source = item.path();
        let name = item.file_name().into_string().map_err(|name| {
            anyhow::anyhow!(
                "the file name {name:?} in {} is not UTF-8: rename it or name it in .cfignore",
                folder.display()
            )
        })?;
        let path = format!("{prefix}{name}");
        let meta = std::fs::symlink_metadata(&source)
            .with_context(|| format!("read {}", source.display()))?;
        let is_ignored = ignore.is_ignored(&path, meta.is_dir());
        if is_ignored && (!meta.is_dir() || ignore.may_prune()) {
            continue;
        }
        let kind = match meta.file_type() {
            t if t.is_dir() => Kind::Folder,
            t if t.is_file() => Kind::File { size: meta.len() },
            t if t.is_symlink() => {
                let target = std::fs::read_link(&source)
                    .with_context(|| format!("read link {}", source.display()))?;
                Kind::Link {
                    target: target.into_os_string().into_string().map_err(|t| {
                        anyhow::anyhow!(
                            "the target {t:?} of link {} is not UTF-8",
                            source.display()
                        )
                    })?,
                }
            }
            // Sockets, pipes and devices do not belong to an app.
            _ => continue,
        };
        if meta.is_dir() {
            walk(&source, &format!("{path}/"), ignore, entries)?;
        }
        if !is_ignored {
            let modified = meta.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            entries.push(Entry {
                path,
                source,
                mode: meta.permissions().mode() & 0o777,
                modified,
                kind,
            });
        }
    }
    Ok(())
}

/// Returns the SHA-1 of a file in hex, by which the platform identifies files that it already has.
pub(super) fn sha1(path: &Path) -> Result<String> {
    let mut file = std::fs::File::open(path).with_context(|| format!("open {}", path.display()))?;
    let (mut hash, mut buffer) = (Sha1::new(), vec![0; 128 * 1024]);
    loop {
        match file
            .read(&mut buffer)
            .with_context(|| format!("read {}", path.display()))?
        {
            0 => return Ok(hex::encode(hash.finalize())),
            n => hash.update(&buffer[..n]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_folder_becomes_a_sorted_list() {
        let root = tempfile::tempdir().unwrap();
        let at = |p: &str| root.path().join(p);
        fs::create_dir_all(at("bin")).unwrap();
        fs::create_dir_all(at(".git/objects")).unwrap();
        fs::create_dir_all(at("empty")).unwrap();
        fs::write(at("bin/app"), b"abc").unwrap();
        fs::set_permissions(at("bin/app"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(at("a.log"), b"").unwrap();
        fs::write(at(".cfignore"), "*.log\n").unwrap();
        std::os::unix::fs::symlink("bin/app", at("run")).unwrap();
        let entries = collect(root.path()).unwrap();
        let names: Vec<_> = entries
            .iter()
            .map(|e| (e.path.as_str(), e.kind.clone()))
            .collect();
        let link = Kind::Link {
            target: "bin/app".into(),
        };
        assert_eq!(
            names,
            [
                ("bin", Kind::Folder),
                ("bin/app", Kind::File { size: 3 }),
                ("empty", Kind::Folder),
                ("run", link)
            ]
        );
        assert_eq!(entries[1].mode, 0o755);
        assert_eq!(
            sha1(&entries[1].source).unwrap(),
            "a9993e364706816aba3e25717850c26c9cd0d89d"
        );
    }

    #[test]
    fn an_app_without_files_is_refused() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("folder")).unwrap();
        assert!(
            collect(root.path())
                .unwrap_err()
                .to_string()
                .starts_with("No app files found in '")
        );
    }
}
