//! Routing decisions, both halves of the NATS contract, without IO:
//!
//! - [`registry`]: what a router knows. Messages go in, `lookup(host, path)` gives the pool of endpoints of a request.

pub mod registry;
