//! Makes the decisions of a cell without performing them: which resources are left, what must happen to a container given the
//! rows of the BBS, which ports a container gets, how its Envoy is configured, which name its certificate contains, and which
//! advice an app gets that is not reachable.
//!
//! The rep calls it (garden only uses its types). It is pure: no clock, no files, no network; time and addresses are arguments.
//! Wire formats and the container interface are converted to these types in their own crates.

pub mod credentials;
pub mod egress;
pub mod envoy;
pub mod instance_env;
pub mod ledger;
pub mod listening;
pub mod operations;
pub mod ports;
