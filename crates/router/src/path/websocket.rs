//! The boundaries between the frames of a WebSocket (RFC 6455, section 5.2). The module is pure and does not read payloads.

/// A follower of the frames of one direction.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Frames {
    /// The bytes of the current frame's head so far.
    head: u8,
    /// The length of the whole head, once that is known.
    whole_head: u8,
    /// The bytes of the payload that are still to come.
    length: u64,
    in_payload: bool,
}

impl Frames {
    /// A close frame with status 1001.
    pub(crate) const GOING_AWAY: &[u8] = &[0x88, 2, 0x03, 0xe9];
    /// A close frame with status 1001 from a client, whose frames are masked (here with zeros).
    pub(crate) const GOING_AWAY_MASKED: &[u8] = &[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe9];

    /// Returns whether a frame of our own could be sent here.
    pub(crate) fn between(&self) -> bool {
        !self.in_payload && self.head == 0
    }

    pub(crate) fn pass(&mut self, mut data: &[u8]) {
        while let Some((&byte, rest)) = data.split_first() {
            if self.in_payload {
                let skip = usize::try_from(self.length)
                    .unwrap_or(usize::MAX)
                    .min(data.len());
                self.length -= skip as u64;
                data = &data[skip..];
                self.in_payload = self.length > 0;
                continue;
            }
            self.pass_head(byte);
            data = rest;
        }
    }

    fn pass_head(&mut self, byte: u8) {
        match self.head {
            0 => (self.whole_head, self.length) = (2, 0),
            1 => {
                let extended = match byte & 0x7f {
                    126 => 2,
                    127 => 8,
                    short => {
                        self.length = u64::from(short);
                        0
                    }
                };
                let mask = if byte & 0x80 == 0 { 0 } else { 4 };
                self.whole_head = 2 + extended + mask;
                if extended > 0 {
                    // The position jumps so that the bytes of the length end at 16 and those of the mask follow.
                    self.head = 15 - extended;
                    self.whole_head = 16 + mask;
                }
            }
            8..16 => self.length = self.length << 8 | u64::from(byte),
            _ => {}
        }
        self.head += 1;
        if self.head >= 2 && self.head == self.whole_head {
            self.head = 0;
            self.in_payload = self.length > 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(length: usize, masked: bool) -> Vec<u8> {
        let mask = if masked { 0x80 } else { 0 };
        let mut frame = vec![0x82];
        match length {
            0..126 => frame.push(mask | length as u8),
            126..65536 => {
                frame.push(mask | 126);
                frame.extend((length as u16).to_be_bytes());
            }
            _ => {
                frame.push(mask | 127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        if masked {
            frame.extend([1, 2, 3, 4]);
        }
        frame.extend(std::iter::repeat_n(0x7f, length));
        frame
    }

    #[test]
    fn only_between_two_frames() {
        for length in [0, 1, 125, 126, 300, 65535, 65536, 70_000] {
            for masked in [false, true] {
                let bytes = frame(length, masked);
                for piece in [1, 3, 1000, bytes.len()] {
                    let mut frames = Frames::default();
                    let mut passed = 0;
                    for part in bytes.chunks(piece) {
                        assert_eq!(frames.between(), passed == 0, "{length} {masked} {passed}");
                        frames.pass(part);
                        passed += part.len();
                    }
                    assert!(frames.between(), "{length} {masked} {piece}");
                }
                let mut frames = Frames::default();
                frames.pass(&[bytes.clone(), bytes].concat());
                assert!(frames.between());
            }
        }
        let mut frames = Frames::default();
        frames.pass(Frames::GOING_AWAY);
        frames.pass(Frames::GOING_AWAY_MASKED);
        assert!(frames.between());
    }
}
