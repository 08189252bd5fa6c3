//! A password file in nginx's format: `user:hash` lines. Hashes that nginx could not check, or could check only unsafely, are
//! refused when the app is staged, so that no site is less protected than its author thinks.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use md5::Md5;
use sha1::{Digest as _, Sha1};
use std::collections::BTreeMap;
use subtle::ConstantTimeEq as _;

/// The maximum cost; above it, one check would take seconds.
const MAX_BCRYPT_COST: u32 = 14;
const MAX_ROUNDS: u32 = 1_000_000;

/// The users and their hashes. There is at least one.
pub(crate) struct Htpasswd {
    users: BTreeMap<String, Hash>,
}

enum Hash {
    Bcrypt(String),
    /// The schemes `$apr1$` and `$1$`.
    Md5 {
        magic: &'static str,
        salt: String,
        digest: String,
    },
    Sha256(String),
    Sha512(String),
    /// The scheme `{SHA}` without a salt, or `{SSHA}` with one.
    Sha1 {
        digest: Vec<u8>,
        salt: Vec<u8>,
    },
    Plain(String),
}

/// The output contains no hash, not even by mistake.
impl std::fmt::Debug for Htpasswd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Htpasswd")
            .field("users", &self.users.len())
            .finish()
    }
}

impl Htpasswd {
    /// Parses the whole file. The error names the first line that cannot be used, without the hash itself.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut users = BTreeMap::new();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim_end_matches('\r');
            if line.trim().is_empty() || line.trim_start().starts_with('#') {
                continue;
            }
            let wrong = |problem: String| format!("Staticfile.auth line {number}: {problem}");
            let (user, rest) = line
                .split_once(':')
                .ok_or_else(|| wrong("there is no colon; expected user:hash".to_owned()))?;
            if user.is_empty() {
                return Err(wrong("the user's name is empty".to_owned()));
            }
            // A password in plain text may contain colons. A hash contains none, so a comment may follow it.
            let hash = if rest.starts_with("{PLAIN}") {
                rest
            } else {
                rest.split(':').next().unwrap_or_default().trim_end()
            };
            let hash =
                Hash::parse(hash).map_err(|problem| wrong(format!("user {user:?}: {problem}")))?;
            if users.insert(user.to_owned(), hash).is_some() {
                return Err(wrong(format!("user {user:?} occurs twice")));
            }
        }
        if users.is_empty() {
            return Err("Staticfile.auth names no user, so nobody could log in; write a line with: htpasswd -nB USER".to_owned());
        }
        Ok(Self { users })
    }

    /// Checks a password. It takes as long for an unknown user as for a known one.
    pub(crate) fn allows(&self, user: &str, password: &str) -> bool {
        match self.users.get(user) {
            Some(hash) => hash.matches(password),
            None => {
                if let Some(other) = self.users.values().next() {
                    let _ = other.matches(password);
                }
                false
            }
        }
    }
}

impl Hash {
    fn parse(text: &str) -> Result<Self, String> {
        if let Some(password) = text.strip_prefix("{PLAIN}") {
            return Ok(Self::Plain(password.to_owned()));
        }
        if let Some(encoded) = text.strip_prefix("{SSHA}") {
            return sha1_of(encoded, "{SSHA}");
        }
        if let Some(encoded) = text.strip_prefix("{SHA}") {
            return match sha1_of(encoded, "{SHA}")? {
                Self::Sha1 { salt, .. } if !salt.is_empty() => {
                    Err("the {SHA} hash is too long".to_owned())
                }
                hash => Ok(hash),
            };
        }
        if ["$2a$", "$2b$", "$2y$"]
            .iter()
            .any(|magic| text.starts_with(magic))
        {
            return bcrypt_of(text);
        }
        for magic in ["$apr1$", "$1$"] {
            if let Some((salt, digest)) = text
                .strip_prefix(magic)
                .and_then(|rest| rest.split_once('$'))
            {
                if digest.len() != 22 || salt.len() > 8 {
                    return Err(format!("the {magic} hash is cut or damaged"));
                }
                return Ok(Self::Md5 {
                    magic,
                    salt: salt.to_owned(),
                    digest: digest.to_owned(),
                });
            }
        }
        if text.starts_with("$5$") {
            return sha_crypt_of(text, 43).map(Self::Sha256);
        }
        if text.starts_with("$6$") {
            return sha_crypt_of(text, 86).map(Self::Sha512);
        }
        let kind = if text.is_empty() {
            "the password's hash is empty"
        } else if text.len() == 13 {
            "DES hashes are not supported, because they read only 8 characters of a password"
        } else {
            "the hash is of no kind that is known here"
        };
        Err(format!(
            "{kind}; make the line with: htpasswd -nB USER (known are bcrypt, $apr1$, $1$, $5$, $6$, {{SHA}}, {{SSHA}} and {{PLAIN}})"
        ))
    }

