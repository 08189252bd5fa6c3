//! Creates the proxy's host key, and computes the fingerprint that clients know. A foundation creates a key once and keeps it.

use anyhow::{Context as _, Result};
use russh::keys::ssh_key::LineEnding;
use russh::keys::{Algorithm, PrivateKey, PublicKeyBase64 as _, decode_secret_key};

/// Creates an Ed25519 key, as a PEM text in OpenSSH's form.
pub fn create() -> Result<String> {
    let mut random = russh::keys::key::safe_rng();
    let key = PrivateKey::random(&mut random, Algorithm::Ed25519).context("create a host key")?;
    let text = key.to_openssh(LineEnding::LF).context("write a host key")?;
    Ok(text.as_str().to_owned())
}

/// Returns the SHA-256 of a host key's public part, as the root document of the API shows it.
pub fn fingerprint(pem: &str) -> Result<String> {
    let key = decode_secret_key(pem, None).context("read the host key")?;
    Ok(wire::ssh::sha256_fingerprint(&key.public_key_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_created_key_is_read_again() {
        let (one, other) = (create().unwrap(), create().unwrap());
        assert_eq!(fingerprint(&one).unwrap().len(), 43);
        assert_ne!(fingerprint(&one).unwrap(), fingerprint(&other).unwrap());
        assert!(fingerprint("x").is_err());
    }

    #[test]
    fn the_keys_of_lrps_are_read() {
        // The first key of RFC 8032, as `wire` writes it.
        let pem = "-----BEGIN OPENSSH PRIVATE KEY-----
b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZW
QyNTUxOQAAACDXWpgBgrEKt9VL/tPJZAc6DuFy89qmIyWvAhpo9wdRGgAAAIjXWpgB11qY
AQAAAAtzc2gtZWQyNTUxOQAAACDXWpgBgrEKt9VL/tPJZAc6DuFy89qmIyWvAhpo9wdRGg
AAAECdYbGd7/1aYLqESvSS7CzEREnFaXsyaRlwO6wDHK5/YNdamAGCsQq31Uv+08lkBzoO
4XLz2qYjJa8CGmj3B1EaAAAAAAECAwQF
-----END OPENSSH PRIVATE KEY-----
";
        let expected = "bbXpuKG6zhzdmnxq256TlqzFBzRl2f6OOg722cYNbU8";
        assert_eq!(fingerprint(pem).unwrap(), expected);
    }
}
