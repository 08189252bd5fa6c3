//! Checks an uploaded zip before it is stored. A cell unpacks it later, and nothing in it may reach outside the app's folder or
//! fill a disk. Sizes in a zip's headers can be wrong, so every entry is inflated once and the output is discarded.

use std::collections::HashSet;
use std::io::{self, Read, Seek};
use zip::ZipArchive;
use zip::result::ZipError;

/// The upper bounds of a package.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub entries: usize,
    /// The maximum number of bytes of all files together, unpacked.
    pub unpacked: u64,
    /// The maximum ratio of unpacked to packed size, for each file larger than a mebibyte.
    pub ratio: u64,
    /// The maximum number of bytes of one entry's name.
    pub name: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries: 200_000,
            unpacked: 2 << 30,
            ratio: 500,
            name: 4096,
        }
    }
}

/// A summary of what a good package contains.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    pub entries: usize,
    pub unpacked: u64,
}

/// The reason why a package is refused. The text names the entry and becomes the package's `data.error`.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    #[error("The package is not a zip file or is damaged: {0}")]
    NotAZip(ZipError),
    #[error("The package has {entries} entries; at most {limit} are allowed")]
    TooManyEntries { entries: u64, limit: usize },
    #[error("Package entry {0:?} has an absolute path; paths must be relative")]
    Absolute(String),
    #[error("Package entry {0:?} points outside of the app with '..'")]
    Outside(String),
    #[error("Package entry {0:?} has a name that no file can have")]
    BadName(String),
    #[error("Package entry {name:?} is a link to {target:?}, which may point outside of the app")]
    LinkOutside { name: String, target: String },
    #[error("Package entry {name:?} lies below the link {link:?}")]
    BelowLink { name: String, link: String },
    #[error("Package entry {name:?} lies below {file:?}, which is a file")]
    BelowFile { name: String, file: String },
    #[error("Package entry {0:?} occurs twice")]
    Duplicate(String),
    #[error(
        "The package announces {said} entries, but has {found} different ones; each entry must occur once"
    )]
    Hidden { said: u64, found: usize },
    #[error("Package entry {0:?} is neither a file nor a directory nor a link")]
    Special(String),
    #[error("Package entry {0:?} is encrypted; send the package without a password")]
    Encrypted(String),
    #[error(
        "Package entry {name:?} unpacks to more than {limit} bytes together with the entries before it"
    )]
    TooLarge { name: String, limit: u64 },
    #[error("Package entry {name:?} unpacks to more than {limit} times its packed size")]
    Ratio { name: String, limit: u64 },
    #[error("Package entry {name:?} is damaged: {source}")]
    Damaged { name: String, source: io::Error },
}

const FILE_TYPE: u32 = 0o170_000;
const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const LINK: u32 = 0o120_000;
const LONGEST_LINK: u64 = 4096;
/// The maximum number of bytes of a file's name on the file systems of cells.
const LONGEST_PART: usize = 255;
/// The size up to which a file may have any ratio: a page of zeros packs 1000 to 1.
const RATIO_FROM: u64 = 1 << 20;

