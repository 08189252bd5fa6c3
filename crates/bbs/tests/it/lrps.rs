//! The life of LRPs: desired, claimed, started, changed, crashed, stopped. The tests check each response, each event and each
//! order to peers.

use crate::fixture::{Foundation, Request, claim, crash, desired, key, on, routes, start};
use clients::bbs::Events;
use wire::bbs::{self as m, ErrorType, Event};

async fn names<const N: usize>(events: &mut Events) -> [&'static str; N] {
    let mut names = [""; N];
    for name in &mut names {
        *name = events.next().await.unwrap().name();
    }
    names
}

#[tokio::test]
async fn desire_claim_start_crash() {
    let mut f = Foundation::start().await;
    let mut all = f.bbs.instance_events("").await.unwrap();
    let mut of_cell = f.bbs.instance_events("cell-1").await.unwrap();
    f.bbs.desire_lrp(desired("p", 2)).await.unwrap();
    assert_eq!(
        f.bbs
            .desire_lrp(desired("p", 2))
            .await
            .unwrap_err()
            .to_string(),
        "the requested resource already exists"
    );
    assert_eq!(f.auction().await, [("p".to_owned(), vec![0, 1])]);
    assert_eq!(
        f.rows("p").await,
        ["0 Ordinary UNCLAIMED", "1 Ordinary UNCLAIMED"]
    );
    let (created, changed, removed) = (
        "actual_lrp_instance_created",
        "actual_lrp_instance_changed",
        "actual_lrp_instance_removed",
    );
    assert_eq!(
        names(&mut all).await,
        ["desired_lrp_created", created, created]
    );

    let (a, b) = (on("a", "cell-1"), on("b", "cell-2"));
    f.bbs.claim(&claim("p", 0, &a)).await.unwrap();
    let refused = f.bbs.claim(&claim("p", 0, &b)).await.unwrap_err();
    assert_eq!(
        (refused.kind(), refused.to_string().as_str()),
        (
            Some(ErrorType::ActualLrpCannotBeClaimed),
            "cannot claim actual LRP"
        )
    );
    f.bbs.start(&start("p", 0, &a)).await.unwrap();
    f.bbs.start(&start("p", 0, &a)).await.unwrap();
    let Event::ActualLrpInstanceChanged(claimed) = all.next().await.unwrap() else {
        panic!("claim is a change")
    };
    let Event::ActualLrpInstanceChanged(started) = all.next().await.unwrap() else {
        panic!("start is a change")
    };
    assert_eq!(
        (
            claimed.before.unwrap().state.as_str(),
            claimed.after.unwrap().state.as_str()
        ),
        ("UNCLAIMED", "CLAIMED")
    );
    let after = started.after.unwrap();
    assert_eq!(
        (
            started.instance_key,
            after.state.as_str(),
            after.routable,
            after.modification_tag.unwrap().index
        ),
        (Some(a.clone()), "RUNNING", Some(true), 2)
    );
    assert_eq!(
        names(&mut of_cell).await,
        ["desired_lrp_created", changed, changed],
        "of its cell only, and all desired LRPs"
    );

    f.bbs.crash(&crash("p", 0, &a)).await.unwrap();
    assert_eq!(
        names(&mut all).await,
        ["actual_lrp_crashed", created, removed],
        "the same start again was no event"
    );
    assert_eq!(
        f.auction().await,
        [("p".to_owned(), vec![0])],
        "the first crashes restart at once"
    );
    for _ in 0..2 {
        f.bbs.start(&start("p", 0, &a)).await.unwrap();
        f.bbs.crash(&crash("p", 0, &a)).await.unwrap();
    }
    let request = m::ActualLrpsRequest {
        process_guid: "p".into(),
        index: Some(0),
        ..m::ActualLrpsRequest::default()
    };
    let row = f.bbs.actual_lrps(&request).await.unwrap().remove(0);
    assert_eq!(
        (
            row.state.as_str(),
            row.crash_count,
            row.crash_reason.as_str()
        ),
        ("CRASHED", 3, "Exited with status 1")
    );
    assert_eq!(
        row.instance_key,
        Some(m::ActualLrpInstanceKey::default()),
        "always encoded, also when empty"
    );
    f.finish().await;
}

