//! Files that detect damage: a checksum follows the content. Garden and the rep use them for state that outlives their process.

use sha2::{Digest as _, Sha256};

const MARK: &[u8] = b"\nsha256:";
/// The length of the end: the mark, 64 hexadecimal digits, and a newline.
const LENGTH: usize = 8 + 64 + 1;

/// The content that was read is not the content that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    #[error("its content is damaged: the checksum behind it does not match")]
    Content,
    #[error("its end is damaged or cut off: there is no checksum")]
    End,
}

/// Returns the content followed by its checksum.
pub fn seal(content: &[u8]) -> Vec<u8> {
    let mut sealed = content.to_vec();
    sealed.extend_from_slice(MARK);
    sealed.extend_from_slice(checksum(content).as_bytes());
    sealed.push(b'\n');
    sealed
}

/// Returns the content of a sealed file.
pub fn open(sealed: &[u8]) -> Result<&[u8], Damage> {
    let place = sealed.len().checked_sub(LENGTH).ok_or(Damage::End)?;
    let (content, end) = sealed.split_at(place);
    let given = end.strip_prefix(MARK).ok_or(Damage::End)?;
    if given == [checksum(content).as_bytes(), b"\n"].concat() {
        Ok(content)
    } else {
        Err(Damage::Content)
    }
}

/// Returns the content of a sealed file. A file without a checksum, as older versions wrote it, is returned unchanged. It is for
/// formats that detect a missing end themselves.
pub fn open_or_plain(bytes: &[u8]) -> Result<&[u8], Damage> {
    match open(bytes) {
        Err(Damage::End) => Ok(bytes),
        opened => opened,
    }
}

fn checksum(content: &[u8]) -> String {
    let digest = Sha256::digest(content);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let sealed = seal(b"{\"a\":1}");
        assert_eq!(open(&sealed), Ok(&b"{\"a\":1}"[..]));
        for byte in 0..sealed.len() {
            for bit in 0..8 {
                let mut damaged = sealed.clone();
                damaged[byte] ^= 1 << bit;
                assert!(open(&damaged).is_err(), "byte {byte} bit {bit}");
            }
            assert!(open(&sealed[..byte]).is_err(), "cut at {byte}");
        }
        assert!(open(&seal(b"")).is_ok_and(<[u8]>::is_empty));
        assert_eq!(open_or_plain(b"{}"), Ok(&b"{}"[..]));
    }
}