    fn matches(&self, password: &str) -> bool {
        match self {
            Self::Bcrypt(hash) => bcrypt::verify(password, hash).unwrap_or(false),
            Self::Md5 {
                magic,
                salt,
                digest,
            } => same(
                md5_crypt(magic, salt, password).as_bytes(),
                digest.as_bytes(),
            ),
            Self::Sha256(hash) => sha_crypt::sha256_check(password, hash).is_ok(),
            Self::Sha512(hash) => sha_crypt::sha512_check(password, hash).is_ok(),
            Self::Sha1 { digest, salt } => {
                let mut sha1 = Sha1::new();
                sha1.update(password);
                sha1.update(salt);
                same(&sha1.finalize(), digest)
            }
            Self::Plain(expected) => same(&Sha1::digest(password), &Sha1::digest(expected)),
        }
    }
}

/// Returns whether two texts are equal, in a time that does not depend on where they differ.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}

fn sha1_of(encoded: &str, kind: &str) -> Result<Hash, String> {
    let mut digest = BASE64_STANDARD
        .decode(encoded)
        .ok()
        .filter(|bytes| bytes.len() >= 20)
        .ok_or_else(|| format!("the {kind} hash is cut or damaged"))?;
    let salt = digest.split_off(20);
    Ok(Hash::Sha1 { digest, salt })
}

fn bcrypt_of(text: &str) -> Result<Hash, String> {
    let parts: bcrypt::HashParts = text
        .parse()
        .map_err(|_| "the bcrypt hash is cut or damaged".to_owned())?;
    if parts.get_cost() > MAX_BCRYPT_COST {
        return Err(format!(
            "the bcrypt cost {} is too high to check at each request; at most {MAX_BCRYPT_COST}",
            parts.get_cost()
        ));
    }
    Ok(Hash::Bcrypt(text.to_owned()))
}

/// Checks `$5$salt$digest` or `$5$rounds=N$salt$digest`, whose digest has a fixed length.
fn sha_crypt_of(text: &str, digest_length: usize) -> Result<String, String> {
    let mut parts = text[3..].split('$').collect::<Vec<_>>();
    if let Some(rounds) = parts[0].strip_prefix("rounds=") {
        match rounds.parse::<u32>() {
            Ok(1000..=MAX_ROUNDS) => {}
            _ => {
                return Err(format!(
                    "the hash has {rounds:?} rounds; expected 1000 to {MAX_ROUNDS}"
                ));
            }
        }
        parts.remove(0);
    }
    match parts.as_slice() {
        [salt, digest] if salt.len() <= 16 && digest.len() == digest_length => Ok(text.to_owned()),
        _ => Err("the SHA-crypt hash is cut or damaged".to_owned()),
    }
}

