//! The observability for operators: access log, metrics, status endpoints.

pub(crate) mod access_log;
pub(crate) mod envelopes;
pub(crate) mod metrics;
pub(crate) mod pulse;
pub(crate) mod record;
pub(crate) mod registrations;
pub(crate) mod status;
mod varz;
