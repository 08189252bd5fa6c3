//! The settings of the sshd, which all connections share.

use russh::keys::PublicKey;
use std::path::PathBuf;

/// The variable in which the host key is passed on, because arguments are visible to every process.
pub(super) const HOST_KEY: &str = "SSHD_HOSTKEY";

#[derive(Debug)]
pub(super) struct Settings {
    /// The key that may log in.
    pub authorized: PublicKey,
    /// Whether sessions get the environment of this process.
    pub inherits_environment: bool,
    /// The path of this program, which is also that of its helpers.
    pub program: PathBuf,
    /// The directory of the app.
    pub app: PathBuf,
}
