use super::*;
use serde_json::json;

fn plan(id: &str, name: &str) -> Value {
    json!({ "id": id, "name": name, "description": "d" })
}

fn offering(id: &str, name: &str, plans: Value) -> Value {
    json!({ "id": id, "name": name, "description": "d", "bindable": true, "plans": plans })
}

fn errors(services: Value) -> String {
    let catalog = Catalog::check(&json!({ "services": services }));
    catalog.unwrap_err().text()
}

#[test]
fn a_catalog_is_read() {
    let mut service = offering("o", "db", json!([plan("p", "small"), plan("q", "big")]));
    service["tags"] = json!(["sql"]);
    service["requires"] = json!(["syslog_drain"]);
    service["dashboard_client"] =
        json!({ "id": "c", "secret": "s3cret", "redirect_uri": "http://d" });
    service["plans"][1]["free"] = json!(false);
    service["plans"][1]["maintenance_info"] = json!({ "version": "1.0.0" });
    service["plans"][1]["schemas"] = json!({ "service_instance": { "create": { "parameters": {
        "$schema": "http://json-schema.org/draft-04/schema#", "type": "object" } } } });
    let catalog = Catalog::check(&json!({ "services": [service] })).unwrap();
    let offering = &catalog.offerings[0];
    assert_eq!((offering.id.as_str(), offering.bindable), ("o", true));
    assert_eq!(offering.tags, ["sql"]);
    assert!(!offering.plan_updateable);
    let (small, big) = (&offering.plans[0], &offering.plans[1]);
    assert!(small.free && !big.free);
    assert_eq!(big.maintenance_info.as_ref().unwrap().version, "1.0.0");
    assert!(big.create_instance.is_some() && big.update_instance.is_none());
    assert_eq!(catalog.plans().count(), 2);
    let clients = catalog.dashboard_clients();
    assert_eq!(clients[0].secret, "s3cret");
    assert!(!format!("{clients:?}").contains("s3cret"));
}

#[test]
fn errors_have_the_form_of_the_original() {
    let mut service = offering("", "db", json!([plan("", "small")]));
    service["bindable"] = json!("yes");
    service["tags"] = json!([1]);
    service["plans"][0]["schemas"] =
        json!({ "service_binding": { "create": { "parameters": { "type": "object" } } } });
    assert_eq!(
        errors(json!([service])),
        "\nService db\n  Service id is required\n  Service \"bindable\" field must be a boolean, but has value \"yes\"\n  Service tags must be an array of strings, but has value [1]\n  Plan small\n    Plan id is required\n    Schemas\n      Schema service_binding.create.parameters is not valid. Schema must have $schema key but was not present\n"
    );
}

#[test]
fn an_empty_catalog_is_refused() {
    let text = "\nService broker must provide at least one service\n";
    assert_eq!(errors(json!([])), text);
    assert_eq!(errors(json!(null)), text);
    assert!(errors(json!({})).contains("must be an array of hashes"));
    assert!(errors(json!([1])).contains("must be an array of hashes"));
    let text = errors(json!([offering("o", "db", json!([]))]));
    assert!(text.contains("At least one plan is required"), "{text}");
    let text = errors(json!([offering("o", "db", json!([1]))]));
    assert!(
        text.contains("Service plans list must be an array of hashes"),
        "{text}"
    );
}

#[test]
fn ids_and_names_are_unique() {
    let one = offering("o", "db", json!([plan("p", "small")]));
    let twin = offering("o", "db", json!([plan("p", "small")]));
    let text = errors(json!([one, twin]));
    for part in [
        "Service ids must be unique\n",
        "Service names must be unique within a broker\n",
        "Unable to register plan with id 'p' (plan name 'small', service name 'db')",
    ] {
        assert!(text.contains(part), "{text}");
    }
    let text = errors(json!([offering(
        "o",
        "db",
        json!([plan("p", "x"), plan("p", "x")])
    )]));
    assert!(
        text.contains("Service db already has a plan with id 'p'"),
        "{text}"
    );
    assert!(
        text.contains("Service db already has a plan named x"),
        "{text}"
    );
}

