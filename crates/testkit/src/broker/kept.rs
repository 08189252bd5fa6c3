//! The instances and bindings of a broker, and its right answers.

use super::{Call, Request};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The things that a broker keeps, and how it works.
#[derive(Debug, Default)]
pub(super) struct Kept {
    instances: BTreeMap<String, Thing>,
    bindings: BTreeMap<String, Thing>,
    operations: u64,
    pub(super) polls: Option<u32>,
    pub(super) failure: Option<String>,
    pub(super) credentials: Option<String>,
    pub(super) more: Value,
}

/// An instance or a binding.
#[derive(Debug)]
struct Thing {
    /// The instance of a binding.
    instance: String,
    /// The body of the request that made it, with later changes.
    attributes: Value,
    /// The operation that the broker works on.
    operation: Option<Operation>,
}

#[derive(Debug)]
struct Operation {
    kind: Kind,
    left: u32,
    /// The attributes after a change that succeeds.
    next: Value,
    failure: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Create,
    Update,
    Delete,
}

type Answer = (u16, String);

fn answer(status: u16, body: &Value) -> Answer {
    (status, body.to_string())
}

fn error(status: u16, word: &str) -> Answer {
    answer(status, &json!({ "error": word, "description": word }))
}

/// Returns whether two requests want the same thing.
fn is_same(a: &Value, b: &Value) -> bool {
    let keys = ["service_id", "plan_id", "parameters", "bind_resource"];
    keys.iter().all(|key| a.get(key) == b.get(key))
}

impl Kept {
    pub(super) fn instances(&self) -> Vec<String> {
        self.instances.keys().cloned().collect()
    }

    /// Returns the guids of the bindings of an instance.
    pub(super) fn bindings_of(&self, instance: &str) -> Vec<String> {
        let all = self.bindings.iter();
        all.filter(|(_, binding)| binding.instance == instance)
            .map(|(guid, _)| guid.clone())
            .collect()
    }

    pub(super) fn bindings(&self) -> Vec<String> {
        self.bindings.keys().cloned().collect()
    }

    /// Does what a request wants, and returns the answer.
    pub(super) fn act(&mut self, request: &Request, instance: &str, binding: &str) -> Answer {
        match request.call {
            Call::Catalog => (200, "{}".to_owned()),
            Call::Provision => self.create(request, instance, None),
            Call::Bind => self.bind(request, instance, binding),
            Call::Update => self.update(request, instance),
            Call::Deprovision => self.delete(request, instance, false),
            Call::Unbind => self.delete(request, binding, true),
            Call::InstanceOperation => self.poll(instance, false),
            Call::BindingOperation => self.poll(binding, true),
            Call::FetchInstance => self.fetch(instance, false),
            Call::FetchBinding => self.fetch(binding, true),
        }
    }

    fn things(&mut self, is_binding: bool) -> &mut BTreeMap<String, Thing> {
        match is_binding {
            true => &mut self.bindings,
            false => &mut self.instances,
        }
    }

    /// Returns the number of polls of an operation, or the refusal of a request that does not permit one.
    fn background(&self, request: &Request) -> Result<Option<u32>, Answer> {
        let permits = request.query.get("accepts_incomplete");
        match self.polls {
            Some(_) if permits.map(String::as_str) != Some("true") => {
                Err(error(422, "AsyncRequired"))
            }
            polls => Ok(polls),
        }
    }

    fn operation(&mut self, kind: Kind, left: u32, next: Value) -> (Operation, Value) {
        self.operations += 1;
        let operation = Operation {
            kind,
            left,
            next,
            failure: self.failure.clone(),
        };
        (
            operation,
            json!({ "operation": format!("operation-{}", self.operations) }),
        )
    }

