//! Makes the routing decisions of both sides of the NATS contract, without IO:
//!
//! - [`emission`] computes the messages of a cell from desired routes and actual LRPs.
//! - [`registry`] is the table of a router. It applies messages, and `lookup(host, path)` returns the endpoints of a request.
//! - [`receipts`] collects what a router confirms.
//! - [`numbering`] makes losses between both sides noticeable.

pub mod emission;
pub mod numbering;
pub mod receipts;
pub mod registry;