#[test]
fn single_values_are_checked() {
    for (key, value, text) in [
        ("requires", json!(["root"]), "unsupported value \"root\""),
        (
            "tags",
            json!(["x".repeat(2049)]),
            "must be 2048 characters or less.",
        ),
        (
            "description",
            json!("x".repeat(10_001)),
            "may not have more than 10000 characters",
        ),
        ("description", json!(" "), "Service description is required"),
        ("metadata", json!("x"), "Service metadata must be a hash"),
        (
            "metadata",
            json!({ "shareable": 1 }),
            "shareable must be a boolean",
        ),
        (
            "dashboard_client",
            json!({ "id": "c" }),
            "client secret is required",
        ),
        ("name", json!("x\0"), "the character NUL"),
        (
            "name",
            json!("x".repeat(256)),
            "may not have more than 255 characters",
        ),
    ] {
        let mut service = offering("o", "db", json!([plan("p", "small")]));
        service[key] = value;
        let found = errors(json!([service]));
        assert!(found.contains(text), "{found}");
    }
    for (key, value, text) in [
        ("free", json!(1), "Plan free must be a boolean"),
        ("maximum_polling_duration", json!("x"), "must be an integer"),
        (
            "maintenance_info",
            json!({ "version": "1" }),
            "must be a Semantic Version",
        ),
        (
            "maintenance_info",
            json!({ "version": "1.0.0", "x": 1 }),
            "invalid key(s): x",
        ),
        ("schemas", json!([]), "Plan schemas must be a hash"),
    ] {
        let mut wrong = plan("p", "small");
        wrong[key] = value;
        let found = errors(json!([offering("o", "db", json!([wrong]))]));
        assert!(found.contains(text), "{found}");
    }
}

#[test]
fn the_text_of_many_errors_is_cut() {
    let services: Vec<Value> = (0..2000)
        .map(|at| offering(&format!("o{at}"), &format!("db{at}"), json!([])))
        .collect();
    assert!(errors(json!(services)).chars().count() < 10_010);
}

/// Returns the pointers of all values of a document.
fn pointers(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                pointers(value, &format!("{at}/{key}"), found);
            }
        }
        Value::Array(list) => {
            for (index, value) in list.iter().enumerate() {
                pointers(value, &format!("{at}/{index}"), found);
            }
        }
        _ => {}
    }
}

/// Each value of a whole catalog is replaced by each odd value. Whatever is accepted obeys the rules that the database needs.
#[test]
fn no_odd_value_is_stored() {
    let mut service = offering("o", "db", json!([plan("p", "small"), plan("q", "big")]));
    service["tags"] = json!(["sql"]);
    service["requires"] = json!(["syslog_drain"]);
    service["metadata"] = json!({ "shareable": true });
    service["dashboard_client"] = json!({ "id": "c", "secret": "s", "redirect_uri": "u" });
    let schema = json!({ "$schema": "http://json-schema.org/draft-04/schema#", "type": "object", "properties": { "a": { "enum": [1] } } });
    service["plans"][0]["schemas"] =
        json!({ "service_instance": { "create": { "parameters": schema } } });
    service["plans"][0]["maintenance_info"] = json!({ "version": "1.0.0", "description": "d" });
    let whole = json!({ "services": [service] });
    let mut places = Vec::new();
    pointers(&whole, "", &mut places);
    let odd = [
        json!(null),
        json!(true),
        json!(-1),
        json!(1.5),
        json!(""),
        json!("\0"),
        json!("x".repeat(300)),
        json!([]),
        json!([null]),
        json!({}),
        json!({ "x": [{}] }),
    ];
    for place in &places {
        for value in &odd {
            let mut changed = whole.clone();
            *changed.pointer_mut(place).unwrap() = value.clone();
            let Ok(catalog) = Catalog::check(&changed) else {
                continue;
            };
            assert!(!catalog.offerings.is_empty(), "{place} {value}");
            for (offering, plan) in catalog.plans() {
                for text in [&offering.id, &offering.name, &plan.id, &plan.name] {
                    let is_right = !text.trim().is_empty() && text.len() <= 255;
                    assert!(is_right && !text.contains('\0'), "{place} {value}");
                }
            }
        }
    }
}
