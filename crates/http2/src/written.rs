//! Watches what the library writes to its peer, and counts the streams that it resets and those that it resets because of a
//! stream error of the peer (RFC 9113, 5.4.2).

use crate::frame::{HEAD, Head, RST_STREAM};
use crate::name::Sender;

/// The length of a RST_STREAM's payload.
const CODE: usize = 4;
/// The length of the preface, which comes before the first frame when the router is the client.
const PREFACE: usize = 24;
/// The codes of stream errors of the peer: `PROTOCOL_ERROR`, `FLOW_CONTROL_ERROR`, `STREAM_CLOSED`, `FRAME_SIZE_ERROR`.
const STREAM_ERRORS: [u32; 4] = [0x1, 0x3, 0x5, 0x6];

/// The state of a reader that follows the frames of one direction.
#[derive(Clone, Copy, Debug)]
pub struct Written {
    /// The beginning of the present frame, as far as it has come.
    head: [u8; HEAD + CODE],
    have: usize,
    /// The number of bytes that pass unexamined.
    payload: usize,
}

/// The number of RST_STREAM frames among some bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resets {
    pub all: u32,
    /// The number of those that report a stream error of the peer.
    pub errors: u32,
}

impl Written {
    /// Makes the reader of the frames that are written to `peer`.
    pub fn to(peer: Sender) -> Self {
        Self {
            head: [0; HEAD + CODE],
            have: 0,
            payload: match peer {
                Sender::Client => 0,
                Sender::Backend => PREFACE,
            },
        }
    }

    #[inline]
    pub fn pass(&mut self, mut bytes: &[u8]) -> Resets {
        let mut resets = Resets::default();
        loop {
            let skipped = self.payload.min(bytes.len());
            self.payload -= skipped;
            bytes = &bytes[skipped..];
            if bytes.is_empty() {
                return resets;
            }
            let wanted = if self.have < HEAD { HEAD } else { HEAD + CODE };
            let taken = (wanted - self.have).min(bytes.len());
            self.head[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
            self.have += taken;
            bytes = &bytes[taken..];
            if self.have == HEAD
                && let Some(head) = Head::read(&self.head)
                && (head.kind != RST_STREAM || head.length != CODE)
            {
                (self.have, self.payload) = (0, head.length);
            } else if let [.., a, b, c, d] = self.head
                && self.have == HEAD + CODE
            {
                self.have = 0;
                resets.all += 1;
                let code = u32::from_be_bytes([a, b, c, d]);
                resets.errors += u32::from(STREAM_ERRORS.contains(&code));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let head = Head {
            length: payload.len(),
            kind,
            flags: 0,
            stream: 1,
        };
        let mut out = Vec::new();
        head.write(&mut out);
        out.extend_from_slice(payload);
        out
    }

    #[test]
    fn resets_are_found_however_the_bytes_are_cut() {
        let bytes = [
            frame(0, &[3; 700]),
            frame(RST_STREAM, &[0, 0, 0, 1]),
            frame(4, &[]),
            frame(RST_STREAM, &[0, 0, 0, 8]),
            frame(1, &[RST_STREAM; 20]),
            frame(RST_STREAM, &[0, 0, 0, 5]),
        ]
        .concat();
        for size in 1..40 {
            let mut written = Written::to(Sender::Client);
            let mut found = Resets::default();
            for piece in bytes.chunks(size) {
                let Resets { all, errors } = written.pass(piece);
                (found.all, found.errors) = (found.all + all, found.errors + errors);
            }
            assert_eq!(found, Resets { all: 3, errors: 2 }, "{size}");
        }
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        let mut written = Written::to(Sender::Backend);
        assert_eq!(written.pass(preface), Resets::default());
        assert_eq!(written.pass(&bytes), Resets { all: 3, errors: 2 });
    }
}
