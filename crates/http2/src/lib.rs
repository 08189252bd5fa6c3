//! Checks what peers send on a connection of HTTP/2, as a pure core: bytes go in, and bytes or a connection error with the
//! RFC's own code come out.
//!
//! The router puts a [`Check`] between the bytes of a client or a backend and the library that speaks HTTP/2 for it. All that is
//! correct passes unchanged, without a copy. A check never answers, decodes no message and keeps no stream: the library does all
//! that.
//!
//! ```text
//!   sender ── bytes ──▶ Check ── the same bytes ─────────────────────────▶ library
//!                         │  └── a malformed header block, made harmless ─▶ (one stream is refused)
//!                         └───── ConnectionError: GOAWAY with its code to a client, and no further byte
//! ```
//!
//! The library alone is not enough: it reports every wrong frame as `PROTOCOL_ERROR`, and a field that HTTP does not allow
//! makes it end the whole connection, with the requests of all clients that share it.
//!
//! | Module | Noun |
//! |---|---|
//! | [`check`] | a connection: its frames, in their order |
//! | [`written`] | the other direction: the streams that the library resets |
//! | [`budget`] | how many streams may be reset |
//! | [`frame`] | a frame's head, and the kinds whose size is fixed |
//! | `streams` | on which streams a client may still send |
//! | `block` | a header block: its representations, and its harmless form |
//! | `name`, `table` | the kinds of field names; the sizes in HPACK's tables |
//! | `huffman` | the string code, as an automaton that only classifies |
//! | [`connection_error`] | the reasons for which a connection ends |

mod block;
pub mod budget;
pub mod check;
pub mod connection_error;
pub mod frame;
mod huffman;
mod name;
mod streams;
mod table;
pub mod written;

pub use budget::Budget;
pub use check::Check;
pub use connection_error::ConnectionError;
pub use name::Sender;
pub use written::Written;

/// The name of a field that holds the target of a request whose `:path` the library would not accept. Its value comes from a
/// client, so readers must check it.
pub const TARGET: &str = "cupola-target";

/// The name of a field in the harmless form of a malformed request, which must be refused (RFC 9113, 8.1.1). A request of a
/// client that sends this field itself is refused as well.
pub const MALFORMED: &str = "cupola-malformed";
