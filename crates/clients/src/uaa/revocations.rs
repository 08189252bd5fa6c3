//! Finds out whether a token was ended before its time: by a new password, by the deletion of a user or client, by a revocation.
//!
//! A token's signature does not show that, so the verifier asks the UAA (`POST /check_token`, as the original's resource servers
//! may) and keeps the answer for [`FRESH`]. When the UAA does not answer, the last answer counts, and a token without an answer
//! is valid until it expires.

use reqwest::StatusCode;
use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The time for which an answer counts. A token that was ended is refused after this time at the latest.
pub(super) const FRESH: Duration = Duration::from_secs(1);
/// The longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// The shortest pause between two requests while the UAA does not answer.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// The number of remembered tokens. When it is reached, old answers are forgotten, and all answers if none is old.
const MOST: usize = 10_000;

/// A client of the UAA with the authority `uaa.resource`, which may inspect tokens.
#[derive(Clone)]
pub struct ResourceServer {
    pub client_id: String,
    pub secret: String,
}

impl std::fmt::Debug for ResourceServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ResourceServer")
            .field("client_id", &self.client_id)
            .finish_non_exhaustive()
    }
}

pub(super) struct Revocations {
    url: String,
    client: ResourceServer,
    /// The keys of the hash by which tokens are remembered. The tokens themselves are not kept. The keys are secret, so that two
    /// tokens with the same hash cannot be constructed.
    hasher: [RandomState; 2],
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    verdicts: HashMap<[u64; 2], Verdict>,
    /// The time of the last request that the UAA did not answer.
    failed: Option<Instant>,
}

/// The UAA's answer about one token, and its time.
#[derive(Clone, Copy)]
struct Verdict {
    ended: bool,
    at: Instant,
}

impl Revocations {
    pub(super) fn new(url: &str, client: ResourceServer) -> Self {
        Self {
            url: format!("{url}/check_token"),
            client,
            hasher: [(); 2].map(|()| RandomState::new()),
            known: Mutex::default(),
        }
    }

    /// Returns whether the token was ended. It must be one that the UAA signed and that has not expired.
    pub(super) async fn is_ended(&self, http: &reqwest::Client, token: &str) -> bool {
        let key = self.hasher.each_ref().map(|keys| keys.hash_one(token));
        let (last, pausing) = {
            let known = self.known();
            let pausing = known.failed.is_some_and(|at| at.elapsed() < RETRY_PAUSE);
            (known.verdicts.get(&key).copied(), pausing)
        };
        let kept = last.is_some_and(|last| last.ended);
        if pausing || kept || last.is_some_and(|last| last.at.elapsed() < FRESH) {
            return kept;
        }
        match self.query(http, token).await {
            Ok(ended) => {
                let at = Instant::now();
                self.known().remember(key, Verdict { ended, at });
                ended
            }
            Err(error) => {
                tracing::warn!(
                    url = self.url,
                    client = self.client.client_id,
                    error,
                    "check-token-failed: tokens count until they expire"
                );
                self.known().failed = Some(Instant::now());
                false
            }
        }
    }

    async fn query(&self, http: &reqwest::Client, token: &str) -> Result<bool, String> {
        let answer = http
            .post(&self.url)
            .basic_auth(&self.client.client_id, Some(&self.client.secret))
            .header("accept", "application/json")
            .timeout(PATIENCE)
            .form(&[("token", token)])
            .send()
            .await
            .map_err(|error| error.without_url().to_string())?;
        match answer.status() {
            StatusCode::BAD_REQUEST => Ok(true),
            status if status.is_success() => Ok(false),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(format!(
                "the UAA does not allow client {:?} to check tokens: grant it the authority uaa.resource, or correct its secret",
                self.client.client_id
            )),
            status => Err(format!("the UAA answers {status}")),
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn remember(&mut self, key: [u64; 2], answer: Verdict) {
        self.failed = None;
        if self.verdicts.len() >= MOST && !self.verdicts.contains_key(&key) {
            // An answer that is no longer fresh matters only while the UAA is away.
            self.verdicts.retain(|_, known| known.at.elapsed() < FRESH);
            if self.verdicts.len() >= MOST {
                self.verdicts.clear();
            }
        }
        self.verdicts.insert(key, answer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_bounded() {
        let mut known = Known::default();
        for n in 0..(MOST as u64 + 50) {
            let (ended, at) = (false, Instant::now());
            known.remember([n, n], Verdict { ended, at });
        }
        assert!(known.verdicts.len() <= MOST);
    }

    #[test]
    fn the_secret_is_not_shown() {
        let client = ResourceServer {
            client_id: "cc".into(),
            secret: "hush".into(),
        };
        assert!(!format!("{client:?}").contains("hush"));
    }
}
