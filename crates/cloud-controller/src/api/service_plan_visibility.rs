//! The endpoints `/v3/service_plans/GUID/visibility`: who may use a plan.
//!
//! | Type | Who may use the plan |
//! |---|---|
//! | `public` | everybody |
//! | `organization` | the organizations that are listed |
//! | `admin` | nobody but administrators |
//! | `space` | the space of the plan's broker; it cannot be changed |

use super::prelude::*;
use super::service_plan::{Surroundings, find_to_change};
use crate::actions::audit::{self, Place};
use crate::db::organization::{self as organizations, Organization};
use crate::db::service_plan::ServicePlan;
use crate::db::service_plan_visibility as visibilities;
use crate::db::space as spaces;
use serde_json::Map;

pub(super) fn routes() -> Endpoints {
    let path = "/v3/service_plans/{guid}/visibility";
    Endpoints::default()
        .get(path, show)
        .patch(path, replace)
        .body(&["type", "organizations[].guid"])
        .post(path, append)
        .body(&["type", "organizations[].guid"])
        .delete(&format!("{path}/{{organization}}"), remove)
}

/// Returns the type of a plan's visibility.
async fn type_of(conn: &mut Connection, plan: &ServicePlan) -> ApiResult<&'static str> {
    let around = Surroundings::of(conn, std::slice::from_ref(plan)).await?;
    Ok(around.visibility(plan))
}

/// Presents a visibility, with those of its organizations that the caller sees unless `is_short`.
async fn present(
    conn: &mut Connection,
    who: &Principal,
    plan: &ServicePlan,
    is_short: bool,
) -> ApiResult<Value> {
    let plans = std::slice::from_ref(plan);
    let around = Surroundings::of(conn, plans).await?;
    let kind = around.visibility(plan);
    let mut shown = json!({ "type": kind });
    if let Some(space) = around.space(plan).filter(|_| kind == "space") {
        let space = spaces::all_of(conn, &[space.to_owned()]).await?;
        let space = space.into_iter().next();
        shown["space"] = space
            .map(|space| json!({ "guid": space.guid, "name": space.name }))
            .unwrap_or_default();
    }
    if kind == "organization" && !is_short {
        let select = who.visible::<Organization>();
        let select = select.that(visibilities::organizations_of(&plan.guid));
        let rows = select.all(conn).await?;
        let rows = rows
            .iter()
            .map(|row| json!({ "guid": row.guid, "name": row.name }));
        shown["organizations"] = rows.collect();
    }
    Ok(shown)
}

async fn show(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    let mut conn = cc.db.read().await?;
    let plan = who
        .find::<ServicePlan>(&mut conn, &guid, Right::Read)
        .await?
        .row;
    Ok(ok(present(&mut conn, &who, &plan, false).await?))
}

/// The wish of a request.
enum Wish {
    Public,
    Admin,
    Organizations(Vec<String>),
}

/// Reads a wish. Wrong values are answered with 400, as in the original.
fn read(request: &Map<String, Value>) -> ApiResult<Wish> {
    let listed = request.get("organizations").filter(|list| !list.is_null());
    let kind = request.get("type").and_then(Value::as_str);
    match (kind, listed) {
        (Some("public"), None) => Ok(Wish::Public),
        (Some("admin"), None) => Ok(Wish::Admin),
        (Some("public" | "admin"), Some(_)) => {
            Err(ApiError::bad_request("Organizations must be blank"))
        }
        (Some("organization"), Some(Value::Array(list))) if !list.is_empty() => {
            let guids = list
                .iter()
                .map(|item| item.get("guid").and_then(Value::as_str).map(str::to_owned));
            let guids: Option<Vec<String>> = guids.collect();
            guids.map(Wish::Organizations).ok_or_else(|| {
                ApiError::bad_request("Organizations organizations list must be structured like this: \"organizations\": [{\"guid\": \"valid-guid\"}]")
            })
        }
        (Some("organization"), Some(Value::Array(_)) | None) => {
            Err(ApiError::bad_request("Organizations can't be blank"))
        }
        (Some("organization"), Some(_)) => {
            Err(ApiError::bad_request("Organizations must be an array"))
        }
        _ => Err(ApiError::bad_request(
            "Type must be one of 'public', 'admin', 'organization'",
        )),
    }
}

async fn replace(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    body: Body,
) -> ApiResult {
    change(cc, who, guid, body, false).await
}

async fn append(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    body: Body,
) -> ApiResult {
    change(cc, who, guid, body, true).await
}

/// Changes who may use a plan. With `appends`, organizations are added to those that may use it already.
async fn change(cc: Cc, who: Principal, guid: String, body: Body, appends: bool) -> ApiResult {
    let mut tx = cc.change().await?;
    let mut plan = find_to_change(&mut tx, &who, &guid).await?;
    let request = body.finish()?;
    let wish = read(&request)?;
    if type_of(&mut tx, &plan).await? == "space" {
        return Err(ApiError::unprocessable(
            "cannot update plans with visibility type 'space'",
        ));
    }
    plan.is_public = matches!(wish, Wish::Public);
    match &wish {
        Wish::Organizations(guids) => {
            let known = organizations::all_of(&mut tx, guids).await?;
            let is_unknown = |guid: &&String| !known.iter().any(|row| row.guid == **guid);
            if let Some(unknown) = guids.iter().find(is_unknown) {
                return Err(ApiError::unprocessable(format!(
                    "Could not find Organization with guid: {unknown}"
                )));
            }
            if !appends {
                visibilities::clear(&mut tx, &plan.guid).await?;
            }
            for guid in guids {
                visibilities::add(&mut tx, &plan.guid, guid).await?;
            }
        }
        Wish::Public | Wish::Admin => visibilities::clear(&mut tx, &plan.guid).await?,
    }
    plan.touch();
    db::update(&mut tx, &plan).await?;
    let kind = "audit.service_plan_visibility.update";
    let target = (plan.guid.as_str(), "service_plan_visibility", "");
    let data = json!({ "request": request });
    let trail = audit::record(&mut tx, &who, kind, target, Place::Platform, data).await?;
    let shown = present(&mut tx, &who, &plan, appends).await?;
    tx.commit(trail).await?;
    Ok(ok(shown))
}

async fn remove(
    State(cc): State<Cc>,
    who: Principal,
    Path((guid, organization)): Path<(String, String)>,
) -> ApiResult {
    let mut tx = cc.change().await?;
    let plan = find_to_change(&mut tx, &who, &guid).await?;
    if type_of(&mut tx, &plan).await? != "organization" {
        return Err(ApiError::unprocessable(
            "Cannot delete visibilities from non-org-restricted plans",
        ));
    }
    let organization = organizations::all_of(&mut tx, &[organization]).await?;
    let organization = organization.into_iter().next();
    let organization = organization.ok_or_else(|| ApiError::not_found("Organization"))?;
    let row = visibilities::find(&mut tx, &plan.guid, &organization.guid).await?;
    let row = row.ok_or_else(|| ApiError::not_found("Service plan visibility"))?;
    visibilities::remove(&mut tx, &row).await?;
    let kind = "audit.service_plan_visibility.delete";
    let target = (plan.guid.as_str(), "service_plan_visibility", "");
    let data = json!({ "request": {} });
    let trail = audit::record(&mut tx, &who, kind, target, &organization, data).await?;
    tx.commit(trail).await?;
    Ok(no_content())
}
