//! The PostgreSQL server that the broker runs: a child process, which is started again whenever it ends.
//!
//! ```text
//! folder/  data/         made by initdb, under another name until it is complete
//!          server.crt, server.key, ca.crt, pg_hba.conf    written at each start
//!          administrator  the digest of the administrator's password
//!          log/          a file for each day of the week; startup.log has what the server prints before
//! ```
//! The server listens at the address for apps and on loopback, for connections with TLS and a password only. It has no socket in the
//! file system.

mod files;
mod process;

pub(crate) use process::{Server, admin};

/// The name of the administrator.
pub(crate) const ADMIN: &str = "cupola";
/// The number of connections that are kept for the administrator.
const RESERVED: u32 = 24;
