//! Password hashes: PBKDF2 with SHA-256 and a salt per password, as `pbkdf2-sha256$iterations$salt$hash` (base64).
//!
//! The functions are pure except for the salt. They are slow on purpose: call them on a blocking thread.

use aws_lc_rs::pbkdf2::{self, PBKDF2_HMAC_SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use std::num::NonZeroU32;

/// The iterations for passwords that people choose.
pub(crate) const USER: NonZeroU32 = NonZeroU32::new(120_000).unwrap();
/// The iterations for clients' secrets. They are random and long, so guessing them is hopeless with any hash.
pub(crate) const CLIENT: NonZeroU32 = NonZeroU32::new(1_000).unwrap();

pub(crate) fn hash(password: &str, iterations: NonZeroU32) -> String {
    let salt: [u8; 16] = rand::random();
    let mut out = [0; 32];
    pbkdf2::derive(
        PBKDF2_HMAC_SHA256,
        iterations,
        &salt,
        password.as_bytes(),
        &mut out,
    );
    format!(
        "pbkdf2-sha256${iterations}${}${}",
        BASE64.encode(salt),
        BASE64.encode(out)
    )
}

/// Compares in constant time. A hash that cannot be read matches nothing.
pub(crate) fn matches(hash: &str, password: &str) -> bool {
    let mut parts = hash.split('$');
    let (Some("pbkdf2-sha256"), Some(iterations), Some(salt), Some(expected), None) = (
        parts.next(),
        parts.next(),
        parts.next(),
        parts.next(),
        parts.next(),
    ) else {
        return false;
    };
    let (Ok(iterations), Ok(salt), Ok(expected)) = (
        iterations.parse::<NonZeroU32>(),
        BASE64.decode(salt),
        BASE64.decode(expected),
    ) else {
        return false;
    };
    pbkdf2::verify(
        PBKDF2_HMAC_SHA256,
        iterations,
        &salt,
        password.as_bytes(),
        &expected,
    )
    .is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_right_password_matches() {
        let stored = hash("sesame", CLIENT);
        assert!(matches(&stored, "sesame"));
        assert!(!matches(&stored, "Sesame"));
        assert!(
            !matches("", "sesame")
                && !matches("pbkdf2-sha256$0$$", "")
                && !matches("plain", "plain")
        );
        assert_ne!(stored, hash("sesame", CLIENT), "salted");
    }
}
