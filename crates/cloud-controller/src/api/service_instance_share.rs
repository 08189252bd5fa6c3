//! The endpoints `/v3/service_instances/:guid/relationships/shared_spaces`. A user-provided instance belongs to one space, as in the
//! original, and there are no others: what is shared is always nothing, and to share is refused after the checks of rights.

use super::fields::{self, Fields};
use super::prelude::*;
use crate::actions::audit;
use crate::db::service_instance::ServiceInstance;
use crate::db::space::Space;
use crate::flags::Flag;

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
    let mut answer = json!({ "data": [], "links": { "self": cc.link(&shares_path(&guid)) } });
    if let Some(included) = fields.included(&mut conn, &who, &[]).await? {
        answer["included"] = included;
    }
    Ok(ok(answer))
}

async fn usage_summary(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
) -> ApiResult {
    find(&mut *cc.db.read().await?, &who, &guid, Right::Read).await?;
    let path = shares_path(&guid);
    let links = cc.links(
        &format!("{path}/usage_summary"),
        &[
            ("shared_spaces", path),
            ("service_instance", format!("/v3/service_instances/{guid}")),
        ],
    );
    Ok(ok(json!({ "usage_summary": [], "links": links })))
}

/// Refuses to share, after the checks that the original makes before: user-provided instances belong to one space.
async fn share(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    mut body: Body,
) -> ApiResult {
    let mut conn = cc.db.read().await?;
    Flag::ServiceInstanceSharing
        .must_be_on(&mut conn, &who)
        .await?;
    let instance = find(&mut conn, &who, &guid, Right::Develop).await?.row;
    let spaces = body.read_to_many();
    body.finish()?;
    let (mut hidden, mut foreign) = (Vec::new(), Vec::new());
    for space in spaces {
        match who.find::<Space>(&mut conn, &space, Right::Read).await {
            Ok(found) if found.access.may(Right::Develop) => {}
            Ok(_) => foreign.push(format!("'{space}'")),
            Err(error) if error.status == http::StatusCode::NOT_FOUND => {
                hidden.push(format!("'{space}'"));
            }
            Err(error) => return Err(error),
        }
    }
    let name = &instance.name;
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
    if !problems.is_empty() {
        return Err(ApiError::unprocessable(problems.join("\n")));
    }
    let has_route_service = instance
        .route_service_url
        .is_some_and(|url| !url.is_empty());
    Err(ApiError::unprocessable(match has_route_service {
        true => "Route services cannot be shared.",
        false => "User-provided services cannot be shared.",
    }))
}

/// Answers like the original, which removes a share also if there is none. The event is recorded in both cases.
async fn unshare(
    State(cc): State<Cc>,
    who: Principal,
    Path((guid, target)): Path<(String, String)>,
) -> ApiResult {
    let mut tx = cc.change().await?;
    let found = find(&mut tx, &who, &guid, Right::Develop).await?;
    let (instance, space) = (found.row, found.of.space);
    let unknown =
        format!("Unable to unshare service instance from space {target}. Ensure the space exists.");
    who.existing::<Space>(&mut tx, &target, Right::Read, &unknown)
        .await?;
    let (kind, named) = (
        "audit.service_instance.unshare",
        (guid.as_str(), "service_instance", instance.name.as_str()),
    );
    let data = json!({ "target_space_guid": target });
    let trail = audit::record(&mut tx, &who, kind, named, &space, data).await?;
    tx.commit(trail).await?;
    Ok(no_content())
}
