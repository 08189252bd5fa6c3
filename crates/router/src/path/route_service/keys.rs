//! The keys of notes, and their rotation.
//!
//! ```text
//!  period       …  n-1  │         n         │  n+1  …
//!  sealed with     n-1  │         n         │  n+1
//!  opened with          │ n, n-1  │ n, n+1  │
//! ```
//!
//! All routers of a foundation derive the key of a period from the same secret and their own clocks, so a rotation needs no message
//! between them. In the first half of a period the previous key opens notes too, and in the second half the next one. So a note
//! outlives the end of its period, and routers accept each other's notes while their clocks differ by less than half a period.
//! Without a rotation a secret stands for one key, and an original gorouter with the same secret reads the notes.

use super::signature::{Key, Root, Sealed};
use crate::config::RouteServices;
use anyhow::Result;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use time::OffsetDateTime;

#[derive(Debug)]
pub(super) struct Keys {
    /// The roots of the secret, and of the previous one, if there is one.
    roots: Vec<Root>,
    rotation: Option<Duration>,
    current: Mutex<Current>,
}

/// The keys of one half of a period.
#[derive(Clone, Debug)]
struct Current {
    half: i64,
    set: Arc<Set>,
}

#[derive(Debug)]
struct Set {
    seal: Key,
    /// Further keys that open notes.
    open: Vec<Key>,
}

impl Keys {
    pub(super) fn new(services: &RouteServices, now: OffsetDateTime) -> Result<Self> {
        let secrets = [
            Some(services.secret.as_str()),
            services.secret_decrypt_only.as_deref(),
        ];
        let roots: Vec<Root> = secrets.into_iter().flatten().map(Root::derive).collect();
        let half = half(services.rotation, now);
        let set = Arc::new(Set::new(&roots, services.rotation.is_some(), half)?);
        Ok(Self {
            roots,
            rotation: services.rotation,
            current: Mutex::new(Current { half, set }),
        })
    }

    /// Seals a note. `None` cannot occur with a valid time and enough memory.
    pub(super) fn seal(&self, url: &str, now: OffsetDateTime) -> Option<Sealed> {
        self.at(now).seal.seal(url, now)
    }

    /// Returns the url and the time of a note; `None`: no key that is accepted now has sealed it.
    pub(super) fn open(
        &self,
        signature: &[u8],
        metadata: &[u8],
        now: OffsetDateTime,
    ) -> Option<(String, OffsetDateTime)> {
        let set = self.at(now);
        std::iter::once(&set.seal)
            .chain(&set.open)
            .find_map(|key| key.open(signature, metadata))
    }

    /// Returns the keys of a point in time, which are made when the first request needs them.
    fn at(&self, now: OffsetDateTime) -> Arc<Set> {
        let half = half(self.rotation, now);
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.half != half {
            match Set::new(&self.roots, self.rotation.is_some(), half) {
                Ok(set) => {
                    let set = Arc::new(set);
                    *current = Current { half, set };
                }
                Err(error) => tracing::error!(%error, "route-service-keys-not-rotated"),
            }
        }
        current.set.clone()
    }
}

/// Returns the number of the half period of a point in time; without a rotation there is only one.
fn half(rotation: Option<Duration>, now: OffsetDateTime) -> i64 {
    let Some(rotation) = rotation else { return 0 };
    let length = i64::try_from(rotation.as_secs() / 2).unwrap_or(i64::MAX);
    now.unix_timestamp().div_euclid(length.max(1))
}

