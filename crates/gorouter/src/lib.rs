//! A replacement for gorouter: one process that runs only the router, from a `gorouter.yml`.
//!
//! ```text
//!  gorouter.yml ─ yml ─▶ checked configuration ─ build ─▶ router and its sockets ─ process ─▶ runs, reloads, upgrades, ends
//! ```
//!
//! Everything that exists for the sake of gorouter's operators and their tools is here, above the router: the configuration file
//! ([`yml`]), signals, pid file and upgrade of the binary, and the form of the log. The router knows none of it. Nothing here looks
//! at a request or at a route.

mod build;
mod files;
mod log;
mod process;
mod signals;
mod sockets;
mod upgrade;
pub mod yml;

pub use log::TimestampFormat;
pub use process::{check, run};
