//! Archives as they come from the network (tar, gzipped tar, zip; told apart by their content) turned into plain tar, or unpacked.
//! Blocking; callers run it on a blocking thread.

use anyhow::{Context as _, Result, bail};
use std::fs::File;
use std::io::{BufReader, BufWriter, Read as _, Seek as _, Write as _};
use std::path::Path;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Gzip,
    Zip,
    Tar,
}

fn kind(file: &mut File) -> Result<Kind> {
    let mut head = [0u8; 512];
    let mut length = 0;
    while length < head.len() {
        match file.read(&mut head[length..]).context("read archive")? {
            0 => break,
            n => length += n,
        }
    }
    file.rewind().context("read archive")?;
    let head = &head[..length];
    let empty_tar = length > 0 && head.iter().all(|b| *b == 0);
    match head {
        [0x1f, 0x8b, ..] => Ok(Kind::Gzip),
        [b'P', b'K', 3, 4, ..] | [b'P', b'K', 5, 6, ..] => Ok(Kind::Zip),
        head if empty_tar || head.get(257..262) == Some(b"ustar") => Ok(Kind::Tar),
        _ => bail!("not an archive that is known here; want tar, gzipped tar or zip"),
    }
}

/// Writes `archive` as an uncompressed tar to `out`.
pub(crate) fn to_tar(archive: &Path, out: &Path) -> Result<()> {
    let mut file = File::open(archive).with_context(|| format!("open {}", archive.display()))?;
    let kind = kind(&mut file)?;
    let mut out = BufWriter::with_capacity(
        1 << 20,
        File::create(out).with_context(|| format!("create {}", out.display()))?,
    );
    match kind {
        Kind::Gzip => drop(
            std::io::copy(
                &mut flate2::read::MultiGzDecoder::new(BufReader::with_capacity(1 << 18, file)),
                &mut out,
            )
            .context("unpack gzip")?,
        ),
        Kind::Tar => drop(std::io::copy(&mut file, &mut out).context("copy tar")?),
        Kind::Zip => zip_to_tar(file, &mut out)?,
    }
    out.flush().context("write tar")
}

fn zip_to_tar(file: File, out: impl std::io::Write) -> Result<()> {
    const TYPE: u32 = 0o170_000;
    const LINK: u32 = 0o120_000;
    let mut zip = zip::ZipArchive::new(BufReader::new(file)).context("read zip")?;
    let mut tar = tar::Builder::new(out);
    for at in 0..zip.len() {
        let mut entry = zip.by_index(at).context("read zip")?;
        let Some(name) = entry.enclosed_name() else {
            bail!("zip entry {:?} leads out of its directory", entry.name())
        };
        if name.as_os_str().is_empty() {
            continue;
        }
        let mode = entry.unix_mode();
        let mut header = tar::Header::new_gnu();
        header.set_mtime(0);
        if entry.is_dir() {
            header.set_entry_type(tar::EntryType::Directory);
            header.set_mode(mode.map_or(0o755, |m| m & 0o7777));
            header.set_size(0);
            tar.append_data(&mut header, &name, std::io::empty())
                .context("write tar")?;
        } else if mode.is_some_and(|m| m & TYPE == LINK) {
            let mut target = String::new();
            entry.read_to_string(&mut target).context("read zip link")?;
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_mode(0o777);
            header.set_size(0);
            tar.append_link(&mut header, &name, target)
                .context("write tar")?;
        } else {
            header.set_entry_type(tar::EntryType::Regular);
            header.set_mode(mode.map_or(0o644, |m| m & 0o777));
            let size = entry.size();
            header.set_size(size);
            tar.append_data(&mut header, &name, entry.by_ref().take(size))
                .with_context(|| format!("unpack zip entry {}", name.display()))?;
        }
    }
    tar.finish().context("write tar")
}

/// Unpacks `archive` into `dir`; entries cannot lead out of it.
pub(crate) fn unpack(archive: &Path, dir: &Path) -> Result<()> {
    let plain = dir.with_extension("tar");
    let unpacked = to_tar(archive, &plain).and_then(|()| {
        std::fs::create_dir_all(dir)
            .with_context(|| format!("make directory {}", dir.display()))?;
        let mut tar = tar::Archive::new(BufReader::with_capacity(1 << 18, File::open(&plain)?));
        tar.set_preserve_permissions(true);
        tar.unpack(dir)
            .with_context(|| format!("unpack into {}", dir.display()))
    });
    let _ = std::fs::remove_file(&plain);
    unpacked
}

/// Writes the first file of a tar to `out`; returns its size.
pub(crate) fn first_file(tar: &Path, out: &Path) -> Result<u64> {
    let mut archive = tar::Archive::new(BufReader::new(
        File::open(tar).with_context(|| format!("open {}", tar.display()))?,
    ));
    for entry in archive.entries().context("read tar")? {
        let mut entry = entry.context("read tar")?;
        if entry.header().entry_type().is_file() {
            let mut file =
                File::create(out).with_context(|| format!("create {}", out.display()))?;
            return std::io::copy(&mut entry, &mut file).context("copy out of tar");
        }
    }
    bail!("no file in what was copied from the container")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(tar: &Path) -> Vec<(String, u32)> {
        let mut archive = tar::Archive::new(File::open(tar).unwrap());
        archive
            .entries()
            .unwrap()
            .map(|e| e.unwrap())
            .map(|e| {
                (
                    e.path().unwrap().display().to_string(),
                    e.header().mode().unwrap(),
                )
            })
            .collect()
    }

    fn zip(path: &Path, entries: &[(&str, u32)]) {
        let mut zip = zip::ZipWriter::new(File::create(path).unwrap());
        for (name, mode) in entries {
            zip.start_file(
                *name,
                zip::write::SimpleFileOptions::default().unix_permissions(*mode),
            )
            .unwrap();
            zip.write_all(b"content").unwrap();
        }
        zip.finish().unwrap();
    }

    #[test]
    fn zip_becomes_tar_with_modes() {
        let dir = tempfile::tempdir().unwrap();
        let (archive, out) = (dir.path().join("a.zip"), dir.path().join("a.tar"));
        zip(&archive, &[("bin/app", 0o755), ("index.html", 0o644)]);
        to_tar(&archive, &out).unwrap();
        assert_eq!(
            names(&out),
            [
                ("bin/app".to_owned(), 0o755),
                ("index.html".to_owned(), 0o644)
            ]
        );
        unpack(&archive, &dir.path().join("unpacked")).unwrap();
        assert_eq!(
            std::fs::read_to_string(dir.path().join("unpacked/index.html")).unwrap(),
            "content"
        );
        assert_eq!(first_file(&out, &dir.path().join("file")).unwrap(), 7);
    }

    #[test]
    fn zip_entries_cannot_lead_out() {
        let dir = tempfile::tempdir().unwrap();
        let archive = dir.path().join("a.zip");
        zip(&archive, &[("../evil", 0o644)]);
        let error = to_tar(&archive, &dir.path().join("a.tar")).unwrap_err();
        assert!(error.to_string().contains("leads out"), "{error:#}");
    }

    #[test]
    fn other_content_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a"), "<html>").unwrap();
        assert!(to_tar(&dir.path().join("a"), &dir.path().join("b")).is_err());
    }
}
