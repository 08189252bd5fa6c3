//! The life of the process's router: [`router`] builds it from a configuration, [`lifecycle`] runs, reloads and ends it, and
//! [`workers`] are the threads that serve.
//!
//! No module here looks at a request.

mod lifecycle;
pub(crate) mod router;
mod thread;
mod workers;
