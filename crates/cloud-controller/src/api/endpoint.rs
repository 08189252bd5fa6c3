//! The table of endpoints. What each endpoint accepts is registered with it, and is checked before its handler runs.
//!
//! ```text
//!  limits ─▶ token ──▶ scopes ──▶ parameters of the query ──▶ handler ──▶ errors in Cloud Foundry's form
//!   400       401       403          400, by name                │
//!                                                 Path, Query, Body (unknown keys 422, by name)
//! ```
//!
//! An endpoint accepts only the parameters and the body that its registration names:
//!
//! ```ignore
//! Endpoints::default()
//!     .get("/v3/apps", list).lists(&["names", "space_guids"])
//!     .post("/v3/apps", create).body(&["name", "relationships.space.data.guid", "metadata"])
//!     .post("/v3/apps/{guid}/actions/start", start)
//! ```
//!
//! The tests walk over [`Endpoints::described`]; an endpoint without a row in the role table fails them.

use super::body;
use super::guard;
use super::query::Query;
use crate::auth::Principal;
use crate::controller::Cc;
use crate::error::{ApiError, ApiResult};
use crate::flags::Flag;
use crate::turns::Work;
use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::handler::Handler;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodFilter, MethodRouter, on};
use http::request::Parts;
use http::{Method, StatusCode, header};
use std::sync::Arc;

/// The parameters that every list accepts.
pub(crate) const COMMON: &[&str] = &[
    "page",
    "per_page",
    "order_by",
    "label_selector",
    "guids",
    "created_ats",
    "updated_ats",
];

/// The parameters and the body that an endpoint accepts.
#[derive(Clone, Debug)]
pub(crate) struct Accepts {
    pub parameters: Vec<&'static str>,
    /// Whether the page and the common filters are accepted as well.
    pub is_list: bool,
    pub body: Content,
    /// Whether the endpoint needs no token.
    pub open: bool,
    /// A flag: while it is off, the endpoint needs no token.
    pub open_unless: Option<Flag>,
    /// A scope that suffices instead of the common ones.
    pub scope: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    None,
    /// A JSON body with these keys.
    Json(&'static [&'static str]),
    /// A body that the handler reads: a manifest.
    Raw,
    /// A body that the handler reads: a file of any size.
    Upload,
}

/// One endpoint as tests see it.
#[derive(Clone, Debug)]
pub struct ApiEndpoint {
    pub method: String,
    /// The path: `/v3/apps/{guid}`.
    pub path: String,
    pub open: bool,
    pub parameters: Vec<String>,
    /// The keys of a JSON body: `relationships.space.data.guid`, `destinations[].port`, `var.*`.
    pub keys: Vec<String>,
    pub reads_json: bool,
    pub reads_nothing: bool,
}

struct Registered {
    method: Method,
    path: String,
    accepts: Accepts,
    handler: MethodRouter<Cc>,
}

/// A collection of endpoints. Modifiers apply to the endpoint that was registered last.
#[derive(Default)]
pub(crate) struct Endpoints {
    all: Vec<Registered>,
}

impl Endpoints {
    pub(crate) fn get<H: Handler<T, Cc>, T: 'static>(self, path: &str, handler: H) -> Self {
        self.on(Method::GET, path, on(MethodFilter::GET, handler))
    }
    pub(crate) fn post<H: Handler<T, Cc>, T: 'static>(self, path: &str, handler: H) -> Self {
        self.on(Method::POST, path, on(MethodFilter::POST, handler))
    }
    pub(crate) fn put<H: Handler<T, Cc>, T: 'static>(self, path: &str, handler: H) -> Self {
        self.on(Method::PUT, path, on(MethodFilter::PUT, handler))
    }
    pub(crate) fn patch<H: Handler<T, Cc>, T: 'static>(self, path: &str, handler: H) -> Self {
        self.on(Method::PATCH, path, on(MethodFilter::PATCH, handler))
    }
    pub(crate) fn delete<H: Handler<T, Cc>, T: 'static>(self, path: &str, handler: H) -> Self {
        self.on(Method::DELETE, path, on(MethodFilter::DELETE, handler))
    }

    fn on(mut self, method: Method, path: &str, handler: MethodRouter<Cc>) -> Self {
        self.all.push(Registered {
            method,
            path: path.to_owned(),
            accepts: Accepts {
                parameters: Vec::new(),
                is_list: false,
                body: Content::None,
                open: false,
                open_unless: None,
                scope: None,
            },
            handler,
        });
        self
    }

    fn last(mut self, change: impl FnOnce(&mut Accepts)) -> Self {
        let last = self.all.last_mut().expect("a modifier follows an endpoint");
        change(&mut last.accepts);
        self
    }

    /// Adds the parameters of an endpoint that is no list.
    pub(crate) fn takes(self, parameters: &[&'static str]) -> Self {
        self.last(|accepts| accepts.parameters.extend_from_slice(parameters))
    }

    /// Adds the parameters of a list, in addition to [`COMMON`].
    pub(crate) fn lists(self, parameters: &[&'static str]) -> Self {
        self.last(|accepts| {
            accepts.parameters.extend_from_slice(parameters);
            accepts.parameters.extend_from_slice(COMMON);
            accepts.is_list = true;
        })
    }

    /// Sets the keys of a JSON body, nested ones with dots. `x.*` allows any key below `x`; `x[]` is a list.
    pub(crate) fn body(self, keys: &'static [&'static str]) -> Self {
        self.last(|accepts| accepts.body = Content::Json(keys))
    }

    /// Lets the handler read the body, which is no JSON.
    pub(crate) fn raw(self) -> Self {
        self.last(|accepts| accepts.body = Content::Raw)
    }

    /// Lets the handler read the body, which is a file of any size.
    pub(crate) fn upload(self) -> Self {
        self.last(|accepts| accepts.body = Content::Upload)
    }

    /// Admits requests without a token.
    pub(crate) fn open(self) -> Self {
        self.last(|accepts| accepts.open = true)
    }

    /// Admits requests without a token while a flag is off. A token that is sent must be valid.
    pub(crate) fn open_unless(self, flag: Flag) -> Self {
        self.last(|accepts| accepts.open_unless = Some(flag))
    }

    /// Admits tokens with this scope, too, which suffices instead of the common ones.
    pub(crate) fn or_scope(self, scope: &'static str) -> Self {
        self.last(|accepts| accepts.scope = Some(scope))
    }

    pub(crate) fn merge(mut self, other: Self) -> Self {
        self.all.extend(other.all);
        self
    }

    pub(crate) fn described(&self) -> Vec<ApiEndpoint> {
        self.all
            .iter()
            .map(|endpoint| ApiEndpoint {
                method: endpoint.method.to_string(),
                path: endpoint.path.clone(),
                open: endpoint.accepts.open || endpoint.accepts.open_unless.is_some(),
                parameters: owned(&endpoint.accepts.parameters),
                keys: match endpoint.accepts.body {
                    Content::Json(keys) => owned(keys),
                    _ => Vec::new(),
                },
                reads_json: matches!(endpoint.accepts.body, Content::Json(_)),
                reads_nothing: endpoint.accepts.body == Content::None,
            })
            .collect()
    }

    pub(crate) fn router(self, cc: &Cc) -> Router<Cc> {
        let mut router = Router::new();
        for endpoint in self.all {
            let mut handler = endpoint.handler;
            if endpoint.accepts.body == Content::Upload {
                handler = handler.layer(DefaultBodyLimit::disable());
            }
            let entrance = (cc.clone(), Arc::new(endpoint.accepts));
            router = router.route(
                &endpoint.path,
                handler.layer(from_fn_with_state(entrance, enter)),
            );
        }
        router
    }
}

fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

async fn enter(
    State((cc, accepts)): State<(Cc, Arc<Accepts>)>,
    request: Request,
    next: Next,
) -> Response {
    match admit(&cc, accepts, request).await {
        Ok(request) => in_form(next.run(request).await).await,
        Err(error) => error.into_response(),
    }
}

/// Checks a request and stores its principal, its query and the keys of its body for the handler's extractors.
async fn admit(cc: &Cc, accepts: Arc<Accepts>, request: Request) -> ApiResult<Request> {
    let (mut parts, mut content) = request.into_parts();
    guard::check(&cc.settings.limits, &parts.uri)?;
    if !accepts.open && !is_open_now(cc, &accepts, &parts).await? {
        let mut principal = Principal::of(&parts, cc).await?;
        if accepts.open_unless.is_none() {
            principal.check_scope(&parts.method, accepts.scope)?;
        }
        if let Some(work) = work(&accepts, &parts.method) {
            principal.wait_for_turn(cc, work).await?;
        }
        principal.store_user(cc).await?;
        parts.extensions.insert(principal);
    }
    let query = Query::read(&parts.uri, &accepts)?;
    parts.extensions.insert(query);
    if accepts.body == Content::None && parts.method != Method::GET && parts.method != Method::HEAD
    {
        body::must_be_empty(content, &cc.settings.limits).await?;
        content = axum::body::Body::empty();
    }
    parts.extensions.insert(accepts);
    Ok(Request::from_parts(parts, content))
}

/// Returns the kind of work of a request. Uploads take no turn: their duration depends on the network, and only their end uses
/// the database.
fn work(accepts: &Accepts, method: &Method) -> Option<Work> {
    match *method {
        Method::GET | Method::HEAD => Some(Work::Reads),
        _ if accepts.body == Content::Upload => None,
        _ => Some(Work::Writes),
    }
}

/// Returns whether an anonymous request is admitted because a flag is off.
async fn is_open_now(cc: &Cc, accepts: &Accepts, parts: &Parts) -> ApiResult<bool> {
    match accepts.open_unless {
        Some(flag) if !parts.headers.contains_key(header::AUTHORIZATION) => {
            Ok(!flag.is_on(&mut *cc.db.read().await?).await?)
        }
        _ => Ok(false),
    }
}

/// Converts a refusal of the framework, which is plain text, into the API's form, which clients expect.
async fn in_form(response: Response) -> Response {
    let status = response.status();
    if !status.is_client_error() && !status.is_server_error() {
        return response;
    }
    let kind = response.headers().get(header::CONTENT_TYPE);
    if kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/json")) {
        return response;
    }
    let text = axum::body::to_bytes(response.into_body(), 4096)
        .await
        .unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    match status {
        StatusCode::PAYLOAD_TOO_LARGE => ApiError::too_large(text),
        StatusCode::BAD_REQUEST | StatusCode::UNSUPPORTED_MEDIA_TYPE => ApiError::bad_request(text),
        _ if status.is_client_error() => ApiError::new(status.as_u16(), 1004, "BadRequest", text),
        _ => ApiError::from(anyhow::anyhow!("handler failed: {text}")),
    }
    .into_response()
}
