//! Implements the chunked coding (RFC 9112, section 7.1): a decoder that accepts its input in any pieces, and the encoder.

use crate::Refusal;
use crate::fields::Fields;
use crate::known::Known;

/// The limits of a chunk's line: the bytes of its extensions, or of the blanks behind its size, and the hex digits of its size.
const LONGEST_EXTENSION: usize = 256;
const MOST_DIGITS: u8 = 16;
/// The highest number of bytes in the lines of all chunks together, beyond those that the data justify.
const MOST_OVERHEAD: u64 = 16 << 10;
/// The limits of the trailers: bytes and fields after the last chunk.
const LONGEST_TRAILERS: usize = 16 << 10;
const MOST_TRAILERS: usize = 64;

/// The sender of a body. Servers pad chunk sizes and the names of trailers with blanks, which is accepted. From a client nothing
/// is accepted that the next server may read in another way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sender {
    #[default]
    Client,
    Server,
}

/// The decoder of a chunked body.
#[derive(Clone, Debug, Default)]
pub struct Decoder {
    sender: Sender,
    state: State,
    /// The number of bytes in extensions so far, less two for each byte of data.
    overhead: u64,
    /// The lines after the last chunk, as far as they have come.
    trailers: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Size {
        digits: u8,
        size: u64,
    },
    /// The blanks behind the size.
    Padding {
        size: u64,
        length: usize,
    },
    Extension {
        size: u64,
        length: usize,
    },
    SizeLf {
        size: u64,
    },
    Data {
        left: u64,
    },
    DataCr,
    DataLf,
    Trailers,
    End,
}

impl Default for State {
    fn default() -> Self {
        Self::Size { digits: 0, size: 0 }
    }
}

/// The result of one call of [`Decoder::decode`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// The number of bytes of the input that were consumed. The last `data` of them are data of the body.
    pub consumed: usize,
    pub data: usize,
}

impl Decoder {
    pub fn of(sender: Sender) -> Self {
        Self {
            sender,
            ..Self::default()
        }
    }

    /// Returns whether the body has ended. The bytes that follow do not belong to it.
    pub fn ended(&self) -> bool {
        self.state == State::End
    }

    /// Decodes `input` up to and including the next piece of data. It consumes all that it can: less than the whole input only
    /// after data, or at the end of the body.
    pub fn decode(&mut self, input: &[u8]) -> Result<Step, Refusal> {
        let mut at = 0;
        while at < input.len() {
            match self.state {
                State::Data { left } => {
                    let rest = input.len() - at;
                    let data = usize::try_from(left).unwrap_or(usize::MAX).min(rest);
                    let left = left - data as u64;
                    self.state = if left == 0 {
                        State::DataCr
                    } else {
                        State::Data { left }
                    };
                    return Ok(Step {
                        consumed: at + data,
                        data,
                    });
                }
                State::Trailers => {
                    let ended = self.trailers(&input[at..])?;
                    return Ok(Step {
                        consumed: at + ended,
                        data: 0,
                    });
                }
                State::End => break,
                state => {
                    self.state = next(state, input[at], self.sender)?;
                    self.count(state)?;
                }
            }
            at += 1;
        }
        Ok(Step {
            consumed: at,
            data: 0,
        })
    }

    /// Counts the bytes of extensions and refuses a body with too many. A few are harmless; a body that consists of them is an
    /// attack.
    fn count(&mut self, before: State) -> Result<(), Refusal> {
        match (before, self.state) {
            (_, State::Extension { .. }) => self.overhead += 1,
            (State::SizeLf { size }, _) => {
                self.overhead = self.overhead.saturating_sub(size.saturating_mul(2));
            }
            _ => {}
        }
        if self.overhead > MOST_OVERHEAD {
            return Err(Refusal::ChunkExtension);
        }
        Ok(())
    }

    /// Collects lines until an empty one. Returns the number of consumed bytes.
    fn trailers(&mut self, input: &[u8]) -> Result<usize, Refusal> {
        for (at, &byte) in input.iter().enumerate() {
            self.trailers.push(byte);
            let lines = &self.trailers;
            if byte == b'\n' && (lines == b"\r\n" || lines.ends_with(b"\r\n\r\n")) {
                self.state = State::End;
                return Ok(at + 1);
            }
            if byte == b'\n' && !lines.ends_with(b"\r\n") {
                return Err(Refusal::Trailers);
            }
            if lines.len() > LONGEST_TRAILERS {
                return Err(Refusal::TrailersTooLarge);
            }
        }
        Ok(input.len())
    }

