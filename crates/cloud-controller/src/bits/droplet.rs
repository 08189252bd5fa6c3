//! Checks an uploaded droplet: it must be a gzipped tar that can be read to its end and that contains something.

use flate2::read::MultiGzDecoder;
use std::io::{self, Read};

/// The maximum number of bytes of all files together, unpacked.
const LARGEST: u64 = 8 << 30;
const MOST_ENTRIES: usize = 500_000;

/// The reason why a droplet is refused. The text becomes the droplet's error.
#[derive(Debug, thiserror::Error)]
pub enum DropletError {
    #[error("The droplet is not a gzipped tar archive or is damaged: {0}")]
    NotAnArchive(io::Error),
    #[error("The droplet is empty")]
    Empty,
    #[error("The droplet unpacks to more than {LARGEST} bytes or {MOST_ENTRIES} entries")]
    TooLarge,
}

/// Reads the whole droplet and refuses it if it is not good.
pub fn check(droplet: impl Read) -> Result<(), DropletError> {
    let unpacked = MultiGzDecoder::new(droplet).take(LARGEST + 1);
    let mut archive = tar::Archive::new(unpacked);
    let mut entries = 0;
    for entry in archive.entries().map_err(DropletError::NotAnArchive)? {
        let mut entry = entry.map_err(DropletError::NotAnArchive)?;
        io::copy(&mut entry, &mut io::sink()).map_err(DropletError::NotAnArchive)?;
        entries += 1;
        if entries > MOST_ENTRIES {
            return Err(DropletError::TooLarge);
        }
    }
    // The bytes after the archive's end are part of the gzip's checksum.
    let mut rest = archive.into_inner();
    io::copy(&mut rest, &mut io::sink()).map_err(DropletError::NotAnArchive)?;
    if rest.limit() == 0 {
        return Err(DropletError::TooLarge);
    }
    if entries == 0 {
        return Err(DropletError::Empty);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::io::Write as _;

    fn tgz(names: &[&str]) -> Vec<u8> {
        let mut builder = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        for name in names {
            let mut header = tar::Header::new_gnu();
            header.set_size(3);
            header.set_mode(0o644);
            builder
                .append_data(&mut header, name, b"abc".as_slice())
                .unwrap();
        }
        builder.into_inner().unwrap().finish().unwrap()
    }

    #[test]
    fn archives_and_what_is_none() {
        let good = tgz(&["app/run", "app/x"]);
        check(good.as_slice()).unwrap();
        assert!(matches!(
            check(tgz(&[]).as_slice()),
            Err(DropletError::Empty)
        ));
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(b"no tar").unwrap();
        for bad in [
            b"droplet".to_vec(),
            Vec::new(),
            gzip.finish().unwrap(),
            good[..good.len() - 12].to_vec(),
        ] {
            let error = check(bad.as_slice()).unwrap_err();
            assert!(!matches!(error, DropletError::TooLarge), "{error}");
        }
    }
}
