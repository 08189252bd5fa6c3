//! Converts archives from the network (tar, gzipped tar, zip; recognised by their content) into plain tar, or unpacks them. Files
//! keep the times that the archive gives. The functions block; callers run them on a blocking thread.

use anyhow::{Context as _, Result, bail, ensure};
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read as _, Seek as _, Write};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use zip::extra_fields::ExtraField;

/// The number of bytes that a tar may need beside the content of its files.
const TAR_OVERHEAD: u64 = 64 << 20;
/// The maximum number of entries of a zip, whose table is held in memory.
const MOST_ENTRIES: u64 = 300_000;
/// The maximum number of bytes that any archive may unpack to.
pub(crate) const LARGEST: u64 = 64 << 30;

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
        // A zip is read from its end, because a script that unpacks or runs it may precede it.
        _ if ends_as_zip(file)? => Ok(Kind::Zip),
        _ => bail!("unknown archive format; expected tar, gzipped tar or zip"),
    }
}

fn ends_as_zip(file: &mut File) -> Result<bool> {
    let announced = kit::zip::announced(file).context("read archive")?;
    Ok(announced.entries.is_some())
}

/// Writes `archive` as an uncompressed tar to `out`. An archive whose files have more than `limit` bytes together is refused, so
/// that a small archive cannot fill the cell's disk.
pub(crate) fn to_tar(archive: &Path, out: &Path, limit: u64) -> Result<()> {
    let mut file = File::open(archive).with_context(|| format!("open {}", archive.display()))?;
    let kind = kind(&mut file)?;
    let mut out = Bounded {
        left: limit.saturating_add(TAR_OVERHEAD),
        limit,
        out: BufWriter::with_capacity(
            1 << 20,
            File::create(out).with_context(|| format!("create {}", out.display()))?,
        ),
    };
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

/// A writer that refuses to write more than `left` bytes.
struct Bounded<W> {
    out: W,
    left: u64,
    limit: u64,
}

impl<W: Write> Write for Bounded<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.left = self.left.checked_sub(bytes.len() as u64).ok_or_else(|| {
            io::Error::other(format!(
                "the archive unpacks to more than the {} bytes of disk that the container may use",
                self.limit
            ))
        })?;
        let written = self.out.write(bytes)?;
        self.left += (bytes.len() - written) as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

const TYPE: u32 = 0o170_000;
const LINK: u32 = 0o120_000;
/// The modes of files and folders of archives without Unix permissions, as in Cloud Controller.
const FILE_MODE: u32 = 0o744;
const FOLDER_MODE: u32 = 0o755;

/// Returns the upper half of an entry's external attributes: type and permissions. It is 0 if the archiver wrote none.
fn unix_attributes(file: &File, central_header: u64) -> io::Result<u32> {
    let mut header = [0; 46];
    file.read_exact_at(&mut header, central_header)?;
    if !header.starts_with(b"PK\x01\x02") {
        return Ok(0);
    }
    Ok(u32::from(u16::from_le_bytes([header[40], header[41]])))
}

/// Returns the permissions of an entry. Permissions without a type come from archivers that write a default of their own, which
/// does not show whether a file is executable; so `default` is added to them.
fn permissions(attributes: u32, default: u32) -> u32 {
    if attributes & TYPE == 0 {
        (attributes & 0o777) | default
    } else {
        attributes & 0o777
    }
}

/// Returns the time in Unix seconds: the exact time if the archiver wrote it, otherwise the DOS time, which has no zone and is
/// read as UTC.
fn modified<R: io::Read>(entry: &zip::read::ZipFile<'_, R>) -> u64 {
    let exact = entry.extra_data_fields().find_map(|field| match field {
        ExtraField::ExtendedTimestamp(times) => times.mod_time(),
        _ => None,
    });
    let dos = || {
        let time = entry.last_modified()?;
        let date = time::Date::from_calendar_date(
            i32::from(time.year()),
            time::Month::try_from(time.month()).ok()?,
            time.day(),
        )
        .ok()?
        .with_hms(time.hour(), time.minute(), time.second().min(59))
        .ok()?;
        u64::try_from(date.assume_utc().unix_timestamp()).ok()
    };
    exact.map(u64::from).or_else(dos).unwrap_or_default()
}

fn zip_to_tar(file: File, out: impl Write) -> Result<()> {
    let mut attributes = file.try_clone().context("read zip")?;
    let announced = kit::zip::announced(&mut attributes).context("read zip")?;
    ensure!(
        announced.most <= MOST_ENTRIES,
        "the zip has {} entries; at most {MOST_ENTRIES} are unpacked",
        announced.most
    );
    let mut zip = zip::ZipArchive::new(BufReader::new(file)).context("read zip")?;
    let mut tar = tar::Builder::new(out);
    for at in 0..zip.len() {
        let mut entry = zip.by_index(at).context("read zip")?;
        let Some(name) = entry.enclosed_name() else {
            bail!(
                "zip entry {:?} points outside of its directory",
                entry.name()
            )
        };
        if name.as_os_str().is_empty() {
            continue;
        }
        let mode =
            unix_attributes(&attributes, entry.central_header_start()).context("read zip")?;
        let mut header = tar::Header::new_gnu();
        header.set_mtime(modified(&entry));
        if entry.is_dir() {
            header.set_entry_type(tar::EntryType::Directory);
            header.set_mode(permissions(mode, FOLDER_MODE));
            header.set_size(0);
            tar.append_data(&mut header, &name, std::io::empty())
                .context("write tar")?;
        } else if mode & TYPE == LINK {
            let mut target = String::new();
            entry.read_to_string(&mut target).context("read zip link")?;
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_mode(0o777);
            header.set_size(0);
            tar.append_link(&mut header, &name, target)
                .context("write tar")?;
        } else {
            header.set_entry_type(tar::EntryType::Regular);
            header.set_mode(permissions(mode, FILE_MODE));
            let size = entry.size();
            header.set_size(size);
            tar.append_data(&mut header, &name, entry.by_ref().take(size))
                .with_context(|| format!("unpack zip entry {}", name.display()))?;
        }
    }
    tar.finish().context("write tar")
}

/// Unpacks `archive` into `dir`. Entries cannot lead out of it.
pub(crate) fn unpack(archive: &Path, dir: &Path) -> Result<()> {
    let plain = dir.with_extension("tar");
    let unpacked = to_tar(archive, &plain, LARGEST).and_then(|()| {
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

/// Writes the first file of a tar to `out`. Returns its size in bytes.
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
    bail!("the container returned no file")
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
        to_tar(&archive, &out, LARGEST).unwrap();
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
        let error = to_tar(&archive, &dir.path().join("a.tar"), LARGEST).unwrap_err();
        assert!(error.to_string().contains("points outside"), "{error:#}");
    }

    #[test]
    fn other_content_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a"), "<html>").unwrap();
        assert!(to_tar(&dir.path().join("a"), &dir.path().join("b"), LARGEST).is_err());
    }

    /// Returns the name, mode and time of each entry.
    fn entries(tar: &Path) -> Vec<(String, u32, u64)> {
        let mut archive = tar::Archive::new(File::open(tar).unwrap());
        let entries = archive.entries().unwrap().map(|entry| entry.unwrap());
        entries
            .map(|entry| {
                let header = entry.header();
                (
                    entry.path().unwrap().display().to_string(),
                    header.mode().unwrap(),
                    header.mtime().unwrap(),
                )
            })
            .collect()
    }

    /// Rewrites the upper half of the external attributes of every entry.
    fn set_attributes(path: &Path, attributes: &[u16]) {
        let mut bytes = std::fs::read(path).unwrap();
        let starts: Vec<_> = (0..bytes.len())
            .filter(|at| bytes[*at..].starts_with(b"PK\x01\x02"))
            .collect();
        for (start, attributes) in starts.iter().zip(attributes) {
            bytes[start + 38..start + 42]
                .copy_from_slice(&(u32::from(*attributes) << 16).to_le_bytes());
        }
        std::fs::write(path, bytes).unwrap();
    }

    #[test]
    fn files_without_unix_permissions_can_be_run_and_times_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let (archive, out) = (dir.path().join("a.zip"), dir.path().join("a.tar"));
        let mut zip = zip::ZipWriter::new(File::create(&archive).unwrap());
        let time = zip::DateTime::from_date_and_time(2001, 9, 9, 1, 46, 40).unwrap();
        let options = zip::write::SimpleFileOptions::default().last_modified_time(time);
        for name in ["dos", "python", "script", "unix"] {
            zip.start_file(name, options).unwrap();
        }
        zip.add_directory("folder", options).unwrap();
        zip.finish().unwrap();
        set_attributes(&archive, &[0, 0o600, 0o755, 0o100_600, 0]);
        to_tar(&archive, &out, LARGEST).unwrap();
        let expected = [
            ("dos", 0o744),
            ("python", 0o744),
            ("script", 0o755),
            ("unix", 0o600),
            ("folder", 0o755),
        ];
        assert_eq!(
            entries(&out),
            expected.map(|(name, mode)| (name.to_owned(), mode, 1_000_000_000))
        );
    }

    #[test]
    fn a_zip_with_a_script_before_it_is_a_zip() {
        let dir = tempfile::tempdir().unwrap();
        let (archive, out) = (dir.path().join("a.jar"), dir.path().join("a.tar"));
        zip(&archive, &[("bin/app", 0o755)]);
        let mut bytes = b"#!/bin/sh\nexec java -jar $0\n".to_vec();
        bytes.extend(std::fs::read(&archive).unwrap());
        std::fs::write(&archive, bytes).unwrap();
        to_tar(&archive, &out, LARGEST).unwrap();
        assert_eq!(names(&out), [("bin/app".to_owned(), 0o755)]);
    }

    #[test]
    fn an_archive_cannot_fill_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        let bomb = dir.path().join("bomb.tgz");
        let mut gzip = flate2::write::GzEncoder::new(
            File::create(&bomb).unwrap(),
            flate2::Compression::fast(),
        );
        let zeros = vec![0; 1 << 20];
        for _ in 0..66 {
            gzip.write_all(&zeros).unwrap();
        }
        gzip.finish().unwrap();
        let out = dir.path().join("a.tar");
        let error = to_tar(&bomb, &out, 1000).unwrap_err();
        assert!(
            format!("{error:#}").contains("more than the 1000 bytes of disk"),
            "{error:#}"
        );
        assert!(std::fs::metadata(&out).unwrap().len() <= 1000 + TAR_OVERHEAD);
        to_tar(&bomb, &out, 2 << 20).unwrap();
    }
}