    /// Returns the trailers of a body that has ended, without those that must not come so late. The result is empty without
    /// trailers.
    pub fn take_trailers(&mut self) -> Result<Fields, Refusal> {
        let mut lines = std::mem::take(&mut self.trailers);
        let mut fields = Fields::default();
        if lines.len() <= 2 {
            return Ok(fields);
        }
        if self.sender == Sender::Server {
            lines = without_blanks_before_colons(&lines);
        }
        let mut room = [httparse::EMPTY_HEADER; MOST_TRAILERS];
        match httparse::parse_headers(&lines, &mut room) {
            Ok(httparse::Status::Complete((_, headers))) => {
                for header in headers {
                    if may_trail(header.name.as_bytes()) {
                        fields.append_spelled(header.name.as_bytes(), header.value);
                    }
                }
                Ok(fields)
            }
            Ok(httparse::Status::Partial) => Err(Refusal::Trailers),
            Err(httparse::Error::TooManyHeaders) => Err(Refusal::TrailersTooLarge),
            Err(_) => Err(Refusal::Trailers),
        }
    }
}

/// Returns the lines of fields without the blanks between each name and its colon.
fn without_blanks_before_colons(lines: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(lines.len());
    for line in lines.split_inclusive(|&byte| byte == b'\n') {
        let colon = line.iter().position(|&byte| byte == b':');
        let (name, rest) = line.split_at(colon.unwrap_or(0));
        let blanks = name.iter().rev().take_while(|b| b" \t".contains(b)).count();
        // A line that begins with blanks stays as it is, which is malformed.
        let kept = if blanks < name.len() { blanks } else { 0 };
        out.extend_from_slice(&name[..name.len() - kept]);
        out.extend_from_slice(rest);
    }
    out
}

/// Returns the next state after a byte, for the states that examine single bytes.
fn next(state: State, byte: u8, sender: Sender) -> Result<State, Refusal> {
    Ok(match (state, byte) {
        (State::Size { digits, size }, byte) if byte.is_ascii_hexdigit() => {
            if digits == MOST_DIGITS {
                return Err(Refusal::ChunkSize);
            }
            let digit = (byte as char).to_digit(16).unwrap_or_default();
            let size = size.checked_mul(16).ok_or(Refusal::ChunkSize)? + u64::from(digit);
            State::Size {
                digits: digits + 1,
                size,
            }
        }
        (State::Size { digits: 1.., size }, b'\r') => State::SizeLf { size },
        (State::Size { digits: 1.., size }, b';') => State::Extension { size, length: 0 },
        (State::Size { digits: 1.., size }, b' ' | b'\t') if sender == Sender::Server => {
            State::Padding { size, length: 1 }
        }
        (State::Padding { size, length }, b' ' | b'\t') if length < LONGEST_EXTENSION => {
            State::Padding {
                size,
                length: length + 1,
            }
        }
        (State::Padding { size, .. }, b'\r') => State::SizeLf { size },
        (State::Padding { size, .. }, b';') => State::Extension { size, length: 0 },
        (State::Size { .. } | State::Padding { .. }, _) => return Err(Refusal::ChunkSize),
        (State::Extension { size, .. }, b'\r') => State::SizeLf { size },
        (State::Extension { size, length }, b'\t' | b' '..=b'~' | 0x80..) => {
            if length == LONGEST_EXTENSION {
                return Err(Refusal::ChunkExtension);
            }
            State::Extension {
                size,
                length: length + 1,
            }
        }
        (State::SizeLf { size: 0 }, b'\n') => State::Trailers,
        (State::SizeLf { size }, b'\n') => State::Data { left: size },
        (State::Extension { .. } | State::SizeLf { .. }, _) => return Err(Refusal::ChunkSize),
        (State::DataCr, b'\r') => State::DataLf,
        (State::DataLf, b'\n') => State::default(),
        _ => return Err(Refusal::ChunkEnd),
    })
}

