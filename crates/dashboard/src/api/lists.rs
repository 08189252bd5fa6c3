//! Lists and values, each limited to what the user may see.

use crate::access::Viewer;
use crate::live::now;
use crate::picture::train::Train;
use crate::picture::verdict::Route;
use crate::picture::{health, rows};
use crate::refusal::{Answer, Refusal};
use crate::shared::Dash;
use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{self, Path, State};
use axum::http::HeaderMap;
use serde::Deserialize;
use serde_json::{Value, json};

/// The longest text of a query.
const LONGEST: usize = 200;
/// The highest number of changes of a page.
const CHANGES: usize = 200;

/// The parameters of a list.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Asked {
    q: String,
    state: String,
    sort: String,
    order: String,
    offset: usize,
    limit: usize,
}

pub(super) type Parameters<T> = Result<extract::Query<T>, QueryRejection>;

/// Returns the parameters, or a refusal that names the wrong one.
pub(super) fn parameters<T>(given: Parameters<T>) -> Answer<T> {
    match given {
        Ok(extract::Query(asked)) => Ok(asked),
        Err(error) => Err(Refusal::bad_request(error.body_text())),
    }
}

fn query(given: Parameters<Asked>) -> Answer<rows::Query> {
    let asked = parameters(given)?;
    if asked.q.len() > LONGEST {
        return Err(Refusal::bad_request(format!(
            "q is longer than {LONGEST} bytes"
        )));
    }
    let is_descending = match asked.order.as_str() {
        "" | "ascending" => false,
        "descending" => true,
        _ => {
            return Err(Refusal::bad_request(
                "order must be ascending or descending",
            ));
        }
    };
    Ok(rows::Query {
        text: asked.q.trim().to_lowercase(),
        state: asked.state,
        sort: asked.sort,
        is_descending,
        offset: asked.offset,
        limit: asked.limit,
    })
}

/// Returns whether a user may see a route: one of its apps, or as an operator any.
pub(super) fn sees_route(viewer: &Viewer, route: &Route) -> bool {
    viewer.is_operator() || route.apps.iter().any(|app| viewer.sees(&app.guid))
}

/// Returns whether a user may see a change: it is of an app, or as an operator any.
pub(super) fn sees_train(viewer: &Viewer, train: &Train) -> bool {
    viewer.sees(&train.app)
}

pub(super) fn me_of(dash: &Dash, viewer: &Viewer) -> Value {
    json!({
        "user": viewer.user_name,
        "role": if viewer.is_operator() { "operator" } else { "developer" },
        "api": dash.facts.api_url,
    })
}

pub(super) async fn me(State(dash): State<Dash>, headers: HeaderMap) -> Answer<Json<Value>> {
    let viewer = dash.viewer(&headers).await?;
    Ok(Json(me_of(&dash, &viewer)))
}

pub(super) fn picture_of(dash: &Dash, viewer: &Viewer) -> Value {
    let now = now();
    let routes = dash.live.routes();
    let seen: Vec<&Route> = routes
        .iter()
        .filter(|route| sees_route(viewer, route))
        .collect();
    dash.live.read(|picture| {
        let model = &picture.model;
        json!({
            "now": now as f64 / 1000.0,
            "health": health::health(model, &seen, |app| viewer.sees(app), now),
            "stations": viewer.is_operator().then(|| health::stations(model, now)),
        })
    })
}

pub(super) async fn picture(State(dash): State<Dash>, headers: HeaderMap) -> Answer<Json<Value>> {
    let viewer = dash.viewer(&headers).await?;
    Ok(Json(picture_of(&dash, &viewer)))
}

