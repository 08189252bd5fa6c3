//! The package: a zip of the app's files that preserves their permissions and links.

use super::files::{Entry, Kind};
use anyhow::{Context as _, Result};
use std::fs::File;
use std::io::{BufWriter, Seek, Write};
use std::time::SystemTime;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

/// Writes the entries for which `is_wanted` returns `true` to a temporary file, which is removed when dropped.
pub(super) fn pack(
    entries: &[Entry],
    is_wanted: impl Fn(&Entry) -> bool,
) -> Result<tempfile::NamedTempFile> {
    let file = tempfile::Builder::new()
        .prefix("cf-package-")
        .suffix(".zip")
        .tempfile()
        .context("create the temporary package file")?;
    let handle = file.reopen().context("open the temporary package file")?;
    write(
        BufWriter::new(handle),
        entries.iter().filter(|e| is_wanted(e)),
    )
    .context("write package")?;
    Ok(file)
}

fn write<'a, W: Write + Seek>(out: W, entries: impl Iterator<Item = &'a Entry>) -> Result<()> {
    let mut zip = ZipWriter::new(out);
    for entry in entries {
        let options = SimpleFileOptions::default()
            .unix_permissions(entry.mode)
            .last_modified_time(dos_time(entry.modified));
        match &entry.kind {
            Kind::Folder => zip.add_directory(entry.path.as_str(), options)?,
            Kind::Link { target } => {
                zip.add_symlink(entry.path.as_str(), target.as_str(), options)?
            }
            Kind::File { size } => {
                // The connection to the platform is fast, so speed matters more than size.
                let options = options
                    .compression_method(CompressionMethod::Deflated)
                    .compression_level(Some(1))
                    .large_file(*size >= u64::from(u32::MAX));
                zip.start_file(entry.path.as_str(), options)?;
                let mut source = File::open(&entry.source)
                    .with_context(|| format!("open {}", entry.source.display()))?;
                std::io::copy(&mut source, &mut zip)
                    .with_context(|| format!("pack {}", entry.source.display()))?;
            }
        }
    }
    zip.finish()?.flush()?;
    Ok(())
}

fn dos_time(at: SystemTime) -> DateTime {
    let at = time::OffsetDateTime::from(at);
    let year = u16::try_from(at.year()).unwrap_or(1980);
    DateTime::from_date_and_time(
        year,
        at.month().into(),
        at.day(),
        at.hour(),
        at.minute(),
        at.second(),
    )
    .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    #[test]
    fn modes_contents_and_links_survive() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("app");
        std::fs::write(&source, b"#!/bin/sh\n").unwrap();
        let entry = |path: &str, mode: u32, kind: Kind| Entry {
            path: path.into(),
            source: source.clone(),
            mode,
            modified: SystemTime::now(),
            kind,
        };
        let entries = [
            entry("bin", 0o750, Kind::Folder),
            entry("bin/app", 0o755, Kind::File { size: 10 }),
            entry("data", 0o640, Kind::File { size: 10 }),
            entry("known", 0o644, Kind::File { size: 10 }),
            entry(
                "run",
                0o777,
                Kind::Link {
                    target: "bin/app".into(),
                },
            ),
        ];
        let file = pack(&entries, |e| e.path != "known").unwrap();
        let mut zip = zip::ZipArchive::new(file.reopen().unwrap()).unwrap();
        let mut seen = Vec::new();
        for i in 0..zip.len() {
            let mut item = zip.by_index(i).unwrap();
            let mut text = String::new();
            item.read_to_string(&mut text).unwrap();
            seen.push((item.name().to_owned(), item.unix_mode().unwrap(), text));
        }
        let expected = [
            ("bin/", 0o040_750, ""),
            ("bin/app", 0o100_755, "#!/bin/sh\n"),
            ("data", 0o100_640, "#!/bin/sh\n"),
            ("run", 0o120_777, "bin/app"),
        ];
        assert_eq!(
            seen,
            expected.map(|(n, m, t)| (n.to_owned(), m, t.to_owned()))
        );
    }
}
