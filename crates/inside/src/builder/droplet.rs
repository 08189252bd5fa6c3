//! Writes the results of staging: the droplet, the result file and the (empty) build cache.
//!
//! ```text
//! ./app/…  ./deps/0/  ./logs/  ./profile.d/…  ./tmp/  ./staging_info.yml      unpacked to /home/vcap
//! ```
//! Members have the names that `tar` gives them when it packs a folder from within. Files keep the times that the package gave them.

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;
use staging_result::StagingResult;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};
use tar::{Builder, EntryType, Header};

/// The user and group id of vcap in every stack.
const VCAP: u64 = 2000;

/// Writes the droplet to `path`. The app's folder is read as it is; links stay links.
pub(super) fn write(
    app: &Path,
    path: &Path,
    profile: &[(String, String)],
    result: &StagingResult,
) -> io::Result<()> {
    make_parent(path)?;
    let mut tar = Builder::new(GzEncoder::new(
        BufWriter::new(File::create(path)?),
        Compression::fast(),
    ));
    for directory in [
        "./",
        "./deps/",
        "./deps/0/",
        "./logs/",
        "./profile.d/",
        "./tmp/",
    ] {
        let header = header(EntryType::Directory, 0o755, 0, now());
        member(&mut tar, header, directory.as_bytes(), io::empty())?;
    }
    let staging_info = json!({
        "detected_buildpack": result.lifecycle_metadata.detected_buildpack,
        "start_command": result.start_command().unwrap_or_default(),
    });
    append_text(
        &mut tar,
        "./staging_info.yml",
        &staging_info.to_string(),
        0o644,
    )?;
    for (name, content) in profile {
        append_text(&mut tar, &format!("./profile.d/{name}"), content, 0o755)?;
    }
    append(&mut tar, app, b"./app")?;
    tar.into_inner()?
        .finish()?
        .into_inner()
        .map_err(io::IntoInnerError::into_error)?
        .sync_all()
}

/// Adds one file, link, or folder with everything in it. Sockets, pipes and devices are left out.
fn append<W: Write>(tar: &mut Builder<W>, path: &Path, name: &[u8]) -> io::Result<()> {
    let metadata = fs::symlink_metadata(path)?;
    let mode = metadata.permissions().mode() & 0o7777;
    let mtime = u64::try_from(metadata.mtime()).unwrap_or_default();
    if metadata.is_symlink() {
        let mut header = header(EntryType::Symlink, 0o777, 0, mtime);
        let target = fs::read_link(path)?;
        if header
            .set_link_name_literal(target.as_os_str().as_bytes())
            .is_err()
        {
            long(tar, EntryType::GNULongLink, target.as_os_str().as_bytes())?;
        }
        return member(tar, header, name, io::empty());
    }
    if metadata.is_file() {
        let header = header(EntryType::Regular, mode | 0o400, metadata.len(), mtime);
        return member(tar, header, name, File::open(path)?);
    }
    if !metadata.is_dir() {
        return Ok(());
    }
    let header = header(EntryType::Directory, mode | 0o700, 0, mtime);
    member(tar, header, &[name, b"/"].concat(), io::empty())?;
    let mut children = fs::read_dir(path)?
        .map(|entry| entry.map(|entry| entry.file_name()))
        .collect::<io::Result<Vec<_>>>()?;
    children.sort();
    children.iter().try_for_each(|child| {
        append(
            tar,
            &path.join(child),
            &[name, b"/", child.as_bytes()].concat(),
        )
    })
}

fn append_text<W: Write>(
    tar: &mut Builder<W>,
    name: &str,
    text: &str,
    mode: u32,
) -> io::Result<()> {
    let header = header(EntryType::Regular, mode, text.len() as u64, now());
    member(tar, header, name.as_bytes(), text.as_bytes())
}

/// Adds a member. The name is written here because the library would remove the `./`.
fn member<W: Write>(
    tar: &mut Builder<W>,
    mut header: Header,
    name: &[u8],
    content: impl io::Read,
) -> io::Result<()> {
    let place = &mut header.as_old_mut().name;
    match place.get_mut(..name.len()) {
        Some(place) => place.copy_from_slice(name),
        None => long(tar, EntryType::GNULongName, name)?,
    }
    header.set_cksum();
    // A file that grows while it is read must not overwrite the next member.
    let size = header.size()?;
    tar.append(&header, content.take(size))
}

/// Writes a name that does not fit into a header as a member of its own, as GNU tar does.
fn long<W: Write>(tar: &mut Builder<W>, kind: EntryType, name: &[u8]) -> io::Result<()> {
    const PLACE: &[u8] = b"././@LongLink";
    let text = [name, b"\0"].concat();
    let mut header = header(kind, 0o644, text.len() as u64, 0);
    header.as_old_mut().name[..PLACE.len()].copy_from_slice(PLACE);
    header.set_cksum();
    tar.append(&header, text.as_slice())
}

/// Returns the time for files that staging itself makes.
fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |age| age.as_secs())
}

fn header(kind: EntryType, mode: u32, size: u64, mtime: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(mtime);
    header.set_uid(VCAP);
    header.set_gid(VCAP);
    header.set_username("vcap").expect("a short name fits");
    header.set_groupname("vcap").expect("a short name fits");
    header
}

/// Writes the result file in the format that Cloud Controller reads.
pub(super) fn write_result(path: &Path, result: &StagingResult) -> io::Result<()> {
    make_parent(path)?;
    fs::write(path, serde_json::to_vec(result)?)
}

/// Writes an empty but valid cache archive for the upload, because our buildpacks keep nothing for the next staging.
pub(super) fn write_empty_cache(path: &Path) -> io::Result<()> {
    make_parent(path)?;
    Builder::new(GzEncoder::new(File::create(path)?, Compression::fast()))
        .into_inner()?
        .finish()
        .map(drop)
}

fn make_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), fs::create_dir_all)
}
