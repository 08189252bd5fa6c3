//! Reads and writes frames (RFC 9113, 4 and 6).

use crate::ConnectionError;

/// The number of bytes of a frame's head.
pub const HEAD: usize = 9;
/// The largest payload that may be sent to a peer that has not allowed more. The router allows no more.
pub const MOST: usize = 16_384;

pub const DATA: u8 = 0x0;
pub const HEADERS: u8 = 0x1;
pub const PRIORITY: u8 = 0x2;
pub const RST_STREAM: u8 = 0x3;
pub const SETTINGS: u8 = 0x4;
pub const PING: u8 = 0x6;
pub const GOAWAY: u8 = 0x7;
pub const WINDOW_UPDATE: u8 = 0x8;
pub const CONTINUATION: u8 = 0x9;

pub const ACK: u8 = 0x1;
pub const END_STREAM: u8 = 0x1;
pub const END_HEADERS: u8 = 0x4;
pub const PADDED: u8 = 0x8;
pub const HAS_PRIORITY: u8 = 0x20;

const INITIAL_WINDOW_SIZE: u16 = 0x4;
const MOST_WINDOW: u32 = (1 << 31) - 1;

/// The head with which every frame begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The length of the payload, in bytes.
    pub length: usize,
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
}

impl Head {
    /// Reads a head. Returns `None` if its end is missing.
    #[inline]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let head: &[u8; HEAD] = bytes.first_chunk()?;
        Some(Self {
            length: usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]),
            kind: head[3],
            flags: head[4],
            stream: u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & MOST_WINDOW,
        })
    }

    pub fn write(self, out: &mut Vec<u8>) {
        let length = u32::try_from(self.length).unwrap_or(u32::MAX);
        out.extend_from_slice(&length.to_be_bytes()[1..]);
        out.extend_from_slice(&[self.kind, self.flags]);
        out.extend_from_slice(&self.stream.to_be_bytes());
    }

    #[inline]
    pub fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Returns whether the frame contains nothing and ends nothing.
    #[inline]
    pub fn is_empty(self) -> bool {
        self.length == 0 && self.flags & (END_STREAM | PADDED) == 0
    }

    /// Returns the length of head and payload, in bytes.
    #[inline]
    pub fn whole(self) -> usize {
        HEAD + self.length
    }

    /// Checks the size of the frame. All frames have a largest size, and some kinds have a fixed one.
    ///
    /// # Errors
    /// `FrameSize` means that the size is wrong.
    #[inline]
    pub fn check_size(self) -> Result<(), ConnectionError> {
        let right = match self.kind {
            PRIORITY => self.length == 5,
            RST_STREAM | WINDOW_UPDATE => self.length == 4,
            SETTINGS if self.has(ACK) => self.length == 0,
            SETTINGS => self.length.is_multiple_of(6) && self.length <= MOST,
            PING => self.length == 8,
            GOAWAY => (8..=MOST).contains(&self.length),
            _ => self.length <= MOST,
        };
        if right {
            Ok(())
        } else {
            Err(ConnectionError::FrameSize)
        }
    }
}

/// Checks the values for which the error is not `PROTOCOL_ERROR`. The library checks the others.
///
/// # Errors
/// `FlowControl` means that a window has 2^31 bytes or more.
pub fn check_settings(payload: &[u8]) -> Result<(), ConnectionError> {
    let (settings, _) = payload.as_chunks::<6>();
    for &[id0, id1, v0, v1, v2, v3] in settings {
        let (id, value) = (
            u16::from_be_bytes([id0, id1]),
            u32::from_be_bytes([v0, v1, v2, v3]),
        );
        if id == INITIAL_WINDOW_SIZE && value > MOST_WINDOW {
            return Err(ConnectionError::FlowControl);
        }
    }
    Ok(())
}

/// Returns the part of a HEADERS frame's payload that belongs to its header block.
///
/// # Errors
/// `FrameSize` means that the payload is too short for its flags, `Protocol` that the padding is longer than the payload.
pub fn fragment(head: Head, mut payload: &[u8]) -> Result<&[u8], ConnectionError> {
    let mut padding = 0;
    if head.has(PADDED) {
        let (length, rest) = payload.split_first().ok_or(ConnectionError::FrameSize)?;
        (padding, payload) = (usize::from(*length), rest);
    }
    if head.has(HAS_PRIORITY) {
        payload = payload.get(5..).ok_or(ConnectionError::FrameSize)?;
    }
    let end = payload
        .len()
        .checked_sub(padding)
        .ok_or(ConnectionError::Protocol)?;
    Ok(&payload[..end])
}
