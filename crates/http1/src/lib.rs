//! HTTP/1 as a pure core: heads, framing of bodies, chunks. Bytes in, decisions out.
//!
//! Called by the router for both of its sides. It never reads a socket or a clock. What could be understood in two ways is
//! refused ([`Refusal`] names why), so that nobody behind the router can disagree with it about where a message ends.
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

/// Versions that are spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    Http10,
    #[default]
    Http11,
    /// A request that came by, or goes out by, HTTP/2 and is only held in this form.
    Http2,
}

impl Version {
    /// As in an access log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
            Self::Http2 => "HTTP/2.0",
        }
    }
}

/// How large a head may be.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// From its first byte to the empty line.
    pub bytes: usize,
    /// `usize::MAX`: as many as the bytes hold.
    pub fields: usize,
}

/// Whether a head ends within `input`, looking only at what came after the first `seen` bytes.
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