/// Returns whether a field may be a trailer. Fields for framing, for routing and for the connection may not, because they must be
/// known before the body.
pub fn may_trail(name: &[u8]) -> bool {
    !matches!(
        Known::by_name(name),
        Known::Host
            | Known::Connection
            | Known::ContentLength
            | Known::TransferEncoding
            | Known::KeepAlive
            | Known::ProxyConnection
            | Known::ProxyAuthenticate
            | Known::ProxyAuthorization
            | Known::Te
            | Known::Trailer
            | Known::Upgrade
            | Known::Expect
            | Known::Cookie
            | Known::SetCookie
            | Known::Authorization
            | Known::WwwAuthenticate
            | Known::ContentType
            | Known::ContentRange
            | Known::ContentEncoding
            | Known::CacheControl
            | Known::XForwardedFor
            | Known::XForwardedProto
            | Known::XForwardedClientCert
            | Known::XCfProxySignature
            | Known::XCfProxyMetadata
            | Known::XCfForwardedUrl
            | Known::XCfApplicationId
            | Known::XCfInstanceId
            | Known::XCfInstanceIndex
    )
}

/// Writes one chunk.
pub fn write_chunk(out: &mut Vec<u8>, data: &[u8]) {
    if data.is_empty() {
        return;
    }
    let mut digits = [0; 16];
    let mut at = digits.len();
    let mut size = data.len();
    while size > 0 {
        at -= 1;
        digits[at] = b"0123456789abcdef"[size % 16];
        size /= 16;
    }
    out.extend_from_slice(&digits[at..]);
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(data);
    out.extend_from_slice(b"\r\n");
}

