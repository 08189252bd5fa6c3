//! Isolation segments, which this foundation does not have. The list is empty. Creating one is refused with 404, because the cf
//! CLI understands every 422 as "exists already" and prints OK.

use super::prelude::*;

pub(super) fn routes() -> Endpoints {
    let one = "/v3/isolation_segments/{guid}";
    let organizations = format!("{one}/relationships/organizations");
    Endpoints::default()
        .get("/v3/isolation_segments", list)
        .lists(&["names", "organization_guids"])
        .post("/v3/isolation_segments", refuse)
        .raw()
        .get(one, missing)
        .patch(one, must_exist)
        .raw()
        .delete(one, must_exist)
        .get(&format!("{one}/organizations"), missing)
        .get(&organizations, missing)
        .post(&organizations, must_exist)
        .raw()
        .delete(&format!("{organizations}/{{organization}}"), must_exist)
        .get(&format!("{one}/relationships/spaces"), missing)
}

async fn list(State(cc): State<Cc>, query: Query) -> ApiResult {
    Ok(ok(cc.page(&query, query.empty(), Vec::new())))
}

async fn refuse(who: Principal) -> ApiResult {
    who.must_be_admin()?;
    Err(ApiError::unsupported(
        "Isolation segments are not supported yet",
    ))
}

async fn missing() -> ApiResult {
    Err(ApiError::not_found("Isolation segment"))
}

/// Returns a 404 to administrators. Others get a 403, so that they do not learn that there is nothing to write to.
async fn must_exist(who: Principal) -> ApiResult {
    who.must_be_admin()?;
    missing().await
}
