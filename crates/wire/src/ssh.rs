//! The entry `diego-ssh` of a desired LRP's routes, and the texts in which SSH programs pass keys to each other.
//!
//! The Cloud Controller writes the entry ([`crate::lrp_routes::DIEGO_SSH`]); the ssh-proxy reads it. Keys are Ed25519 in the form of
//! OpenSSH, which Go's programs read too. This module creates no key and makes no signature.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use md5::Md5;
use serde::{Deserialize, Serialize};
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

const ED25519: &[u8] = b"ssh-ed25519";

/// The way to the sshd of an LRP's instances.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SshRoute {
    /// The port on which the sshd listens inside the container.
    pub container_port: u32,
    /// The fingerprint of the sshd's host key. [`matches_fingerprint`] knows its forms.
    #[serde(default)]
    pub host_fingerprint: String,
    /// The SHA-256 of the host key as unpadded base64. Old writers leave it out.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub host_256_fingerprint: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub user: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub password: String,
    /// The key with which the proxy logs in, as a PEM text.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub private_key: String,
}

impl std::fmt::Debug for SshRoute {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SshRoute")
            .field("container_port", &self.container_port)
            .field("host_fingerprint", &self.host_fingerprint)
            .finish_non_exhaustive()
    }
}

/// An Ed25519 key pair.
#[derive(Clone, PartialEq, Eq)]
pub struct Ed25519Key {
    seed: [u8; 32],
    public: [u8; 32],
}

impl std::fmt::Debug for Ed25519Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ed25519Key").finish_non_exhaustive()
    }
}

impl Ed25519Key {
    /// Makes a pair from a seed and the public key that belongs to it.
    pub fn new(seed: [u8; 32], public: [u8; 32]) -> Self {
        Self { seed, public }
    }

    /// Returns the public key in the form in which SSH sends it and hashes it.
    pub fn public_blob(&self) -> Vec<u8> {
        let mut blob = Vec::new();
        put(&mut blob, ED25519);
        put(&mut blob, &self.public);
        blob
    }

    /// Returns the line of the public key in a file of authorized keys.
    pub fn authorized_key(&self) -> String {
        format!("ssh-ed25519 {}", STANDARD.encode(self.public_blob()))
    }

    /// Returns the private key as a text in OpenSSH's form, without a password.
    pub fn private_pem(&self) -> String {
        let mut secret = Vec::new();
        // Two equal numbers let a reader notice a wrong password. Without a password they may be any.
        secret.extend_from_slice(&self.public[..4]);
        secret.extend_from_slice(&self.public[..4]);
        put(&mut secret, ED25519);
        put(&mut secret, &self.public);
        put(&mut secret, &[self.seed, self.public].concat());
        put(&mut secret, b"");
        let mut padding = 1..=8_u8;
        while secret.len() % 8 != 0 {
            secret.extend(padding.next());
        }
        let mut file = b"openssh-key-v1\0".to_vec();
        put(&mut file, b"none");
        put(&mut file, b"none");
        put(&mut file, b"");
        file.extend_from_slice(&1_u32.to_be_bytes());
        put(&mut file, &self.public_blob());
        put(&mut file, &secret);
        let mut text = "-----BEGIN OPENSSH PRIVATE KEY-----\n".to_owned();
        let encoded = STANDARD.encode(file);
        let mut rest = encoded.as_str();
        while !rest.is_empty() {
            let (line, after) = rest.split_at(rest.len().min(70));
            text.push_str(line);
            text.push('\n');
            rest = after;
        }
        text.push_str("-----END OPENSSH PRIVATE KEY-----\n");
        text
    }
}

/// Appends a string with its length before it.
fn put(target: &mut Vec<u8>, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    target.extend_from_slice(&length.to_be_bytes());
    target.extend_from_slice(bytes);
}

/// Returns the SHA-1 of a public key as pairs of digits with colons between them.
pub fn sha1_fingerprint(public_blob: &[u8]) -> String {
    with_colons(&Sha1::digest(public_blob))
}

/// Returns the SHA-256 of a public key as base64 without padding, which is the form of the root document.
pub fn sha256_fingerprint(public_blob: &[u8]) -> String {
    STANDARD_NO_PAD.encode(Sha256::digest(public_blob))
}

