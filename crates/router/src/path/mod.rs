//! The way of a request through the router, from a head that was read to the last byte of the answer. [`route`] has the order of
//! the steps; the other modules are the steps and what they share. [`crate::listen`] calls them for each request.
//!
//! No module here accepts connections, starts threads or reads configuration files.

pub(crate) mod context;
pub(crate) mod route;

pub(crate) mod protocol;

pub(crate) mod forwarded;
mod healthcheck;
pub(crate) mod hold;
mod lookup;
mod mtls;
pub(crate) mod route_service;
pub(crate) mod tracing_headers;

pub(crate) mod exchange;
pub(crate) mod forward;
pub(crate) mod sticky;
mod switching;

pub(crate) mod answer;
mod finish;
pub(crate) mod rejection;
pub(crate) mod tunnel;
mod websocket;