#[tokio::test]
async fn routes_change_scale_and_removal() {
    let mut f = Foundation::start().await;
    let (gone, keeper) = f.cell("cell-1").await;
    f.bbs.desire_lrp(desired("p", 2)).await.unwrap();
    f.auction().await;
    let (a, b) = (on("a", "cell-1"), on("b", "cell-1"));
    f.bbs.start(&start("p", 0, &a)).await.unwrap();
    f.bbs.start(&start("p", 1, &b)).await.unwrap();

    let mut events = f.bbs.instance_events("").await.unwrap();
    f.bbs
        .update_desired_lrp(
            "p",
            m::DesiredLrpUpdate {
                routes: Some(routes("b.example")),
                annotation: Some("2.0".into()),
                ..Default::default()
            },
        )
        .await
        .unwrap();
    let Event::DesiredLrpChanged(change) = events.next().await.unwrap() else {
        panic!("an update is a change")
    };
    let (before, after) = (change.before.unwrap(), change.after.unwrap());
    assert_eq!(
        (before.routes, after.routes.clone()),
        (Some(routes("a.example")), Some(routes("b.example")))
    );
    let (tag_before, tag_after) = (
        before.modification_tag.unwrap(),
        after.modification_tag.unwrap(),
    );
    assert_eq!(
        (tag_after.epoch, tag_after.index),
        (tag_before.epoch, tag_before.index + 1)
    );
    let info = f
        .bbs
        .routing_infos(&m::DesiredLrpsRequest {
            process_guids: vec!["p".into()],
            ..Default::default()
        })
        .await
        .unwrap()
        .remove(0);
    assert_eq!(
        (info.routes, info.log_guid.as_str(), info.action),
        (after.routes, "app", None)
    );
    let infos = f
        .bbs
        .scheduling_infos(&m::DesiredLrpsRequest {
            domain: "cf-apps".into(),
            ..Default::default()
        })
        .await
        .unwrap();
    assert_eq!(
        (
            infos.len(),
            infos[0].annotation.as_str(),
            infos[0].instances
        ),
        (1, "2.0", 2)
    );

    let internal = m::ProtoRoutes {
        routes: [(
            "internal-router".to_owned(),
            br#"[{"hostname":"a.apps.internal"}]"#.to_vec(),
        )]
        .into(),
    };
    f.bbs
        .update_desired_lrp(
            "p",
            m::DesiredLrpUpdate {
                routes: Some(internal),
                ..Default::default()
            },
        )
        .await
        .unwrap();
    let (Request::Update(one), Request::Update(two)) =
        (f.next_request().await, f.next_request().await)
    else {
        panic!("both instances receive an update")
    };
    assert_eq!(
        (
            one.internal_routes[0].hostname.as_str(),
            one.index + two.index
        ),
        ("a.apps.internal", 1)
    );

    f.bbs
        .update_desired_lrp(
            "p",
            m::DesiredLrpUpdate {
                instances: Some(1),
                ..Default::default()
            },
        )
        .await
        .unwrap();
    assert_eq!(f.next_request().await, Request::Stop("b".into()));
    f.bbs
        .remove(&m::RemoveActualLrpRequest {
            process_guid: "p".into(),
            index: 1,
            instance_key: Some(b),
        })
        .await
        .unwrap();
    f.bbs.remove_desired_lrp("p").await.unwrap();
    assert_eq!(f.next_request().await, Request::Stop("a".into()));
    f.bbs
        .remove(&m::RemoveActualLrpRequest {
            process_guid: "p".into(),
            index: 0,
            instance_key: Some(a),
        })
        .await
        .unwrap();
    assert_eq!(f.rows("p").await, Vec::<String>::new());
    assert!(f.bbs.desired_lrp("p").await.unwrap_err().is_not_found());
    gone.cancel();
    keeper.await.unwrap();
    f.finish().await;
}

