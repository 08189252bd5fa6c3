//! Copies files into and out of a container by a process inside it. Links, permissions and limits are then the container's own,
//! and no path can lead to the host's files.

use anyhow::{Context, Result, bail};
use nix::unistd::{Gid, Uid, chown, setgid, setgroups, setuid};
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::path::Path;
use std::process::ExitCode;

fn exit(program: &str, result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{program}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs `untar DIRECTORY UID GID`, which unpacks stdin, a tar that may be gzipped. It starts as root to create the directory.
pub(crate) fn untar(args: &[String]) -> ExitCode {
    exit("untar", unpack(args))
}

fn unpack(args: &[String]) -> Result<()> {
    let [directory, uid, gid] = args else {
        bail!("usage: untar DIRECTORY UID GID")
    };
    let (uid, gid) = (
        Uid::from_raw(uid.parse().context("user id")?),
        Gid::from_raw(gid.parse().context("group id")?),
    );
    let directory = Path::new(directory);
    make_directory(directory, uid, gid)?;
    if !uid.is_root() {
        setgroups(&[]).context("drop groups")?;
        setgid(gid).context("set group")?;
        setuid(uid).context("set user")?;
    }
    let mut input = BufReader::with_capacity(1 << 16, io::stdin().lock());
    let gzipped = input
        .fill_buf()
        .context("read the tar")?
        .starts_with(&[0x1f, 0x8b]);
    let reader: Box<dyn Read + '_> = if gzipped {
        Box::new(flate2::bufread::GzDecoder::new(input))
    } else {
        Box::new(input)
    };
    let mut archive = tar::Archive::new(reader);
    archive.set_preserve_permissions(true);
    archive.set_preserve_mtime(true);
    archive.set_overwrite(true);
    archive
        .unpack(directory)
        .with_context(|| format!("unpack into {}", directory.display()))
}

/// Creates the missing directories. Only these get the owner.
fn make_directory(directory: &Path, uid: Uid, gid: Gid) -> Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    if let Some(parent) = directory.parent() {
        make_directory(parent, uid, gid)?;
    }
    std::fs::create_dir(directory).with_context(|| format!("make {}", directory.display()))?;
    chown(directory, Some(uid), Some(gid))
        .with_context(|| format!("change the owner of {}", directory.display()))
}

/// Runs `tar PATH`, which writes a file or folder to stdout as a tar. If PATH ends with `/`, the tar has the folder's content
/// without its name.
pub(crate) fn tar(args: &[String]) -> ExitCode {
    exit("tar", pack(args))
}

fn pack(args: &[String]) -> Result<()> {
    let [path] = args else {
        bail!("usage: tar PATH")
    };
    let place = Path::new(path);
    let mut output = BufWriter::with_capacity(1 << 16, io::stdout().lock());
    {
        let mut builder = tar::Builder::new(&mut output);
        builder.follow_symlinks(false);
        let kind = std::fs::metadata(place).with_context(|| format!("read {path}"))?;
        let name = place
            .file_name()
            .filter(|_| !path.ends_with('/'))
            .map_or(Path::new("."), Path::new);
        if kind.is_dir() {
            builder
                .append_dir_all(name, place)
                .with_context(|| format!("pack {path}"))?;
        } else {
            builder
                .append_file(
                    name,
                    &mut File::open(place).with_context(|| format!("open {path}"))?,
                )
                .with_context(|| format!("pack {path}"))?;
        }
        builder.finish()?;
    }
    output.flush().context("write the tar")
}
