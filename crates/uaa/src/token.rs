//! The claims of tokens. The module is pure: time and ids come in as arguments.

use crate::db::{StoredClient, User};
use base64::Engine as _;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Validity {
    pub(crate) access: Duration,
    pub(crate) refresh: Duration,
}

impl Validity {
    /// Returns the longest lifetime of any token.
    pub(crate) fn longest(self) -> Duration {
        self.access.max(self.refresh)
    }

    /// Returns the validity for a client, which may set its own.
    pub(crate) fn of_client(self, client: &StoredClient) -> Self {
        let own = |seconds: Option<u32>, all: Duration| {
            seconds.map_or(all, |seconds| Duration::from_secs(seconds.into()))
        };
        Self {
            access: own(client.access_validity, self.access),
            refresh: own(client.refresh_validity, self.refresh),
        }
    }
}

/// The parameters of a grant.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grant<'a> {
    pub(crate) client: &'a StoredClient,
    /// The user; `None` means that the client acts for itself.
    pub(crate) user: Option<&'a User>,
    pub(crate) kind: &'a str,
    pub(crate) scope: &'a [String],
    /// The issuer: `https://uaa.<system domain>/oauth/token`.
    pub(crate) issuer: &'a str,
    /// The current time in Unix seconds.
    pub(crate) now: u64,
    /// The time at which the user entered the password. Except for a refresh, it equals `now`.
    pub(crate) authenticated_at: u64,
    pub(crate) jti: &'a str,
    /// The `jti` of the login's first token. All tokens that follow from it are revoked together.
    pub(crate) session: &'a str,
    /// The [`signature`] of the client and the user.
    pub(crate) rev_sig: &'a str,
}

/// Returns the scopes of a token for a user with the `granted` groups through a client that may have `allowed`, if `requested` is
/// requested (an empty list requests everything possible). The error is the first requested scope that cannot be granted.
pub(crate) fn scopes(
    granted: &[String],
    allowed: &[String],
    requested: &[String],
) -> Result<Vec<String>, String> {
    let possible: BTreeSet<&String> = granted
        .iter()
        .filter(|scope| allowed.contains(scope))
        .collect();
    if requested.is_empty() {
        return Ok(possible.into_iter().cloned().collect());
    }
    match requested.iter().find(|scope| !possible.contains(scope)) {
        Some(refused) => Err(refused.clone()),
        // Each scope is listed once, because a request can name a scope ten thousand times.
        None => {
            let wanted: BTreeSet<&String> = requested.iter().collect();
            Ok(wanted.into_iter().cloned().collect())
        }
    }
}

pub(crate) fn access(grant: &Grant<'_>, validity: Duration) -> Map<String, Value> {
    let mut claims = base(grant, validity);
    claims.insert("aud".into(), json!(audience(grant)));
    claims.insert("scope".into(), json!(grant.scope));
    if grant.user.is_none() {
        claims.insert("authorities".into(), json!(grant.scope));
    }
    claims
}

/// Returns the claims of a refresh token. It contains the scopes that it can grant again. Its `jti` ends with `-r`, so that no
/// API accepts it as an access token.
pub(crate) fn refresh(grant: &Grant<'_>, validity: Duration) -> Map<String, Value> {
    let mut claims = base(grant, validity);
    claims.insert("jti".into(), json!(format!("{}-r", grant.session)));
    claims.insert("aud".into(), json!(audience(grant)));
    claims.insert("granted_scopes".into(), json!(grant.scope));
    claims
}

fn base(grant: &Grant<'_>, validity: Duration) -> Map<String, Value> {
    let client = &grant.client.id;
    let mut claims = json!({
        "jti": grant.jti, "client_id": client, "cid": client, "azp": client, "grant_type": grant.kind,
        "rev_sig": grant.rev_sig, "iat": grant.now, "exp": grant.now + validity.as_secs(),
        "iss": grant.issuer, "zid": "uaa", "revocable": false, "session": grant.session,
    });
    let extra = match grant.user {
        Some(user) => json!({
            "sub": user.id, "user_id": user.id, "user_name": user.user_name, "origin": user.origin, "email": user.email,
            "auth_time": grant.authenticated_at,
        }),
        None => json!({ "sub": client }),
    };
    if let (Value::Object(claims), Value::Object(extra)) = (&mut claims, extra) {
        claims.extend(extra);
    }
    match claims {
        Value::Object(claims) => claims,
        _ => Map::new(),
    }
}

