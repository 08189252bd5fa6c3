//! Defines every format that another process may parse. It contains formats only, no IO and no policy.
//!
//! Field numbers, JSON names and enum spellings are Cloud Foundry's exactly. Unknown JSON fields from peers are
//! tolerated. Conversions between a wire type and a core's domain type live beside the wire type.

/// The header with the id of the request that a call belongs to. A call on behalf of several requests has their ids with commas
/// between them.
pub const REQUEST_ID: &str = "x-vcap-request-id";

pub mod bbs;
pub mod cc;
pub mod dropsonde;
pub mod locket;
pub mod loggregator;
pub mod lrp_routes;
pub mod otlp;
pub mod rep;
pub mod router;
pub mod routing_api;
pub mod ssh;
