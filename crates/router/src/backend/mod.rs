//! Backends: connections to them, and what it means when they fail.

pub(crate) mod connect;
mod connections;
pub(crate) mod failure;
pub(crate) mod peer;
pub(crate) mod tls;

pub(crate) use connections::{Connected, Connections, Rest};
