//! Tests of `push` and related commands when something is wrong, or when the machine takes part.

use crate::fixture::Person;
use serde_json::json;
use std::time::Duration;

fn write_manifest(person: &Person, text: &str) {
    std::fs::write(person.app.join("manifest.yml"), text).unwrap();
}

#[tokio::test]
async fn every_path_of_a_manifest_is_checked_before_anything_is_sent() {
    let person = Person::new().await;
    person.logs_in().await;
    std::fs::create_dir(person.app.join("empty")).unwrap();
    std::fs::write(person.app.join("text"), "no zip").unwrap();
    write_manifest(
        &person,
        "applications:\n- name: dora\n- {name: b, path: gone}\n- {name: c, path: empty}\n- {name: d, path: text}\n",
    );
    let seen = person.types("push").await;
    assert_eq!(seen.code, 1);
    for expected in [
        "gone' does not exist.",
        "No app files found in '",
        "text' is neither a folder nor a zip file",
    ] {
        assert!(seen.err.contains(expected), "{}", seen.err);
    }
    let requests = person.platform.lock().unwrap().requests.clone();
    let is_post = |request: &&String| request.starts_with("POST /v3");
    assert_eq!(requests.iter().filter(is_post).count(), 0, "{requests:?}");
}

#[tokio::test]
async fn keys_beside_the_apps_are_named_and_not_sent() {
    let person = Person::new().await;
    person.logs_in().await;
    write_manifest(
        &person,
        "memory: 1G\ndefaults: &d {instances: 2}\napplications:\n- name: dora\n  <<: *d\n  sidecars: [{name: s, process_types: [web], command: ./s}]\n",
    );
    let seen = person.types("push --no-start -m 0.5G -k 65536K").await;
    assert_eq!(seen.code, 0, "{}", seen.err);
    assert_eq!(
        seen.err,
        "The manifest's key 'memory', which is not in 'applications', is ignored: write it into an app.\n"
    );
    let manifest = person.platform.lock().unwrap().manifest.clone();
    assert!(
        manifest.starts_with("applications:\n- name: dora\n  sidecars:\n  - name: s\n")
            && manifest.contains("  memory: 0.5G\n  disk_quota: 65536K\n"),
        "{manifest}"
    );
}

#[tokio::test]
async fn quantities_have_fractions_and_every_unit() {
    let person = Person::new().await;
    person.logs_in().await;
    person.platform.lock().unwrap().app_exists = true;
    let seen = person.types("scale dora -m 0.5G -k 65536K -f").await;
    assert_eq!(seen.code, 0, "{}", seen.err);
    let scaled = person
        .platform
        .lock()
        .unwrap()
        .bodies
        .last()
        .cloned()
        .unwrap();
    assert_eq!(scaled, json!({"memory_in_mb": 512, "disk_in_mb": 64}));
    for wrong in ["1", "1K", "lots", "-1M", "1.2.3G"] {
        let seen = person.types(&format!("scale dora -m={wrong} -f")).await;
        assert!(
            seen.code == 1 && seen.err.contains("Byte quantity"),
            "{wrong}: {}",
            seen.err
        );
    }
}

#[tokio::test]
async fn values_of_variables_may_begin_with_dashes() {
    let person = Person::new().await;
    person.logs_in().await;
    person.platform.lock().unwrap().app_exists = true;
    let pem = "-----BEGIN CERTIFICATE-----\nMII=\n-----END CERTIFICATE-----\n";
    for value in [pem, "-Xmx1g", "--flag=1"] {
        let seen = person.runs(&["set-env", "dora", "X", value], |_| {}).await;
        assert_eq!(seen.code, 0, "{}", seen.err);
        let sent = person.platform.lock().unwrap().bodies.last().cloned();
        assert_eq!(sent, Some(json!({"var": {"X": value}})));
    }
}

#[tokio::test]
async fn a_role_is_assigned_to_the_given_origin_and_the_api_reports_if_one_is_needed() {
    let person = Person::new().await;
    person.logs_in().await;
    let seen = person.types("set-org-role jo org OrgManager").await;
    assert_eq!(seen.code, 0, "{}", seen.err);
    let user = |person: &Person| {
        let platform = person.platform.lock().unwrap();
        platform.bodies.last().unwrap()["relationships"]["user"]["data"].clone()
    };
    assert_eq!(user(&person), json!({"username": "jo"}));
    person
        .types("set-space-role jo org space SpaceDeveloper --origin ldap")
        .await;
    assert_eq!(user(&person), json!({"username": "jo", "origin": "ldap"}));
    let ambiguous = "Ambiguous user. User with username 'jo' exists in the following origins: ldap, uaa. Specify an origin to disambiguate.";
    person.platform.lock().unwrap().role_refusal = Some(ambiguous.into());
    let seen = person.types("set-org-role jo org OrgManager").await;
    assert_eq!((seen.code, seen.err.trim_end()), (1, ambiguous));
}

#[tokio::test]
async fn a_refusal_reaches_a_client_that_is_uploading() {
    let person = Person::new().await;
    person.logs_in().await;
    // The file is larger than the buffers between client and server.
    let noise: Vec<u8> = (0..8_000_000_u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    std::fs::write(person.app.join("big"), noise).unwrap();
    person.platform.lock().unwrap().uploads_are_refused = true;
    let seen = person.types("push dora").await;
    assert_eq!(seen.code, 1);
    assert!(
        seen.err.contains("Feature Disabled: app_bits_upload"),
        "{}",
        seen.err
    );
    assert!(
        !seen.err.contains("pipe") && !seen.err.contains("Retrying"),
        "{}",
        seen.err
    );
}

#[tokio::test]
async fn a_push_ends_when_its_name_is_known_on_this_machine() {
    let person = Person::new().await;
    person.logs_in().await;
    let hosts = person.home.path().join("hosts");
    let block =
        |names: &str| format!("# BEGIN cupola 1:2\n127.0.0.1 127.0.0.1\n{names}# END cupola 1:2\n");
    std::fs::write(&hosts, block("")).unwrap();
    let later = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(500)).await;
        std::fs::write(&hosts, block("127.0.0.1 dora.apps.test\n")).unwrap();
    });
    let seen = person.types("push dora").await;
    assert_eq!((seen.code, seen.err.as_str()), (0, ""));
    assert!(later.is_finished(), "the push waited for the name");
}
