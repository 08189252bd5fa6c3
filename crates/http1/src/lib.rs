//! Implements HTTP/1 as a pure core: heads, framing of bodies, chunks. Bytes go in, decisions come out.
//!
//! The router calls it for both of its sides, and the server of static sites (`inside`) calls it for requests. It never reads a
//! socket or a clock. It refuses every message that could be understood in two ways ([`Refusal`] names the reason), so that no
//! server behind the router can disagree with the router about where a message ends.
//!
//! | Module | Noun |
//! |---|---|
//! | [`known`] | names of fields that the router reads itself |
//! | [`fields`] | a head's fields in one buffer, in their order and spelling |
//! | [`request`], [`response`] | whole heads |
//! | [`framing`] | how long a body is |
//! | [`chunked`] | bodies of unknown length, and their trailers |

pub mod chunked;
pub mod fields;
pub mod framing;
pub mod known;
pub mod refusal;
pub mod request;
pub mod response;
mod room;

pub use fields::{Fields, Name, Span};
pub use framing::Framing;
pub use known::Known;
pub use refusal::Refusal;
pub use request::Request;
pub use response::Response;

/// The HTTP versions of messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    Http10,
    #[default]
    Http11,
    /// The version of a request that came by HTTP/2, or goes out by it, and is only held in this form.
    Http2,
}

impl Version {
    /// Returns the version as access logs spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
            Self::Http2 => "HTTP/2.0",
        }
    }
}

/// The limits of a head's size.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The highest number of bytes from the first one up to and including the empty line.
    pub bytes: usize,
    /// The highest number of fields. `usize::MAX` means that only `bytes` limits it.
    pub fields: usize,
}

/// Returns whether a head ends within `input`. The first `seen` bytes are known not to contain the end.
pub fn head_ends(input: &[u8], seen: usize) -> bool {
    let from = seen.saturating_sub(3);
    let mut rest = &input[from.min(input.len())..];
    while let Some(at) = rest.iter().position(|&byte| byte == b'\n') {
        rest = &rest[at + 1..];
        if rest.first() == Some(&b'\n') || rest.starts_with(b"\r\n") {
            return true;
        }
    }
    false
}
