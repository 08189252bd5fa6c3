//! Looks up users at the UAA.

use super::prelude::*;
use crate::db::user::User;

/// Returns all users of this name, in one origin or in all. `None` means that the UAA could not be requested.
pub(super) async fn by_name(
    cc: &Cc,
    who: &Principal,
    username: &str,
    origin: Option<&str>,
) -> Option<Vec<User>> {
    let mut filter = format!("userName eq {}", quoted(username)?);
    if let Some(origin) = origin {
        filter.push_str(&format!(" and origin eq {}", quoted(origin)?));
    }
    let mut found = fetch_users(cc, who, &filter).await?;
    // Whatever the UAA returned for the filter, a role must never be assigned to a user of another name.
    found.retain(|user| {
        let same = |name: &str| name.eq_ignore_ascii_case(username);
        user.username.as_deref().is_some_and(same)
            && origin.is_none_or(|origin| user.origin.as_deref() == Some(origin))
    });
    Some(found)
}

/// Returns a user. `None` means that there is no such user, or that the UAA could not be requested.
pub(super) async fn of_guid(cc: &Cc, who: &Principal, guid: &str) -> Option<User> {
    let found = fetch_users(cc, who, &format!("id eq {}", quoted(guid)?)).await?;
    found.into_iter().find(|user| user.guid == guid)
}

/// Quotes a text for a filter. `None` is returned for a text that no user's name contains and that is not safe in a filter.
fn quoted(text: &str) -> Option<String> {
    let safe = !text.contains(['"', '\\']) && !text.chars().any(char::is_control);
    safe.then(|| format!("\"{text}\""))
}

async fn fetch_users(cc: &Cc, who: &Principal, filter: &str) -> Option<Vec<User>> {
    let filter = percent_encoding::utf8_percent_encode(filter, percent_encoding::NON_ALPHANUMERIC);
    let url = format!("{}/Users?filter={filter}", cc.settings.uaa_internal_url);
    let authorization = authorization(cc, who).await;
    let answer = cc
        .http
        .get(url)
        .header("authorization", authorization)
        .send()
        .await
        .ok()?
        .error_for_status()
        .ok()?;
    let answer: Value = answer.json().await.ok()?;
    Some(
        answer
            .get("resources")?
            .as_array()?
            .iter()
            .filter_map(user)
            .collect(),
    )
}

fn user(json: &Value) -> Option<User> {
    let text = |key: &str| json.get(key).and_then(Value::as_str).map(str::to_owned);
    Some(User {
        guid: text("id")?,
        username: text("userName"),
        origin: text("origin"),
        ..User::fresh()
    })
}

/// Returns this component's own token if it has a client, or else the caller's.
async fn authorization(cc: &Cc, who: &Principal) -> String {
    let own = async {
        let client = cc.settings.uaa_client.as_ref()?;
        let request = cc
            .http
            .post(format!("{}/oauth/token", cc.settings.uaa_internal_url))
            .basic_auth(&client.id, Some(&client.secret));
        let answer: Value = request
            .form(&[("grant_type", "client_credentials")])
            .send()
            .await
            .ok()?
            .json()
            .await
            .ok()?;
        Some(format!("bearer {}", answer.get("access_token")?.as_str()?))
    };
    own.await.unwrap_or_else(|| who.authorization.clone())
}
