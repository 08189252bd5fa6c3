//! What others may say on a connection of HTTP/2, as a pure core: bytes in, bytes on, or a fault with the RFC's own code.
//!
//! The router puts a [`Check`] between a client's or a backend's bytes and the library that speaks HTTP/2 for it. Whatever is
//! right passes as it is, without a copy. It never answers, decodes no message and keeps no stream: all that stays with the library.
//!
//! ```text
//!   sender ── bytes ──▶ Check ── the same bytes ─────────────────────────▶ library
//!                         │  └── a malformed header block, made harmless ─▶ (one stream is refused)
//!                         └───── Fault: GOAWAY with its code to a client, and no byte more
//! ```
//!
//! Why the library alone is not enough: to it every fault of a frame is `PROTOCOL_ERROR`, and a field that HTTP does not
//! allow ends the whole connection, with the requests of everybody who shares it.
//!
//! | Module | Noun |
//! |---|---|
//! | [`check`] | a connection: its frames, in their order |
//! | [`written`] | the other direction: streams that the library breaks off |
//! | [`budget`] | how many streams may be broken off |
//! | [`frame`] | a frame's head, and what of its size is fixed |
//! | `streams` | on which streams a client may still send |
//! | `block` | a header block: its representations, and its harmless form |
//! | `name`, `table` | kinds of field names; the sizes in HPACK's tables |
//! | `huffman` | the string code, as an automaton that only classifies |
//! | [`fault`] | what ends a connection |

mod block;
pub mod budget;
pub mod check;
pub mod fault;
pub mod frame;
mod huffman;
mod name;
mod streams;
mod table;
pub mod written;

pub use budget::Budget;
pub use check::Check;
pub use fault::Fault;
pub use name::Sender;
pub use written::Written;

/// A field of this name holds the target of a request whose `:path` the library would not take as it is. Whoever reads it
/// must look at what it holds: it is a client's.
pub const TARGET: &str = "cupola-target";

/// A field of this name is in the harmless form of a malformed request, which has to be refused (RFC 9113, 8.1.1). A client
/// that sends it itself is refused as well.
pub const MALFORMED: &str = "cupola-malformed";
