//! The endpoints `/v3/service_brokers`. Each change is a job, because the broker is called.
//!
//! A broker of a space is changed by the developers of the space. Everybody who reads the space gets 403 there, also those who do not
//! see the broker by GET; others get 404.

use super::prelude::*;
use crate::actions::service_broker::{self as verbs, BrokerWish};
use crate::actions::{audit, audit::Place};
use crate::db::service_broker::ServiceBroker;
use crate::db::space::Space;
use crate::flags::Flag;
use crate::jobs;
use serde_json::Map;

const PATH: &str = "/v3/service_brokers";

pub(super) fn routes() -> Endpoints {
    let one = "/v3/service_brokers/{guid}";
    Endpoints::default()
        .get(PATH, list)
        .lists(&["names", "space_guids"])
        .post(PATH, create)
        .body(&[
            "name",
            "url",
            "authentication.type",
            "authentication.credentials.username",
            "authentication.credentials.password",
            "relationships.space.data.guid",
            "metadata",
        ])
        .get(one, show)
        .patch(one, update)
        .body(&[
            "name",
            "url",
            "authentication.type",
            "authentication.credentials.username",
            "authentication.credentials.password",
            "metadata",
        ])
        .delete(one, remove)
}

fn present(cc: &Cc, broker: &ServiceBroker) -> Value {
    let guid = &broker.guid;
    let offerings = format!("/v3/service_offerings?service_broker_guids={guid}");
    let mut links = cc.links(
        &format!("{PATH}/{guid}"),
        &[("service_offerings", offerings)],
    );
    let mut relationships = Map::new();
    if let Some(space) = &broker.space_guid {
        links.insert("space".to_owned(), cc.link(&format!("/v3/spaces/{space}")));
        relationships.insert("space".to_owned(), to_one(Some(space)));
    }
    resource(
        guid,
        broker.created_at,
        broker.updated_at,
        json!({
            "name": broker.name,
            "url": broker.url,
            "relationships": relationships,
            "metadata": broker.metadata.0.present(),
            "links": links,
        }),
    )
}

async fn list(State(cc): State<Cc>, who: Principal, query: Query) -> ApiResult {
    let mut select = who.visible::<ServiceBroker>();
    for (name, column) in [("names", "name"), ("space_guids", "space_guid")] {
        select = query.filter(select, name, column);
    }
    let mut conn = cc.db.read().await?;
    let found = query.fetch(&mut conn, select).await?;
    let resources = found.rows.iter().map(|row| present(&cc, row)).collect();
    Ok(ok(cc.page(&query, found.page, resources)))
}

async fn show(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    let mut conn = cc.db.read().await?;
    let found = who
        .find::<ServiceBroker>(&mut conn, &guid, Right::Read)
        .await?;
    Ok(ok(present(&cc, &found.row)))
}

/// Reads the name. A broker without one cannot be created.
fn read_name(body: &mut Body) -> Option<String> {
    let name = body.string("name");
    match name.as_deref() {
        Some("") => body.problem("Name must not be empty string"),
        Some(name) if name.chars().count() > 255 => {
            body.problem("Name is too long (maximum is 255 characters)");
        }
        _ => {}
    }
    name
}

/// Reads the URL, which begins with `http` and contains no user.
fn read_url(body: &mut Body) -> Option<String> {
    let url = body.string("url")?;
    let parsed: Option<Uri> = url.parse().ok();
    let parsed = parsed.filter(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.host().is_some_and(|host| !host.is_empty())
            && uri.query().is_none()
    });
    match parsed.as_ref().and_then(Uri::authority) {
        Some(authority) if authority.as_str().contains('@') => {
            body.problem("Url must not contain authentication");
        }
        Some(_) => {}
        None => body.problem(format!("Url '{url}' must be a valid url")),
    }
    Some(url)
}

/// Reads the user and the password of `authentication`, and notes what is wrong with it.
fn read_authentication(body: &mut Body) -> Option<(String, String)> {
    let authentication = body.value("authentication")?.clone();
    if authentication.is_null() {
        return None;
    }
    if authentication.get("type").and_then(Value::as_str) != Some("basic") {
        body.problem("Authentication authentication.type must be one of [\"basic\"]");
    }
    let Some(credentials) = authentication.get("credentials").and_then(Value::as_object) else {
        body.problem("Authentication credentials must be an object");
        return None;
    };
    let (mut wrong, mut problems) = (Vec::new(), Vec::new());
    let mut text = |key: &str, title: &str| match credentials.get(key) {
        Some(Value::String(text)) if !text.trim().is_empty() => text.clone(),
        other => {
            wrong.push(format!("\"{key}\""));
            if !matches!(other, Some(Value::String(_))) {
                problems.push(format!("\"{title} must be a string\""));
            }
            problems.push(format!("\"{title} can't be blank\""));
            String::new()
        }
    };
    let credentials = (text("username", "Username"), text("password", "Password"));
    if !wrong.is_empty() {
        body.problem(format!(
            "Authentication Field(s) [{}] must be valid: [{}]",
            wrong.join(", "),
            problems.join(", ")
        ));
    }
    Some(credentials)
}