/// Reads the whole archive and refuses it if it is not good. An empty zip is a good package.
pub fn check<R: Read + Seek>(mut zip: R, limits: &Limits) -> Result<Summary, PackageError> {
    let announced =
        kit::zip::announced(&mut zip).map_err(|error| PackageError::NotAZip(error.into()))?;
    // This check precedes the reader, which allocates memory for the entries.
    if announced.most > limits.entries as u64 {
        return Err(PackageError::TooManyEntries {
            entries: announced.most,
            limit: limits.entries,
        });
    }
    let mut archive = ZipArchive::new(zip).map_err(PackageError::NotAZip)?;
    // The reader shows only the last entry of each name; another unpacker may unpack the others, too.
    if let Some(said) = announced
        .entries
        .filter(|said| *said != archive.len() as u64)
    {
        return Err(PackageError::Hidden {
            said,
            found: archive.len(),
        });
    }
    let mut summary = Summary {
        entries: archive.len(),
        unpacked: 0,
    };
    let mut names = HashSet::new();
    let mut leaves = Leaves::default();
    for index in 0..archive.len() {
        let entry = archive.by_index_raw(index).map_err(PackageError::NotAZip)?;
        let name = entry.name().to_owned();
        let path = check_name(&name, limits)?;
        if entry.encrypted() {
            return Err(PackageError::Encrypted(name));
        }
        let kind = entry.unix_mode().map_or(0, |mode| mode & FILE_TYPE);
        let packed = entry.compressed_size();
        drop(entry);
        // The second of two entries could be written through the first one if that is a link.
        if !names.insert(path.clone()) {
            return Err(PackageError::Duplicate(name));
        }
        match kind {
            0 | REGULAR | DIRECTORY => {
                if kind != DIRECTORY && !name.ends_with('/') {
                    leaves.files.insert(path);
                }
                let mut entry = archive.by_index(index).map_err(PackageError::NotAZip)?;
                summary.unpacked += inflate(
                    &mut entry,
                    &name,
                    packed,
                    limits.unpacked - summary.unpacked,
                    limits,
                )?;
            }
            LINK => {
                let mut target = Vec::new();
                let entry = archive.by_index(index).map_err(PackageError::NotAZip)?;
                entry
                    .take(LONGEST_LINK)
                    .read_to_end(&mut target)
                    .map_err(|source| PackageError::Damaged {
                        name: name.clone(),
                        source,
                    })?;
                check_link(&name, &path, &String::from_utf8_lossy(&target))?;
                leaves.links.insert(path);
            }
            _ => return Err(PackageError::Special(name)),
        }
    }
    leaves.refuse_below(&names)?;
    Ok(summary)
}

/// Inflates one entry and returns the number of its unpacked bytes.
fn inflate(
    entry: &mut impl Read,
    name: &str,
    packed: u64,
    room: u64,
    limits: &Limits,
) -> Result<u64, PackageError> {
    let mut buffer = vec![0; 64 << 10];
    let mut size = 0;
    loop {
        let read = entry
            .read(&mut buffer)
            .map_err(|source| PackageError::Damaged {
                name: name.to_owned(),
                source,
            })?;
        if read == 0 {
            return Ok(size);
        }
        size += read as u64;
        if size > room {
            return Err(PackageError::TooLarge {
                name: name.to_owned(),
                limit: limits.unpacked,
            });
        }
        if size > RATIO_FROM && size > packed.saturating_mul(limits.ratio) {
            return Err(PackageError::Ratio {
                name: name.to_owned(),
                limit: limits.ratio,
            });
        }
    }
}

/// Returns the entry's path without `.` and trailing slash, or the reason why it is refused.
fn check_name(name: &str, limits: &Limits) -> Result<String, PackageError> {
    if name.starts_with('/') || name.starts_with('\\') || name.as_bytes().get(1) == Some(&b':') {
        return Err(PackageError::Absolute(name.to_owned()));
    }
    if name.is_empty() || name.len() > limits.name || name.contains('\0') {
        return Err(PackageError::BadName(name.chars().take(200).collect()));
    }
    // Some unpackers treat a backslash as a slash.
    if name.split('/').any(|part| part.len() > LONGEST_PART) {
        return Err(PackageError::BadName(name.chars().take(200).collect()));
    }
    if name.split(['/', '\\']).any(|part| part == "..") {
        return Err(PackageError::Outside(name.to_owned()));
    }
    Ok(components(name).collect::<Vec<_>>().join("/"))
}

fn components(path: &str) -> impl Iterator<Item = &str> {
    path.split('/')
        .filter(|part| !part.is_empty() && *part != ".")
}

/// Refuses a link if a chain of links could lead outside. A good link has a relative target with `..` only at its beginning, and
/// has at most as many `..` as the link is deep.
fn check_link(name: &str, path: &str, target: &str) -> Result<(), PackageError> {
    let depth = components(path).count() - 1;
    let ups = components(target).take_while(|part| *part == "..").count();
    let all_ups = components(target).filter(|part| *part == "..").count();
    if target.is_empty()
        || target.starts_with('/')
        || target.contains('\0')
        || ups != all_ups
        || ups > depth
    {
        return Err(PackageError::LinkOutside {
            name: name.to_owned(),
            target: target.to_owned(),
        });
    }
    Ok(())
}