#[tokio::test]
async fn an_instance_that_is_retired_starts_again() {
    let mut f = Foundation::start().await;
    let (_gone, _keeper) = f.cell("cell-1").await;
    f.bbs.desire_lrp(desired("p", 1)).await.unwrap();
    f.auction().await;
    f.bbs
        .start(&start("p", 0, &on("a", "cell-1")))
        .await
        .unwrap();
    f.bbs.retire(key("p", 0)).await.unwrap();
    assert_eq!(f.next_request().await, Request::Stop("a".into()));
    f.bbs
        .remove(&m::RemoveActualLrpRequest {
            process_guid: "p".into(),
            index: 0,
            instance_key: Some(on("a", "cell-1")),
        })
        .await
        .unwrap();
    assert_eq!(f.auction().await, [("p".to_owned(), vec![0])]);
    f.finish().await;
}

#[tokio::test]
async fn evacuation() {
    let mut f = Foundation::start().await;
    f.bbs.desire_lrp(desired("p", 1)).await.unwrap();
    f.auction().await;
    let (a, b) = (on("a", "cell-1"), on("b", "cell-2"));
    f.bbs.start(&start("p", 0, &a)).await.unwrap();
    let mut events = f.bbs.instance_events("").await.unwrap();
    let started = start("p", 0, &a);
    let evacuate = m::EvacuateRunningActualLrpRequest {
        key: started.key,
        instance_key: started.instance_key,
        net_info: started.net_info,
        routable: started.routable,
        ..Default::default()
    };
    assert!(f.bbs.evacuate_running(&evacuate).await.unwrap());
    assert_eq!(f.auction().await, [("p".to_owned(), vec![0])]);
    assert_eq!(
        f.rows("p").await,
        ["0 Ordinary UNCLAIMED", "0 Evacuating RUNNING a"],
        "what runs comes last"
    );
    f.bbs.start(&start("p", 0, &b)).await.unwrap();
    assert!(!f.bbs.evacuate_running(&evacuate).await.unwrap());
    assert_eq!(f.rows("p").await, ["0 Ordinary RUNNING b"]);
    let seen: [_; 4] = names(&mut events).await;
    assert_eq!(
        seen,
        [
            "actual_lrp_instance_changed",
            "actual_lrp_instance_created",
            "actual_lrp_instance_changed",
            "actual_lrp_instance_removed"
        ]
    );
    f.finish().await;
}

#[tokio::test]
async fn a_restart_keeps_everything() {
    let mut f = Foundation::start().await;
    f.bbs.upsert_domain("cf-apps", 0).await.unwrap();
    f.bbs.desire_lrp(desired("p", 3)).await.unwrap();
    f.auction().await;
    f.bbs
        .claim(&claim("p", 0, &on("a", "cell-1")))
        .await
        .unwrap();
    f.bbs
        .start(&start("p", 1, &on("b", "cell-1")))
        .await
        .unwrap();
    f.bbs
        .fail(&m::FailActualLrpRequest {
            key: Some(key("p", 2)),
            error_message: "insufficient resources: memory".into(),
        })
        .await
        .unwrap();
    let all = m::ActualLrpsRequest::default();
    let (desired_before, actual_before) = (
        f.bbs.desired_lrp("p").await.unwrap(),
        f.bbs.actual_lrps(&all).await.unwrap(),
    );
    let f = f.restart().await;
    assert_eq!(f.bbs.desired_lrp("p").await.unwrap(), desired_before);
    assert_eq!(f.bbs.actual_lrps(&all).await.unwrap(), actual_before);
    assert_eq!(f.bbs.domains().await.unwrap(), ["cf-apps"]);
    f.finish().await;
}