    fn create(&mut self, request: &Request, guid: &str, binding: Option<&str>) -> Answer {
        let is_binding = binding.is_some();
        let key = binding.unwrap_or(guid).to_owned();
        let polls = match self.background(request) {
            Ok(polls) => polls,
            Err(refused) => return refused,
        };
        if let Some(known) = self.things(is_binding).get(&key) {
            if !is_same(&known.attributes, &request.body) {
                return answer(409, &json!({}));
            }
            if known.operation.is_some() {
                return answer(202, &json!({}));
            }
            return (200, self.shown(&key, is_binding));
        }
        let begun = polls.map(|left| self.operation(Kind::Create, left, request.body.clone()));
        let (operation, shown) = begun.unzip();
        let thing = Thing {
            instance: guid.to_owned(),
            attributes: request.body.clone(),
            operation,
        };
        self.things(is_binding).insert(key.clone(), thing);
        match shown {
            Some(shown) => answer(202, &shown),
            None => (201, self.shown(&key, is_binding)),
        }
    }

    fn bind(&mut self, request: &Request, instance: &str, binding: &str) -> Answer {
        match self.instances.get(instance) {
            None => error(404, "the instance does not exist"),
            Some(instance) if instance.operation.is_some() => error(422, "ConcurrencyError"),
            Some(_) => self.create(request, instance, Some(binding)),
        }
    }

