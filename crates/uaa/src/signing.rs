//! The RSA key that signs tokens. It is created at the first start and kept as PKCS#8 PEM (mode 0600) in the data directory.

use anyhow::{Context as _, Result};
use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::KeyPair as _;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use kit::private_file;
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::path::Path;

pub(crate) struct SigningKey {
    header: Header,
    signer: EncodingKey,
    verifier: DecodingKey,
    /// The public key in the format of `/token_key`.
    jwk: Value,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKey")
            .field("kid", &self.header.kid)
            .finish_non_exhaustive()
    }
}

/// The reason why a token is not valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Invalid {
    Expired,
    Malformed,
}

/// Returns the PEM of the key in a file. A missing file is created with a new key.
pub(crate) fn load_or_create(path: &Path) -> Result<String> {
    match std::fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let pair = KeyPair::generate(KeySize::Rsa2048)
                .ok()
                .context("make an RSA key")?;
            let pem = pem(
                "PRIVATE KEY",
                pair.as_der().ok().context("encode the RSA key")?.as_ref(),
            );
            // It is synced before it is used: the tokens of a key that a crash loses are invalid.
            private_file::replace(path, &pem).context("keep the signing key")?;
            Ok(pem)
        }
        read => read.with_context(|| format!("read signing key {}", path.display())),
    }
}

impl SigningKey {
    pub(crate) fn load_or_create(path: &Path) -> Result<Self> {
        Self::from_pem(&load_or_create(path)?).with_context(|| {
            format!(
                "read signing key {}: move it to another place, and a new one is generated (all tokens become invalid)",
                path.display()
            )
        })
    }

    pub(crate) fn from_pem(text: &str) -> Result<Self> {
        let body: String = text
            .lines()
            .filter(|line| !line.starts_with("-----"))
            .collect();
        let der = STANDARD.decode(body.trim()).context("the key is not PEM")?;
        let pair = KeyPair::from_pkcs8(&der)
            .map_err(|error| anyhow::anyhow!("the key is not RSA in PKCS#8: {error}"))?;
        let public = pair.public_key();
        let (n, e) = modulus_and_exponent(public.as_ref()).context("read the public key")?;
        let spki = public.as_der().ok().context("encode the public key")?;
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, spki.as_ref());
        let kid = format!("key-{}", hex::encode(&digest.as_ref()[..8]));
        let jwk = json!({
            "kty": "RSA", "use": "sig", "alg": "RS256", "kid": kid,
            "n": URL_SAFE_NO_PAD.encode(n), "e": URL_SAFE_NO_PAD.encode(e), "value": pem("PUBLIC KEY", spki.as_ref()),
        });
        let mut header = Header::new(Algorithm::RS256);
        header.kid = Some(kid);
        Ok(Self {
            header,
            signer: EncodingKey::from_rsa_pem(text.as_bytes())?,
            verifier: DecodingKey::from_rsa_raw_components(n, e),
            jwk,
        })
    }

    pub(crate) fn sign(&self, claims: &impl Serialize) -> Result<String> {
        jsonwebtoken::encode(&self.header, claims, &self.signer).context("sign token")
    }

    /// Returns the claims of a token that this key signed and that has not expired.
    pub(crate) fn verify(&self, token: &str) -> Result<Map<String, Value>, Invalid> {
        let mut validation = Validation::new(Algorithm::RS256);
        validation.leeway = 0;
        validation.validate_aud = false;
        match jsonwebtoken::decode::<Map<String, Value>>(token, &self.verifier, &validation) {
            Ok(token) => Ok(token.claims),
            Err(error)
                if matches!(
                    error.kind(),
                    jsonwebtoken::errors::ErrorKind::ExpiredSignature
                ) =>
            {
                Err(Invalid::Expired)
            }
            Err(_) => Err(Invalid::Malformed),
        }
    }

    /// Returns the public key as a JSON Web Key (with UAA's `value`: PEM).
    pub(crate) fn jwk(&self) -> &Value {
        &self.jwk
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    let lines: Vec<_> = body
        .as_bytes()
        .chunks(64)
        .map(|line| std::str::from_utf8(line).unwrap_or_default())
        .collect();
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        lines.join("\n")
    )
}

/// Returns both integers of a DER `RSAPublicKey` (RFC 8017 A.1.1), without leading zeros.
fn modulus_and_exponent(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (sequence, _) = element(der, 0x30)?;
    let (n, rest) = element(sequence, 0x02)?;
    let (e, _) = element(rest, 0x02)?;
    let bare = |integer: &'_ [u8]| integer.iter().position(|byte| *byte != 0);
    Some((&n[bare(n)?..], &e[bare(e)?..]))
}

/// Returns the content of one DER element with `tag`, and the bytes that follow it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = der.split_first()?;
    let (&first, mut rest) = rest.split_first()?;
    let mut length = usize::from(first);
    if first & 0x80 != 0 {
        let (bytes, after) = rest.split_at_checked(usize::from(first & 0x7f))?;
        length = bytes.iter().try_fold(0usize, |n, byte| {
            Some(n.checked_mul(256)? | usize::from(*byte))
        })?;
        rest = after;
    }
    (found == tag)
        .then(|| rest.split_at_checked(length))
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_a_restart_and_signs_what_it_verifies() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key.pem");
        let first = SigningKey::load_or_create(&path).unwrap();
        let second = SigningKey::load_or_create(&path).unwrap();
        assert_eq!(first.jwk(), second.jwk());
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        let token = first
            .sign(&json!({"exp": 4_000_000_000u64, "a": "b"}))
            .unwrap();
        assert_eq!(second.verify(&token).unwrap()["a"], "b");
        let expired = first.sign(&json!({"exp": 1, "a": "b"})).unwrap();
        assert_eq!(second.verify(&expired), Err(Invalid::Expired));
        let (head, _) = token.rsplit_once('.').unwrap();
        assert_eq!(
            second.verify(&format!("{head}.AAAA")),
            Err(Invalid::Malformed)
        );
        let other = SigningKey::load_or_create(&dir.path().join("other.pem")).unwrap();
        assert_eq!(other.verify(&token), Err(Invalid::Malformed));
    }
}
