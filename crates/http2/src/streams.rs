//! Remembers on which streams a client may still send: the last 1024 of a connection, with two bits each.

/// The number of streams that are remembered, which is many times the number that may be open at once.
const REMEMBERED: u32 = 1024;
const WORDS: usize = (REMEMBERED / 64) as usize;

#[derive(Debug, Default)]
pub(crate) struct Streams {
    newest: u32,
    open: [u64; WORDS],
    ended: [u64; WORDS],
}

/// The state of a stream when a header block came for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Was {
    /// The block is a request's head.
    New,
    /// The block is trailers.
    Open,
    /// The client had ended the stream by END_STREAM.
    Ended,
    /// The stream was left out, was reset, or is too old to remember. The library decides.
    Unknown,
}

impl Streams {
    pub(crate) fn headers(&mut self, stream: u32, end: bool) -> Was {
        let was = if stream > self.newest && stream % 2 == 1 {
            self.forget_up_to(stream);
            Was::New
        } else {
            self.state_of(stream)
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

    /// Records a DATA frame. Returns false if the client had ended the stream before.
    #[inline]
    pub(crate) fn data(&mut self, stream: u32, end: bool) -> bool {
        let was = self.state_of(stream);
        if end && was == Was::Open {
            let (word, bit) = place(stream);
            self.open[word] &= !bit;
            self.ended[word] |= bit;
        }
        was != Was::Ended
    }

    /// Returns whether the client may still send on the stream.
    #[inline]
    pub(crate) fn is_open(&self, stream: u32) -> bool {
        self.state_of(stream) == Was::Open
    }

    /// Records a reset. Returns false if the stream was reset before or is not known.
    pub(crate) fn reset(&mut self, stream: u32) -> bool {
        let known = self.state_of(stream) != Was::Unknown;
        if known {
            let (word, bit) = place(stream);
            self.open[word] &= !bit;
            self.ended[word] &= !bit;
        }
        known
    }

    #[inline]
    fn state_of(&self, stream: u32) -> Was {
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

    /// Closes the streams whose numbers are left out: they are closed without having been opened (RFC 9113, 5.1.1).
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
