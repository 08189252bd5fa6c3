//! The requests of the API: method, path, query and body. The body has the keys in the original's order.

use cc_rules::ordered_json::OrderedJson;
use http::Method;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use std::collections::BTreeMap;

/// The characters that stay as they are in paths and queries.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// A request as it is sent.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Request {
    pub method: Method,
    /// The path and the query below the broker's URL.
    pub path: String,
    pub body: Option<OrderedJson>,
}

/// The ids of an offering and a plan in the broker's catalog.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ids {
    pub offering: String,
    pub plan: String,
}

/// The place of an instance. The annotations are those with a prefix, which are public.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    pub organization_guid: String,
    pub organization_name: String,
    pub organization_annotations: BTreeMap<String, String>,
    pub space_guid: String,
    pub space_name: String,
    pub space_annotations: BTreeMap<String, String>,
}

/// The `context` of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context {
    pub place: Place,
    /// The name of the instance, for requests about one.
    pub instance_name: Option<String>,
    /// The annotations of the instance, when it is made.
    pub instance_annotations: Option<BTreeMap<String, String>>,
}

/// The wish for a new instance.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Provision {
    pub instance_guid: String,
    pub ids: Ids,
    pub context: Context,
    pub parameters: Option<OrderedJson>,
    pub maintenance_info: Option<OrderedJson>,
    /// Whether the broker may do it in the background.
    pub accepts_incomplete: bool,
}

/// The wish for a changed instance.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Update {
    pub instance_guid: String,
    /// The offering, and the new plan or the present one.
    pub ids: Ids,
    pub context: Context,
    pub parameters: Option<OrderedJson>,
    pub maintenance_info: Option<OrderedJson>,
    pub previous: PreviousValues,
    pub accepts_incomplete: bool,
}

/// The values of an instance before a change.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PreviousValues {
    pub ids: Ids,
    pub organization_guid: String,
    pub space_guid: String,
    pub maintenance_info: Option<OrderedJson>,
}

/// The wish to remove an instance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deprovision {
    pub instance_guid: String,
    pub ids: Ids,
    pub accepts_incomplete: bool,
}

/// The wish for a new binding.
#[derive(Clone, Debug, PartialEq)]
pub struct Bind {
    pub instance_guid: String,
    pub binding_guid: String,
    pub ids: Ids,
    pub context: Context,
    /// The app of a binding to an app.
    pub app_guid: Option<String>,
    /// The object `bind_resource`.
    pub resource: OrderedJson,
    pub parameters: Option<OrderedJson>,
    /// The binding that this one follows, when credentials are rotated.
    pub predecessor: Option<String>,
    pub accepts_incomplete: bool,
    /// The permissions of the offering, without which some answers are refused.
    pub requires: Vec<String>,
}

/// The wish to remove a binding.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unbind {
    pub instance_guid: String,
    pub binding_guid: String,
    pub ids: Ids,
    pub accepts_incomplete: bool,
}

/// The question how far an operation has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Poll {
    pub instance_guid: String,
    /// The binding, if the operation is one of a binding.
    pub binding_guid: Option<String>,
    pub ids: Ids,
    /// The broker's name of the operation.
    pub operation: Option<String>,
}

fn escaped(text: &str) -> String {
    utf8_percent_encode(text, PLAIN).to_string()
}

fn instance_path(instance: &str) -> String {
    format!("/v2/service_instances/{}", escaped(instance))
}

fn binding_path(instance: &str, binding: &str) -> String {
    format!(
        "{}/service_bindings/{}",
        instance_path(instance),
        escaped(binding)
    )
}

/// Returns a path with a query, whose names are in the order of the alphabet.
fn with_query(path: String, pairs: &[(&str, &str)]) -> String {
    let pairs: Vec<String> = pairs
        .iter()
        .map(|(name, value)| format!("{name}={}", escaped(value)))
        .collect();
    match pairs.is_empty() {
        true => path,
        false => format!("{path}?{}", pairs.join("&")),
    }
}

fn accepting(path: String, accepts_incomplete: bool) -> String {
    match accepts_incomplete {
        true => with_query(path, &[("accepts_incomplete", "true")]),
        false => path,
    }
}

fn text(text: &str) -> OrderedJson {
    OrderedJson::Text(text.to_owned())
}

fn texts(map: &BTreeMap<String, String>) -> OrderedJson {
    OrderedJson::Object(
        map.iter()
            .map(|(key, value)| (key.clone(), text(value)))
            .collect(),
    )
}

