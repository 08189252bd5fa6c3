//! The rules of catalogs and offerings. Those of plans are in `plan`, those of schemas in `schema`.

use super::errors::OfferingErrors;
use super::inspect::inspect;
use super::{Catalog, CatalogErrors, DashboardClient, Offering, Plan, plan};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

const PERMISSIONS: &[&str] = &["syslog_drain", "route_forwarding", "volume_mount"];

/// The number of characters of ids and names.
const LONGEST_NAME: usize = 255;

/// The number of characters of all tags of an offering.
const LONGEST_TAGS: usize = 2048;

static NULL: Value = Value::Null;

/// An object of a catalog, whose readers note what is wrong.
pub(super) struct Reader<'a> {
    map: &'a Map<String, Value>,
    pub(super) messages: Vec<String>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(map: &'a Map<String, Value>) -> Self {
        Self {
            map,
            messages: Vec::new(),
        }
    }

    pub(super) fn value(&self, key: &str) -> &'a Value {
        self.map.get(key).unwrap_or(&NULL)
    }

    pub(super) fn note(&mut self, message: impl Into<String>) {
        self.messages.push(message.into());
    }

    fn note_type(&mut self, title: &str, wanted: &str, value: &Value) {
        let value = inspect(value);
        self.note(format!("{title} must be {wanted}, but has value {value}"));
    }

    /// Reads a text. `title` is its name in errors.
    pub(super) fn text(&mut self, key: &str, title: &str) -> Option<String> {
        match self.value(key) {
            Value::Null => None,
            Value::String(text) => Some(text.clone()),
            other => {
                self.note_type(title, "a string", other);
                None
            }
        }
    }

    /// Reads a text that must not be blank.
    pub(super) fn required_text(&mut self, key: &str, title: &str, longest: usize) -> String {
        let before = self.messages.len();
        let text = self.text(key, title).unwrap_or_default();
        if self.messages.len() == before && text.trim().is_empty() {
            self.note(format!("{title} is required"));
        }
        if text.chars().count() > longest {
            self.note(format!(
                "{title} may not have more than {longest} characters"
            ));
        }
        text
    }

    pub(super) fn name(&mut self, key: &str, title: &str) -> String {
        self.required_text(key, title, LONGEST_NAME)
    }

    pub(super) fn description(&mut self, title: &str) -> String {
        self.required_text("description", title, 10_000)
    }

    pub(super) fn bool(&mut self, key: &str, title: &str) -> Option<bool> {
        match self.value(key) {
            Value::Null => None,
            Value::Bool(value) => Some(*value),
            other => {
                self.note_type(title, "a boolean", other);
                None
            }
        }
    }

    pub(super) fn integer(&mut self, key: &str, title: &str) -> Option<i64> {
        match self.value(key) {
            Value::Null => None,
            value => {
                let number = value.as_i64();
                if number.is_none() {
                    self.note_type(title, "an integer", value);
                }
                number
            }
        }
    }

    /// Reads an object. `false` counts as absent, as in the original.
    pub(super) fn object(&mut self, key: &str, title: &str) -> Option<&'a Map<String, Value>> {
        match self.value(key) {
            Value::Null | Value::Bool(false) => None,
            Value::Object(map) => Some(map),
            other => {
                self.note_type(title, "a hash", other);
                None
            }
        }
    }

    /// Reads a list of texts. An absent one is empty, and null is wrong.
    fn texts(&mut self, key: &str, title: &str) -> Vec<String> {
        let Some(value) = self.map.get(key) else {
            return Vec::new();
        };
        let texts = value.as_array().and_then(|list| {
            let texts = list.iter().map(|item| item.as_str().map(str::to_owned));
            texts.collect::<Option<Vec<String>>>()
        });
        texts.unwrap_or_else(|| {
            self.note_type(title, "an array of strings", value);
            Vec::new()
        })
    }
}

pub(super) fn catalog(answer: &Value) -> Result<Catalog, CatalogErrors> {
    let mut errors = CatalogErrors::default();
    if has_nul(answer) {
        errors.add("The catalog contains the character NUL, which cannot be stored");
        return Err(errors);
    }
    let none = Vec::new();
    let services = match &answer["services"] {
        Value::Array(list) => list,
        Value::Null => &none,
        other => {
            errors.add(format!(
                "Services must be an array of hashes, but has value {}",
                inspect(other)
            ));
            return Err(errors);
        }
    };
    let mut offerings = Vec::new();
    for service in services {
        let Value::Object(map) = service else {
            errors.add(format!(
                "Services must be an array of hashes, but has value {}",
                inspect(service)
            ));
            continue;
        };
        let (offering, found) = offering(map);
        errors.add_offering(found);
        offerings.push(offering);
    }
    if services.is_empty() {
        errors.add("Service broker must provide at least one service");
    }
    check_unique(&offerings, &mut errors);
    match errors.is_empty() {
        true => Ok(Catalog { offerings }),
        false => Err(errors),
    }
}

fn has_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(list) => list.iter().any(has_nul),
        Value::Object(map) => map
            .iter()
            .any(|(key, value)| key.contains('\0') || has_nul(value)),
        _ => false,
    }
}

fn has_duplicates<'a>(texts: impl IntoIterator<Item = &'a str>) -> bool {
    let mut seen = BTreeSet::new();
    texts.into_iter().any(|text| !seen.insert(text))
}

