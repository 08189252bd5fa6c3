//! The past of the routers' tables, for operators: the table of an earlier time, and how many changes there were when.

use super::lists::{operator, parameters};
use crate::pages::{Pages, Refused};
use crate::refusal::{Answer, Refusal};
use crate::shared::Dash;
use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use why::table;

/// The number of routes of an answer.
const MOST: usize = 200;
/// The number of changes of an answer, the newest ones.
const CHANGES: usize = 1000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    router: Option<String>,
    /// A time of RFC 3339.
    at: Option<String>,
    #[serde(default)]
    q: String,
}

/// Returns the router of that name, or the first one.
fn router<'a>(dash: &'a Dash, name: Option<&str>) -> Answer<&'a Pages> {
    let mut routers = dash.routers.iter();
    let found = routers.find(|pages| name.is_none_or(|name| pages.name() == name));
    found.ok_or_else(|| Refusal::not_found("no router of that name is configured"))
}

/// Converts the router's refusal of a time, whose text names the remedy.
fn refused(error: anyhow::Error) -> Refusal {
    match error.downcast_ref::<Refused>() {
        Some(refused) => {
            let status = StatusCode::from_u16(refused.status);
            Refusal::new(
                status.unwrap_or(StatusCode::BAD_GATEWAY),
                refused.text.clone(),
            )
        }
        None => error.into(),
    }
}

pub(super) async fn table(
    State(dash): State<Dash>,
    headers: HeaderMap,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Answer<Json<Value>> {
    operator(&dash, &headers).await?;
    let asked = parameters(asked)?;
    let pages = router(&dash, asked.router.as_deref())?;
    let page = pages.table(asked.at.as_deref()).await.map_err(refused)?;
    let text = asked.q.trim().to_lowercase();
    let routes = page.as_object().into_iter().flatten();
    let found: Vec<_> = routes
        .filter(|(uri, _)| uri.to_lowercase().contains(&text))
        .collect();
    let total = found.len();
    let rows = found.into_iter().take(MOST).map(|(uri, endpoints)| {
        let of = |row: &Value| {
            json!({
                "address": row["address"], "instance_guid": row["private_instance_id"],
                "tls": row["tls"], "component": row["tags"]["component"], "app_guid": row["tags"]["app_id"],
            })
        };
        let endpoints = endpoints.as_array().into_iter().flatten().map(of);
        json!({ "uri": uri, "endpoints": endpoints.collect::<Vec<_>>() })
    });
    let rows: Vec<Value> = rows.collect();
    let met = match asked.q.contains('.') {
        true => Some(encounter(page.clone(), asked.q.trim())?),
        false => None,
    };
    Ok(Json(
        json!({ "router": pages.name(), "total": total, "rows": rows, "meets": met }),
    ))
}

/// Returns what a request meets in a table.
fn encounter(page: Value, request: &str) -> Answer<Value> {
    let table =
        table::read(page).map_err(|fault| anyhow::anyhow!("read the router's table: {fault}"))?;
    let request = request.split_once("://").map_or(request, |(_, rest)| rest);
    let (host, path) = match request.find('/') {
        Some(at) => request.split_at(at),
        None => (request, "/"),
    };
    Ok(json!(table::encounter(&table, host, path)))
}

/// Returns the changes that a router keeps, for the time line.
pub(super) async fn history(
    State(dash): State<Dash>,
    headers: HeaderMap,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Answer<Json<Value>> {
    operator(&dash, &headers).await?;
    let asked = parameters(asked)?;
    let pages = router(&dash, asked.router.as_deref())?;
    let page = pages.changes(0).await.map_err(refused)?;
    let text = asked.q.trim().to_lowercase();
    let has = |change: &&why::changes::Change| change.uri.to_lowercase().contains(&text);
    let total = page.changes.iter().filter(has).count();
    let newest = page.changes.iter().rev().filter(has).take(CHANGES);
    let names: Vec<&str> = dash.routers.iter().map(Pages::name).collect();
    Ok(Json(json!({
        "router": pages.name(), "routers": names, "since": page.since, "total": total,
        "rows": newest.collect::<Vec<_>>(),
    })))
}