    /// Returns the body about something that exists, as its maker gets it.
    fn shown(&self, guid: &str, is_binding: bool) -> String {
        if !is_binding {
            return json!({ "dashboard_url": format!("http://dashboard.test/{guid}") }).to_string();
        }
        let credentials = self.credentials.clone().unwrap_or_else(|| {
            format!(r#"{{"username":"user-{guid}","password":"secret-{guid}","a":1}}"#)
        });
        let more = match &self.more {
            Value::Object(map) => map
                .iter()
                .map(|(key, value)| format!(",{}:{value}", json!(key)))
                .collect(),
            _ => String::new(),
        };
        format!(r#"{{"credentials":{credentials}{more}}}"#)
    }

    fn update(&mut self, request: &Request, guid: &str) -> Answer {
        let polls = match self.background(request) {
            Ok(polls) => polls,
            Err(refused) => return refused,
        };
        let Some(known) = self.instances.get(guid) else {
            return error(404, "the instance does not exist");
        };
        let mut next = known.attributes.clone();
        for key in ["plan_id", "parameters", "maintenance_info", "context"] {
            if let Some(value) = request.body.get(key) {
                next[key] = value.clone();
            }
        }
        // The same request again is no second operation.
        match &known.operation {
            Some(operation) if operation.kind == Kind::Update && operation.next == next => {
                return answer(202, &json!({}));
            }
            Some(_) => return error(422, "ConcurrencyError"),
            None => {}
        }
        let begun = polls.map(|left| self.operation(Kind::Update, left, next.clone()));
        let known = self.instances.get_mut(guid).expect("it was found");
        match begun {
            Some((operation, shown)) => {
                known.operation = Some(operation);
                answer(202, &shown)
            }
            None => {
                known.attributes = next;
                answer(200, &json!({}))
            }
        }
    }

    fn delete(&mut self, request: &Request, guid: &str, is_binding: bool) -> Answer {
        let Some(known) = self.things(is_binding).get(guid) else {
            return answer(410, &json!({}));
        };
        match known.operation.as_ref().map(|operation| operation.kind) {
            // The same request again is no second operation.
            Some(Kind::Delete) => return answer(202, &json!({})),
            Some(Kind::Update) => return error(422, "ConcurrencyError"),
            // A creation that is under way can be ended by a deletion, which removes orphans.
            Some(Kind::Create) | None => {}
        }
        let polls = match self.background(request) {
            Ok(polls) => polls,
            Err(refused) => return refused,
        };
        let begun = polls.map(|left| self.operation(Kind::Delete, left, Value::Null));
        match begun {
            Some((operation, shown)) => {
                let known = self.things(is_binding).get_mut(guid);
                known.expect("it was found").operation = Some(operation);
                answer(202, &shown)
            }
            None => {
                self.things(is_binding).remove(guid);
                answer(200, &json!({}))
            }
        }
    }

    fn poll(&mut self, guid: &str, is_binding: bool) -> Answer {
        let things = self.things(is_binding);
        let Some(known) = things.get_mut(guid) else {
            return answer(410, &json!({}));
        };
        let Some(mut operation) = known.operation.take() else {
            return answer(200, &json!({ "state": "succeeded" }));
        };
        if operation.left > 0 {
            operation.left -= 1;
            let description = format!("{} polls are left", operation.left);
            known.operation = Some(operation);
            let state = json!({ "state": "in progress", "description": description });
            return answer(200, &state);
        }
        if let Some(description) = operation.failure {
            let state = json!({ "state": "failed", "description": description });
            return answer(200, &state);
        }
        match operation.kind {
            Kind::Create => {}
            Kind::Update => known.attributes = operation.next,
            Kind::Delete => {
                things.remove(guid);
            }
        }
        answer(200, &json!({ "state": "succeeded" }))
    }

    fn fetch(&mut self, guid: &str, is_binding: bool) -> Answer {
        let known = self.things(is_binding).get(guid);
        let Some(known) = known.filter(|known| known.operation.is_none()) else {
            return error(404, "it does not exist");
        };
        let parameters = known.attributes.get("parameters").cloned();
        let parameters = parameters.unwrap_or_else(|| json!({}));
        let shown = self.shown(guid, is_binding);
        let end = shown.len() - 1;
        (
            200,
            format!("{},\"parameters\":{parameters}}}", &shown[..end]),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderMap;

    fn request(call: Call, query: &[(&str, &str)], body: Value) -> Request {
        let query = query
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        Request {
            call,
            path: String::new(),
            query: query.collect(),
            headers: HeaderMap::new(),
            body,
        }
    }

    #[test]
    fn the_same_wish_is_repeated_and_another_conflicts() {
        let mut kept = Kept::default();
        let mut act = |call, body| kept.act(&request(call, &[], body), "i", "b").0;
        let plan = json!({ "service_id": "s", "plan_id": "p" });
        assert_eq!(act(Call::Bind, plan.clone()), 404);
        assert_eq!(act(Call::Provision, plan.clone()), 201);
        assert_eq!(act(Call::Provision, plan.clone()), 200);
        let other = json!({ "service_id": "s", "plan_id": "q" });
        assert_eq!(act(Call::Provision, other), 409);
        assert_eq!(act(Call::Bind, plan.clone()), 201);
        assert_eq!(act(Call::Unbind, plan.clone()), 200);
        assert_eq!(act(Call::Unbind, plan.clone()), 410);
        assert_eq!(act(Call::Deprovision, plan), 200);
    }

    #[test]
    fn an_operation_in_the_background_ends_after_its_polls() {
        let mut kept = Kept {
            polls: Some(1),
            ..Kept::default()
        };
        let accepts = &[("accepts_incomplete", "true")];
        let wish = request(Call::Provision, accepts, json!({}));
        let strict = request(Call::Provision, &[], json!({}));
        assert_eq!(kept.act(&strict, "i", "").0, 422);
        assert_eq!(kept.act(&wish, "i", "").0, 202);
        let poll = request(Call::InstanceOperation, &[], Value::Null);
        assert!(kept.act(&poll, "i", "").1.contains("in progress"));
        assert!(kept.act(&poll, "i", "").1.contains("succeeded"));
        kept.polls = None;
        let binding = request(Call::Bind, &[], json!({ "parameters": { "a": 1 } }));
        assert_eq!(kept.act(&binding, "i", "b").0, 201);
        assert_eq!(kept.bindings_of("i"), ["b"]);
        let fetch = request(Call::FetchBinding, &[], Value::Null);
        let found: Value = serde_json::from_str(&kept.act(&fetch, "i", "b").1).unwrap();
        assert_eq!(found["parameters"], json!({ "a": 1 }));
        assert_eq!(found["credentials"]["username"], "user-b");
    }
}
