//! What a cell decides, without doing it: which resources are left, what must happen to a container given what the BBS
//! says, which ports a container gets, how its Envoy is configured, whose name its certificate bears, what an app is told that
//! nobody can reach.
//!
//! Called by the rep (and by garden for nothing but types). Pure: no clock, no files, no network; time and addresses come in
//! as arguments. Wire formats and the container interface are converted to these types at their own side.

pub mod credentials;
pub mod egress;
pub mod envoy;
pub mod instance_env;
pub mod ledger;
pub mod listening;
pub mod operations;
pub mod ports;