/// Returns the request as its event has it, without the password.
fn recorded(mut request: Map<String, Value>) -> Value {
    let credentials = request
        .get_mut("authentication")
        .and_then(|authentication| authentication.get_mut("credentials"))
        .and_then(Value::as_object_mut);
    if let Some(credentials) = credentials {
        credentials.insert("password".to_owned(), json!("[PRIVATE DATA HIDDEN]"));
    }
    json!({ "request": request })
}

async fn record(
    conn: &mut Connection,
    who: &Principal,
    verb: &str,
    broker: &ServiceBroker,
    request: Map<String, Value>,
) -> ApiResult<db::Trail> {
    let kind = format!("audit.service_broker.{verb}");
    let target = verbs::target(broker);
    audit::record(conn, who, &kind, target, Place::Platform, recorded(request)).await
}

async fn create(State(cc): State<Cc>, who: Principal, mut body: Body) -> ApiResult {
    let (name, url) = (read_name(&mut body), read_url(&mut body));
    let credentials = read_authentication(&mut body);
    for (is_missing, problem) in [
        (name.is_none(), "Name must be a string"),
        (url.is_none(), "Url must be a string"),
        (credentials.is_none(), "Authentication must be an object"),
    ] {
        if is_missing {
            body.problem(problem);
        }
    }
    let space = body
        .has("relationships")
        .then(|| body.required_relationship("space"));
    let mut broker = ServiceBroker {
        name: name.unwrap_or_default(),
        url: url.unwrap_or_default(),
        ..ServiceBroker::fresh()
    };
    body.merge_metadata(&mut broker.metadata)?;
    let request = body.finish()?;
    let (username, password) = credentials.unwrap_or_default();
    broker.username = username;
    broker.password = cc.settings.keys.seal(&broker.guid, &password)?;
    let mut tx = cc.change().await?;
    match space {
        Some(space) => {
            let flag = Flag::SpaceScopedPrivateBrokerCreation;
            flag.must_be_on(&mut tx, &who).await?;
            let unseen = "Invalid space. Ensure that the space exists and you have access to it.";
            let found = who.named::<Space>(&mut tx, &space, Right::Develop, unseen);
            broker.space_guid = Some(found.await?.row.guid);
        }
        None => who.must_be_admin()?,
    }
    let job = verbs::create(&mut tx, &who, &cc.settings.limits, &mut broker).await?;
    let trail = record(&mut tx, &who, "create", &broker, request).await?;
    tx.commit(trail).await?;
    jobs::wait(&cc, &job).await;
    Ok(cc.accepted(&job))
}

/// Returns a broker that the caller may change.
async fn find_to_change(
    conn: &mut Connection,
    who: &Principal,
    guid: &str,
) -> ApiResult<ServiceBroker> {
    let found = who.known::<ServiceBroker>(conn, guid).await?;
    let is_seen = match &found.of.space {
        Some(space) => who
            .find::<Space>(conn, &space.guid, Right::Read)
            .await
            .is_ok(),
        None => who.reads_all(),
    };
    if !is_seen {
        return Err(ApiError::not_found("Service broker"));
    }
    found.access.must(Right::Develop)?;
    Ok(found.row)
}

async fn update(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    mut body: Body,
) -> ApiResult {
    let mut wish = BrokerWish {
        name: read_name(&mut body),
        url: read_url(&mut body),
        credentials: read_authentication(&mut body),
        ..BrokerWish::default()
    };
    wish.metadata = body.metadata().cloned();
    let mut tx = cc.change().await?;
    let mut broker = find_to_change(&mut tx, &who, &guid).await?;
    let mut metadata = broker.metadata.clone();
    body.merge_metadata(&mut metadata)?;
    let request = body.finish()?;
    if wish.name.is_none() && wish.url.is_none() && wish.credentials.is_none() {
        broker.metadata = metadata;
        broker.touch();
        db::update(&mut tx, &broker).await?;
        tx.commit(Unrecorded::NoSuchEvent).await?;
        return Ok(ok(present(&cc, &broker)));
    }
    let before = broker.clone();
    let job = verbs::request_update(&mut tx, &who, &cc.settings, &mut broker, wish).await?;
    let trail = record(&mut tx, &who, "update", &before, request).await?;
    tx.commit(trail).await?;
    jobs::wait(&cc, &job).await;
    Ok(cc.accepted(&job))
}

async fn remove(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    let mut tx = cc.change().await?;
    let mut broker = find_to_change(&mut tx, &who, &guid).await?;
    let job = verbs::request_delete(&mut tx, &who, &mut broker).await?;
    tx.commit(Unrecorded::ByJob).await?;
    jobs::wait(&cc, &job).await;
    Ok(cc.accepted(&job))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_contains_no_password() {
        let request = json!({ "name": "b", "authentication": { "type": "basic", "credentials": { "username": "u", "password": "s3cret" } } });
        let Value::Object(request) = request else {
            unreachable!("it is an object");
        };
        let data = recorded(request).to_string();
        assert!(data.contains("\"u\"") && !data.contains("s3cret"), "{data}");
    }
}
