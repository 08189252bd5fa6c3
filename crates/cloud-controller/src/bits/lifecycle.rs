//! The lifecycle bundle: the `inside` binary under the names that the recipes call, as a tgz that a cell unpacks to
//! `/tmp/lifecycle` once and keeps. Equal binaries result in equal bundles, so the cell's cache stays valid over restarts.

use anyhow::{Context as _, Result};
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest as _, Sha256};
use std::path::Path;

/// The programs of `inside` that run in app containers.
const PROGRAMS: &[&str] = &[
    "builder",
    "diego-sshd",
    "healthcheck",
    "launcher",
    "staticfile",
];

/// The bundle. It is created once at the start and served at `/internal/lifecycle/lifecycle.tgz`.
#[derive(Clone, Debug)]
pub struct Bundle {
    pub tgz: bytes::Bytes,
    /// The SHA-256 of the bundle in lower-case hex, which every recipe contains.
    pub sha256: String,
}

impl Bundle {
    /// Builds the bundle; `inside` is the path of the static binary.
    pub fn build(inside: &Path) -> Result<Self> {
        let program = std::fs::read(inside).with_context(|| {
            format!(
                "read the program for containers {}: is it built? (make build)",
                inside.display()
            )
        })?;
        let tgz = pack(&program).context("pack the lifecycle bundle")?;
        Ok(Self {
            sha256: hex::encode(Sha256::digest(&tgz)),
            tgz: tgz.into(),
        })
    }
}

/// Packs one file and a relative link for each name, so that the binary is sent once.
fn pack(program: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    let mut header = header(tar::EntryType::Regular, program.len() as u64);
    tar.append_data(&mut header, "inside", program)?;
    for name in PROGRAMS {
        tar.append_link(
            &mut self::header(tar::EntryType::Symlink, 0),
            name,
            "inside",
        )?;
    }
    tar.into_inner()?.finish()
}

/// Returns a header without times and owner, so that the bundle depends on the binary alone.
fn header(kind: tar::EntryType, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(0o755);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    #[test]
    fn holds_every_name_and_is_deterministic() {
        let tgz = pack(b"#!program").unwrap();
        assert_eq!(tgz, pack(b"#!program").unwrap());
        assert_ne!(tgz, pack(b"#!another").unwrap());
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(tgz.as_slice()));
        let mut names = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            names.push(entry.path().unwrap().display().to_string());
            assert_eq!(entry.header().mode().unwrap(), 0o755);
            match entry.link_name().unwrap() {
                Some(target) => assert_eq!(target.to_str(), Some("inside")),
                None => {
                    let mut content = String::new();
                    entry.read_to_string(&mut content).unwrap();
                    assert_eq!(content, "#!program");
                }
            }
        }
        assert_eq!(
            names,
            [
                "inside",
                "builder",
                "diego-sshd",
                "healthcheck",
                "launcher",
                "staticfile"
            ]
        );
    }
}