/// Computes the MD5-based crypt of FreeBSD (`$1$`) and Apache (`$apr1$`): 1000 rounds, and an order of bytes of its own.
fn md5_crypt(magic: &str, salt: &str, password: &str) -> String {
    let (password, salt) = (password.as_bytes(), salt.as_bytes());
    let inner = Md5::new()
        .chain_update(password)
        .chain_update(salt)
        .chain_update(password)
        .finalize();
    let mut outer = Md5::new()
        .chain_update(password)
        .chain_update(magic)
        .chain_update(salt);
    for chunk in password.chunks(16) {
        outer.update(&inner[..chunk.len()]);
    }
    let mut length = password.len();
    while length != 0 {
        outer.update(if length & 1 == 1 {
            &[0]
        } else {
            password.get(..1).unwrap_or(&[0])
        });
        length >>= 1;
    }
    let mut digest = outer.finalize();
    for round in 0..1000 {
        let mut next = Md5::new();
        if round % 2 == 1 {
            next.update(password);
        } else {
            next.update(digest);
        }
        if round % 3 != 0 {
            next.update(salt);
        }
        if round % 7 != 0 {
            next.update(password);
        }
        if round % 2 == 1 {
            next.update(digest);
        } else {
            next.update(password);
        }
        digest = next.finalize();
    }
    encode_md5_crypt(&digest)
}

fn encode_md5_crypt(digest: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    const GROUPS: [[usize; 3]; 5] = [[0, 6, 12], [1, 7, 13], [2, 8, 14], [3, 9, 15], [4, 10, 5]];
    let mut text = String::new();
    let mut push = |mut value: u32, characters: usize| {
        for _ in 0..characters {
            text.push(char::from(ALPHABET[(value & 63) as usize]));
            value >>= 6;
        }
    };
    for [high, middle, low] in GROUPS {
        push(
            u32::from(digest[high]) << 16 | u32::from(digest[middle]) << 8 | u32::from(digest[low]),
            4,
        );
    }
    push(u32::from(digest[11]), 2);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    // These were made with openssl passwd and htpasswd for the password "open sesame: ü".
    const PASSWORD: &str = "open sesame: ü";
    const FILE: &str = include_str!("../../tests/htpasswd");

    #[test]
    fn every_kind_of_hash_lets_its_password_in_and_no_other() {
        let file = Htpasswd::parse(FILE).unwrap();
        assert_eq!(file.users.len(), 9, "{:?}", file.users.keys());
        for user in file.users.keys() {
            assert!(file.allows(user, PASSWORD), "{user}");
            for wrong in ["", "open sesame: u", "open sesame: ü ", "OPEN SESAME: Ü"] {
                assert!(!file.allows(user, wrong), "{user} with {wrong:?}");
            }
        }
        assert!(
            !file.allows("nobody", PASSWORD)
                && !file.allows("", PASSWORD)
                && !file.allows("BCRYPT", PASSWORD)
        );
        assert_eq!(format!("{file:?}"), "Htpasswd { users: 9 }");
    }

    #[test]
    fn what_cannot_be_checked_is_refused_and_the_hash_not_shown() {
        for (text, words) in [
            ("", "names no user"),
            ("# only a comment\n\n", "names no user"),
            ("bob", "line 1: there is no colon"),
            (":x", "name is empty"),
            ("bob:", "hash is empty"),
            (
                "a:{PLAIN}x\nbob:rqXexS6ZhobKA",
                "line 2: user \"bob\": DES hashes are not supported",
            ),
            ("bob:secretword", "no kind that is known"),
            ("bob:{SHA}AAAA", "cut or damaged"),
            ("bob:{SSHA}AAAA", "cut or damaged"),
            ("bob:$apr1$x$short", "cut or damaged"),
            ("bob:$2y$05$short", "cut or damaged"),
            (
                "bob:$2y$20$dgOxwljk66bMWjmYSkr/Kem7qLRYaJOjnKfkkVphEP7yfgjLmnCAa",
                "cost 20 is too high",
            ),
            ("bob:$6$salt$short", "cut or damaged"),
            ("bob:$5$rounds=99999999$salt$x", "rounds"),
            ("bob:{PLAIN}a\nbob:{PLAIN}b", "occurs twice"),
        ] {
            let error = Htpasswd::parse(text).unwrap_err();
            assert!(error.contains(words), "{text:?}: {error}");
            assert!(
                !error.contains("secretword") && !error.contains("rqXexS6"),
                "{error}"
            );
        }
    }
}
