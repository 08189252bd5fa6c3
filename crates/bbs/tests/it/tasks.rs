//! Tests of the life of tasks, including the delivery of their results.

use crate::fixture::{Foundation, Request, run_action};
use wire::bbs::{self as m, TaskState};

fn definition(f: &Foundation) -> m::TaskDefinition {
    m::TaskDefinition {
        root_fs: "preloaded:cflinuxfs4".into(),
        action: Some(run_action()),
        memory_mb: 256,
        annotation: "note".into(),
        completion_callback_url: format!("{}/done", f.peer_url),
        ..m::TaskDefinition::default()
    }
}

#[tokio::test]
async fn a_result_is_delivered_even_to_a_flaky_receiver() {
    let mut f = Foundation::start().await;
    let mut events = f.bbs.task_events().await.unwrap();
    f.bbs
        .desire_task("flaky-t", "cf-tasks", definition(&f))
        .await
        .unwrap();
    assert!(
        f.bbs
            .desire_task("flaky-t", "cf-tasks", definition(&f))
            .await
            .unwrap_err()
            .is_exists()
    );
    let Request::Tasks(requests) = f.next_request().await else {
        panic!("a task wants an auction")
    };
    assert_eq!(
        (
            requests[0].task_guid.as_str(),
            requests[0].resource.memory_mb,
            requests[0].state
        ),
        ("flaky-t", 256, wire::rep::TaskState::Pending)
    );
    assert!(f.bbs.start_task("flaky-t", "cell-1").await.unwrap());
    assert!(!f.bbs.start_task("flaky-t", "cell-1").await.unwrap());
    let complete = m::CompleteTaskRequest {
        task_guid: "flaky-t".into(),
        cell_id: "cell-2".into(),
        result: "42".into(),
        ..Default::default()
    };
    assert_eq!(
        f.bbs
            .complete_task(&complete)
            .await
            .unwrap_err()
            .to_string(),
        "Running on cell cell-1 not cell-2"
    );
    f.bbs
        .complete_task(&m::CompleteTaskRequest {
            cell_id: "cell-1".into(),
            ..complete
        })
        .await
        .unwrap();
    let Request::Callback(result) = f.next_request().await else {
        panic!("the result is delivered")
    };
    assert_eq!(
        (
            result.task_guid.as_str(),
            result.failed,
            result.result.as_str(),
            result.annotation.as_str()
        ),
        ("flaky-t", false, "42", "note")
    );
    for want in [
        "task_created",
        "task_changed",
        "task_changed",
        "task_changed",
        "task_removed",
    ] {
        assert_eq!(events.next().await.unwrap().name(), want);
    }
    assert!(f.bbs.task("flaky-t").await.unwrap_err().is_not_found());
    f.finish().await;
}

#[tokio::test]
async fn cancelled_rejected_and_deleted_by_hand() {
    let mut f = Foundation::start().await;
    let (_gone, _keeper) = f.cell("cell-1").await;
    let without_callback = m::TaskDefinition {
        completion_callback_url: String::new(),
        ..definition(&f)
    };
    f.bbs
        .desire_task("c", "d", without_callback.clone())
        .await
        .unwrap();
    f.next_request().await;
    f.bbs.start_task("c", "cell-1").await.unwrap();
    f.bbs.cancel_task("c").await.unwrap();
    assert_eq!(f.next_request().await, Request::Cancel("c".into()));
    let task = f.bbs.task("c").await.unwrap();
    assert_eq!(
        (task.state, task.failed, task.failure_reason.as_str()),
        (TaskState::Completed as i32, true, "task was cancelled")
    );
    assert_eq!(task.cell_id, "", "nobody runs it any more");
    assert_eq!(
        f.bbs.delete_task("c").await.unwrap_err().to_string(),
        "Cannot transition from Completed to Resolving"
    );
    f.bbs.resolve_task("c").await.unwrap();
    assert_eq!(f.bbs.task("c").await.unwrap().cell_id, "");
    f.bbs.delete_task("c").await.unwrap();

    f.bbs.desire_task("r", "d", without_callback).await.unwrap();
    for _ in 0..3 {
        f.bbs
            .reject_task("r", "insufficient resources: memory")
            .await
            .unwrap();
    }
    let task = f.bbs.task("r").await.unwrap();
    assert_eq!(
        (
            task.failed,
            task.failure_reason.as_str(),
            task.rejection_count
        ),
        (true, "insufficient resources: memory", 3)
    );
    let f = f.restart().await;
    assert_eq!(f.bbs.task("r").await.unwrap(), task);
    f.finish().await;
}

#[tokio::test]
async fn the_egress_of_a_task_can_be_changed_until_it_ends() {
    let mut f = Foundation::start().await;
    let rule = |destination: &str| m::SecurityGroupRule {
        protocol: "all".into(),
        destinations: vec![destination.to_owned()],
        ..m::SecurityGroupRule::default()
    };
    let missing = f.bbs.update_task_egress("t", Vec::new()).await;
    assert!(missing.unwrap_err().is_not_found());
    let without_callback = m::TaskDefinition {
        completion_callback_url: String::new(),
        egress_rules: vec![rule("1.1.1.1")],
        ..definition(&f)
    };
    f.bbs.desire_task("t", "d", without_callback).await.unwrap();
    f.next_request().await;
    let rules = async |f: &Foundation| {
        let task = f.bbs.task("t").await.unwrap();
        task.task_definition.unwrap().egress_rules
    };
    f.bbs
        .update_task_egress("t", vec![rule("2.2.2.2")])
        .await
        .unwrap();
    assert_eq!(rules(&f).await, [rule("2.2.2.2")], "while it waits");
    f.bbs.start_task("t", "cell-1").await.unwrap();
    let mut events = f.bbs.task_events().await.unwrap();
    f.bbs.update_task_egress("t", Vec::new()).await.unwrap();
    assert!(rules(&f).await.is_empty(), "while it runs");
    assert_eq!(events.next().await.unwrap().name(), "task_changed");
    let wrong = m::SecurityGroupRule {
        protocol: "carrier pigeon".into(),
        ..rule("1.1.1.1")
    };
    let refused = f.bbs.update_task_egress("t", vec![wrong]).await;
    assert_eq!(
        refused.unwrap_err().kind(),
        Some(m::ErrorType::InvalidRequest)
    );
    f.bbs
        .update_task_egress("t", vec![rule("3.3.3.3")])
        .await
        .unwrap();
    let f = f.restart().await;
    assert_eq!(rules(&f).await, [rule("3.3.3.3")]);
    let task = f.bbs.task("t").await.unwrap();
    assert_eq!(
        (task.state, task.cell_id.as_str()),
        (TaskState::Running as i32, "cell-1"),
        "the rest stays"
    );
    f.bbs.cancel_task("t").await.unwrap();
    let late = f.bbs.update_task_egress("t", Vec::new()).await;
    assert_eq!(
        late.unwrap_err().kind(),
        Some(m::ErrorType::InvalidStateTransition)
    );
    f.finish().await;
}
