//! Creates the keys of an LRP's sshd. The driver calls it when it desires an LRP; nothing is stored here.

use anyhow::{Context as _, Result};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use cc_rules::recipe::ssh::Keys;
use wire::ssh::Ed25519Key;

/// Creates two pairs of keys.
pub(super) fn create() -> Result<Keys> {
    Ok(Keys {
        host: pair()?,
        user: pair()?,
    })
}

fn pair() -> Result<Ed25519Key> {
    let seed: [u8; 32] = rand::random();
    let pair = Ed25519KeyPair::from_seed_unchecked(&seed).context("create an SSH key")?;
    let public = <[u8; 32]>::try_from(pair.public_key().as_ref())
        .context("read the public part of an SSH key")?;
    Ok(Ed25519Key::new(seed, public))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_differ() {
        let (one, other) = (create().unwrap(), create().unwrap());
        assert_ne!(one.host.public_blob(), one.user.public_blob());
        assert_ne!(one.host.public_blob(), other.host.public_blob());
    }
}
