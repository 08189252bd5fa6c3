//! The proof that a request which returns from a route service was sent there: a sealed note of the url and the time.
//!
//! The key is PBKDF2-SHA256 of the secret, with 100,001 rounds, no salt and 16 bytes. The note is sealed by AES-128-GCM, with the
//! nonce in the metadata header. Any router with the same secret can read it, including an original gorouter.

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hmac::{self, HMAC_SHA256};
use aws_lc_rs::pbkdf2::{self, PBKDF2_HMAC_SHA256};
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE};
use serde::{Deserialize, Serialize};
use std::num::NonZeroU32;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

const ROUNDS: NonZeroU32 = NonZeroU32::new(100_001).expect("not zero");

const KEY_LEN: usize = 16;

/// A derived key.
#[derive(Debug)]
pub(super) struct Key(LessSafeKey);

/// The values of the two headers.
#[derive(Debug)]
pub(super) struct Sealed {
    pub(super) signature: String,
    pub(super) metadata: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Note {
    forwarded_url: String,
    requested_time: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Metadata {
    nonce: String,
}

/// A secret as a router keeps it, from which keys are made.
#[derive(Clone)]
pub(super) struct Root([u8; KEY_LEN]);

/// Prints nothing of the secret.
impl std::fmt::Debug for Root {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Root").finish_non_exhaustive()
    }
}

impl Root {
    /// Derives the root of a secret. This is slow on purpose, and done once per secret.
    pub(super) fn derive(secret: &str) -> Self {
        let mut bytes = [0; KEY_LEN];
        pbkdf2::derive(
            PBKDF2_HMAC_SHA256,
            ROUNDS,
            b"",
            secret.as_bytes(),
            &mut bytes,
        );
        Self(bytes)
    }

    /// Returns the key of the secret, which is the one that an original gorouter has.
    pub(super) fn key(&self) -> anyhow::Result<Key> {
        Key::of(&self.0)
    }

    /// Returns the key of a period of the rotation.
    pub(super) fn key_of(&self, period: i64) -> anyhow::Result<Key> {
        let root = hmac::Key::new(HMAC_SHA256, &self.0);
        let derived = hmac::sign(&root, &period.to_be_bytes());
        Key::of(&derived.as_ref()[..KEY_LEN])
    }
}

impl Key {
    fn of(bytes: &[u8]) -> anyhow::Result<Self> {
        let key = UnboundKey::new(&AES_128_GCM, bytes)
            .map_err(|_| anyhow::anyhow!("make a key of the route services' secret"))?;
        Ok(Self(LessSafeKey::new(key)))
    }

    /// Seals a note. `None` cannot occur with a valid time and enough memory.
    pub(super) fn seal(&self, url: &str, now: OffsetDateTime) -> Option<Sealed> {
        let note = Note {
            forwarded_url: url.to_owned(),
            requested_time: now.format(&Rfc3339).ok()?,
        };
        let nonce: [u8; NONCE_LEN] = rand::random();
        let mut sealed = serde_json::to_vec(&note).ok()?;
        let unique = Nonce::assume_unique_for_key(nonce);
        self.0
            .seal_in_place_append_tag(unique, Aad::empty(), &mut sealed)
            .ok()?;
        let metadata = Metadata {
            nonce: BASE64_STANDARD.encode(nonce),
        };
        Some(Sealed {
            signature: BASE64_URL_SAFE.encode(sealed),
            metadata: BASE64_URL_SAFE.encode(serde_json::to_vec(&metadata).ok()?),
        })
    }

    /// Returns the url and the time; `None`: the note was sealed with another key, or not at all.
    pub(super) fn open(
        &self,
        signature: &[u8],
        metadata: &[u8],
    ) -> Option<(String, OffsetDateTime)> {
        let metadata = BASE64_URL_SAFE.decode(metadata).ok()?;
        let metadata: Metadata = serde_json::from_slice(&metadata).ok()?;
        let nonce: [u8; NONCE_LEN] = BASE64_STANDARD
            .decode(metadata.nonce)
            .ok()?
            .try_into()
            .ok()?;
        let mut sealed = BASE64_URL_SAFE.decode(signature).ok()?;
        let nonce = Nonce::assume_unique_for_key(nonce);
        let note = self
            .0
            .open_in_place(nonce, Aad::empty(), &mut sealed)
            .ok()?;
        let note: Note = serde_json::from_slice(note).ok()?;
        let at = OffsetDateTime::parse(&note.requested_time, &Rfc3339).ok()?;
        Some((note.forwarded_url, at))
    }
}

/// A key and a note that it has sealed, for the fuzz test.
#[cfg(test)]
pub(crate) struct Soundness {
    key: Key,
    sealed: Sealed,
}

#[cfg(test)]
impl Soundness {
    pub(crate) fn new() -> Self {
        let key = Root::derive("secret").key().unwrap();
        let now = OffsetDateTime::from_unix_timestamp(1_700_000_000).unwrap();
        let sealed = key.seal("https://a.test/", now).unwrap();
        Self { key, sealed }
    }

    /// Checks signature and metadata, a line each: only what was sealed opens, whole and with its own nonce.
    pub(crate) fn check(&self, bytes: &[u8]) {
        let mut lines = bytes.splitn(2, |byte| *byte == b'\n');
        let [signature, metadata] = [(); 2].map(|()| lines.next().unwrap_or_default());
        assert_eq!(self.key.open(signature, metadata), None);
        let own = (
            self.sealed.signature.as_bytes(),
            self.sealed.metadata.as_bytes(),
        );
        assert_eq!(self.key.open(signature, own.1), None);
        assert_eq!(self.key.open(own.0, metadata), None);
        assert!(self.key.open(own.0, own.1).is_some());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_secret_opens() {
        let [ours, other] = ["ours", "other"].map(|secret| Root::derive(secret).key().unwrap());
        let now = OffsetDateTime::from_unix_timestamp(1_700_000_000).unwrap();
        let sealed = ours.seal("http://app.test/x?y", now).unwrap();
        let open =
            |key: &Key, signature: &str| key.open(signature.as_bytes(), sealed.metadata.as_bytes());
        assert_eq!(
            open(&ours, &sealed.signature),
            Some(("http://app.test/x?y".to_owned(), now))
        );
        assert_eq!(open(&other, &sealed.signature), None);
        let mut forged = BASE64_URL_SAFE.decode(&sealed.signature).unwrap();
        forged[3] ^= 1;
        assert_eq!(open(&ours, &BASE64_URL_SAFE.encode(forged)), None);
        assert_eq!(open(&ours, "!"), None);
        assert_eq!(ours.open(sealed.signature.as_bytes(), b"e30="), None);
    }

    /// The note was made by an independent implementation of the same recipe.
    #[test]
    fn a_note_of_another_implementation_opens() {
        let key = Root::derive("route-secret").key().unwrap();
        let (url, at) = key.open(SIGNATURE.as_bytes(), METADATA.as_bytes()).unwrap();
        assert_eq!(url, "https://app.test/path?q=1");
        assert_eq!(at.unix_timestamp(), 1_767_225_600);
    }

    const SIGNATURE: &str = "wMboNi7hd6HO_dqY0YGDYCel8yebEI-eXefWlzN9r2qkoOojmkkOcYnQoNiLCQNFubTNRlTRDO785hrwLaHbI9DFUuN-quDeaDDVyUr10-XbPN8cLW9vtqa__ouPIcUi8geC1FAvF8lsXbOGfXKXf3D-";
    const METADATA: &str = "eyJub25jZSI6ICJBQUVDQXdRRkJnY0lDUW9MIn0=";
}
