//! Reads how many entries a zip announces, before a reader allocates memory for them.
//!
//! A reader of zips allocates its table by the number in the archive's end record, which costs an attacker eight bytes. Check the
//! number here first, and refuse a zip that announces too many.

use std::io::{self, BufRead as _, BufReader, Read, Seek, SeekFrom};

/// The length of the end record without its comment.
const END_RECORD: usize = 22;
const LONGEST_COMMENT: u64 = 0xffff;
/// The length of the record that leads from the end record to the zip64 end record.
const LOCATOR: u64 = 20;
const END_64: &[u8] = b"PK\x06\x06";

/// The numbers of entries in the end records of a zip.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Announced {
    /// The number in the end record that counts; `None` without any.
    pub entries: Option<u64>,
    /// The largest number in any end record that a reader might use, wherever it stands.
    pub most: u64,
}

/// Reads the whole file once, and leaves it at its beginning.
pub fn announced<R: Read + Seek>(zip: &mut R) -> io::Result<Announced> {
    let size = zip.seek(SeekFrom::End(0))?;
    zip.seek(SeekFrom::Start(
        size.saturating_sub(END_RECORD as u64 + LONGEST_COMMENT),
    ))?;
    let mut tail = Vec::new();
    zip.read_to_end(&mut tail)?;
    let short = tail
        .windows(END_RECORD)
        .rev()
        .find(|window| window.starts_with(b"PK\x05\x06"))
        .map(|record| u64::from(u16::from_le_bytes([record[10], record[11]])));
    zip.rewind()?;
    let mut long = Vec::new();
    for at in positions(zip)? {
        long.extend(zip64_entries(zip, at)?);
    }
    zip.rewind()?;
    // The short record has no room for more than 65,534, and then refers to the long one.
    let entries = match short {
        Some(0xffff) => long.last().copied().or(short),
        short => short,
    };
    let most = long.iter().copied().chain(entries).max().unwrap_or(0);
    Ok(Announced { entries, most })
}

/// Returns the positions of the signature of a zip64 end record.
fn positions<R: Read>(zip: &mut R) -> io::Result<Vec<u64>> {
    let mut reader = BufReader::with_capacity(1 << 18, zip);
    let (mut found, mut at, mut matched) = (Vec::new(), 0u64, 0);
    loop {
        let bytes = reader.fill_buf()?;
        if bytes.is_empty() {
            return Ok(found);
        }
        for (offset, byte) in (0u64..).zip(bytes) {
            matched = match *byte {
                byte if byte == END_64[matched] => matched + 1,
                b'P' => 1,
                _ => 0,
            };
            if matched == END_64.len() {
                found.push(at + offset + 1 - END_64.len() as u64);
                matched = 0;
            }
        }
        let read = bytes.len();
        at += read as u64;
        reader.consume(read);
    }
}

/// Returns the number in a zip64 end record, if the two records that belong to it follow.
fn zip64_entries<R: Read + Seek>(zip: &mut R, at: u64) -> io::Result<Option<u64>> {
    let mut record = [0; 40];
    zip.seek(SeekFrom::Start(at))?;
    if let Err(error) = zip.read_exact(&mut record) {
        return if error.kind() == io::ErrorKind::UnexpectedEof {
            Ok(None)
        } else {
            Err(error)
        };
    }
    let number = |from: usize| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&record[from..from + 8]);
        u64::from_le_bytes(bytes)
    };
    let Some(locator) = number(4).checked_add(at + 12) else {
        return Ok(None);
    };
    let follows = signature(zip, locator)? == *b"PK\x06\x07"
        && signature(zip, locator.saturating_add(LOCATOR))? == *b"PK\x05\x06";
    Ok(follows.then(|| number(32)))
}

/// Returns four bytes of the file, which are zeros beyond its end.
fn signature<R: Read + Seek>(zip: &mut R, at: u64) -> io::Result<[u8; 4]> {
    let mut bytes = [0; 4];
    // A seek beyond this position is an error, and no file is that long.
    if at < i64::MAX as u64 {
        zip.seek(SeekFrom::Start(at))?;
        match zip.read_exact(&mut bytes) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok([0; 4]),
            read => read?,
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn end(entries: u16) -> Vec<u8> {
        let mut record = b"PK\x05\x06\0\0\0\0\0\0".to_vec();
        record.extend(entries.to_le_bytes());
        record.resize(END_RECORD, 0);
        record
    }

    fn end_64(entries: u64) -> Vec<u8> {
        let mut record = END_64.to_vec();
        record.extend(44u64.to_le_bytes());
        record.resize(24, 0);
        record.extend(entries.to_le_bytes());
        record.extend(entries.to_le_bytes());
        record.resize(56, 0);
        record.extend(b"PK\x06\x07");
        record.resize(56 + LOCATOR as usize, 0);
        record.extend(end(u16::MAX));
        record
    }

    fn check(bytes: &[u8]) -> (Option<u64>, u64) {
        let found = announced(&mut Cursor::new(bytes)).unwrap();
        (found.entries, found.most)
    }

    #[test]
    fn numbers_of_both_kinds_of_end_records() {
        assert_eq!(check(b""), (None, 0));
        assert_eq!(check(b"no zip, but PK\x06\x06 in it"), (None, 0));
        assert_eq!(check(&end(7)), (Some(7), 7));
        assert_eq!(check(&end_64(1 << 40)), (Some(1 << 40), 1 << 40));
        // A reader that does not accept the last record may use one in the middle.
        let two = [vec![0; 70_000], end_64(9_000_000), vec![0; 70_000], end(3)].concat();
        assert_eq!(check(&two), (Some(3), 9_000_000));
        // The signature lies across two reads, and follows its own first letter.
        let torn = [vec![b'P'; (1 << 18) - 2], end_64(5)].concat();
        assert_eq!(check(&torn), (Some(5), 5));
    }
}
