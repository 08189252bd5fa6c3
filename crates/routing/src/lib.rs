//! Routing decisions, both halves of the NATS contract, without IO:
//!
//! - [`emission`]: what a cell must tell. Desired routes and actual LRPs go in, messages come out.
//! - [`registry`]: what a router knows. Messages go in, `lookup(host, path)` gives the pool of endpoints of a request.

pub mod emission;
pub mod registry;
