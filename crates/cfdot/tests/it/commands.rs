//! Tests of commands: LRPs, tasks, domains, locks, presences, cells and events.

use crate::fixture::{Diego, LRP, Seen, TASK};
use serde_json::{Value, json};

fn objects(seen: &Seen) -> Vec<Value> {
    assert_eq!(seen.code, 0, "{}", seen.err);
    let parse = |line: &str| serde_json::from_str(line).unwrap();
    seen.out.lines().map(parse).collect()
}

#[tokio::test]
async fn desired_lrps_are_created_listed_changed_and_deleted() {
    let diego = Diego::start().await;
    assert_eq!(diego.runs(&["create-desired-lrp", LRP]).await.code, 0);
    let shown = objects(&diego.types("desired-lrp P").await);
    assert_eq!(
        (
            &shown[0]["instances"],
            &shown[0]["routes"]["cf-router"][0]["hostnames"]
        ),
        (&json!(2), &json!(["a.b"]))
    );
    assert_eq!(
        shown[0]["action"]["timeout"]["action"]["run"]["env"],
        json!([{"name": "A", "value": "<b>"}])
    );
    let raw = diego.types("desired-lrp P").await.out;
    assert!(raw.contains(r"\u003cb\u003e"), "as Go's encoder: {raw}");
    assert_eq!(objects(&diego.types("desired-lrps").await).len(), 1);
    assert_eq!(
        objects(&diego.types("desired-lrps -d cf-apps").await).len(),
        1
    );
    assert!(objects(&diego.types("desired-lrps --domain=x").await).is_empty());
    let infos = objects(&diego.types("desired-lrp-scheduling-infos -dcf-apps").await);
    assert_eq!(infos[0]["memory_mb"], 64);

    let again = diego.runs(&["create-desired-lrp", LRP]).await;
    assert_eq!(again.code, 4);
    assert!(
        again
            .err
            .starts_with("Error: BBS error\nType 12: ResourceExists\nMessage: ")
            && !again.err.contains("Usage:"),
        "{}",
        again.err
    );
    let file = diego.folder.path().join("spec.json");
    std::fs::write(&file, r#"{"instances":1,"annotation":"a"}"#).unwrap();
    let spec = format!("@{}", file.display());
    assert_eq!(
        diego.runs(&["update-desired-lrp", "P", &spec]).await.code,
        0
    );
    let shown = objects(&diego.types("desired-lrp P").await);
    assert_eq!(
        (&shown[0]["instances"], &shown[0]["annotation"]),
        (&json!(1), &json!("a"))
    );

    assert_eq!(diego.types("delete-desired-lrp P").await.code, 0);
    let gone = diego.types("desired-lrp P").await;
    assert_eq!(gone.code, 4);
    assert!(
        gone.err
            .starts_with("Error: BBS error\nType 13: ResourceNotFound\n"),
        "{}",
        gone.err
    );
    diego.stop().await;
}

#[tokio::test]
async fn actual_lrps_are_listed_in_both_forms_and_retired() {
    let diego = Diego::start().await;
    assert_eq!(diego.runs(&["create-desired-lrp", LRP]).await.code, 0);
    for (line, count) in [
        ("actual-lrps", 2),
        ("actual-lrps -p P", 2),
        ("actual-lrps -p P -i 1", 1),
        ("actual-lrps --process-guid=P --index 0x1", 1),
        ("actual-lrps -i -1", 0),
        ("actual-lrps -d cf-apps", 2),
        ("actual-lrps -c nowhere", 0),
        ("actual-lrps --timeout 20", 2),
        ("actual-lrp-groups", 2),
        ("actual-lrp-groups -d x", 0),
        ("actual-lrp-groups-for-guid P", 2),
        ("actual-lrp-groups-for-guid P -i 1", 1),
        ("actual-lrp-groups-for-guid Q", 0),
    ] {
        assert_eq!(objects(&diego.types(line).await).len(), count, "{line}");
    }
    let group = diego.types("actual-lrp-groups-for-guid P --index=1").await;
    assert!(
        group
            .out
            .starts_with(r#"{"instance":{"process_guid":"P","index":1,"#),
        "{}",
        group.out
    );
    assert_eq!(
        group.err,
        "Command \"actual-lrp-groups-for-guid\" is deprecated, use \"actual-lrps\" with the \"--process-guid\" flag instead.\n"
    );
    assert_eq!(diego.types("retire-actual-lrp P 1").await.code, 0);
    let unknown = diego.types("retire-actual-lrp Q 0").await;
    assert_eq!(unknown.code, 4, "{}", unknown.err);
    diego.stop().await;
}

#[tokio::test]
async fn tasks_are_created_shown_cancelled_and_deleted() {
    let diego = Diego::start().await;
    assert_eq!(diego.runs(&["create-task", TASK]).await.code, 0);
    let shown = objects(&diego.types("task T").await);
    assert_eq!(
        (&shown[0]["task_guid"], &shown[0]["state"]),
        (&json!("T"), &json!("Pending"))
    );
    assert_eq!(objects(&diego.types("tasks -d cf-tasks").await).len(), 1);
    assert!(objects(&diego.types("tasks -c somewhere").await).is_empty());
    assert_eq!(
        diego.types("delete-task T").await.code,
        4,
        "it is not completed"
    );
    assert_eq!(diego.types("cancel-task T").await.code, 0);
    assert_eq!(diego.types("delete-task T").await.code, 0);
    assert_eq!(diego.types("task T").await.code, 4);
    diego.stop().await;
}

#[tokio::test]
async fn domains_accept_durations_as_go_writes_them() {
    let diego = Diego::start().await;
    for (line, code) in [
        ("set-domain a", 0),
        ("set-domain b --ttl 60s", 0),
        ("set-domain c -t 1h30m", 0),
        ("set-domain d -t=1.5h", 0),
        ("set-domain e -t2m", 0),
        ("set-domain f --ttl -5s", 3),
        ("set-domain f --ttl 5", 3),
        ("set-domain f --ttl", 255),
        ("set-domain", 3),
        ("set-domain a b", 3),
    ] {
        let seen = diego.types(line).await;
        assert_eq!(seen.code, code, "{line}: {}", seen.err);
    }
    let domains = objects(&diego.types("domains").await);
    assert_eq!(domains, ["a", "b", "c", "d", "e"].map(Value::from));
    diego.stop().await;
}

#[tokio::test]
async fn locks_and_presences_are_claimed_listed_and_released() {
    let diego = Diego::start().await;
    assert_eq!(
        diego.types("claim-lock -k K -o me -v V -t 30").await.code,
        0
    );
    assert_eq!(
        diego
            .types("claim-presence --key P --owner me --ttl=30")
            .await
            .code,
        0
    );
    // The BBS itself holds another lock.
    let locks = diego.types("locks").await;
    assert_eq!(
        locks.out.lines().next(),
        Some(r#"{"key":"K","owner":"me","value":"V","type":"lock","type_code":1}"#)
    );
    assert_eq!(objects(&diego.types("presences").await)[0]["key"], "P");
    let taken = diego.types("claim-lock -k K -o you -t 30").await;
    assert_eq!(
        (taken.code, taken.err.as_str()),
        (
            4,
            "Error: rpc error: code = AlreadyExists desc = lock-collision\n"
        )
    );
    let others = diego.types("release-lock -k K -o you").await;
    assert_eq!(others.code, 4, "{}", others.err);
    assert_eq!(diego.types("release-lock -k K -o me").await.code, 0);
    assert!(!diego.types("locks").await.out.contains("\"K\""));
    diego.stop().await;
}

#[tokio::test]
async fn cells_are_found_by_their_id() {
    let diego = Diego::start().await;
    diego.has_cell("cell-1").await;
    let cells = objects(&diego.types("cells").await);
    assert_eq!(cells[0]["cell_id"], "cell-1");
    assert_eq!(objects(&diego.types("cell cell-1").await), cells);
    let gone = diego.types("cell cell-2").await;
    assert_eq!(
        (gone.code, gone.err.as_str()),
        (5, "Error: Cell not found\n")
    );
    // The rep of this cell does not run.
    for line in ["cell-state cell-1", "cell-states"] {
        let seen = diego.types(line).await;
        assert_eq!(seen.code, 4, "{}", seen.err);
        assert!(
            seen.err
                .starts_with("Error: Rep error: Failed to get cell state for cell cell-1: "),
            "{}",
            seen.err
        );
    }
    diego.stop().await;
}

#[tokio::test]
async fn events_of_both_kinds_are_printed_until_the_bbs_ends() {
    let diego = Diego::start().await;
    let watcher = diego.watches("lrp-events").await;
    let plain = diego.watches("lrp-events -x").await;
    let tasks = diego.watches("task-events").await;
    diego
        .changes_until(&[
            (&watcher, "actual_lrp_created"),
            (&watcher, "actual_lrp_instance_created"),
            (&plain, "actual_lrp_instance_created"),
            (&tasks, "task_created"),
        ])
        .await;
    diego.stop().await;
    let (watched, plain, tasks) = (watcher.seen().await, plain.seen().await, tasks.seen().await);
    assert_eq!(
        (watched.code, plain.code, tasks.code),
        (0, 0, 0),
        "{}",
        watched.err
    );
    assert!(
        watched
            .err
            .starts_with("Event types \"actual_lrp_created\""),
        "{}",
        watched.err
    );
    assert!(watched.out.lines().any(|line| line.starts_with(
        r#"{"type":"actual_lrp_created","data":{"actual_lrp_group":{"instance":{"process_guid":"P"#
    )));
    assert!(
        !plain.out.contains("actual_lrp_created") && plain.err.is_empty(),
        "{}",
        plain.err
    );
}

#[tokio::test]
async fn any_certificate_will_do_when_it_is_not_verified() {
    let diego = Diego::start().await;
    let unverified = diego
        .with(&[("CA_CERT_FILE", "")], "domains --skipCertVerify")
        .await;
    assert_eq!(unverified.code, 0, "{}", unverified.err);
    let by_variable = [("CA_CERT_FILE", ""), ("SKIP_CERT_VERIFY", "t")];
    assert_eq!(diego.with(&by_variable, "locks").await.code, 0);
    let other_ca = diego.other_ca();
    let wrong = diego.with(&[("CA_CERT_FILE", &other_ca)], "domains").await;
    assert_eq!(wrong.code, 5, "{}", wrong.err);
    assert!(
        wrong.err.starts_with("Error: Post \"https://127.0.0.1:"),
        "{}",
        wrong.err
    );
    diego.stop().await;
}
