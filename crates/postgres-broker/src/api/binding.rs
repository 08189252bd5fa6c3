//! Requests about bindings.

use super::request::{Body, Ids, guid};
use super::{Answer, refused};
use crate::broker::Broker;
use crate::names::Guid;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use serde_json::{Value, json};

type Result<T> = std::result::Result<T, Answer>;
type Guids = Path<(String, String)>;

fn guids(Path((instance, binding)): &Guids) -> Result<(Guid, Guid)> {
    Ok((guid("instance", instance)?, guid("binding", binding)?))
}

/// Returns the body of a binding: its credentials, and the only address that the app needs.
fn present(broker: &Broker, credentials: &Value) -> Value {
    let (host, port) = broker.endpoint();
    json!({
        "credentials": credentials,
        "endpoints": [{ "host": host, "ports": [port.to_string()], "protocol": "tcp" }],
    })
}

pub(super) async fn bind(
    State(broker): State<Broker>,
    path: Guids,
    bytes: Bytes,
) -> Result<Answer> {
    let (instance, binding) = guids(&path)?;
    let (body, settings) = (Body::read(&bytes)?, broker.settings());
    body.check(settings)?;
    let bound = broker.bind(instance, binding).await;
    let (made, credentials) = bound.map_err(|fault| refused(fault, StatusCode::NOT_FOUND))?;
    Ok(Answer::made(made, present(&broker, &credentials)))
}

pub(super) async fn show(State(broker): State<Broker>, path: Guids) -> Result<Answer> {
    let (instance, binding) = guids(&path)?;
    let found = broker.show_binding(instance, binding).await;
    let credentials = found.map_err(|fault| refused(fault, StatusCode::NOT_FOUND))?;
    Ok(Answer::ok(present(&broker, &credentials)))
}

pub(super) async fn unbind(
    State(broker): State<Broker>,
    path: Guids,
    Query(ids): Query<Ids>,
) -> Result<Answer> {
    let (instance, binding) = guids(&path)?;
    ids.check()?;
    let removed = broker.unbind(instance, binding).await;
    removed.map_err(|fault| refused(fault, StatusCode::GONE))?;
    Ok(Answer::ok(json!({})))
}

/// Answers the question about an operation, although each one is done when its response is sent.
pub(super) async fn last_operation(State(broker): State<Broker>, path: Guids) -> Result<Answer> {
    let (instance, binding) = guids(&path)?;
    let found = broker.show_binding(instance, binding).await;
    found.map_err(|fault| refused(fault, StatusCode::GONE))?;
    Ok(Answer::ok(json!({ "state": "succeeded" })))
}
