//! Backends: connections to them, and the meaning of the faults of attempts.

pub(crate) mod connect;
mod connections;
pub(crate) mod fault;
pub(crate) mod made;
pub(crate) mod peer;
mod shared;
pub(crate) mod tls;

pub(crate) use connections::{Connected, Connections, Need, Rest};
pub(crate) use shared::Lane;
