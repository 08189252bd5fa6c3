//! Reads access tokens: who is logged in, and until when. Only the server verifies signatures.

use base64::Engine as _;
use serde::Deserialize;

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Claims {
    pub(crate) user_name: String,
    pub(crate) user_id: String,
    pub(crate) origin: String,
    pub(crate) client_id: String,
    pub(crate) exp: u64,
    pub(crate) jti: String,
    pub(crate) revocable: bool,
}

impl Claims {
    /// Returns the claims of `bearer <jwt>`; `None` if it is no JWT.
    pub(crate) fn of(token: &str) -> Option<Self> {
        let jwt = token.split_once(' ').map_or(token, |(_, jwt)| jwt);
        let payload = jwt.split('.').nth(1)?;
        let json = base64::engine::general_purpose::URL_SAFE_NO_PAD
            .decode(payload.trim_end_matches('='))
            .ok()?;
        serde_json::from_slice(&json).ok()
    }

    /// Returns the user's name, or the client's if the token has no user.
    pub(crate) fn name(&self) -> &str {
        if self.user_name.is_empty() {
            &self.client_id
        } else {
            &self.user_name
        }
    }

    /// Returns whether the token expires in less than a minute.
    pub(crate) fn is_ending(&self, now_seconds: u64) -> bool {
        self.exp < now_seconds + 60
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_read_from_the_second_part() {
        let payload = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(
            r#"{"user_name":"admin","user_id":"u","client_id":"cf","exp":1000,"aud":["cf"]}"#,
        );
        let claims = Claims::of(&format!("bearer e30.{payload}.sig")).unwrap();
        assert_eq!((claims.name(), claims.exp), ("admin", 1000));
        assert!(claims.is_ending(950) && !claims.is_ending(900));
        assert_eq!(Claims::of("bearer nonsense"), None);
    }
}