#[tokio::test]
async fn acknowledged_changes_survive_a_power_cut() {
    let mut f = Foundation::start().await;
    f.bbs.desire_lrp(desired("p", 2)).await.unwrap();
    f.auction().await;
    f.bbs
        .start(&start("p", 0, &on("a", "cell-1")))
        .await
        .unwrap();
    let mut after = f.after_power_cut().await;
    assert_eq!(
        after.rows("p").await,
        ["0 Ordinary RUNNING a", "1 Ordinary UNCLAIMED"]
    );
    assert_eq!(
        after.auction().await,
        [("p".to_owned(), vec![1])],
        "what waited for a cell is auctioned at once"
    );
    after.finish().await;
    f.finish().await;
}

#[tokio::test]
async fn errors_are_answers() {
    let f = Foundation::start().await;
    let invalid = f
        .bbs
        .desire_lrp(m::DesiredLrp {
            domain: String::new(),
            ..desired("a/b", -1)
        })
        .await
        .unwrap_err();
    assert_eq!(
        (invalid.kind(), invalid.to_string().as_str()),
        (
            Some(ErrorType::InvalidRequest),
            "Invalid field: process_guid\nInvalid field: domain\nInvalid field: instances"
        )
    );
    assert_eq!(
        f.bbs
            .remove_desired_lrp("nobody")
            .await
            .unwrap_err()
            .to_string(),
        "the requested resource could not be found"
    );
    assert!(
        f.bbs
            .claim(&claim("nobody", 0, &on("a", "c")))
            .await
            .unwrap_err()
            .is_not_found()
    );
    assert!(f.bbs.ping().await.unwrap());
    f.finish().await;
}

#[tokio::test]
async fn changed_egress_rules_are_sent_to_the_cells() {
    let mut f = Foundation::start().await;
    let (gone, keeper) = f.cell("cell-1").await;
    f.bbs.desire_lrp(desired("p", 1)).await.unwrap();
    f.auction().await;
    let a = on("a", "cell-1");
    f.bbs.claim(&claim("p", 0, &a)).await.unwrap();
    f.bbs.start(&start("p", 0, &a)).await.unwrap();
    let rule = |destination: &str| m::SecurityGroupRule {
        protocol: "all".into(),
        destinations: vec![destination.to_owned()],
        ..m::SecurityGroupRule::default()
    };
    let update = |rules: Option<Vec<m::SecurityGroupRule>>| m::DesiredLrpUpdate {
        egress: rules.map(|rules| m::EgressUpdate { rules }),
        annotation: Some("2.0".into()),
        ..m::DesiredLrpUpdate::default()
    };
    let rules = async |f: &Foundation| f.bbs.desired_lrp("p").await.unwrap().egress_rules;
    let one = vec![rule("1.1.1.1")];
    f.bbs
        .update_desired_lrp("p", update(Some(one.clone())))
        .await
        .unwrap();
    let Request::Update(received) = f.next_request().await else {
        panic!("the cell receives an update")
    };
    assert_eq!(received.instance_guid, "a");
    assert_eq!(rules(&f).await, one);
    // An update without rules leaves the old ones; an update with an empty list removes them.
    f.bbs.update_desired_lrp("p", update(None)).await.unwrap();
    assert_eq!(rules(&f).await, one);
    f.bbs
        .update_desired_lrp("p", update(Some(Vec::new())))
        .await
        .unwrap();
    assert!(matches!(f.next_request().await, Request::Update(_)));
    assert!(rules(&f).await.is_empty());
    let wrong = m::SecurityGroupRule {
        protocol: "carrier pigeon".into(),
        ..rule("1.1.1.1")
    };
    let refused = f
        .bbs
        .update_desired_lrp("p", update(Some(vec![wrong])))
        .await;
    assert_eq!(refused.unwrap_err().kind(), Some(ErrorType::InvalidRequest));
    gone.cancel();
    keeper.await.unwrap();
    f.finish().await;
}
