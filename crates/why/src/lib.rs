//! Explains the path of a route: which value each component shows, and whether it agrees with the components before it.
//!
//! It is pure. The caller reads the components and passes what they show ([`Observations`]). [`walk`] compares, and returns a
//! [`Walk`]: a list of [`Hop`]s in the order in which a route becomes reachable. `cupola demo` prints it. The types can be
//! serialised, so that a page or another program reads the same data.
//!
//! ```text
//!   cloud-controller ─▶ bbs ─▶ rep, garden ─▶ envoy, iptables ─▶ NATS ─▶ router ─▶ client
//!   route, app          guids  cell, address  port, certificate  message  endpoint  answer
//! ```
//!
//! [`table`] and [`changes`] read the router's pages: the table now or at an earlier time, and what changed in it. [`bus`]
//! writes messages of the bus for people. [`watch`] follows a change through the components while it happens.

pub mod bus;
pub mod changes;
mod hop;
mod observations;
pub mod table;
mod walk;
pub mod watch;

pub use hop::{Component, Hop, Outcome, Source, Walk};
pub use observations::{Observations, Read};
pub use walk::walk;
