//! The verbs: they change the stored state within one [`crate::change::Change`], which the caller commits. They know nothing of HTTP.
//!
//! A verb that changes what should run has the change itself as its first parameter, and marks in it what must follow the commit. So
//! no caller can forget it. A verb that only writes rows has a connection.

pub(crate) mod app;
pub(crate) mod audit;
mod audit_changes;
pub(crate) mod broker_call;
pub(crate) mod build;
pub(crate) mod copy;
pub(crate) mod deployment;
pub(crate) mod domain;
pub(crate) mod job;
pub(crate) mod managed_binding;
pub(crate) mod managed_instance;
pub(crate) mod managed_route_binding;
pub(crate) mod managed_update;
pub(crate) mod manifest;
pub(crate) mod organization;
mod orphan;
pub(crate) mod process;
pub(crate) mod role;
pub(crate) mod route;
pub(crate) mod route_deletion;
pub(crate) mod route_policy;
pub(crate) mod security_group;
pub(crate) mod service_broker;
pub(crate) mod service_credential_binding;
pub(crate) mod service_instance;
pub(crate) mod service_instance_share;
pub(crate) mod service_offering;
pub(crate) mod service_plan;
pub(crate) mod service_route_binding;
pub(crate) mod sidecar;
pub(crate) mod space;
pub(crate) mod stack;
pub(crate) mod task;