/// Builds an object key by key.
#[derive(Default)]
struct Object(Vec<(String, OrderedJson)>);

impl Object {
    fn with(mut self, key: &str, value: OrderedJson) -> Self {
        self.0.push((key.to_owned(), value));
        self
    }

    /// Adds a value, if there is one with content.
    fn with_some(self, key: &str, value: Option<&OrderedJson>) -> Self {
        match value {
            Some(value) if !value.is_empty() => self.with(key, value.clone()),
            _ => self,
        }
    }

    fn with_ids(self, ids: &Ids) -> Self {
        self.with("service_id", text(&ids.offering))
            .with("plan_id", text(&ids.plan))
    }

    fn done(self) -> OrderedJson {
        OrderedJson::Object(self.0)
    }
}

impl Context {
    fn json(&self) -> OrderedJson {
        let place = &self.place;
        let mut object = Object::default()
            .with("platform", text("cloudfoundry"))
            .with("organization_guid", text(&place.organization_guid))
            .with("space_guid", text(&place.space_guid))
            .with("organization_name", text(&place.organization_name))
            .with("space_name", text(&place.space_name))
            .with(
                "organization_annotations",
                texts(&place.organization_annotations),
            )
            .with("space_annotations", texts(&place.space_annotations));
        if let Some(name) = &self.instance_name {
            object = object.with("instance_name", text(name));
        }
        if let Some(annotations) = &self.instance_annotations {
            object = object.with("instance_annotations", texts(annotations));
        }
        object.done()
    }
}

impl Request {
    fn new(method: Method, path: String, body: Option<OrderedJson>) -> Self {
        Self { method, path, body }
    }

    pub(crate) fn catalog() -> Self {
        Self::new(Method::GET, "/v2/catalog".to_owned(), None)
    }

    pub(crate) fn fetch_instance(instance: &str, ids: &Ids) -> Self {
        Self::new(Method::GET, with_ids(instance_path(instance), ids), None)
    }

    pub(crate) fn fetch_binding(instance: &str, binding: &str, ids: &Ids) -> Self {
        let path = with_ids(binding_path(instance, binding), ids);
        Self::new(Method::GET, path, None)
    }
}

fn with_ids(path: String, ids: &Ids) -> String {
    with_query(
        path,
        &[
            ("plan_id", ids.plan.as_str()),
            ("service_id", ids.offering.as_str()),
        ],
    )
}

impl Provision {
    pub(crate) fn request(&self) -> Request {
        let place = &self.context.place;
        let body = Object::default()
            .with_ids(&self.ids)
            .with("organization_guid", text(&place.organization_guid))
            .with("space_guid", text(&place.space_guid))
            .with("context", self.context.json())
            .with_some("parameters", self.parameters.as_ref())
            .with_some("maintenance_info", self.maintenance_info.as_ref());
        let path = accepting(instance_path(&self.instance_guid), self.accepts_incomplete);
        Request::new(Method::PUT, path, Some(body.done()))
    }
}

impl Update {
    pub(crate) fn request(&self) -> Request {
        let previous = Object::default()
            .with("plan_id", text(&self.previous.ids.plan))
            .with("service_id", text(&self.previous.ids.offering))
            .with("organization_id", text(&self.previous.organization_guid))
            .with("space_id", text(&self.previous.space_guid))
            .with_some("maintenance_info", self.previous.maintenance_info.as_ref());
        let mut body = Object::default()
            .with_ids(&self.ids)
            .with("previous_values", previous.done())
            .with("context", self.context.json());
        // Empty parameters are a wish here: they replace others.
        if let Some(parameters) = &self.parameters {
            body = body.with("parameters", parameters.clone());
        }
        let body = body.with_some("maintenance_info", self.maintenance_info.as_ref());
        let path = accepting(instance_path(&self.instance_guid), self.accepts_incomplete);
        Request::new(Method::PATCH, path, Some(body.done()))
    }
}

/// Returns the path of a removal, whose wish is in the query.
fn removal(path: String, ids: &Ids, accepts_incomplete: bool) -> Request {
    let own = [
        ("accepts_incomplete", "true"),
        ("plan_id", ids.plan.as_str()),
        ("service_id", ids.offering.as_str()),
    ];
    let pairs = if accepts_incomplete {
        &own[..]
    } else {
        &own[1..]
    };
    Request::new(Method::DELETE, with_query(path, pairs), None)
}

