//! The observability for operators: access log, metrics, the feed of the table's changes, failing requests, traces of single requests,
//! status endpoints.

pub(crate) mod access_log;
mod changes;
pub(crate) mod envelopes;
pub(crate) mod failures;
pub(crate) mod feed;
pub(crate) mod metrics;
pub(crate) mod pulse;
pub(crate) mod record;
pub(crate) mod registrations;
pub(crate) mod status;
mod table;
pub(crate) mod trace;
mod varz;
pub(crate) mod view;
