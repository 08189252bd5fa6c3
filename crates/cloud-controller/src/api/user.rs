//! The endpoints `/v3/users`: the users that the Cloud Controller knows. The UAA stores their identities.

use super::prelude::*;
use super::uaa_users;
use crate::actions::job;
use crate::db::Json;
use crate::db::organization::Organization;
use crate::db::space::Space;
use crate::db::user::{self, User};

pub(super) const FILTERS: &[&str] = &["usernames", "partial_usernames", "origins"];

pub(super) fn routes() -> Endpoints {
    Endpoints::default()
        .get("/v3/users", list)
        .lists(FILTERS)
        .post("/v3/users", create)
        .body(&["guid", "username", "origin", "metadata"])
        .get("/v3/users/{guid}", show)
        .patch("/v3/users/{guid}", update)
        .body(&["metadata"])
        .delete("/v3/users/{guid}", remove)
}

pub(super) fn present(cc: &Cc, user: &User) -> Value {
    let name = user.username.clone().unwrap_or_else(|| user.guid.clone());
    resource(
        &user.guid,
        user.created_at,
        user.updated_at,
        json!({
            "username": user.username,
            "presentation_name": name,
            "origin": user.origin,
            "metadata": user.metadata.0.present(),
            "links": cc.links(&format!("/v3/users/{}", user.guid), &[]),
        }),
    )
}

async fn answer(cc: &Cc, select: Scope<User>, query: &Query) -> ApiResult {
    let mut conn = cc.db.read().await?;
    let mut select = query.filter(
        query.filter(select, "usernames", "username"),
        "origins",
        "origin",
    );
    for part in query.values("partial_usernames").unwrap_or_default() {
        select = select.that(user::name_has(&part));
    }
    let found = query.fetch(&mut conn, select).await?;
    Ok(ok(cc.page(
        query,
        found.page,
        found.rows.iter().map(|row| present(cc, row)).collect(),
    )))
}

async fn list(State(cc): State<Cc>, who: Principal, query: Query) -> ApiResult {
    answer(&cc, who.visible(), &query).await
}

pub(super) async fn of_organization(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    query: Query,
) -> ApiResult {
    who.find::<Organization>(&mut *cc.db.read().await?, &guid, Right::Read)
        .await?;
    let members = who.visible().that(user::is_of_organization(&guid));
    answer(&cc, members, &query).await
}

pub(super) async fn of_space(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    query: Query,
) -> ApiResult {
    who.find::<Space>(&mut *cc.db.read().await?, &guid, Right::Read)
        .await?;
    let members = who.visible().that(user::is_of_space(&guid));
    answer(&cc, members, &query).await
}

async fn show(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    let mut conn = cc.db.read().await?;
    let found = who.find::<User>(&mut conn, &guid, Right::Read).await?;
    Ok(ok(present(&cc, &found.row)))
}

async fn create(State(cc): State<Cc>, who: Principal, mut body: Body) -> ApiResult {
    who.must_be_admin()?;
    let (guid, username, origin) = (
        body.string("guid"),
        body.string("username"),
        body.string("origin"),
    );
    if guid.is_none() && username.is_none() {
        body.problem("Guid can't be blank");
    }
    let mut metadata = Json(cc_rules::metadata::Metadata::default());
    body.merge_metadata(&mut metadata)?;
    body.finish()?;
    let known = match (&guid, &username) {
        (Some(guid), _) => uaa_users::of_guid(&cc, &who, guid).await,
        (None, name) => {
            let name = name.as_deref().unwrap_or_default();
            let found = uaa_users::by_name(&cc, &who, name, origin.as_deref()).await;
            let mut found = found.unwrap_or_default();
            if found.len() > 1 {
                return Err(ApiError::unprocessable(format!(
                    "Ambiguous user. User with username '{name}' exists in several origins. Specify an origin to disambiguate."
                )));
            }
            found.pop()
        }
    };
    let guid = guid
        .or_else(|| known.as_ref().map(|user| user.guid.clone()))
        .unwrap_or_else(crate::clock::guid);
    let mut tx = cc.change().await?;
    if user::known(&mut tx, &guid).await?.is_some()
        && cc
            .seen_users
            .lock()
            .expect("no panic while holding it")
            .get(&guid)
            .is_none()
    {
        return Err(ApiError::unprocessable(format!(
            "User with guid '{guid}' already exists."
        )));
    }
    let name = username.or_else(|| known.as_ref().and_then(|user| user.username.clone()));
    let origin = origin.or_else(|| known.as_ref().and_then(|user| user.origin.clone()));
    user::store_user(&mut tx, &guid, name.as_deref(), origin.as_deref()).await?;
    let mut user = who.find::<User>(&mut tx, &guid, Right::Admin).await?.row;
    user.metadata = metadata;
    db::update(&mut tx, &user).await?;
    tx.commit(Unrecorded::NoSuchEvent).await?;
    Ok(created(present(&cc, &user)))
}

async fn update(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    body: Body,
) -> ApiResult {
    let mut tx = cc.change().await?;
    let mut user = who.find::<User>(&mut tx, &guid, Right::Admin).await?.row;
    body.merge_metadata(&mut user.metadata)?;
    body.finish()?;
    user.touch();
    db::update(&mut tx, &user).await?;
    tx.commit(Unrecorded::NoSuchEvent).await?;
    Ok(ok(present(&cc, &user)))
}

async fn remove(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    let mut tx = cc.change().await?;
    who.find::<User>(&mut tx, &guid, Right::Admin).await?;
    db::delete::<User>(&mut tx, &guid).await?;
    let job = job::complete(&mut tx, "user.delete", ("users", &guid)).await?;
    tx.commit(Unrecorded::NoSuchEvent).await?;
    cc.seen_users
        .lock()
        .expect("no panic while holding it")
        .remove(&guid);
    Ok(cc.accepted(&job))
}
