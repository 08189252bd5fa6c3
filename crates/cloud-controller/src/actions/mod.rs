//! The verbs: they change the stored state within one transaction, which the caller commits. They know nothing of HTTP.
//!
//! A verb that changes what should run returns the processes that the driver must reconcile after the commit.

pub(crate) mod app;
pub(crate) mod audit;
mod audit_changes;
pub(crate) mod build;
pub(crate) mod copy;
pub(crate) mod deployment;
pub(crate) mod domain;
pub(crate) mod job;
pub(crate) mod manifest;
pub(crate) mod organization;
pub(crate) mod process;
pub(crate) mod role;
pub(crate) mod route;
pub(crate) mod route_policy;
pub(crate) mod security_group;
pub(crate) mod sidecar;
pub(crate) mod space;
pub(crate) mod stack;
pub(crate) mod task;