/// Writes the last chunk with its trailers.
pub fn write_end(out: &mut Vec<u8>, trailers: Option<&Fields>) {
    out.extend_from_slice(b"0\r\n");
    if let Some(trailers) = trailers {
        trailers.write_to(out, false);
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Returns the body, the trailers as text, and the number of bytes that were left of the input.
    fn decode<'a>(
        pieces: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<(Vec<u8>, String, usize), Refusal> {
        decode_from(Sender::Client, pieces)
    }

    fn decode_from<'a>(
        sender: Sender,
        pieces: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<(Vec<u8>, String, usize), Refusal> {
        let (mut decoder, mut body, mut left) = (Decoder::of(sender), Vec::new(), 0);
        for piece in pieces {
            let mut rest = piece;
            while !rest.is_empty() && !decoder.ended() {
                let step = decoder.decode(rest)?;
                body.extend_from_slice(&rest[step.consumed - step.data..step.consumed]);
                rest = &rest[step.consumed..];
            }
            left += rest.len();
        }
        if !decoder.ended() {
            return Err(Refusal::ChunkEnd);
        }
        let mut trailers = Vec::new();
        decoder.take_trailers()?.write_to(&mut trailers, false);
        Ok((body, String::from_utf8_lossy(&trailers).into_owned(), left))
    }

    #[test]
    fn well_formed_bodies() {
        for (bytes, body, trailers, left) in [
            ("0\r\n\r\n", "", "", 0),
            (
                "3\r\nabc\r\n00A\r\n0123456789\r\n0\r\n\r\nGET",
                "abc0123456789",
                "",
                3,
            ),
            (
                "3;a=b;c=\"d\"\r\nabc\r\n0;x\r\nX-Sum: 42\r\nHost: evil\r\ncontent-length: 1\r\n\r\n",
                "abc",
                "X-Sum: 42\r\n",
                0,
            ),
        ] {
            assert_eq!(
                decode([bytes.as_bytes()]),
                Ok((body.into(), trailers.into(), left)),
                "{bytes:?}"
            );
        }
    }

    #[test]
    fn bodies_whose_end_is_ambiguous_are_refused() {
        use Refusal as R;
        for (bytes, why) in [
            ("\r\n", R::ChunkSize),
            (" 3\r\nabc\r\n", R::ChunkSize),
            ("3 \r\nabc\r\n", R::ChunkSize),
            ("+3\r\nabc\r\n", R::ChunkSize),
            ("0x3\r\nabc\r\n", R::ChunkSize),
            ("3\nabc\r\n", R::ChunkSize),
            ("3\r\r\nabc\r\n", R::ChunkSize),
            ("g\r\n", R::ChunkSize),
            (";a\r\n", R::ChunkSize),
            ("00000000000000003\r\nabc\r\n", R::ChunkSize),
            ("3;a\nabc\r\n", R::ChunkSize),
            ("3;a\0\r\nabc\r\n", R::ChunkSize),
            ("3\r\nabcd\r\n", R::ChunkEnd),
            ("3\r\nabc\n0\r\n\r\n", R::ChunkEnd),
            ("3\r\nabc\r0\r\n\r\n", R::ChunkEnd),
            ("0\r\nX: 1\n\r\n", R::Trailers),
            ("0\r\nX : 1\r\n\r\n", R::Trailers),
            ("0\r\nX: 1\r\n 2\r\n\r\n", R::Trailers),
            ("0\r\nnothing\r\n\r\n", R::Trailers),
        ] {
            assert_eq!(decode([bytes.as_bytes()]).err(), Some(why), "{bytes:?}");
        }
        let long = format!("3;{}\r\nabc\r\n0\r\n\r\n", "x".repeat(300));
        assert_eq!(decode([long.as_bytes()]).err(), Some(R::ChunkExtension));
        let many = format!("{}0\r\n\r\n", "1;aaaaaaaaaaaa\r\nx\r\n".repeat(20_000));
        assert_eq!(decode([many.as_bytes()]).err(), Some(R::ChunkExtension));
        let long = format!("0\r\nX: {}\r\n\r\n", "x".repeat(20 << 10));
        assert_eq!(decode([long.as_bytes()]).err(), Some(R::TrailersTooLarge));
        let many = format!("0\r\n{}\r\n", "X: 1\r\n".repeat(65));
        assert_eq!(decode([many.as_bytes()]).err(), Some(R::TrailersTooLarge));
    }

    #[test]
    fn a_server_may_pad_with_blanks() {
        let padded = "3 \r\nabc\r\n4\t  \r\ndefg\r\n1 ;x=y\r\nh\r\n0  \r\nX-Sum \t: 42\r\n\r\nN";
        let whole = Ok((b"abcdefgh".to_vec(), "X-Sum: 42\r\n".to_owned(), 1));
        for cut in 0..padded.len() {
            let (one, two) = padded.as_bytes().split_at(cut);
            assert_eq!(decode_from(Sender::Server, [one, two]), whole, "{cut}");
        }
        for malformed in [
            " 3\r\nabc\r\n0\r\n\r\n".to_owned(),
            "\r\nabc".to_owned(),
            "3 3\r\nabc\r\n0\r\n\r\n".to_owned(),
            "3 a\r\nabc\r\n0\r\n\r\n".to_owned(),
            "3 \nabc\r\n0\r\n\r\n".to_owned(),
            format!("3{}\r\nabc\r\n0\r\n\r\n", " ".repeat(300)),
            "0\r\n X: 1\r\n\r\n".to_owned(),
            "0\r\n : 1\r\n\r\n".to_owned(),
            "0\r\nX y: 1\r\n\r\n".to_owned(),
        ] {
            let decoded = decode_from(Sender::Server, [malformed.as_bytes()]);
            assert!(decoded.is_err(), "{malformed:.40}");
        }
    }

    proptest! {
        /// The result does not depend on how the network cuts the input.
        #[test]
        fn cuts_do_not_matter(
            chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..40), 0..6),
            cuts in proptest::collection::vec(1usize..30, 0..40),
        ) {
            let (mut bytes, mut trailers) = (Vec::new(), Fields::default());
            trailers.append("X-Sum", b"42");
            chunks.iter().for_each(|chunk| write_chunk(&mut bytes, chunk));
            write_end(&mut bytes, Some(&trailers));
            bytes.extend_from_slice(b"NEXT");
            let (mut rest, mut pieces) = (&bytes[..], Vec::new());
            for cut in cuts {
                let (piece, tail) = rest.split_at(cut.min(rest.len()));
                pieces.push(piece);
                rest = tail;
            }
            pieces.push(rest);
            prop_assert_eq!(decode(pieces), Ok((chunks.concat(), "X-Sum: 42\r\n".to_owned(), 4)));
        }

        #[test]
        fn the_result_does_not_depend_on_how_the_input_is_cut(bytes in "[0-9a-f;\r\nX: ]{0,60}", cut in 0usize..60) {
            let bytes = bytes.as_bytes();
            let (one, two) = bytes.split_at(cut.min(bytes.len()));
            prop_assert_eq!(decode([bytes]), decode([one, two]));
        }
    }
}