/// Returns a text that changes with the user's password and the client's secret, and when the tokens of the user, the client or
/// the pair are revoked. Tokens with another signature are no longer valid. `pair_epoch` counts the revocations of the pair.
pub(crate) fn signature(client: &StoredClient, user: Option<&User>, pair_epoch: i64) -> String {
    let mut text = format!(
        "{}\0{}\0{}\0",
        client.id, client.secret_hash, client.tokens_epoch
    );
    if let Some(user) = user {
        text.push_str(&format!(
            "{}\0{}\0{}\0{pair_epoch}",
            user.id,
            user.password_hash.as_deref().unwrap_or(""),
            user.tokens_epoch
        ));
    }
    hex::encode(
        &aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes()).as_ref()[..8],
    )
}

/// Returns the digest of a secret that a client proves with a one-time code (PKCE, method S256).
pub(crate) fn challenge(verifier: &str) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, verifier.as_bytes());
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(digest)
}

/// Returns the audience of the token: each resource of its scopes, and the client itself.
fn audience(grant: &Grant<'_>) -> Vec<String> {
    let resources = grant.scope.iter().map(|scope| {
        scope
            .rsplit_once('.')
            .map_or(scope.as_str(), |(resource, _)| resource)
    });
    let all: BTreeSet<&str> = resources.chain([grant.client.id.as_str()]).collect();
    all.into_iter().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(words: &str) -> Vec<String> {
        words.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn scopes_are_what_both_sides_allow() {
        assert_eq!(scopes(&list("a b c"), &list("b c d"), &[]), Ok(list("b c")));
        assert_eq!(
            scopes(&list("a b c"), &list("b c d"), &list("c")),
            Ok(list("c"))
        );
        assert_eq!(
            scopes(&list("a b c"), &list("b c d"), &list("c b c c")),
            Ok(list("b c"))
        );
        assert_eq!(
            scopes(&list("a b c"), &list("b c d"), &list("c d")),
            Err("d".into())
        );
    }

    #[test]
    fn a_challenge_is_that_of_the_standard() {
        // RFC 7636, appendix B.
        assert_eq!(
            challenge("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"),
            "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
        );
    }

    #[test]
    fn claims_are_what_cli_and_cloud_controller_read() {
        let client = StoredClient {
            id: "cf".into(),
            ..StoredClient::default()
        };
        let user = User {
            id: "u-1".into(),
            user_name: "ann".into(),
            origin: "uaa".into(),
            ..User::default()
        };
        let scope = list("cloud_controller.read openid");
        let grant = Grant {
            client: &client,
            user: Some(&user),
            kind: "password",
            scope: &scope,
            issuer: "http://uaa.x/oauth/token",
            now: 100,
            authenticated_at: 100,
            jti: "j",
            session: "s",
            rev_sig: "r",
        };
        let claims = access(&grant, Duration::from_secs(60));
        assert_eq!(
            (&claims["user_name"], &claims["user_id"], &claims["origin"]),
            (&json!("ann"), &json!("u-1"), &json!("uaa"))
        );
        assert_eq!(
            (&claims["exp"], &claims["aud"]),
            (&json!(160), &json!(["cf", "cloud_controller", "openid"]))
        );
        assert_eq!(refresh(&grant, Duration::from_secs(60))["jti"], "s-r");
        let own = access(
            &Grant {
                user: None,
                kind: "client_credentials",
                ..grant
            },
            Duration::from_secs(60),
        );
        assert!(!own.contains_key("user_name") && own["sub"] == "cf");
    }
}