impl Set {
    fn new(roots: &[Root], rotates: bool, half: i64) -> Result<Self> {
        let mut keys = Vec::new();
        for root in roots {
            if !rotates {
                keys.push(root.key()?);
                continue;
            }
            let period = half.div_euclid(2);
            let neighbour = match half.rem_euclid(2) {
                0 => period - 1,
                _ => period + 1,
            };
            keys.push(root.key_of(period)?);
            keys.push(root.key_of(neighbour)?);
        }
        anyhow::ensure!(!keys.is_empty(), "the route services have no secret");
        let open = keys.split_off(1);
        let seal = keys.remove(0);
        Ok(Self { seal, open })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::TlsTerms;

    const DAY: Duration = Duration::from_secs(86_400);

    /// Midnight, which is also the beginning of a period.
    const MIDNIGHT: i64 = 1_700_006_400;

    fn keys(secret: &str, previous: Option<&str>, rotation: Option<Duration>) -> Keys {
        let services = RouteServices {
            secret: secret.to_owned(),
            secret_decrypt_only: previous.map(str::to_owned),
            rotation,
            timeout: Duration::from_secs(60),
            recommend_https: true,
            return_port: None,
            max_attempts: 3,
            strict_signature_validation: false,
            websockets: true,
            identity: None,
            tls_terms: TlsTerms::default(),
            skip_ssl_validation: false,
            authorities: String::new(),
            system_authorities: false,
            hairpinning: false,
            hairpinning_allowlist: Vec::new(),
            egress_blocklist: Vec::new(),
        };
        Keys::new(&services, at(0)).unwrap()
    }

    /// Returns a point in time so many seconds after a midnight.
    fn at(seconds: i64) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(MIDNIGHT + seconds).unwrap()
    }

    /// Returns whether one router accepts, at its own time, what the other one seals at its own.
    fn accepts(opener: (&Keys, i64), sealer: (&Keys, i64)) -> bool {
        let note = sealer.0.seal("https://a.test/", at(sealer.1)).unwrap();
        let (signature, metadata) = (note.signature.as_bytes(), note.metadata.as_bytes());
        let opened = opener.0.open(signature, metadata, at(opener.1));
        opened.is_some_and(|(url, _)| url == "https://a.test/")
    }

    #[test]
    fn routers_with_one_secret_accept_each_other_around_the_end_of_a_period() {
        let (one, other) = (keys("s", None, Some(DAY)), keys("s", None, Some(DAY)));
        let hour = 3600;
        for (opened, sealed, wanted) in [
            (0, 0, true),
            (1, -1, true),
            (-1, 1, true),
            (11 * hour, -1, true),
            (13 * hour, -1, false),
            (-11 * hour, 1, true),
            (-13 * hour, 1, false),
            (30 * hour, 1, true),
            (37 * hour, 1, false),
            (365 * 24 * hour, 1, false),
        ] {
            let accepted = accepts((&other, opened), (&one, sealed));
            assert_eq!(accepted, wanted, "sealed at {sealed}, opened at {opened}");
        }
    }

    #[test]
    fn a_previous_secret_is_accepted_and_never_used_to_seal() {
        for rotation in [None, Some(DAY)] {
            let old = keys("old", None, rotation);
            let new = keys("new", Some("old"), rotation);
            assert!(accepts((&new, 0), (&old, 0)), "{rotation:?}");
            assert!(accepts((&new, 0), (&new, 0)), "{rotation:?}");
            assert!(!accepts((&old, 0), (&new, 0)), "{rotation:?}");
        }
    }

    #[test]
    fn a_secret_without_rotation_is_always_the_same_key() {
        let (fixed, rotating) = (keys("s", None, None), keys("s", None, Some(DAY)));
        assert!(accepts((&fixed, 100_000_000), (&fixed, 0)));
        assert!(!accepts((&fixed, 0), (&rotating, 0)));
        assert!(!accepts((&rotating, 0), (&fixed, 0)));
    }

    #[test]
    fn a_clock_that_steps_back_gets_the_keys_of_its_time() {
        let keys = keys("s", None, Some(DAY));
        assert!(accepts((&keys, 10 * 86_400), (&keys, 10 * 86_400)));
        assert!(accepts((&keys, 0), (&keys, 0)));
        assert!(!accepts((&keys, 10 * 86_400), (&keys, 0)));
    }
}
