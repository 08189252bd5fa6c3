//! Rights that the role table does not show: resources that bodies name, flags, hidden parts of responses, names of users.

mod bodies;
mod flags;
mod names;
mod scopes;
mod shown;

pub(crate) use crate::fixture::*;
pub(crate) use crate::role_table::World;
pub(crate) use reqwest::Method;
pub(crate) use serde_json::{Value, json};

pub(crate) fn code(answer: &(u16, Value)) -> (u16, i64) {
    (
        answer.0,
        answer.1["errors"][0]["code"].as_i64().unwrap_or_default(),
    )
}

pub(crate) fn to(guid: &str) -> Value {
    json!({ "data": { "guid": guid } })
}

/// Creates an organization and a space in which nobody of the table has a role.
pub(crate) async fn foreign(f: &Foundation) -> (String, String) {
    let organization = f
        .send(
            Method::POST,
            "/v3/organizations",
            json!({ "name": "foreign" }),
        )
        .await["guid"]
        .as_str()
        .unwrap()
        .to_owned();
    let body = json!({ "name": "foreign", "relationships": { "organization": to(&organization) } });
    let space = f.send(Method::POST, "/v3/spaces", body).await["guid"]
        .as_str()
        .unwrap()
        .to_owned();
    (organization, space)
}

pub(crate) async fn role(
    world: &World,
    column: char,
    kind: &str,
    user: Value,
    place: &str,
    guid: &str,
) -> (u16, Value) {
    let body =
        json!({ "type": kind, "relationships": { "user": { "data": user }, place: to(guid) } });
    world
        .as_(column, Method::POST, "/v3/roles", Some(body))
        .await
}
