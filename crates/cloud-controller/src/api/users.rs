//! `/v3/users`: the users that the Cloud Controller knows; who they are stands in the UAA.

use super::prelude::*;
use crate::actions::job;
use crate::db::Json;
use crate::db::role::{self, User};

pub(super) fn routes() -> Router<Cc> {
    Router::new()
        .route("/v3/users", get(list).post(create))
        .route("/v3/users/{guid}", get(show).patch(update).delete(remove))
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

/// Admins see all; others see those who share an organization with them, and themselves.
fn visible(who: &Principal) -> Select {
    if who.reads_all() {
        return Select::new();
    }
    let shared = "(guid = ? OR guid IN (SELECT o.user_guid FROM roles o WHERE o.organization_guid IN (SELECT m.organization_guid FROM roles m WHERE m.user_guid = ?)))";
    Select::new().and(shared, [who.guid().into(), who.guid().into()])
}

async fn answer(cc: &Cc, select: Select, uri: &Uri) -> ApiResult {
    let query = Query::list(uri, &["usernames", "partial_usernames", "origins"])?;
    let mut conn = cc.db.read().await?;
    let mut select = query.filter(
        query.filter(select, "usernames", "username"),
        "origins",
        "origin",
    );
    for part in query.values("partial_usernames").unwrap_or_default() {
        select = select.and("instr(username, ?) > 0", [part.into()]);
    }
    let found = query.fetch::<User>(&mut conn, select).await?;
    Ok(ok(cc.page(
        &query,
        found.total,
        found.rows.iter().map(|row| present(cc, row)).collect(),
    )))
}

async fn list(State(cc): State<Cc>, who: Principal, uri: Uri) -> ApiResult {
    answer(&cc, visible(&who), &uri).await
}

pub(super) async fn of_organization(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    uri: Uri,
) -> ApiResult {
    lookup::organization(&mut *cc.db.read().await?, &who, &guid).await?;
    answer(
        &cc,
        Select::new().and(
            "guid IN (SELECT user_guid FROM roles WHERE organization_guid = ?)",
            [guid.into()],
        ),
        &uri,
    )
    .await
}

pub(super) async fn of_space(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    uri: Uri,
) -> ApiResult {
    lookup::space(&mut *cc.db.read().await?, &who, &guid).await?;
    answer(
        &cc,
        Select::new().and(
            "guid IN (SELECT user_guid FROM roles WHERE space_guid = ?)",
            [guid.into()],
        ),
        &uri,
    )
    .await
}

async fn show(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    let mut conn = cc.db.read().await?;
    let user: Option<User> = visible(&who).is("guid", &guid).first(&mut conn).await?;
    Ok(ok(present(
        &cc,
        &user.ok_or_else(|| ApiError::not_found("User"))?,
    )))
}

async fn create(State(cc): State<Cc>, who: Principal, body: Body) -> ApiResult {
    who.must_be_admin()?;
    let mut body = body.allow(&["guid", "username", "origin", "metadata"]);
    let (guid, username, origin) = (
        body.string("guid"),
        body.string("username"),
        body.string("origin"),
    );
    if guid.is_none() && username.is_none() {
        body.problem("Guid can't be blank");
    }
    let mut metadata = Json(crate::metadata::Metadata::default());
    super::organizations::merge_metadata(&body, &mut metadata)?;
    body.finish()?;
    let known = find_in_uaa(
        &cc,
        &who,
        guid.as_deref(),
        username.as_deref(),
        origin.as_deref(),
    )
    .await;
    let guid = guid
        .or_else(|| known.as_ref().map(|user| user.guid.clone()))
        .unwrap_or_else(crate::clock::guid);
    let mut tx = cc.db.write().await?;
    if db::by_guid::<User>(&mut tx, &guid).await?.is_some()
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
    role::see_user(&mut tx, &guid, name.as_deref(), origin.as_deref()).await?;
    let mut user: User = lookup::row(&mut tx, &guid, "User").await?;
    user.metadata = metadata;
    db::update(&mut tx, &user).await?;
    tx.commit().await?;
    Ok(created(present(&cc, &user)))
}

async fn update(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    body: Body,
) -> ApiResult {
    who.must_be_admin()?;
    let body = body.allow(&["metadata"]);
    let mut tx = cc.db.write().await?;
    let mut user: User = lookup::row(&mut tx, &guid, "User").await?;
    super::organizations::merge_metadata(&body, &mut user.metadata)?;
    body.finish()?;
    user.touch();
    db::update(&mut tx, &user).await?;
    tx.commit().await?;
    Ok(ok(present(&cc, &user)))
}

async fn remove(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    who.must_be_admin()?;
    let mut tx = cc.db.write().await?;
    if !db::delete::<User>(&mut tx, &guid).await? {
        return Err(ApiError::not_found("User"));
    }
    let job = job::complete(&mut tx, "user.delete", ("users", &guid)).await?;
    tx.commit().await?;
    cc.seen_users
        .lock()
        .expect("no panic while holding it")
        .remove(&guid);
    Ok(cc.accepted(&job))
}

/// Asks the UAA who somebody is. `None` when it does not know or cannot be asked.
pub(super) async fn find_in_uaa(
    cc: &Cc,
    who: &Principal,
    guid: Option<&str>,
    username: Option<&str>,
    origin: Option<&str>,
) -> Option<User> {
    let quote = |text: &str| text.replace(['"', '\\'], "");
    let mut filter = match (guid, username) {
        (Some(guid), _) => format!("id eq \"{}\"", quote(guid)),
        (None, Some(username)) => format!("userName eq \"{}\"", quote(username)),
        (None, None) => return None,
    };
    if let (None, Some(origin)) = (guid, origin) {
        filter.push_str(&format!(" and origin eq \"{}\"", quote(origin)));
    }
    let filter = percent_encoding::utf8_percent_encode(&filter, percent_encoding::NON_ALPHANUMERIC);
    let url = format!("{}/Users?filter={filter}", cc.settings.uaa_internal_url);
    let authorization = authorization(cc, who).await;
    let answer = cc
        .http
        .get(url)
        .header("authorization", authorization)
        .send()
        .await
        .ok()?
        .error_for_status()
        .ok()?;
    let answer: Value = answer.json().await.ok()?;
    let found = answer.pointer("/resources/0")?;
    let text = |key: &str| found.get(key).and_then(Value::as_str).map(str::to_owned);
    Some(User {
        guid: text("id")?,
        username: text("userName"),
        origin: text("origin"),
        ..User::fresh()
    })
}

/// This component's own token when it has a client, else the caller's.
async fn authorization(cc: &Cc, who: &Principal) -> String {
    let own = async {
        let client = cc.settings.uaa_client.as_ref()?;
        let request = cc
            .http
            .post(format!("{}/oauth/token", cc.settings.uaa_internal_url))
            .basic_auth(&client.id, Some(&client.secret));
        let answer: Value = request
            .form(&[("grant_type", "client_credentials")])
            .send()
            .await
            .ok()?
            .json()
            .await
            .ok()?;
        Some(format!("bearer {}", answer.get("access_token")?.as_str()?))
    };
    own.await.unwrap_or_else(|| who.authorization.clone())
}
