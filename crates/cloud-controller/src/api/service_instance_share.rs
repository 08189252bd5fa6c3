//! The endpoints `/v3/service_instances/:guid/relationships/shared_spaces`: the other spaces whose apps may be bound to a managed instance.
//!
//! A user-provided instance belongs to one space, as in the original. To unshare an instance removes its bindings in the other space; when
//! their broker is slow, the request fails and is repeated later.

use super::fields::{self, Fields};
use super::prelude::*;
use crate::actions::job::DELETE_SERVICE_BINDING;
use crate::actions::managed_binding::{self, Removal};
use crate::actions::{audit, service_instance_share as verbs};
use crate::db::service_credential_binding;
use crate::db::service_instance::ServiceInstance;
use crate::db::service_instance_share as shares;
use crate::db::space::Space;
use crate::flags::Flag;
use crate::{clock, jobs};
use std::collections::BTreeMap;

const PATH: &str = "/v3/service_instances/{guid}/relationships/shared_spaces";

pub(super) fn routes() -> Endpoints {
    Endpoints::default()
        .get(PATH, shared_spaces)
        .takes(fields::OF_SPACES)
        .post(PATH, share)
        .body(&["data[].guid"])
        .get(&format!("{PATH}/usage_summary"), usage_summary)
        .delete(&format!("{PATH}/{{space}}"), unshare)
}

async fn find(
    conn: &mut Connection,
    who: &Principal,
    guid: &str,
    right: Right,
) -> ApiResult<Found<ServiceInstance>> {
    who.find::<ServiceInstance>(conn, guid, right).await
}

fn shares_path(guid: &str) -> String {
    PATH.replace("{guid}", guid)
}

async fn shared_spaces(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    query: Query,
) -> ApiResult {
    let fields = Fields::of(&query)?;
    let mut conn = cc.db.read().await?;
    find(&mut conn, &who, &guid, Right::Read).await?;
    let spaces = shares::spaces(&mut conn, &guid).await?;
    let mut answer = present(&cc, &guid, &spaces);
    if let Some(included) = fields.included_with(&mut conn, &spaces).await? {
        answer["included"] = included;
    }
    Ok(ok(answer))
}

fn present(cc: &Cc, guid: &str, spaces: &[String]) -> Value {
    let mut shown = to_many(spaces);
    shown["links"] = json!({ "self": cc.link(&shares_path(guid)) });
    shown
}

async fn usage_summary(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
) -> ApiResult {
    let mut conn = cc.db.read().await?;
    find(&mut conn, &who, &guid, Right::Read).await?;
    let bound = shares::bindings_by_space(&mut conn, &guid).await?;
    let bound: BTreeMap<String, i64> = bound.into_iter().collect();
    let spaces = shares::spaces(&mut conn, &guid).await?;
    let summary: Vec<Value> = spaces
        .iter()
        .map(|space| {
            let count = bound.get(space).copied().unwrap_or_default();
            json!({ "space": { "guid": space }, "bound_app_count": count })
        })
        .collect();
    let path = shares_path(&guid);
    let links = cc.links(
        &format!("{path}/usage_summary"),
        &[
            ("shared_spaces", path),
            ("service_instance", format!("/v3/service_instances/{guid}")),
        ],
    );
    Ok(ok(json!({ "usage_summary": summary, "links": links })))
}

/// Shares an instance with spaces in which the caller is a developer.
async fn share(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    mut body: Body,
) -> ApiResult {
    let flag = Flag::ServiceInstanceSharing;
    flag.must_be_on(&mut *cc.db.read().await?, &who).await?;
    let mut tx = cc.change().await?;
    flag.must_be_on(&mut tx, &who).await?;
    let found = find(&mut tx, &who, &guid, Right::Develop).await?;
    let (instance, space) = (found.row, found.of.space);
    let spaces = body.read_to_many();
    body.finish()?;
    let targets = targets(&mut tx, &who, &instance.name, spaces).await?;
    let actor = audit::actor(&who);
    let trail = verbs::share(&mut tx, actor, (&instance, &space), &targets).await?;
    let spaces = shares::spaces(&mut tx, &guid).await?;
    tx.commit(trail).await?;
    Ok(ok(present(&cc, &guid, &spaces)))
}

