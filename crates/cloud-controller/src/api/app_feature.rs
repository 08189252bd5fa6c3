//! The features of an app (ssh, revisions, service bindings as files), whether ssh works for it, the answer to the ssh-proxy whether a
//! user may log in, and the app's revisions (none are recorded yet).

use super::prelude::*;
use crate::actions::{self, audit};
use crate::db::app::{App, BindingDelivery};
use crate::db::process::Process;
use crate::db::space::Space;

pub(super) fn routes() -> Endpoints {
    Endpoints::default()
        .get("/v3/apps/{guid}/features", list)
        .get("/v3/apps/{guid}/features/{name}", show)
        .patch("/v3/apps/{guid}/features/{name}", update)
        .body(&["enabled"])
        .get("/v3/apps/{guid}/ssh_enabled", ssh_enabled)
        .get("/internal/apps/{guid}/ssh_access/{index}", ssh_access)
        .get("/v3/apps/{guid}/revisions", no_revisions)
        .lists(&["versions", "deployable"])
        .get("/v3/apps/{guid}/revisions/deployed", no_revisions)
        .lists(&[])
        .get("/v3/revisions/{guid}", no_revision)
}

/// The reason why the feature cannot be enabled.
const NO_REVISIONS: &str =
    "Feature 'revisions' is not supported yet: no revisions are recorded; it can only be disabled";

fn present(app: &App, name: &str) -> Option<Value> {
    match name {
        "ssh" => Some(
            json!({ "name": "ssh", "description": "Enable SSHing into the app.", "enabled": app.enable_ssh }),
        ),
        "revisions" => Some(
            json!({ "name": "revisions", "description": "Enable versioning of an application", "enabled": app.revisions_enabled }),
        ),
        _ => {
            let delivery = delivery(name)?;
            let description = match delivery {
                BindingDelivery::VcapFile => "Enable file-based VCAP service bindings for the app",
                _ => "Enable k8s service bindings for the app",
            };
            let is_on = app.delivery == delivery;
            Some(json!({ "name": name, "description": description, "enabled": is_on }))
        }
    }
}

/// Returns the way of delivery that a feature switches on.
fn delivery(name: &str) -> Option<BindingDelivery> {
    let delivery: BindingDelivery = name.parse().ok()?;
    (delivery != BindingDelivery::Variable).then_some(delivery)
}

async fn list(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    let mut conn = cc.db.read().await?;
    let app = who.find::<App>(&mut conn, &guid, Right::Read).await?.row;
    let names = [
        "ssh",
        "revisions",
        BindingDelivery::Folders.as_str(),
        BindingDelivery::VcapFile.as_str(),
    ];
    let features = names
        .iter()
        .filter_map(|name| present(&app, name))
        .collect();
    Ok(ok(cc.short_list(
        &format!("/v3/apps/{guid}/features"),
        features,
    )))
}

async fn show(
    State(cc): State<Cc>,
    who: Principal,
    Path((guid, name)): Path<(String, String)>,
) -> ApiResult {
    let mut conn = cc.db.read().await?;
    let app = who.find::<App>(&mut conn, &guid, Right::Read).await?.row;
    Ok(ok(
        present(&app, &name).ok_or_else(|| ApiError::not_found("Feature"))?
    ))
}

async fn update(
    State(cc): State<Cc>,
    who: Principal,
    Path((guid, name)): Path<(String, String)>,
    mut body: Body,
) -> ApiResult {
    let mut tx = cc.change().await?;
    let found = who.find::<App>(&mut tx, &guid, Right::Read).await?;
    // Supporters may set only this feature.
    found.access.must(if name == "revisions" {
        Right::Support
    } else {
        Right::Develop
    })?;
    let mut app = found.row;
    let enabled = body.bool("enabled");
    if enabled.is_none() {
        body.problem("Enabled must be a boolean");
    }
    if name == "revisions" && enabled == Some(true) {
        body.problem(NO_REVISIONS);
    }
    body.finish()?;
    match name.as_str() {
        "ssh" => app.enable_ssh = enabled.unwrap_or_default(),
        "revisions" => app.revisions_enabled = enabled.unwrap_or_default(),
        name => {
            let delivery = delivery(name).ok_or_else(|| ApiError::not_found("Feature"))?;
            actions::app::set_delivery(&mut app, delivery, enabled.unwrap_or_default())?;
            let keys = &cc.settings.keys;
            actions::service_credential_binding::check_delivery(&mut tx, keys, &app).await?;
        }
    }
    app.touch();
    db::update(&mut tx, &app).await?;
    tx.commit(Unrecorded::NoSuchEvent).await?;
    Ok(ok(present(&app, &name).unwrap_or_default()))
}

async fn ssh_enabled(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    let mut conn = cc.db.read().await?;
    let found = who.find::<App>(&mut conn, &guid, Right::Read).await?;
    let reason = why_no_ssh(&cc, &found.of.space, &found.row).unwrap_or_default();
    Ok(ok(
        json!({ "enabled": reason.is_empty(), "reason": reason }),
    ))
}

/// Returns the reason why nobody may use SSH with an app. The foundation, the space and the app must all permit it.
fn why_no_ssh(cc: &Cc, space: &Space, app: &App) -> Option<String> {
    if cc.settings.app_ssh.is_none() {
        Some("ssh is disabled globally".to_owned())
    } else if !space.allow_ssh {
        Some(format!("ssh is disabled for space '{}'", space.name))
    } else if !app.enable_ssh {
        Some("ssh is disabled for app".to_owned())
    } else {
        None
    }
}

/// The length of the longest index that an event gets.
const LONGEST_INDEX: usize = 10;

/// Answers the ssh-proxy, which sends the user's token: whether the user may log in to an instance of this process. The answer has
/// the name of the LRP. Every attempt leaves an event. A caller who does not see the process gets the same 403 as one who sees it.
async fn ssh_access(
    State(cc): State<Cc>,
    who: Principal,
    Path((guid, index)): Path<(String, String)>,
) -> ApiResult {
    let invalid = || ApiError::new(400, 10004, "InvalidRequest", "The request is invalid");
    if index.is_empty()
        || index.len() > LONGEST_INDEX
        || index.contains(|c: char| !c.is_ascii_digit())
    {
        return Err(invalid());
    }
    let mut tx = cc.change().await?;
    let found = who
        .existing::<Process>(&mut tx, &guid, Right::Read, "The app could not be found")
        .await
        .map_err(|error| match error.status {
            http::StatusCode::UNPROCESSABLE_ENTITY => ApiError::not_found("App"),
            _ => error,
        })?;
    let (app, space) = (&found.of.app, &found.of.space);
    let refusal = match found.access.must(Right::Develop) {
        Err(refusal) => Some(refusal),
        Ok(()) => why_no_ssh(&cc, space, app).map(|_| invalid()),
    };
    let kind = match refusal {
        Some(_) => "audit.app.ssh-unauthorized",
        None => "audit.app.ssh-authorized",
    };
    let trail = audit::of_app(&mut tx, &who, kind, app, json!({ "index": index })).await?;
    tx.commit(trail).await?;
    match refusal {
        Some(refusal) => Err(refusal),
        None => Ok(ok(json!({ "process_guid": found.row.lrp_guid() }))),
    }
}

async fn no_revisions(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    uri: Uri,
) -> ApiResult {
    who.find::<App>(&mut *cc.db.read().await?, &guid, Right::Read)
        .await?;
    Ok(ok(cc.short_list(uri.path(), Vec::new())))
}

async fn no_revision(_who: Principal) -> ApiResult {
    Err(ApiError::not_found("Revision"))
}
