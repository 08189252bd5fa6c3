//! Tests of route policies as a person adds, lists and removes them.

use crate::fixture::Person;
use crate::platform::APP;
use serde_json::json;

async fn person() -> Person {
    let person = Person::new().await;
    person.logs_in().await;
    person.platform.lock().unwrap().app_exists = true;
    person
}

#[tokio::test]
async fn a_policy_is_added_listed_and_removed() {
    let person = person().await;
    let seen = person
        .types("add-route-policy apps.identity -n dora --source-app dora")
        .await;
    let expected = format!(
        "Adding route policy for route dora.apps.identity as admin...\n  scope: app, source: dora\n  source: cf:app:{APP}\nOK\n\n"
    );
    assert_eq!(
        (seen.code, seen.out.as_str()),
        (0, expected.as_str()),
        "{}",
        seen.err
    );
    let sent = person.platform.lock().unwrap().route_policies[0].clone();
    assert_eq!(sent["source"], json!(format!("cf:app:{APP}")));
    assert_eq!(
        sent["relationships"],
        json!({"route": {"data": {"guid": "r1"}}})
    );

    let seen = person.types("route-policies").await;
    let row = format!("dora   apps.test          cf:app:{APP}   app     dora\n");
    assert!(seen.out.ends_with(&row), "{}", seen.out);
    for (line, shown) in [
        (
            "route-policies --hostname other",
            "No route policies found.\n",
        ),
        ("route-policies --path v2", "No route policies found.\n"),
        ("route-policies --domain apps.test -n dora", row.as_str()),
    ] {
        let seen = person.types(line).await;
        assert!(seen.out.ends_with(shown), "{line}: {}", seen.out);
    }

    let remove = "remove-route-policy apps.identity --hostname dora --source";
    let seen = person.types(&format!("{remove} cf:any -f")).await;
    assert_eq!(seen.code, 1);
    let text = "Route policy with source 'cf:any' not found.";
    assert!(seen.err.contains(text), "{}", seen.err);
    let seen = person.answers(&format!("{remove}-app dora"), "n\n").await;
    assert!(seen.out.contains("has not been removed."), "{}", seen.out);
    let seen = person.types(&format!("{remove}-app dora -f")).await;
    assert_eq!(seen.code, 0, "{}", seen.err);
    let seen = person.types("route-policies").await;
    assert!(
        seen.out.ends_with("No route policies found.\n"),
        "{}",
        seen.out
    );
}

#[tokio::test]
async fn mistakes_are_reported_before_anything_is_sent() {
    let person = person().await;
    for (line, text) in [
        (
            "apps.identity --source-app dora",
            "`-n, --hostname' was not specified",
        ),
        ("apps.identity -n dora", "one of: --source-app"),
        (
            "apps.identity -n dora --source cf:app:",
            "must be cf:app:GUID",
        ),
        (
            "apps.test -n dora --source-any",
            "Domain 'apps.test' does not have route policy enforcement enabled.",
        ),
    ] {
        let seen = person.types(&format!("add-route-policy {line}")).await;
        assert_eq!(seen.code, 1, "{line}");
        assert!(seen.err.contains(text), "{line}: {}", seen.err);
    }
    assert!(person.platform.lock().unwrap().route_policies.is_empty());
}

#[tokio::test]
async fn domains_list_what_they_enforce() {
    let person = person().await;
    let seen = person.types("domains").await;
    let row = "apps.identity   shared                    http        enforced (org)\n";
    assert!(seen.out.contains(row), "{}", seen.out);
    let create = "create-shared-domain pay.identity --enforce-route-policies";
    let seen = person.types(&format!("{create} --scope space")).await;
    assert_eq!(seen.code, 0, "{}", seen.err);
    assert_eq!(
        person.platform.lock().unwrap().bodies.last(),
        Some(
            &json!({"name": "pay.identity", "enforce_route_policies": true, "route_policies_scope": "space"})
        )
    );
    for (line, text) in [
        (create, "--enforce-route-policies needs --scope"),
        (
            "create-shared-domain a.test --scope any",
            "--scope can only be used with",
        ),
        (
            "create-private-domain org a.test --enforce-route-policies --scope all",
            "--scope must be one of",
        ),
    ] {
        let seen = person.types(line).await;
        assert_eq!(seen.code, 1, "{line}");
        assert!(seen.err.contains(text), "{line}: {}", seen.err);
    }
}
