//! Backends: connections to them, and what it means when they fail.

pub(crate) mod connect;
mod connections;
pub(crate) mod failure;
pub(crate) mod peer;
mod shared;
pub(crate) mod tls;

pub(crate) use connections::{Connected, Connections, Need, Rest};
pub(crate) use shared::{Lane, Place};
