//! Requests about instances.

use super::request::{Body, Ids, guid};
use super::{Answer, refused};
use crate::broker::Broker;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use serde_json::json;

type Result<T> = std::result::Result<T, Answer>;

pub(super) async fn provision(
    State(broker): State<Broker>,
    Path(instance): Path<String>,
    bytes: Bytes,
) -> Result<Answer> {
    let guid = guid("instance", &instance)?;
    let (body, settings) = (Body::read(&bytes)?, broker.settings());
    body.check(settings)?;
    let (id, plan) = body.required_plan(settings)?;
    let place = body.place().shortened();
    let made = broker.create(guid, &id, plan, place).await;
    let made = made.map_err(|fault| refused(fault, StatusCode::NOT_FOUND))?;
    Ok(Answer::made(made, json!({})))
}

pub(super) async fn show(
    State(broker): State<Broker>,
    Path(instance): Path<String>,
) -> Result<Answer> {
    let guid = guid("instance", &instance)?;
    let found = broker.show(guid).await;
    let found = found.map_err(|fault| refused(fault, StatusCode::NOT_FOUND))?;
    Ok(Answer::ok(json!({
        "service_id": crate::catalog::offering_id(broker.settings()),
        "plan_id": found.plan_id,
        "parameters": {},
    })))
}

pub(super) async fn update(
    State(broker): State<Broker>,
    Path(instance): Path<String>,
    bytes: Bytes,
) -> Result<Answer> {
    let guid = guid("instance", &instance)?;
    let (body, settings) = (Body::read(&bytes)?, broker.settings());
    body.check(settings)?;
    let plan = match body.plan(settings) {
        Ok(plan) => plan,
        Err(refusal) => {
            // An instance keeps a plan that is no longer in the catalog.
            let present = broker.show(guid).await;
            let present = present.map_err(|fault| refused(fault, StatusCode::NOT_FOUND))?;
            if !body.names_plan(&present.plan_id) {
                return Err(refusal);
            }
            None
        }
    };
    let plan = plan.as_ref().map(|(id, plan)| (id.as_str(), *plan));
    let changed = broker.change(guid, plan, &body.place()).await;
    changed.map_err(|fault| refused(fault, StatusCode::NOT_FOUND))?;
    Ok(Answer::ok(json!({})))
}

pub(super) async fn deprovision(
    State(broker): State<Broker>,
    Path(instance): Path<String>,
    Query(ids): Query<Ids>,
) -> Result<Answer> {
    let guid = guid("instance", &instance)?;
    ids.check()?;
    let removed = broker.remove(guid).await;
    removed.map_err(|fault| refused(fault, StatusCode::GONE))?;
    Ok(Answer::ok(json!({})))
}

/// Answers the question about an operation, although each one is done when its response is sent.
pub(super) async fn last_operation(
    State(broker): State<Broker>,
    Path(instance): Path<String>,
) -> Result<Answer> {
    let guid = guid("instance", &instance)?;
    let found = broker.show(guid).await;
    found.map_err(|fault| refused(fault, StatusCode::GONE))?;
    Ok(Answer::ok(json!({ "state": "succeeded" })))
}
