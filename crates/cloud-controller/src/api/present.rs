//! The JSON around resources: links, pages, jobs.

use super::query::{Page, Query};
use crate::clock;
use crate::controller::Cc;
use axum::Json;
use axum::response::{IntoResponse as _, Response};
use cc_rules::ordered_json::OrderedJson;
use http::{StatusCode, header};
use serde_json::{Map, Value, json};

impl Cc {
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.settings.api_url)
    }

    pub(crate) fn link(&self, path: &str) -> Value {
        json!({ "href": self.url(path) })
    }

    pub(crate) fn post_link(&self, path: &str) -> Value {
        json!({ "href": self.url(path), "method": "POST" })
    }

    /// Returns `{"self": …}` and the links that are passed as (name, path).
    pub(crate) fn links(&self, own: &str, others: &[(&str, String)]) -> Map<String, Value> {
        let mut links = Map::new();
        links.insert("self".to_owned(), self.link(own));
        for (name, path) in others {
            links.insert((*name).to_owned(), self.link(path));
        }
        links
    }

    /// Returns one page of a list.
    pub(crate) fn page(&self, query: &Query, page: Page, resources: Vec<Value>) -> Value {
        let Page {
            number,
            size,
            total,
        } = page;
        let pages = ((total + size - 1) / size).max(1);
        let href = |page: i64| json!({ "href": query.href(&self.settings.api_url, page, size) });
        json!({
            "pagination": {
                "total_results": total,
                "total_pages": pages,
                "first": href(1),
                "last": href(pages),
                "next": if number < pages { href(number + 1) } else { Value::Null },
                "previous": if number > 1 { href(number - 1) } else { Value::Null },
            },
            "resources": resources,
        })
    }

    /// Returns a list that is never longer than one page.
    pub(crate) fn short_list(&self, path: &str, resources: Vec<Value>) -> Value {
        let href = json!({ "href": self.url(path) });
        json!({
            "pagination": { "total_results": resources.len(), "total_pages": 1, "first": href, "last": href, "next": null, "previous": null },
            "resources": resources,
        })
    }

    /// Returns 202 with the job's URL.
    pub(crate) fn accepted(&self, job_guid: &str) -> Response {
        (
            StatusCode::ACCEPTED,
            [(header::LOCATION, self.url(&format!("/v3/jobs/{job_guid}")))],
        )
            .into_response()
    }
}

pub(crate) fn created(resource: Value) -> Response {
    (StatusCode::CREATED, Json(resource)).into_response()
}

pub(crate) fn ok(resource: Value) -> Response {
    Json(resource).into_response()
}

/// Returns a value whose keys keep their order.
pub(crate) fn ok_ordered(value: &OrderedJson) -> Response {
    Json(value).into_response()
}

pub(crate) fn no_content() -> Response {
    StatusCode::NO_CONTENT.into_response()
}

/// Returns a resource, which starts with the fields that every resource has; `fields` follow.
pub(crate) fn resource(guid: &str, created_at: i64, updated_at: i64, fields: Value) -> Value {
    let mut map = Map::new();
    map.insert("guid".to_owned(), json!(guid));
    map.insert("created_at".to_owned(), json!(clock::rfc3339(created_at)));
    map.insert("updated_at".to_owned(), json!(clock::rfc3339(updated_at)));
    if let Value::Object(fields) = fields {
        map.extend(fields);
    }
    Value::Object(map)
}

/// Returns `{"data": {"guid": …}}` or `{"data": null}`.
pub(crate) fn to_one(guid: Option<&str>) -> Value {
    match guid {
        Some(guid) => json!({ "data": { "guid": guid } }),
        None => json!({ "data": null }),
    }
}

pub(crate) fn to_many<S: AsRef<str>>(guids: &[S]) -> Value {
    json!({ "data": guids.iter().map(|guid| json!({ "guid": guid.as_ref() })).collect::<Vec<_>>() })
}
