//! Basic authentication of requests against a password file.

use super::htpasswd::Htpasswd;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest as _, Sha256};
use std::collections::HashSet;
use std::io::Read as _;
use std::sync::{Mutex, PoisonError};

/// The number of valid credentials that are remembered, because checking a good hash takes a tenth of a second.
const MAX_REMEMBERED: usize = 256;

/// The value of `WWW-Authenticate`.
pub(super) const CHALLENGE: &str = "Basic realm=\"Restricted\"";

/// The rule that decides which requests are admitted. It remembers valid credentials as keyed digests, never as text.
#[derive(Debug)]
pub(super) struct Auth {
    users: Htpasswd,
    key: [u8; 32],
    remembered: Mutex<HashSet<[u8; 32]>>,
}

impl Auth {
    pub(super) fn new(users: Htpasswd) -> std::io::Result<Self> {
        let mut key = [0; 32];
        std::fs::File::open("/dev/urandom")?.read_exact(&mut key)?;
        Ok(Self {
            users,
            key,
            remembered: Mutex::default(),
        })
    }

    /// Returns whether the credentials are valid. `header` is the value of `Authorization`.
    pub(super) fn allows(&self, header: Option<&str>) -> bool {
        let Some((user, password)) = header.and_then(credentials) else {
            return false;
        };
        let digest: [u8; 32] = Sha256::new()
            .chain_update(self.key)
            .chain_update((user.len() as u64).to_be_bytes())
            .chain_update(&user)
            .chain_update(&password)
            .finalize()
            .into();
        let remembered = || {
            self.remembered
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
        };
        if remembered().contains(&digest) {
            return true;
        }
        if !self.users.allows(&user, &password) {
            return false;
        }
        let mut known = remembered();
        if known.len() < MAX_REMEMBERED {
            known.insert(digest);
        }
        true
    }
}

/// Returns user and password of a `Basic` header; `None` for everything else.
fn credentials(header: &str) -> Option<(String, String)> {
    let (scheme, encoded) = header.trim().split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(BASE64_STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (user, password) = text.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_basic_credentials_of_a_user_are_let_in() {
        let auth = Auth::new(Htpasswd::parse("bob:{PLAIN}a:b c").unwrap()).unwrap();
        let header =
            |scheme: &str, text: &str| format!("{scheme} {}", BASE64_STANDARD.encode(text));
        for scheme in ["Basic", "basic", "BASIC", " Basic "] {
            let good = header(scheme.trim_end(), "bob:a:b c");
            assert!(auth.allows(Some(&good)), "{scheme:?}");
            // The second time, the credentials are remembered.
            assert!(auth.allows(Some(&good)), "{scheme:?}");
        }
        for wrong in [
            "".to_owned(),
            "Basic".to_owned(),
            "Basic !!!".to_owned(),
            "Bearer x".to_owned(),
            header("Basic", "bob"),
            header("Basic", "bob:"),
            header("Basic", ":a:b c"),
            header("Basic", "Bob:a:b c"),
            header("Basic", "bob:a:b c "),
            header("Digest", "bob:a:b c"),
        ] {
            assert!(!auth.allows(Some(&wrong)), "{wrong:?}");
        }
        assert!(!auth.allows(None));
    }
}