impl Deprovision {
    pub(crate) fn request(&self) -> Request {
        let path = instance_path(&self.instance_guid);
        removal(path, &self.ids, self.accepts_incomplete)
    }
}

impl Bind {
    pub(crate) fn request(&self) -> Request {
        let mut body = Object::default().with_ids(&self.ids);
        if let Some(app) = &self.app_guid {
            body = body.with("app_guid", text(app));
        }
        body = body
            .with("bind_resource", self.resource.clone())
            .with("context", self.context.json())
            .with_some("parameters", self.parameters.as_ref());
        if let Some(predecessor) = &self.predecessor {
            body = body.with("predecessor_binding_id", text(predecessor));
        }
        let path = binding_path(&self.instance_guid, &self.binding_guid);
        let path = accepting(path, self.accepts_incomplete);
        Request::new(Method::PUT, path, Some(body.done()))
    }
}

impl Unbind {
    pub(crate) fn request(&self) -> Request {
        let path = binding_path(&self.instance_guid, &self.binding_guid);
        removal(path, &self.ids, self.accepts_incomplete)
    }
}

impl Poll {
    pub(crate) fn request(&self) -> Request {
        let path = match &self.binding_guid {
            Some(binding) => binding_path(&self.instance_guid, binding),
            None => instance_path(&self.instance_guid),
        };
        let mut pairs = vec![
            ("plan_id", self.ids.plan.as_str()),
            ("service_id", self.ids.offering.as_str()),
        ];
        if let Some(operation) = &self.operation {
            pairs.insert(0, ("operation", operation.as_str()));
        }
        let path = with_query(format!("{path}/last_operation"), &pairs);
        Request::new(Method::GET, path, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids() -> Ids {
        Ids {
            offering: "o".to_owned(),
            plan: "p".to_owned(),
        }
    }

    fn body(request: &Request) -> String {
        request
            .body
            .as_ref()
            .map(OrderedJson::text)
            .unwrap_or_default()
    }

    #[test]
    fn an_instance_is_requested_as_the_original_does() {
        let mut wish = Provision {
            instance_guid: "i".to_owned(),
            ids: ids(),
            parameters: Some(OrderedJson::Object(Vec::new())),
            accepts_incomplete: true,
            ..Provision::default()
        };
        wish.context.place.space_guid = "s".to_owned();
        wish.context.instance_name = Some("db".to_owned());
        let request = wish.request();
        assert_eq!(request.method, Method::PUT);
        assert_eq!(
            request.path,
            "/v2/service_instances/i?accepts_incomplete=true"
        );
        assert_eq!(
            body(&request),
            r#"{"service_id":"o","plan_id":"p","organization_guid":"","space_guid":"s","context":{"platform":"cloudfoundry","organization_guid":"","space_guid":"s","organization_name":"","space_name":"","organization_annotations":{},"space_annotations":{},"instance_name":"db"}}"#
        );
    }

    #[test]
    fn removals_and_polls_have_their_wish_in_the_query() {
        let wish = Deprovision {
            instance_guid: "i".to_owned(),
            ids: ids(),
            accepts_incomplete: true,
        };
        let path = "/v2/service_instances/i?accepts_incomplete=true&plan_id=p&service_id=o";
        assert_eq!(wish.request().path, path);
        let wish = Unbind {
            instance_guid: "i".to_owned(),
            binding_guid: "b".to_owned(),
            ids: ids(),
            accepts_incomplete: false,
        };
        let path = "/v2/service_instances/i/service_bindings/b?plan_id=p&service_id=o";
        assert_eq!(wish.request().path, path);
        assert_eq!(wish.request().body, None);
        let poll = Poll {
            instance_guid: "i".to_owned(),
            ids: ids(),
            operation: Some("a b&c".to_owned()),
            ..Poll::default()
        };
        let path =
            "/v2/service_instances/i/last_operation?operation=a%20b%26c&plan_id=p&service_id=o";
        assert_eq!(poll.request().path, path);
    }

    #[test]
    fn a_change_sends_empty_parameters_and_the_previous_values() {
        let wish = Update {
            instance_guid: "i".to_owned(),
            ids: ids(),
            parameters: Some(OrderedJson::Object(Vec::new())),
            ..Update::default()
        };
        let text = body(&wish.request());
        assert!(text.contains(r#""parameters":{}"#), "{text}");
        let previous = r#""previous_values":{"plan_id":"","service_id":"","organization_id":"","space_id":""}"#;
        assert!(text.contains(previous), "{text}");
    }
}