/// Returns the spaces with which an instance is shared, or the refusal of all that the caller may not use.
async fn targets(
    conn: &mut Connection,
    who: &Principal,
    name: &str,
    spaces: Vec<String>,
) -> ApiResult<Vec<Space>> {
    let (mut targets, mut hidden, mut foreign) = (Vec::new(), Vec::new(), Vec::new());
    for space in spaces {
        match who.find::<Space>(conn, &space, Right::Read).await {
            Ok(found) if found.access.may(Right::Develop) => targets.push(found.row),
            Ok(_) => foreign.push(format!("'{space}'")),
            Err(error) if error.status == http::StatusCode::NOT_FOUND => {
                hidden.push(format!("'{space}'"));
            }
            Err(error) => return Err(error),
        }
    }
    let mut problems = Vec::new();
    for (spaces, reason) in [
        (
            hidden,
            "Ensure the spaces exist and that you have access to them.",
        ),
        (
            foreign,
            "Write permission is required in order to share a service instance with a space.",
        ),
    ] {
        if !spaces.is_empty() {
            let spaces = spaces.join(", ");
            problems.push(format!(
                "Unable to share service instance {name} with spaces [{spaces}]. {reason}"
            ));
        }
    }
    if problems.is_empty() {
        return Ok(targets);
    }
    Err(ApiError::unprocessable(problems.join("\n")))
}

/// Removes the bindings in a space, and then the share. The event is recorded also if there is no share, as in the original.
async fn unshare(
    State(cc): State<Cc>,
    who: Principal,
    Path((guid, target)): Path<(String, String)>,
) -> ApiResult {
    let since = clock::now();
    let mut failure = None;
    // The first attempt begins the removal of the bindings at their broker; the second one finds them gone.
    for _ in 0..2 {
        let mut tx = cc.change().await?;
        let found = find(&mut tx, &who, &guid, Right::Develop).await?;
        let (instance, space) = (found.row, found.of.space);
        let unknown = format!(
            "Unable to unshare service instance from space {target}. Ensure the space exists."
        );
        let other = who
            .existing::<Space>(&mut tx, &target, Right::Read, &unknown)
            .await?
            .row;
        let actor = audit::actor(&who);
        let bound =
            service_credential_binding::of_instance_in_space(&mut tx, &guid, &target).await?;
        let place = (&instance, target.as_str(), since);
        let removal = match instance.is_managed() {
            true => managed_binding::remove_of_space(&mut tx, &cc.settings, actor, place).await?,
            false => Removal::Gone,
        };
        match removal {
            Removal::Gone => {
                let place = (&instance, &space);
                let trail = verbs::unshare(&mut tx, actor, place, &target).await?;
                tx.commit(trail).await?;
                return Ok(no_content());
            }
            Removal::Failed(text) => {
                failure = Some(text);
                break;
            }
            Removal::Waiting => {
                failure = Some(format!(
                    "The binding between an application and service instance {} in space {} is being deleted asynchronously.",
                    instance.name, other.name
                ));
            }
        }
        tx.commit(Unrecorded::ByJob).await?;
        let bound: Vec<String> = bound.into_iter().map(|binding| binding.guid).collect();
        jobs::wait_for_resources(&cc, DELETE_SERVICE_BINDING, &bound).await;
    }
    let text = failure.unwrap_or_default();
    Err(ApiError::new(
        502,
        390_001,
        "ServiceInstanceUnshareFailed",
        format!(
            "Unshare of service instance failed: \n\nUnshare of service instance failed because one or more bindings could not be deleted.\n\n \t{text}"
        ),
    ))
}
