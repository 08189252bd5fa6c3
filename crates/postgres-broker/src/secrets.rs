//! The broker's secrets, in a file that only its owner may read: the administrator's password at the server, the broker's own
//! password, and the key from which the passwords of bindings are made.
//!
//! A binding's password is stored nowhere. The broker computes it again when the platform asks for the binding.

use anyhow::{Context as _, Result};
use aws_lc_rs::hmac;
use kit::private_file;
use rand::RngCore as _;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::Path;

/// The number of hexadecimal digits of a binding's password: 160 bits.
const DIGITS: usize = 40;
const FILE: &str = "secrets.json";

#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Secrets {
    /// The password of the administrator of a server that the broker runs itself.
    pub(crate) admin_password: String,
    /// The password with which the platform calls the broker.
    pub(crate) broker_password: String,
    /// The key of the bindings' passwords, in hexadecimal digits.
    key: String,
}

/// Prints no secret.
impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets")
    }
}

impl Secrets {
    /// Reads the secrets in a folder. At the first start it makes them.
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        let file = folder.join(FILE);
        match std::fs::read_to_string(&file) {
            Ok(text) => serde_json::from_str(&text).with_context(|| {
                format!("{} is damaged: replace it with a backup", file.display())
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let secrets = Self {
                    admin_password: random_hex(24),
                    broker_password: random_hex(24),
                    key: random_hex(32),
                };
                private_file::replace(&file, &serde_json::to_string_pretty(&secrets)?)?;
                Ok(secrets)
            }
            Err(error) => Err(error).with_context(|| format!("read {}", file.display())),
        }
    }

    /// Returns the password of a user.
    pub(crate) fn password(&self, user: &str) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.key.as_bytes());
        let mut password = hex::encode(hmac::sign(&key, user.as_bytes()));
        password.truncate(DIGITS);
        password
    }
}

/// Returns random bytes as hexadecimal digits.
pub(crate) fn random_hex(bytes: usize) -> String {
    let mut buffer = vec![0; bytes];
    rand::rng().fill_bytes(&mut buffer);
    hex::encode(buffer)
}

/// Returns a random salt.
pub(crate) fn salt() -> [u8; 16] {
    let mut salt = [0; 16];
    rand::rng().fill_bytes(&mut salt);
    salt
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn secrets_are_made_once_and_kept_private() {
        let folder = tempfile::tempdir().unwrap();
        let first = Secrets::open(folder.path()).unwrap();
        let again = Secrets::open(folder.path()).unwrap();
        assert_eq!(first.admin_password, again.admin_password);
        assert_eq!(first.password("u_1"), again.password("u_1"));
        assert_ne!(first.password("u_1"), first.password("u_2"));
        assert_eq!(first.password("u_1").len(), DIGITS);
        let file = std::fs::metadata(folder.path().join(FILE)).unwrap();
        assert_eq!(file.permissions().mode() & 0o777, 0o600);
        assert_eq!(format!("{first:?}"), "Secrets");
        let other = tempfile::tempdir().unwrap();
        let other = Secrets::open(other.path()).unwrap();
        assert_ne!(first.password("u_1"), other.password("u_1"));
    }

    #[test]
    fn a_damaged_file_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE), "{").unwrap();
        let error = Secrets::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("is damaged"), "{error}");
    }
}
