//! The endpoint `/v3/why`: the way of a URL through all components, with the hop that breaks it. Who may read the route may ask.
//!
//! The internal listener returns what is stored of a route to operators, who ask the other components themselves.

use super::prelude::*;
use super::route_propagation;
use crate::db::app::App;
use crate::db::route::Route;
use crate::db::stored_route;
use axum::Json;
use axum::response::IntoResponse as _;
use serde::Deserialize;
use wire::cc::StoredRoute;

pub(super) fn routes() -> Endpoints {
    Endpoints::default().get("/v3/why", show).takes(&["url"])
}

async fn show(State(cc): State<Cc>, who: Principal, query: Query) -> ApiResult {
    let url = query.value("url").filter(|url| !url.is_empty());
    let url = url.ok_or_else(|| {
        ApiError::bad_query("url must name a host, e.g. /v3/why?url=app.example.com/path")
    })?;
    let (mut stored, wish) = {
        let mut conn = cc.db.read().await?;
        let Some((route, domain)) = stored_route::serving(&mut conn, url).await? else {
            return Err(ApiError::not_found("Route"));
        };
        let route = who
            .find::<Route>(&mut conn, &route.guid, Right::Read)
            .await?
            .row;
        let mut stored = stored_route::read(&mut conn, &route, &domain).await?;
        // A route may lead to apps of other spaces, whose names the caller does not see.
        let guids = stored.destinations.iter().map(|found| &found.app_guid);
        let visible: Vec<App> = who.visible().any("guid", guids).all(&mut conn).await?;
        for destination in &mut stored.destinations {
            if !visible.iter().any(|app| app.guid == destination.app_guid) {
                destination.app_name.clone_from(&destination.app_guid);
            }
        }
        let wish = route_propagation::wish(&mut conn, &route, &domain).await?;
        (stored, wish)
    };
    if let Some(wish) = &wish {
        stored.propagation = route_propagation::known(&cc, wish).await;
    }
    let facts = cc.survey.facts(url, Ok(Some(stored))).await;
    Ok(ok(json!(why::explain(&facts))))
}

/// The query of the internal listener.
#[derive(Debug, Deserialize)]
pub(crate) struct Asked {
    url: String,
}

/// Returns what is stored of the route that serves a URL, `null` if no route does.
pub(crate) async fn internal(
    State(cc): State<Cc>,
    axum::extract::Query(Asked { url }): axum::extract::Query<Asked>,
) -> ApiResult {
    let mut conn = cc.db.read().await?;
    let Some((route, domain)) = stored_route::serving(&mut conn, &url).await? else {
        return Ok(Json(None::<StoredRoute>).into_response());
    };
    let mut stored = stored_route::read(&mut conn, &route, &domain).await?;
    let wish = route_propagation::wish(&mut conn, &route, &domain).await?;
    drop(conn);
    if let Some(wish) = &wish {
        stored.propagation = route_propagation::known(&cc, wish).await;
    }
    Ok(Json(Some(stored)).into_response())
}