/// Checks what must be unique in the whole catalog.
fn check_unique(offerings: &[Offering], errors: &mut CatalogErrors) {
    let ids = offerings.iter().map(|offering| offering.id.as_str());
    if has_duplicates(ids.filter(|id| !id.is_empty())) {
        errors.add("Service ids must be unique");
    }
    if has_duplicates(offerings.iter().map(|offering| offering.name.as_str())) {
        errors.add("Service names must be unique within a broker");
    }
    let mut plans: BTreeMap<&str, (&Offering, &Plan)> = BTreeMap::new();
    for offering in offerings {
        for plan in &offering.plans {
            if let Some((other, twin)) = plans.get(plan.id.as_str()) {
                errors.add(format!(
                    "Plan ids must be unique. Unable to register plan with id '{}' (plan name '{}', service name '{}') because it uses the same id as another plan in the catalog (plan name '{}', service name '{}')",
                    plan.id, plan.name, offering.name, twin.name, other.name
                ));
            }
            plans.insert(&plan.id, (offering, plan));
        }
    }
    let clients = offerings
        .iter()
        .filter_map(|offering| offering.dashboard_client.as_ref());
    if has_duplicates(clients.map(|client| client.id.as_str())) {
        errors.add("Service dashboard_client id must be unique");
    }
}

fn offering(map: &Map<String, Value>) -> (Offering, OfferingErrors) {
    let mut reader = Reader::new(map);
    let mut offering = Offering {
        id: reader.name("id", "Service id"),
        name: reader.name("name", "Service name"),
        description: reader.description("Service description"),
        ..Offering::default()
    };
    let title = "Service \"bindable\" field";
    let before = reader.messages.len();
    match reader.bool("bindable", title) {
        Some(bindable) => offering.bindable = bindable,
        None if reader.messages.len() == before => reader.note(format!("{title} is required")),
        None => {}
    }
    let mut flag = |key: &str| {
        let title = format!("Service \"{key}\" field");
        reader.bool(key, &title).unwrap_or(false)
    };
    offering.plan_updateable = flag("plan_updateable");
    offering.bindings_retrievable = flag("bindings_retrievable");
    offering.instances_retrievable = flag("instances_retrievable");
    offering.allow_context_updates = flag("allow_context_updates");
    offering.tags = reader.texts("tags", "Service tags");
    let length: usize = offering.tags.iter().map(|tag| tag.chars().count()).sum();
    if length > LONGEST_TAGS {
        let name = &offering.name;
        reader.note(format!(
            "Tags for the service {name} must be {LONGEST_TAGS} characters or less."
        ));
    }
    offering.requires = reader.texts("requires", "Service \"requires\" field");
    offering.metadata = metadata(&mut reader);
    offering.dashboard_client = dashboard_client(&mut reader);
    for permission in &offering.requires {
        if !PERMISSIONS.contains(&permission.as_str()) {
            reader.note(format!(
                "Service \"requires\" field contains unsupported value \"{permission}\""
            ));
        }
    }
    let mut errors = OfferingErrors {
        name: offering.name.clone(),
        ..OfferingErrors::default()
    };
    offering.plans = plans(&offering.name, &mut reader, &mut errors);
    errors.messages = reader.messages;
    (offering, errors)
}

fn metadata(reader: &mut Reader<'_>) -> Option<Value> {
    let metadata = reader.object("metadata", "Service metadata")?;
    let shareable = metadata.get("shareable").unwrap_or(&NULL);
    if !shareable.is_boolean() && !shareable.is_null() {
        reader.note_type("Service metadata shareable", "a boolean", shareable);
    }
    Some(Value::Object(metadata.clone()))
}

fn dashboard_client(reader: &mut Reader<'_>) -> Option<DashboardClient> {
    let map = reader.object("dashboard_client", "Service dashboard client attributes")?;
    let mut own = Reader::new(map);
    let client = DashboardClient {
        id: own.name("id", "Service dashboard client id"),
        secret: own.required_text("secret", "Service dashboard client secret", 10_000),
        redirect_uri: own.required_text(
            "redirect_uri",
            "Service dashboard client redirect_uri",
            10_000,
        ),
    };
    let is_right = own.messages.is_empty();
    reader.messages.append(&mut own.messages);
    is_right.then_some(client)
}

/// Reads the plans of an offering. Later rules are checked if the earlier ones are obeyed.
fn plans(name: &str, reader: &mut Reader<'_>, errors: &mut OfferingErrors) -> Vec<Plan> {
    let value = reader.value("plans");
    let list: &[Value] = match value {
        Value::Null => &[],
        Value::Array(list) => list,
        other => {
            reader.note_type("Service plans list", "an array of hashes", other);
            return Vec::new();
        }
    };
    if list.is_empty() {
        reader.note("At least one plan is required");
        return Vec::new();
    }
    let maps: Option<Vec<&Map<String, Value>>> = list.iter().map(Value::as_object).collect();
    let Some(maps) = maps else {
        reader.note_type("Service plans list", "an array of hashes", value);
        return Vec::new();
    };
    let mut plans = Vec::new();
    for map in maps {
        let (plan, found) = plan::plan(map);
        if !found.is_empty() {
            errors.plans.push(found);
        }
        plans.push(plan);
    }
    let twice = |of: fn(&Plan) -> &str| {
        let (mut seen, mut twice) = (BTreeSet::new(), BTreeSet::new());
        for text in plans.iter().map(of) {
            if !seen.insert(text) {
                twice.insert(text.to_owned());
            }
        }
        twice
    };
    if errors.plans.is_empty() {
        for id in twice(|plan| plan.id.as_str()) {
            reader.note(format!(
                "Plan ids must be unique. Service {name} already has a plan with id '{id}'"
            ));
        }
        for plan in twice(|plan| plan.name.as_str()) {
            reader.note(format!(
                "Plan names must be unique within a service. Service {name} already has a plan named {plan}"
            ));
        }
    }
    plans
}
