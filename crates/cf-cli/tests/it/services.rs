//! Tests of user-provided services as a person creates, binds, shows and deletes them.

use crate::fixture::Person;
use crate::platform::APP;
use serde_json::{Value, json};

async fn person() -> Person {
    let person = Person::new().await;
    person.logs_in().await;
    person.platform.lock().unwrap().app_exists = true;
    person
}

/// Returns the body of the newest request.
fn sent(person: &Person) -> Value {
    person
        .platform
        .lock()
        .unwrap()
        .bodies
        .last()
        .unwrap()
        .clone()
}

#[tokio::test]
async fn a_service_is_created_bound_shown_and_deleted() {
    let person = person().await;
    let seen = person.types("services").await;
    assert!(
        seen.out.ends_with("No service instances found.\n"),
        "{}",
        seen.out
    );

    let words = ["cups", "db", "-p", r#"{"uri":"u"}"#, "-t", "sql, test"];
    let seen = person.runs(&words, |_| {}).await;
    assert_eq!(seen.code, 0, "{}", seen.err);
    assert_eq!(
        seen.out,
        "Creating user provided service db in org org / space space as admin...\nOK\n\n"
    );
    assert_eq!(
        sent(&person),
        json!({"type": "user-provided", "name": "db", "credentials": {"uri": "u"}, "tags": ["sql", "test"],
            "relationships": {"space": {"data": {"guid": "s1"}}}})
    );

    let seen = person
        .types("bind-service dora db --binding-name main")
        .await;
    assert_eq!(seen.code, 0, "{}", seen.err);
    assert!(
        seen.out.contains("TIP: Use 'cf restage dora' to ensure"),
        "{}",
        seen.out
    );
    assert_eq!(
        sent(&person),
        json!({"type": "app", "name": "main", "relationships": {"app": {"data": {"guid": APP}}, "service_instance": {"data": {"guid": "si0"}}}})
    );
    let seen = person.types("bs dora db").await;
    assert_eq!(seen.code, 0, "{}", seen.err);
    let already = "App dora is already bound to service instance db.\nOK\n";
    assert!(seen.out.contains(already), "{}", seen.out);

    let seen = person.types("s").await;
    let row = seen.out.lines().last().unwrap_or_default();
    let columns: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(
        columns,
        ["db", "user-provided", "dora", "create", "succeeded"]
    );
    let seen = person.types("services --no-apps").await;
    assert!(!seen.out.contains("dora"), "{}", seen.out);
    let seen = person.types("service db").await;
    for part in [
        "type:",
        "user-provided",
        "sql, test",
        "dora",
        "main",
        "create succeeded",
    ] {
        assert!(seen.out.contains(part), "{part}: {}", seen.out);
    }
    let seen = person.types("service db --guid").await;
    assert_eq!(seen.out, "si0\n");

    let seen = person.types("unbind-service dora db").await;
    assert_eq!(seen.code, 0, "{}", seen.err);
    let seen = person.types("us dora db").await;
    assert_eq!(seen.code, 0, "{}", seen.err);
    assert!(
        seen.err
            .contains("Binding between db and dora did not exist"),
        "{}",
        seen.err
    );
    let seen = person.answers("delete-service db", "n\n").await;
    assert!(seen.out.contains("Delete cancelled"), "{}", seen.out);
    let seen = person.types("ds db -f").await;
    assert!(
        seen.out.contains("Service instance db deleted.\nOK\n"),
        "{}",
        seen.out
    );
    let seen = person.types("ds db -f").await;
    assert_eq!(seen.code, 0, "{}", seen.err);
    assert!(
        seen.out
            .contains("Service instance db did not exist.\nOK\n"),
        "{}",
        seen.out
    );
}

#[tokio::test]
async fn credentials_come_from_a_file_or_from_questions() {
    let person = person().await;
    std::fs::write(person.app.join("c.json"), r#"{"k": 1}"#).unwrap();
    let seen = person
        .types("cups file -p c.json -l syslog://h:1 -r https://r.test")
        .await;
    assert_eq!(seen.code, 0, "{}", seen.err);
    let body = sent(&person);
    assert_eq!(body["credentials"], json!({"k": 1}));
    assert_eq!(body["syslog_drain_url"], "syslog://h:1");
    assert_eq!(body["route_service_url"], "https://r.test");

    let words = ["cups", "asked", "-p", "host, password"];
    let seen = person
        .runs(&words, |e| e.stdin = Box::new(&b"h\ns3cret\n"[..]))
        .await;
    assert_eq!(seen.code, 0, "{}", seen.err);
    assert_eq!(
        sent(&person)["credentials"],
        json!({"host": "h", "password": "s3cret"})
    );

    let seen = person.types("uups file").await;
    assert!(
        seen.out
            .contains("No flags specified. No changes were made\nOK\n"),
        "{}",
        seen.out
    );
    let words = ["uups", "file", "-t", "", "-p", r#"{"k":2}"#];
    let seen = person.runs(&words, |_| {}).await;
    assert_eq!(seen.code, 0, "{}", seen.err);
    assert!(
        seen.out
            .contains("TIP: Use 'cf restage' for any bound apps"),
        "{}",
        seen.out
    );
    assert_eq!(sent(&person), json!({"credentials": {"k": 2}, "tags": []}));
}

#[tokio::test]
async fn mistakes_are_reported_before_anything_is_sent() {
    let person = person().await;
    for (words, text) in [
        (
            vec!["cups", "x", "-p", "{"],
            "Invalid configuration provided for -p flag.",
        ),
        (
            vec!["bs", "dora", "none"],
            "Service instance 'none' not found.",
        ),
        (
            vec!["bs", "dora", "none", "-c", "no-file"],
            "does not exist",
        ),
        (
            vec!["service", "none"],
            "Service instance 'none' not found.",
        ),
        (
            vec!["uups", "none", "-t", "a"],
            "Service instance 'none' not found.",
        ),
    ] {
        let seen = person.runs(&words, |_| {}).await;
        assert_eq!(seen.code, 1, "{words:?}");
        assert!(seen.err.contains(text), "{words:?}: {}", seen.err);
    }
    assert!(person.platform.lock().unwrap().bodies.is_empty());
}

#[tokio::test]
async fn a_route_is_bound_shown_and_unbound() {
    let person = person().await;
    let words = ["cups", "gate", "-r", "https://gate.test"];
    assert_eq!(person.runs(&words, |_| {}).await.code, 0);

    let seen = person
        .types("bind-route-service apps.test gate --hostname dora --path v2")
        .await;
    assert_eq!(seen.code, 0, "{}", seen.err);
    assert_eq!(
        seen.out,
        "Binding route dora.apps.test/v2 to service instance gate in org org / space space as admin...\nOK\n\n"
    );
    let bound = json!({"relationships": {"route": {"data": {"guid": "r1"}}, "service_instance": {"data": {"guid": "si0"}}}});
    assert_eq!(sent(&person), bound);
    let seen = person.types("brs apps.test gate -n dora -w").await;
    assert_eq!(seen.code, 0, "{}", seen.err);
    let already = "Route dora.apps.test is already bound to service instance gate.\nOK\n";
    assert!(seen.out.contains(already), "{}", seen.out);
    let seen = person.types("routes").await;
    let row = seen.out.lines().last().unwrap_or_default();
    let columns: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(columns, ["space", "dora", "apps.test", "http", "gate"]);

    let seen = person
        .answers("unbind-route-service apps.test gate -n dora", "n\n")
        .await;
    assert!(
        seen.out
            .contains("Really unbind route dora.apps.test from service instance gate?")
            && seen.out.contains("Unbind cancelled"),
        "{}",
        seen.out
    );
    let seen = person.types("urs apps.test gate -n dora -f").await;
    assert!(
        seen.out
            .contains("Unbinding route dora.apps.test from service instance gate in org"),
        "{}",
        seen.out
    );
    assert!(person.platform.lock().unwrap().route_bindings.is_empty());
    let seen = person.types("urs apps.test gate -n dora -f").await;
    assert_eq!(seen.code, 0, "{}", seen.err);
    let not = "Route dora.apps.test was not bound to service instance gate.\nOK\n";
    assert!(seen.out.contains(not), "{}", seen.out);

    // A broker may work for days, so only -w waits for it.
    person.platform.lock().unwrap().has_broker = true;
    for (line, end) in [
        ("brs apps.test gate -n dora", "OK\n\nBinding in progress.\n"),
        (
            "urs apps.test gate -n dora -f",
            "OK\n\nUnbinding in progress.\n",
        ),
        ("brs apps.test gate -n dora -w", "OK\n\n"),
        ("urs apps.test gate -n dora -f -w", "OK\n\n"),
    ] {
        person.platform.lock().unwrap().broker_polls = 2;
        let seen = person.types(line).await;
        assert_eq!(seen.code, 0, "{line}: {}", seen.err);
        assert!(seen.out.ends_with(end), "{line}: {}", seen.out);
    }
    person.platform.lock().unwrap().has_broker = false;

    // Parameters are for the services of brokers; the platform decides whether they are accepted.
    let words = [
        "brs",
        "apps.test",
        "gate",
        "-n",
        "dora",
        "-c",
        r#"{"a": 1}"#,
    ];
    assert_eq!(person.runs(&words, |_| {}).await.code, 0);
    assert_eq!(sent(&person)["parameters"], json!({"a": 1}));
    for (line, text) in [
        (
            "brs apps.test none -n dora",
            "Service instance 'none' not found.",
        ),
        (
            "brs none.test gate -n dora",
            "Domain 'none.test' not found.",
        ),
        ("brs apps.test gate -n dora -c no-file", "does not exist"),
    ] {
        let seen = person.types(line).await;
        assert_eq!(seen.code, 1, "{line}");
        assert!(seen.err.contains(text), "{line}: {}", seen.err);
    }
}
