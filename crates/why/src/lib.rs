//! Explains the path of a route: which value each component shows, and which hop is to blame if it is broken.
//!
//! It is pure. The caller reads the components and passes what they show ([`Facts`]). [`explain`] compares, and returns an
//! [`Explanation`]: a list of [`Hop`]s in the order in which a route becomes reachable, each with a verdict, the first one that is
//! wrong, and the meaning of the last failing requests. `cupola why`, `cupola demo` and the Cloud Controller's `GET /v3/why` print it.
//!
//! ```text
//!   cloud-controller ─▶ bbs ─▶ rep, garden ─▶ app, envoy, iptables ─▶ route-emitter, NATS ─▶ router ─▶ client
//!   route, app          guids  cell, address  port, certificate       message                endpoint  answer
//! ```
//!
//! [`table`] and [`changes`] read the router's pages: the table now or at an earlier time, and what changed in it. [`bus`]
//! writes messages of the bus for people. [`watch`] follows a change through the components while it happens.

pub mod bus;
pub mod changes;
mod component;
mod explain;
mod explanation;
mod facts;
pub mod table;
pub mod watch;

pub use component::Component;
pub use explain::{explain, serves};
pub use explanation::{Advice, Explanation, Failure, Hop, Verdict};
pub use facts::{Actual, Answer, Desired, DesiredRoute, Facts, Port, Probe, Router};
