//! Tests routes whose instances are starting: `router.starting`, which routers with a hold use and originals ignore.

use crate::fixture::{SOON, Stage, actual, desired};
use futures::StreamExt as _;
use route_emitter::Config;
use std::time::Duration;
use wire::bbs as m;
use wire::router::RegistryMessage;

/// Returns the uris of the next announcement.
async fn announced(stage: &mut Stage) -> Vec<String> {
    let next = async {
        loop {
            let message = stage.messages.next().await.expect("the bus is open");
            if message.subject.as_str() == "router.starting" {
                // An original router parses it as a registration before it looks at the subject.
                let read = serde_json::from_slice::<RegistryMessage>(&message.payload);
                return read.expect("a valid registry message").uris;
            }
        }
    };
    tokio::time::timeout(SOON, next)
        .await
        .expect("no announcement came")
}

fn process(guid: &str, uri: &str) -> m::DesiredLrp {
    m::DesiredLrp {
        process_guid: guid.into(),
        ..desired(&[uri], 1)
    }
}

fn claimed(guid: &str) -> m::ActualLrp {
    let row = actual(1);
    m::ActualLrp {
        key: row.key.map(|key| m::ActualLrpKey {
            process_guid: guid.into(),
            ..key
        }),
        instance_key: row.instance_key.map(|key| m::ActualLrpInstanceKey {
            instance_guid: format!("instance-of-{guid}"),
            ..key
        }),
        state: m::state::CLAIMED.into(),
        net_info: None,
        ..actual(1)
    }
}

fn event(lrp: m::ActualLrp) -> m::ActualLrpInstanceEvent {
    m::ActualLrpInstanceEvent {
        actual_lrp: Some(lrp),
        trace_id: String::new(),
    }
}

async fn until_announced(stage: &mut Stage, uri: &str) {
    let announced_in_time = async { while announced(stage).await != [uri] {} };
    let announced_in_time = tokio::time::timeout(SOON, announced_in_time).await;
    announced_in_time.expect("it was not announced");
}

/// Checks that only this route is announced. Three announcements of it in a row show that the emitter keeps announcing, and that
/// nothing else is starting.
async fn only_is_announced(stage: &mut Stage, uri: &str) {
    let alone = async {
        let mut in_a_row = 0;
        while in_a_row < 3 {
            let only = announced(stage).await == [uri];
            in_a_row = if only { in_a_row + 1 } else { 0 };
        }
    };
    let alone = tokio::time::timeout(SOON, alone).await;
    alone.expect("something else is announced as well");
}

fn often(config: &mut Config) {
    config.announcement_interval = Duration::from_millis(50);
}

#[tokio::test]
async fn a_claimed_instance_is_announced_until_it_is_gone_or_has_crashed() {
    let wanted = vec![
        process("gone", "gone.x"),
        process("crash", "crash.x"),
        process("q", "q.x"),
    ];
    let mut stage = Stage::start(wanted, vec![], often).await;
    stage.subscribed().await;
    for guid in ["gone", "crash"] {
        let claim = m::Event::ActualLrpInstanceCreated(event(claimed(guid)));
        stage.bbs.event(claim);
    }
    let mut seen = Vec::new();
    while seen.iter().filter(|uri| *uri == "gone.x").count() < 3
        || seen.iter().filter(|uri| *uri == "crash.x").count() < 3
    {
        seen.extend(announced(&mut stage).await);
    }
    let q = m::Event::ActualLrpInstanceCreated(event(claimed("q")));
    stage.bbs.event(q);
    let gone = m::Event::ActualLrpInstanceRemoved(event(claimed("gone")));
    stage.bbs.event(gone);
    let before = claimed("crash");
    let crashed = m::ActualLrpInfo {
        state: m::state::CRASHED.into(),
        modification_tag: Some(m::ModificationTag {
            epoch: "a".into(),
            index: 2,
        }),
        ..m::ActualLrpInfo::default()
    };
    let crash = m::ActualLrpInstanceChangedEvent {
        key: before.key,
        instance_key: before.instance_key,
        before: None,
        after: Some(crashed),
        trace_id: String::new(),
    };
    stage.bbs.event(m::Event::ActualLrpInstanceChanged(crash));
    only_is_announced(&mut stage, "q.x").await;
}

#[tokio::test]
async fn instances_that_wait_for_a_cell_are_announced_when_they_are_wanted() {
    let mut stage = Stage::start(vec![process("q", "q.x")], vec![claimed("q")], often).await;
    stage.subscribed().await;
    only_is_announced(&mut stage, "q.x").await;
    let new = m::Event::DesiredLrpCreated(m::DesiredLrpEvent {
        desired_lrp: Some(process("p", "new.x")),
        trace_id: String::new(),
    });
    stage.bbs.event(new);
    until_announced(&mut stage, "new.x").await;
    // The BBS does not have the process, so it is not announced again.
    only_is_announced(&mut stage, "q.x").await;
    let grown = m::Event::DesiredLrpChanged(m::DesiredLrpChangedEvent {
        before: Some(process("p", "new.x")),
        after: Some(m::DesiredLrp {
            instances: 2,
            modification_tag: Some(m::ModificationTag {
                epoch: "d".into(),
                index: 2,
            }),
            ..process("p", "new.x")
        }),
        trace_id: String::new(),
    });
    stage.bbs.event(grown);
    until_announced(&mut stage, "new.x").await;
    only_is_announced(&mut stage, "q.x").await;
}

#[tokio::test]
async fn instances_that_wait_for_a_cell_are_announced_until_it_is_known_that_none_has_room() {
    let unclaimed = |placement_error: &str| m::ActualLrp {
        instance_key: Some(m::ActualLrpInstanceKey::default()),
        state: m::state::UNCLAIMED.into(),
        placement_error: placement_error.into(),
        ..claimed("p")
    };
    let rows = |placement_error: &str| vec![claimed("q"), unclaimed(placement_error)];
    let mut stage = Stage::start(vec![process("q", "q.x")], rows(""), often).await;
    stage.subscribed().await;
    let new = m::Event::DesiredLrpCreated(m::DesiredLrpEvent {
        desired_lrp: Some(process("p", "new.x")),
        trace_id: String::new(),
    });
    stage.bbs.event(new);
    for _ in 0..4 {
        until_announced(&mut stage, "new.x").await;
    }
    let desired = vec![process("q", "q.x"), process("p", "new.x")];
    stage.bbs.set(desired, rows("insufficient resources"));
    only_is_announced(&mut stage, "q.x").await;
}

#[tokio::test]
async fn running_instances_are_not_announced() {
    let desired_lrps = vec![process("q", "q.x"), desired(&["a.x"], 1)];
    let mut stage = Stage::start(desired_lrps, vec![claimed("q"), actual(1)], often).await;
    stage.expect("register", "a.x").await;
    only_is_announced(&mut stage, "q.x").await;
}