/// Returns the newest changes whose ids are below `before`.
pub(super) fn changes_of(dash: &Dash, viewer: &Viewer, before: u64, limit: usize) -> Value {
    dash.live.read(|picture| {
        let trains = picture.trains.after(0);
        let seen = trains.filter(|train| train.id < before && sees_train(viewer, train));
        let rows: Vec<Value> = seen
            .take(limit.clamp(1, CHANGES))
            .map(Train::json)
            .collect();
        json!({ "revision": picture.trains.revision(), "rows": rows })
    })
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Before {
    before: Option<u64>,
    limit: Option<usize>,
}

pub(super) async fn changes(
    State(dash): State<Dash>,
    headers: HeaderMap,
    asked: Parameters<Before>,
) -> Answer<Json<Value>> {
    let viewer = dash.viewer(&headers).await?;
    let asked = parameters(asked)?;
    let (before, limit) = (asked.before.unwrap_or(u64::MAX), asked.limit.unwrap_or(50));
    Ok(Json(changes_of(&dash, &viewer, before, limit)))
}

pub(super) async fn change(
    State(dash): State<Dash>,
    headers: HeaderMap,
    Path(id): Path<u64>,
) -> Answer<Json<Value>> {
    let viewer = dash.viewer(&headers).await?;
    let found = dash.live.read(|picture| {
        let train = picture.trains.get(id);
        train
            .filter(|train| sees_train(&viewer, train))
            .map(Train::json)
    });
    found
        .map(Json)
        .ok_or_else(|| Refusal::not_found(format!("no change {id} is kept")))
}

pub(super) async fn routes(
    State(dash): State<Dash>,
    headers: HeaderMap,
    asked: Parameters<Asked>,
) -> Answer<Json<Value>> {
    let viewer = dash.viewer(&headers).await?;
    let query = query(asked)?;
    let routes = dash.live.routes();
    let seen: Vec<&Route> = routes
        .iter()
        .filter(|route| sees_route(&viewer, route))
        .collect();
    Ok(Json(rows::routes(&seen, &query).json(query.offset)))
}

pub(super) async fn instances(
    State(dash): State<Dash>,
    headers: HeaderMap,
    asked: Parameters<Asked>,
) -> Answer<Json<Value>> {
    let viewer = dash.viewer(&headers).await?;
    let query = query(asked)?;
    let listing = dash
        .live
        .read(|picture| rows::instances(&picture.model, |app| viewer.sees(app), &query));
    Ok(Json(listing.json(query.offset)))
}

pub(super) async fn cells(
    State(dash): State<Dash>,
    headers: HeaderMap,
    asked: Parameters<Asked>,
) -> Answer<Json<Value>> {
    operator(&dash, &headers).await?;
    let query = query(asked)?;
    let listing = dash
        .live
        .read(|picture| rows::cells(&picture.model, &query));
    Ok(Json(listing.json(query.offset)))
}

pub(super) async fn routers(
    State(dash): State<Dash>,
    headers: HeaderMap,
    asked: Parameters<Asked>,
) -> Answer<Json<Value>> {
    operator(&dash, &headers).await?;
    let query = query(asked)?;
    let listing = dash
        .live
        .read(|picture| rows::routers(&picture.model, now(), &query));
    Ok(Json(listing.json(query.offset)))
}

/// Returns the user if it is an operator.
pub(super) async fn operator(dash: &Dash, headers: &HeaderMap) -> Answer<Viewer> {
    let viewer = dash.viewer(headers).await?;
    match viewer.is_operator() {
        true => Ok(viewer),
        false => Err(Refusal::operators_only()),
    }
}

pub(super) async fn search(
    State(dash): State<Dash>,
    headers: HeaderMap,
    asked: Parameters<Asked>,
) -> Answer<Json<Value>> {
    let viewer = dash.viewer(&headers).await?;
    let query = query(asked)?;
    let routes = dash.live.routes();
    let seen: Vec<&Route> = routes
        .iter()
        .filter(|route| sees_route(&viewer, route))
        .collect();
    let sees = |app: &str| viewer.sees(app);
    let hits = dash.live.read(|picture| {
        rows::search(
            &picture.model,
            &seen,
            sees,
            viewer.is_operator(),
            &query.text,
        )
    });
    Ok(Json(json!({ "hits": hits })))
}
