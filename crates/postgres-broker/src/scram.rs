//! The form in which PostgreSQL stores a password. Statements contain this form, so that neither the server's log nor its list of
//! statements ever has a password.

use aws_lc_rs::{digest, hmac, pbkdf2};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use std::num::NonZeroU32;

/// The number of rounds, which is PostgreSQL's default.
const ROUNDS: NonZeroU32 = NonZeroU32::new(4096).expect("it is not zero");

/// Returns the verifier of a password (RFC 5803). The password must be ASCII.
pub(crate) fn verifier(password: &str, salt: [u8; 16]) -> String {
    let mut salted = [0; 32];
    pbkdf2::derive(
        pbkdf2::PBKDF2_HMAC_SHA256,
        ROUNDS,
        &salt,
        password.as_bytes(),
        &mut salted,
    );
    let key = hmac::Key::new(hmac::HMAC_SHA256, &salted);
    let client_key = hmac::sign(&key, b"Client Key");
    let stored_key = digest::digest(&digest::SHA256, client_key.as_ref());
    let server_key = hmac::sign(&key, b"Server Key");
    let encoded = |bytes: &[u8]| BASE64_STANDARD.encode(bytes);
    format!(
        "SCRAM-SHA-256${ROUNDS}:{}${}:{}",
        encoded(&salt),
        encoded(stored_key.as_ref()),
        encoded(server_key.as_ref())
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verifier_is_what_another_implementation_computes() {
        assert_eq!(
            verifier("sesame", *b"0123456789abcdef"),
            "SCRAM-SHA-256$4096:MDEyMzQ1Njc4OWFiY2RlZg==$hn4FUIkYt7Fy4b6A2QilBRpntUViQLMX9F3hmowbDlg=:VN7TGXR2mKZKoVdTp1SdRWBKnlXaYulCWS/O1xCfZeI="
        );
    }
}