/// Returns whether a fingerprint belongs to a public key. It may be the SHA-256 as 43 letters of base64 or as 64 digits, or the
/// SHA-1 or MD5 as pairs of digits with colons. A fingerprint of another form matches nothing.
pub fn matches_fingerprint(fingerprint: &str, public_blob: &[u8]) -> bool {
    match fingerprint.len() {
        43 => fingerprint == sha256_fingerprint(public_blob),
        64 => {
            let digits = with_colons(&Sha256::digest(public_blob)).replace(':', "");
            fingerprint.eq_ignore_ascii_case(&digits)
        }
        59 => fingerprint.eq_ignore_ascii_case(&sha1_fingerprint(public_blob)),
        47 => fingerprint.eq_ignore_ascii_case(&with_colons(&Md5::digest(public_blob))),
        _ => false,
    }
}

fn with_colons(digest: &[u8]) -> String {
    let pairs: Vec<String> = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    pairs.join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first key of RFC 8032, section 7.1.
    fn key() -> Ed25519Key {
        let bytes = |text: &str| -> [u8; 32] {
            let byte = |at: usize| u8::from_str_radix(&text[at * 2..at * 2 + 2], 16).unwrap();
            std::array::from_fn(byte)
        };
        Ed25519Key::new(
            bytes("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"),
            bytes("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"),
        )
    }

    #[test]
    fn keys_are_written_as_openssh_writes_them() {
        assert_eq!(
            key().authorized_key(),
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINdamAGCsQq31Uv+08lkBzoO4XLz2qYjJa8CGmj3B1Ea"
        );
        let pem = "-----BEGIN OPENSSH PRIVATE KEY-----
b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZW
QyNTUxOQAAACDXWpgBgrEKt9VL/tPJZAc6DuFy89qmIyWvAhpo9wdRGgAAAIjXWpgB11qY
AQAAAAtzc2gtZWQyNTUxOQAAACDXWpgBgrEKt9VL/tPJZAc6DuFy89qmIyWvAhpo9wdRGg
AAAECdYbGd7/1aYLqESvSS7CzEREnFaXsyaRlwO6wDHK5/YNdamAGCsQq31Uv+08lkBzoO
4XLz2qYjJa8CGmj3B1EaAAAAAAECAwQF
-----END OPENSSH PRIVATE KEY-----
";
        assert_eq!(key().private_pem(), pem);
        assert_eq!(format!("{:?}", key()), "Ed25519Key { .. }");
    }

    #[test]
    fn fingerprints_have_four_forms() {
        let blob = key().public_blob();
        let sha1 = "e4:c1:89:26:af:a5:db:fd:10:c0:e0:6a:60:ba:c6:98:e1:fb:27:93";
        assert_eq!(sha1_fingerprint(&blob), sha1);
        for right in [
            "bbXpuKG6zhzdmnxq256TlqzFBzRl2f6OOg722cYNbU8",
            "6db5e9b8a1bace1cdd9a7c6adb9e9396acc5073465d9fe8e3a0ef6d9c60d6d4f",
            "6DB5E9B8A1BACE1CDD9A7C6ADB9E9396ACC5073465D9FE8E3A0EF6D9C60D6D4F",
            sha1,
            "cf:07:be:9d:68:ae:65:54:6d:a0:93:c3:6f:bd:0d:82",
        ] {
            assert!(matches_fingerprint(right, &blob), "{right}");
        }
        for wrong in [
            "",
            "SHA256:bbXpuKG6zhzdmnxq256TlqzFBzRl2f6OOg722cYNbU8",
            "bbXpuKG6zhzdmnxq256TlqzFBzRl2f6OOg722cYNbU9",
            "e4:c1:89:26:af:a5:db:fd:10:c0:e0:6a:60:ba:c6:98:e1:fb:27:94",
        ] {
            assert!(!matches_fingerprint(wrong, &blob), "{wrong}");
        }
    }

    #[test]
    fn routes_of_the_original_are_read() {
        let text = r#"{"container_port":2222,"private_key":"PEM","host_fingerprint":"aa:bb"}"#;
        let route: SshRoute = serde_json::from_str(text).unwrap();
        assert_eq!(
            (route.container_port, route.private_key.as_str()),
            (2222, "PEM")
        );
        assert!(!format!("{route:?}").contains("PEM"));
    }
}
