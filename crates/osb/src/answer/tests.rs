use super::*;
use bytes::Bytes;
use http::StatusCode;

fn answer(status: u16, body: &str) -> Answer {
    Answer {
        status: StatusCode::from_u16(status).unwrap(),
        body: Bytes::copy_from_slice(body.as_bytes()),
        retry_after: None,
    }
}

fn kind<T: std::fmt::Debug>(result: Result<T, Error>) -> ErrorKind {
    result.unwrap_err().kind
}

#[test]
fn an_instance_is_made_at_once_or_in_the_background() {
    for status in [200, 201] {
        let made = provision(&answer(status, r#"{"dashboard_url":"http://d"}"#)).unwrap();
        assert_eq!(made.progress, Progress::Done);
        assert_eq!(made.dashboard_url.as_deref(), Some("http://d"));
    }
    let begun = provision(&answer(202, r#"{"operation":"x","dashboard_url":null}"#)).unwrap();
    let operation = Some("x".to_owned());
    assert_eq!(begun.progress, Progress::Started { operation });
    assert_eq!(begun.dashboard_url, None);
}

#[test]
fn refusals_are_sorted() {
    let wrong = |status, body: &str| kind(provision(&answer(status, body)));
    assert_eq!(wrong(401, ""), ErrorKind::Unauthorized);
    assert_eq!(wrong(408, ""), ErrorKind::BrokerTimeout);
    assert_eq!(wrong(404, "{}"), ErrorKind::Rejected);
    assert_eq!(wrong(409, "{}"), ErrorKind::Conflict);
    assert_eq!(wrong(410, "{}"), ErrorKind::BadResponse);
    assert_eq!(wrong(422, "{}"), ErrorKind::BadResponse);
    assert_eq!(wrong(500, "{}"), ErrorKind::BadResponse);
    assert_eq!(wrong(302, "{}"), ErrorKind::BadResponse);
    assert_eq!(wrong(204, ""), ErrorKind::BadResponse);
    assert_eq!(wrong(200, "[]"), ErrorKind::Malformed);
    assert_eq!(wrong(201, "no"), ErrorKind::Malformed);
    assert_eq!(wrong(201, r#"{"dashboard_url":1}"#), ErrorKind::Malformed);
    assert_eq!(wrong(202, r#"{"operation":{}}"#), ErrorKind::Malformed);
    for (word, expected) in [
        ("AsyncRequired", ErrorKind::AsyncRequired),
        ("ConcurrencyError", ErrorKind::Concurrency),
        (
            "MaintenanceInfoConflict",
            ErrorKind::MaintenanceInfoConflict,
        ),
        // A binding can require an app, an instance cannot.
        ("RequiresApp", ErrorKind::BadResponse),
    ] {
        let body = format!(r#"{{"error":"{word}"}}"#);
        assert_eq!(wrong(422, &body), expected, "{word}");
        let changed = kind(update(&answer(422, &body)));
        let expected = match expected {
            ErrorKind::BadResponse => ErrorKind::Rejected,
            other => other,
        };
        assert_eq!(changed, expected, "{word}");
    }
}

#[test]
fn texts_of_brokers_reach_users_and_are_cut() {
    let error = provision(&answer(500, r#"{"description":"out of disks"}"#)).unwrap_err();
    assert_eq!(error.message, "Service broker error: out of disks");
    let error = provision(&answer(500, "oh")).unwrap_err();
    assert_eq!(
        error.message,
        "The service broker returned an invalid response. Status Code: 500 Internal Server Error, Body: oh"
    );
    let error = provision(&answer(500, &"ä".repeat(20_000))).unwrap_err();
    assert!(error.message.len() < 9_000, "{}", error.message.len());
    assert!(error.message.ends_with("check the broker's logs"));
}

#[test]
fn what_is_gone_is_removed() {
    assert_eq!(
        deprovision(&answer(410, "")).unwrap().progress,
        Progress::Done
    );
    assert_eq!(unbind(&answer(410, "")).unwrap(), Progress::Done);
    assert_eq!(unbind(&answer(200, "{}")).unwrap(), Progress::Done);
    let begun = unbind(&answer(202, "{}")).unwrap();
    assert_eq!(begun, Progress::Started { operation: None });
    assert_eq!(kind(unbind(&answer(201, "{}"))), ErrorKind::BadResponse);
    assert_eq!(
        kind(deprovision(&answer(409, "{}"))),
        ErrorKind::BadResponse
    );
}

#[test]
fn a_binding_keeps_the_order_of_its_credentials() {
    let body = r#"{"credentials":{"z":1,"a":2},"metadata":{"expires_at":"2027-01-01T00:00:00Z"}}"#;
    let Bound::Done(binding) = bind(&answer(201, body), &[]).unwrap() else {
        panic!("it was made at once");
    };
    assert_eq!(
        binding.credentials.as_ref().unwrap().text(),
        r#"{"z":1,"a":2}"#
    );
    assert_eq!(binding.expires_at.as_deref(), Some("2027-01-01T00:00:00Z"));
    assert!(!format!("{binding:?}").contains("z"), "{binding:?}");
}

#[test]
fn a_binding_needs_permissions_for_logs_and_mounts() {
    let drain = r#"{"syslog_drain_url":"syslog://x"}"#;
    let refused = bind(&answer(201, drain), &[]);
    assert_eq!(kind(refused), ErrorKind::InvalidSyslogDrainUrl);
    bind(&answer(201, drain), &["syslog_drain".to_owned()]).unwrap();
    let mounts = r#"{"volume_mounts":[{"device_type":"shared","device":{"volume_id":"v"},"mode":"rw","container_dir":"/d","driver":"nfs"}]}"#;
    assert_eq!(
        kind(bind(&answer(201, mounts), &[])),
        ErrorKind::InvalidVolumeMounts
    );
    let may = ["volume_mount".to_owned()];
    bind(&answer(201, mounts), &may).unwrap();
    let broken = mounts.replace("volume_id", "volume");
    let error = bind(&answer(201, &broken), &may).unwrap_err();
    assert!(error.message.contains("'device.volume_id'"), "{error}");
    let plain = r#"{"route_service_url":"http://x.test"}"#;
    assert_eq!(kind(bind(&answer(201, plain), &[])), ErrorKind::BadResponse);
    let secure = r#"{"route_service_url":"https://x.test"}"#;
    bind(&answer(201, secure), &[]).unwrap();
    let wrong = bind(&answer(200, r#"{"credentials":"x"}"#), &[]).unwrap_err();
    assert_eq!(
        (wrong.kind, wrong.leaves_orphan()),
        (ErrorKind::Malformed, false)
    );
}

#[test]
fn polls_are_read() {
    let state = |status, body: &str| last_operation(&answer(status, body)).map(|found| found.state);
    assert_eq!(
        state(200, r#"{"state":"in progress"}"#),
        Ok(OperationState::InProgress)
    );
    assert_eq!(
        state(200, r#"{"state":"succeeded"}"#),
        Ok(OperationState::Succeeded)
    );
    assert_eq!(state(410, ""), Ok(OperationState::Gone));
    assert_eq!(
        kind(state(200, r#"{"state":"lost"}"#)),
        ErrorKind::Malformed
    );
    assert_eq!(kind(state(500, "")), ErrorKind::BadResponse);
    assert_eq!(kind(state(404, "")), ErrorKind::Rejected);
    let failed = last_operation(&answer(400, r#"{"description":"no"}"#)).unwrap();
    assert!(failed.is_bad_request);
    assert_eq!(failed.description.as_deref(), Some("no"));
    let body = r#"{"state":"failed","instance_usable":false,"update_repeatable":true}"#;
    let failed = last_operation(&answer(200, body)).unwrap();
    assert_eq!(failed.instance_usable, Some(false));
    assert_eq!(failed.update_repeatable, Some(true));
}

#[test]
fn fetched_things_have_parameters() {
    let found = fetch_instance(&answer(200, r#"{"parameters":{"b":1,"a":2}}"#)).unwrap();
    assert_eq!(found.parameters.unwrap().text(), r#"{"b":1,"a":2}"#);
    assert_eq!(
        kind(fetch_instance(&answer(200, r#"{"parameters":[]}"#))),
        ErrorKind::Malformed
    );
    let found = fetch_binding(&answer(200, r#"{"credentials":{"a":1}}"#)).unwrap();
    assert!(found.binding.credentials.is_some());
    assert_eq!(kind(fetch_binding(&answer(404, "{}"))), ErrorKind::Rejected);
}