/// The paths below which there may be no entry.
#[derive(Default)]
struct Leaves {
    files: HashSet<String>,
    links: HashSet<String>,
}

impl Leaves {
    /// Refuses an entry below a link or a file. The former would be written to the place where the link leads; the latter cannot
    /// be written at all.
    fn refuse_below(&self, names: &HashSet<String>) -> Result<(), PackageError> {
        for name in names {
            for (slash, _) in name.match_indices('/') {
                let above = &name[..slash];
                if self.links.contains(above) {
                    return Err(PackageError::BelowLink {
                        name: name.clone(),
                        link: above.to_owned(),
                    });
                }
                if self.files.contains(above) {
                    return Err(PackageError::BelowFile {
                        name: name.clone(),
                        file: above.to_owned(),
                    });
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Cursor, Write as _};
    use zip::write::{SimpleFileOptions, ZipWriter};

    enum Entry<'a> {
        File(&'a str, &'a [u8]),
        Link(&'a str, &'a str),
        Mode(&'a str, u32),
    }
    use Entry::{File, Link, Mode};

    fn zip(entries: &[Entry<'_>]) -> Vec<u8> {
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        let mut modes = Vec::new();
        for entry in entries {
            let options = SimpleFileOptions::default().unix_permissions(0o644);
            match entry {
                File(name, content) => {
                    zip.start_file(*name, options).unwrap();
                    zip.write_all(content).unwrap();
                }
                Link(name, target) => zip.add_symlink(*name, *target, options).unwrap(),
                Mode(name, mode) => {
                    zip.start_file(*name, options).unwrap();
                    modes.push((*name, *mode));
                }
            }
        }
        let mut bytes = zip.finish().unwrap().into_inner();
        // The writer creates only regular files, so the mode is changed in the central directory.
        for (name, mode) in modes {
            let at = bytes
                .windows(name.len())
                .rposition(|window| window == name.as_bytes())
                .unwrap()
                - 46;
            bytes[at + 38..at + 42].copy_from_slice(&(mode << 16).to_le_bytes());
        }
        bytes
    }

    fn error(entries: &[Entry<'_>]) -> String {
        check(Cursor::new(zip(entries)), &Limits::default())
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn good_packages() {
        let bytes = zip(&[
            File("app.py", b"print()"),
            File("lib/x.so", &[0; 5000]),
            Link("lib/y.so", "x.so"),
            Link("lib/up", "../app.py"),
            Link("now", "lib"),
        ]);
        assert_eq!(
            check(Cursor::new(bytes), &Limits::default()).unwrap(),
            Summary {
                entries: 5,
                unpacked: 5007
            }
        );
        assert_eq!(
            check(Cursor::new(zip(&[])), &Limits::default()).unwrap(),
            Summary::default()
        );
    }

    #[test]
    fn names_that_leave_the_app() {
        assert_eq!(
            error(&[File("a", b""), File("b/../../etc/passwd", b"x")]),
            "Package entry \"b/../../etc/passwd\" points outside of the app with '..'"
        );
        assert!(error(&[File("..\\evil", b"")]).contains("'..'"));
        assert!(error(&[File("/etc/passwd", b"")]).contains("absolute"));
        assert!(error(&[File("C:/x", b"")]).contains("absolute"));
        assert!(error(&[File(&"x".repeat(256), b"")]).contains("no file can have"));
        assert!(
            error(&[File("a", b""), File("a/b", b"")]).contains("below \"a\", which is a file")
        );
    }

    /// Returns the end records of a zip64 archive that announces `entries`.
    fn zip64_end(entries: u64) -> Vec<u8> {
        let mut bytes = b"PK\x06\x06".to_vec();
        bytes.extend(44u64.to_le_bytes());
        bytes.resize(24, 0);
        bytes.extend([entries.to_le_bytes(), entries.to_le_bytes()].concat());
        bytes.resize(56, 0);
        bytes.extend(b"PK\x06\x07");
        bytes.resize(76, 0);
        bytes.extend(b"PK\x05\x06\0\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\0\0");
        bytes
    }

    #[test]
    fn a_million_entries_are_refused_before_there_is_room_for_them() {
        for entries in [1_000_000, u64::MAX / 2] {
            // The archive is long enough for a reader to accept the number.
            let bytes = [vec![0; 2_000_000], zip64_end(entries)].concat();
            let text = check(Cursor::new(bytes), &Limits::default())
                .unwrap_err()
                .to_string();
            assert_eq!(
                text,
                format!("The package has {entries} entries; at most 200000 are allowed")
            );
        }
    }

    #[test]
    fn many_entries_and_a_script_before_them_are_a_good_package() {
        let names: Vec<String> = (0..70_000).map(|n| format!("f{n}")).collect();
        let entries: Vec<_> = names.iter().map(|name| File(name, b"")).collect();
        let bytes = [
            b"#!/bin/sh\nexec java -jar \"$0\"\n".to_vec(),
            zip(&entries),
        ]
        .concat();
        let summary = check(Cursor::new(bytes), &Limits::default()).unwrap();
        assert_eq!(summary.entries, 70_000);
    }

    #[test]
    fn links_that_leave_the_app() {
        for target in ["/etc/passwd", "../x", "b/../../x", "d/..", ""] {
            assert!(
                error(&[Link("a", target)]).contains("is a link to"),
                "{target}"
            );
        }
        assert!(error(&[Link("d/e", "../../x")]).contains("\"../../x\""));
        assert!(error(&[Link("d", "e"), File("d/x", b"")]).contains("below the link \"d\""));
        assert!(error(&[File("d/x", b""), Link("d", "e")]).contains("below the link"));
    }

    #[test]
    fn one_name_twice() {
        let mut bytes = zip(&[File("aa", b"x"), File("ab", b"y")]);
        while let Some(at) = bytes.windows(2).position(|window| window == b"ab") {
            bytes[at + 1] = b'a';
        }
        let text = check(Cursor::new(bytes), &Limits::default())
            .unwrap_err()
            .to_string();
        assert!(text.contains("2 entries, but has 1 different"), "{text}");
        assert!(error(&[File("a", b""), File("./a", b"")]).contains("occurs twice"));
    }

    #[test]
    fn special_files() {
        assert!(error(&[Mode("device", 0o020_666)]).contains("neither a file"));
        assert!(error(&[Mode("pipe", 0o010_666)]).contains("neither a file"));
    }

    #[test]
    fn absurd_sizes() {
        let zeros = vec![0; 3 << 20];
        let bytes = zip(&[File("bomb", &zeros)]);
        let text = check(Cursor::new(&bytes), &Limits::default())
            .unwrap_err()
            .to_string();
        assert_eq!(
            text,
            "Package entry \"bomb\" unpacks to more than 500 times its packed size"
        );
        let text = check(
            Cursor::new(&bytes),
            &Limits {
                unpacked: 1000,
                ..Limits::default()
            },
        )
        .unwrap_err()
        .to_string();
        assert!(text.contains("more than 1000 bytes"), "{text}");
        let text = check(
            Cursor::new(zip(&[File("a", b""), File("b", b"")])),
            &Limits {
                entries: 1,
                ..Limits::default()
            },
        )
        .unwrap_err()
        .to_string();
        assert_eq!(text, "The package has 2 entries; at most 1 are allowed");
    }

    #[test]
    fn damaged_archives() {
        assert!(
            check(Cursor::new(b"no zip".to_vec()), &Limits::default())
                .unwrap_err()
                .to_string()
                .contains("not a zip file")
        );
        let content: Vec<u8> = (0..2000u32)
            .flat_map(|n| (n.wrapping_mul(2_654_435_761)).to_le_bytes())
            .collect();
        let mut bytes = zip(&[File("a", &content)]);
        bytes[500] ^= 0xff;
        assert!(
            check(Cursor::new(bytes), &Limits::default())
                .unwrap_err()
                .to_string()
                .contains("\"a\" is damaged")
        );
    }
}
