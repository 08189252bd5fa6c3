//! Tests of the bulk pass beside concurrent work: a list that is old when it arrives must not affect anything younger.

use crate::fixture::{CELL, Fixture, Running, app, resource, run};
use crate::stand_in_bbs::Call;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use std::collections::BTreeSet;
use std::time::Duration;
use testkit::sim_garden::Script;
use testkit::wait::{until, wait_for};
use wire::bbs::*;
use wire::rep as json;

fn starts(calls: &[Call]) -> BTreeSet<String> {
    let guids = calls.iter().filter_map(|call| match call {
        Call::Start(start) => start.instance_key.clone().map(|key| key.instance_guid),
        _ => None,
    });
    guids.collect()
}

/// Returns the instances that were reported as crashed or removed, with the reason.
fn ends(calls: &[Call]) -> Vec<(String, String)> {
    let ends = calls.iter().filter_map(|call| match call {
        Call::Crash(crash) => Some((crash.instance_key.clone(), crash.error_message.clone())),
        Call::Remove(remove) => Some((remove.instance_key.clone(), "removed".to_owned())),
        _ => None,
    });
    ends.map(|(key, reason)| (key.unwrap_or_default().instance_guid, reason))
        .collect()
}

/// Places instances of one process on the rep.
async fn scale(fixture: &Fixture, rep: &Running, indices: std::ops::Range<i32>) {
    let lrp = app();
    let lrps = indices.map(|index| json::Lrp {
        process_guid: lrp.process_guid.clone(),
        index,
        domain: "cf-apps".into(),
        resource: json::Resource {
            memory_mb: 4,
            disk_mb: 8,
            max_pids: 0,
        },
        ..json::Lrp::default()
    });
    let work = json::Work {
        lrps: lrps.collect(),
        tasks: vec![],
        cell_id: CELL.into(),
    };
    let desired = (lrp.process_guid.clone(), lrp);
    fixture.bbs.rows.lock().unwrap().desired.extend([desired]);
    let refused = fixture.client.perform(&rep.url, &work).await.unwrap();
    assert!(refused.is_empty(), "{refused:?}");
}

#[tokio::test]
async fn a_list_older_than_a_container_does_not_kill_it() {
    let fixture = Fixture::new().await;
    let rep = fixture.rep().await;
    // The rep makes its first list before it accepts work.
    fixture.garden.wait_for_lists(2).await;
    fixture.garden.hold_lists().await;
    let guid = fixture.place(&rep, app()).await;
    until("the instance to run", || {
        starts(&fixture.bbs.calls()).contains(&guid)
    })
    .await;
    fixture.garden.answer_lists();
    fixture.garden.wait_for_lists(3).await;
    assert_eq!(ends(&fixture.bbs.calls()), []);
    assert_eq!(fixture.garden.handles(), [guid]);
    rep.stop().await;
}

#[tokio::test]
async fn a_container_that_vanishes_is_missed() {
    let fixture = Fixture::new().await;
    let rep = fixture.rep().await;
    let guid = fixture.place(&rep, app()).await;
    until("the instance to run", || {
        starts(&fixture.bbs.calls()).contains(&guid)
    })
    .await;
    fixture.garden.destroy_from_outside(&guid);
    until("the report of its end", || {
        !ends(&fixture.bbs.calls()).is_empty()
    })
    .await;
    let missing = "missing garden container".to_owned();
    assert_eq!(ends(&fixture.bbs.calls())[0], (guid, missing));
    rep.stop().await;
}

#[tokio::test]
async fn scaling_out_beside_the_bulk_pass_ends_no_instance() {
    for seed in 0..6 {
        let mut fixture = Fixture::new().await;
        fixture.bulk = Duration::from_millis(1);
        fixture.garden.jitter(seed);
        fixture.bbs.rows.lock().unwrap().jitter = Some(StdRng::seed_from_u64(seed));
        let rep = fixture.rep().await;
        for round in 0..5 {
            scale(&fixture, &rep, round * 12..(round + 1) * 12).await;
            fixture.garden.wait_for_lists(1).await;
        }
        until("60 instances to run", || {
            starts(&fixture.bbs.calls()).len() == 60
        })
        .await;
        fixture.garden.wait_for_lists(2).await;
        assert_eq!(ends(&fixture.bbs.calls()), [], "seed {seed}");

        let lost: BTreeSet<String> = fixture.garden.handles().into_iter().take(5).collect();
        lost.iter()
            .for_each(|handle| fixture.garden.destroy_from_outside(handle));
        until("five to be missed", || {
            ends(&fixture.bbs.calls()).len() >= 5
        })
        .await;
        fixture.garden.wait_for_lists(2).await;
        let missed: BTreeSet<String> = ends(&fixture.bbs.calls())
            .into_iter()
            .map(|(guid, _)| guid)
            .collect();
        assert_eq!(missed, lost, "seed {seed}: only what is gone");
        rep.stop().await;
    }
}

#[tokio::test]
async fn a_task_that_is_desired_again_is_not_confused_with_the_old_one() {
    for seed in 0..4 {
        let mut fixture = Fixture::new().await;
        fixture.bulk = Duration::from_millis(1);
        fixture.garden.jitter(seed);
        fixture
            .garden
            .script(|spec| spec.path == "/bin/task", Script::exits(0));
        fixture.bbs.rows.lock().unwrap().jitter = Some(StdRng::seed_from_u64(seed));
        let rep = fixture.rep().await;
        for round in 1..=8 {
            desire_task(&fixture, &rep).await;
            until("the end of the task", || {
                completions(&fixture).len() >= round
            })
            .await;
        }
        for completion in completions(&fixture) {
            assert_eq!(completion.failure_reason, "", "seed {seed}");
        }
        rep.stop().await;
    }
}

fn completions(fixture: &Fixture) -> Vec<CompleteTaskRequest> {
    let calls = fixture
        .bbs
        .calls()
        .into_iter()
        .filter_map(|call| match call {
            Call::CompleteTask(complete) => Some(complete),
            _ => None,
        });
    calls.collect()
}

async fn desire_task(fixture: &Fixture, rep: &Running) {
    let guid = "task-1".to_owned();
    let task = Task {
        task_guid: guid.clone(),
        state: TaskState::Pending as i32,
        task_definition: Some(TaskDefinition {
            root_fs: "preloaded:cflinuxfs4".into(),
            action: Some(run("/bin/task")),
            ..TaskDefinition::default()
        }),
        ..Task::default()
    };
    fixture
        .bbs
        .rows
        .lock()
        .unwrap()
        .tasks
        .insert(guid.clone(), task);
    let work = json::Work {
        lrps: vec![],
        tasks: vec![json::Task {
            task_guid: guid,
            domain: "cf-tasks".into(),
            resource: resource(),
            ..json::Task::default()
        }],
        cell_id: CELL.into(),
    };
    // The container of the previous run may still exist.
    wait_for("the task to be accepted", async || {
        let refused = fixture.client.perform(&rep.url, &work).await.unwrap();
        refused.is_empty()
    })
    .await;
}
