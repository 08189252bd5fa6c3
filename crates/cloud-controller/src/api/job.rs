//! The endpoints `/v3/jobs`.

use super::prelude::*;
use crate::db::job::Job;

pub(super) fn routes() -> Endpoints {
    Endpoints::default().get("/v3/jobs/{guid}", show)
}

async fn show(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    let mut conn = cc.db.read().await?;
    let job = who.find::<Job>(&mut conn, &guid, Right::Read).await?.row;
    let mut links = cc.links(&format!("/v3/jobs/{guid}"), &[]);
    let is_gone = ["delete", "orphan"]
        .iter()
        .any(|word| job.operation.contains(word));
    if !is_gone || job.operation.starts_with("space.") {
        let kind = job.resource_type.trim_end_matches('s');
        let link = cc.link(&format!("/v3/{kind}s/{}", job.resource_guid));
        links.insert(job.resource_type.clone(), link);
    }
    Ok(ok(resource(
        &job.guid,
        job.created_at,
        job.updated_at,
        json!({
            "operation": job.operation,
            "state": job.state,
            "errors": job.errors.0,
            "warnings": job.warnings.0,
            "links": links,
        }),
    )))
}
