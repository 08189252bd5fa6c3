//! Which streams their client may still send on: the last 1024 of a connection, two bits each.

/// Streams that are remembered; many times as many as may be open at once.
const REMEMBERED: u32 = 1024;
const WORDS: usize = (REMEMBERED / 64) as usize;

#[derive(Debug, Default)]
pub(crate) struct Streams {
    newest: u32,
    open: [u64; WORDS],
    ended: [u64; WORDS],
}

/// What a stream was when a header block came for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Was {
    /// The block is a request's head.
    New,
    /// The block is trailers.
    Open,
    /// By END_STREAM.
    Ended,
    /// Left out, reset, or too old to remember: the library knows.
    Unknown,
}

impl Streams {
    pub(crate) fn headers(&mut self, stream: u32, end: bool) -> Was {
        let was = if stream > self.newest && stream % 2 == 1 {
            self.forget_up_to(stream);
            Was::New
        } else {
            self.look(stream)
        };
        if matches!(was, Was::New | Was::Open) {
            let (word, bit) = place(stream);
            if end {
                self.open[word] &= !bit;
                self.ended[word] |= bit;
            } else {
                self.open[word] |= bit;
            }
        }
        was
    }

    /// False: its client has ended the stream before.
    #[inline]
    pub(crate) fn data(&mut self, stream: u32, end: bool) -> bool {
        let was = self.look(stream);
        if end && was == Was::Open {
            let (word, bit) = place(stream);
            self.open[word] &= !bit;
            self.ended[word] |= bit;
        }
        was != Was::Ended
    }

    /// Its client may still send on it.
    #[inline]
    pub(crate) fn is_open(&self, stream: u32) -> bool {
        self.look(stream) == Was::Open
    }

    /// False: it was reset before, or is not known.
    pub(crate) fn reset(&mut self, stream: u32) -> bool {
        let known = self.look(stream) != Was::Unknown;
        if known {
            let (word, bit) = place(stream);
            self.open[word] &= !bit;
            self.ended[word] &= !bit;
        }
        known
    }

    #[inline]
    fn look(&self, stream: u32) -> Was {
        let remembered = stream <= self.newest && self.newest - stream < 2 * REMEMBERED;
        if !remembered || stream.is_multiple_of(2) {
            return Was::Unknown;
        }
        let (word, bit) = place(stream);
        if self.ended[word] & bit != 0 {
            Was::Ended
        } else if self.open[word] & bit != 0 {
            Was::Open
        } else {
            Was::Unknown
        }
    }

    /// Numbers that are left out are closed unopened (RFC 9113, 5.1.1).
    fn forget_up_to(&mut self, stream: u32) {
        if stream - self.newest >= 2 * REMEMBERED {
            (self.open, self.ended) = ([0; WORDS], [0; WORDS]);
        } else {
            let mut between = self.newest + 1;
            while between <= stream {
                let (word, bit) = place(between);
                self.open[word] &= !bit;
                self.ended[word] &= !bit;
                between += 1;
            }
        }
        self.newest = stream;
    }
}

#[inline]
fn place(stream: u32) -> (usize, u64) {
    let at = stream / 2 % REMEMBERED;
    ((at / 64) as usize, 1 << (at % 64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_ends_once() {
        let mut streams = Streams::default();
        assert_eq!(streams.headers(1, false), Was::New);
        assert!(streams.data(1, false));
        assert_eq!(streams.headers(1, true), Was::Open);
        assert!(!streams.data(1, false));
        assert_eq!(streams.headers(1, true), Was::Ended);
        assert_eq!(streams.headers(5, true), Was::New);
        assert_eq!(streams.headers(3, true), Was::Unknown, "left out");
        assert!(streams.data(7, true), "idle: the library's");
    }

    #[test]
    fn a_reset_is_no_end() {
        let mut streams = Streams::default();
        streams.headers(1, true);
        assert!(streams.reset(1) && !streams.reset(1) && !streams.reset(3));
        assert!(streams.data(1, true));
        assert_eq!(streams.headers(1, true), Was::Unknown);
    }

    #[test]
    fn old_streams_are_forgotten() {
        let mut streams = Streams::default();
        for stream in (1..=2 * REMEMBERED + 1).step_by(2) {
            assert_eq!(streams.headers(stream, true), Was::New);
            assert!(!streams.data(stream, true));
        }
        assert!(streams.data(1, true));
        assert!(!streams.data(3, true));
        assert_eq!(streams.headers((1 << 31) - 1, false), Was::New);
        assert!(streams.data(2 * REMEMBERED + 1, true));
    }
}
