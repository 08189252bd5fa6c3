//! Sessions: the tokens of each user who signed in stay in this process, and the browser has a random name of them in a cookie.

use super::sign_in::{SignIn, Tokens};
use anyhow::Result;
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The highest number of sessions. When it is reached, the one that was not used for the longest time ends.
const MOST: usize = 1000;
/// The highest number of sessions of one user.
const MOST_OF_USER: usize = 20;
/// The time without a request after which a session ends.
const IDLE: Duration = Duration::from_secs(8 * 3600);
/// The time after which every session ends.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// The session of a user.
#[derive(Debug)]
pub(crate) struct Session {
    user: String,
    began: Instant,
    used: Mutex<Instant>,
    tokens: tokio::sync::Mutex<Tokens>,
}

/// All sessions, by the digests of their names, so that a dump of memory does not open one.
#[derive(Debug, Default)]
pub(crate) struct Sessions(Mutex<HashMap<[u8; 32], Arc<Session>>>);

impl Session {
    /// Returns an access token that is still valid for a while. The error means that the user must sign in again.
    pub(crate) async fn token(&self, sign_in: &SignIn) -> Result<String> {
        let mut tokens = self.tokens.lock().await;
        if tokens.is_due() {
            *tokens = sign_in.renew(&tokens).await?;
        }
        Ok(tokens.access.clone())
    }

    /// Returns the tokens, to revoke them.
    pub(crate) async fn tokens(&self) -> Tokens {
        self.tokens.lock().await.clone()
    }

    fn last_used(&self) -> Instant {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_over(&self, now: Instant) -> bool {
        now.duration_since(self.began) > LONGEST || now.duration_since(self.last_used()) > IDLE
    }
}

impl Sessions {
    /// Begins a session and returns its name for the cookie.
    pub(crate) fn begin(&self, user: &str, tokens: Tokens) -> String {
        let name = URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>());
        let now = Instant::now();
        let session = Session {
            user: user.to_owned(),
            began: now,
            used: Mutex::new(now),
            tokens: tokio::sync::Mutex::new(tokens),
        };
        let mut kept = self.kept();
        kept.retain(|_, session| !session.is_over(now));
        let own = kept.values().filter(|session| session.user == user).count();
        if own >= MOST_OF_USER {
            remove_oldest(&mut kept, |session| session.user == user);
        }
        if kept.len() >= MOST {
            remove_oldest(&mut kept, |_| true);
        }
        kept.insert(key(&name), Arc::new(session));
        name
    }

    pub(crate) fn find(&self, name: &str) -> Option<Arc<Session>> {
        let now = Instant::now();
        let session = self.kept().get(&key(name)).cloned()?;
        if session.is_over(now) {
            self.end(name);
            return None;
        }
        *session.used.lock().unwrap_or_else(PoisonError::into_inner) = now;
        Some(session)
    }

    pub(crate) fn end(&self, name: &str) -> Option<Arc<Session>> {
        self.kept().remove(&key(name))
    }

    pub(crate) fn len(&self) -> usize {
        self.kept().len()
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<[u8; 32], Arc<Session>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn remove_oldest(kept: &mut HashMap<[u8; 32], Arc<Session>>, is_of: impl Fn(&Session) -> bool) {
    let own = kept.iter().filter(|(_, session)| is_of(session));
    let oldest = own.min_by_key(|(_, session)| session.last_used());
    if let Some(key) = oldest.map(|(key, _)| *key) {
        kept.remove(&key);
    }
}

fn key(name: &str) -> [u8; 32] {
    let mut key = [0; 32];
    key.copy_from_slice(digest(&SHA256, name.as_bytes()).as_ref());
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens() -> Tokens {
        Tokens::example()
    }

    #[test]
    fn a_session_is_found_by_its_name_until_it_ends() {
        let sessions = Sessions::default();
        let name = sessions.begin("ann", tokens());
        assert_eq!(name.len(), 43);
        assert!(sessions.find(&name).is_some());
        assert!(sessions.find("other").is_none());
        assert!(sessions.end(&name).is_some());
        assert!(sessions.find(&name).is_none() && sessions.end(&name).is_none());
    }

    #[test]
    fn sessions_are_bounded_for_each_user_and_for_all() {
        let sessions = Sessions::default();
        let first = sessions.begin("ann", tokens());
        for _ in 0..MOST_OF_USER {
            sessions.begin("ann", tokens());
        }
        assert_eq!(sessions.len(), MOST_OF_USER);
        assert!(sessions.find(&first).is_none());
        for n in 0..MOST {
            sessions.begin(&format!("user-{n}"), tokens());
        }
        assert_eq!(sessions.len(), MOST);
    }
}
