use super::*;
use wire::router::receipts::Receipt;

const MS: u64 = 1_000_000;

/// Returns a moment to count from.
#[expect(clippy::disallowed_methods, reason = "an Instant has no other origin")]
fn origin() -> Instant {
    Instant::now()
}

fn process(process: &str, generation: u64, endpoints: u32) -> ServedProcess {
    ServedProcess {
        process: process.to_owned(),
        generation,
        endpoints,
    }
}

fn receipts(router: &str, processes: &[ServedProcess]) -> Receipts {
    Receipts {
        router: router.to_owned(),
        routes: vec![Receipt {
            uri: "a.test".to_owned(),
            processes: processes.to_vec(),
            change: None,
        }],
    }
}

fn wish(processes: &[(&str, u64)]) -> Wish {
    let processes = processes.iter();
    Wish {
        route_guid: "r".to_owned(),
        uri: "a.test".to_owned(),
        generation: 7,
        processes: processes.map(|(p, g)| ((*p).to_owned(), *g)).collect(),
    }
}

/// Two routers of ours that were introduced long ago, and a change of generation 7 at 100 ms.
fn two_routers() -> (Propagation, Instant) {
    let start = origin();
    let mut propagation = Propagation::default();
    for id in ["0-a", "1-b"] {
        propagation.present(id, vec![format!("host-{id}")], start);
        propagation.served(receipts(id, &[]), start, 1);
    }
    propagation.stored("r", 7, 100 * MS);
    (propagation, start + Duration::from_millis(1500))
}

#[test]
fn a_mapping_is_live_when_every_router_serves_it() {
    let (mut propagation, now) = two_routers();
    let wish = wish(&[("web", 7)]);
    let verdict = propagation.judge(&wish, now);
    assert_eq!((verdict.state, verdict.after_ns()), (State::Pending, None));
    assert_eq!(
        verdict.summary(),
        "live on 0/2 routers; router 0-a: it serves no instance of process web"
    );
    propagation.served(receipts("0-a", &[process("web", 7, 2)]), now, 104 * MS);
    // The router had the process before, with an older change of the route.
    propagation.served(receipts("1-b", &[process("web", 6, 2)]), now, 105 * MS);
    let verdict = propagation.judge(&wish, now);
    assert_eq!(verdict.state, State::Pending);
    assert_eq!(
        verdict.summary(),
        "live on 1/2 routers; router 1-b: it serves process web as of generation 6, not 7"
    );
    propagation.served(receipts("1-b", &[process("web", 7, 2)]), now, 106 * MS);
    // An answer to a later question confirms nothing new.
    propagation.served(receipts("1-b", &[process("web", 7, 2)]), now, 900 * MS);
    let verdict = propagation.judge(&wish, now);
    assert_eq!(verdict.state, State::Live);
    assert_eq!(verdict.after_ns(), Some(6 * MS));
    assert_eq!(verdict.summary(), "live on 2/2 routers after 6.0 ms");
}

#[test]
fn a_route_is_gone_when_no_router_serves_it() {
    let (mut propagation, now) = two_routers();
    for id in ["0-a", "1-b"] {
        propagation.served(receipts(id, &[process("web", 6, 1)]), now, 50 * MS);
    }
    let wish = wish(&[]);
    propagation.served(receipts("0-a", &[]), now, 103 * MS);
    assert_eq!(
        propagation.judge(&wish, now).summary(),
        "gone from 1/2 routers; router 1-b: it still serves process web (1 endpoints)"
    );
    propagation.served(receipts("1-b", &[]), now, 125 * MS);
    let verdict = propagation.judge(&wish, now);
    assert_eq!(verdict.state, State::Gone);
    assert_eq!(verdict.summary(), "gone from 2/2 routers after 25 ms");
}

#[test]
fn one_of_two_destinations_is_removed() {
    let (mut propagation, now) = two_routers();
    let both = [process("one", 5, 1), process("two", 6, 1)];
    for id in ["0-a", "1-b"] {
        propagation.served(receipts(id, &both), now, 50 * MS);
    }
    let wish = wish(&[("one", 5)]);
    assert_eq!(propagation.judge(&wish, now).state, State::Pending);
    for id in ["0-a", "1-b"] {
        propagation.served(receipts(id, &both[..1]), now, 103 * MS);
    }
    assert_eq!(propagation.judge(&wish, now).state, State::Live);
}

#[test]
fn an_original_router_is_shown_as_one_that_does_not_confirm() {
    let (mut propagation, now) = two_routers();
    propagation.present("2-original", vec![], now);
    let wish = wish(&[("web", 7)]);
    for id in ["0-a", "1-b"] {
        propagation.served(receipts(id, &[process("web", 7, 1)]), now, 106 * MS);
    }
    assert_eq!(
        propagation.judge(&wish, now).state,
        State::Pending,
        "it may still introduce itself"
    );
    let verdict = propagation.judge(&wish, now + INTRODUCTION);
    assert_eq!(verdict.state, State::Live);
    assert_eq!(verdict.routers[2].state, RouterState::Unconfirmed);
    assert_eq!(
        verdict.summary(),
        "live on 2/2 routers after 6.0 ms; 1 router does not confirm"
    );

    let mut originals = Propagation::default();
    originals.present("0-original", vec![], now);
    let verdict = originals.judge(&wish, now + INTRODUCTION);
    assert_eq!(verdict.state, State::Unconfirmed);
    assert!(verdict.state.is_final());
    assert_eq!(
        verdict.summary(),
        "sent to 1 router; 1 router does not confirm"
    );
    let nothing = Propagation::default().judge(&wish, now);
    assert_eq!(
        (nothing.state, nothing.summary().as_str()),
        (State::Unknown, "no router is known")
    );
}

#[test]
fn a_router_that_is_gone_is_not_waited_for() {
    let (mut propagation, now) = two_routers();
    propagation.present("0-a", vec![], now);
    propagation.served(receipts("0-a", &[process("web", 7, 1)]), now, 106 * MS);
    let wish = wish(&[("web", 7)]);
    for _ in 0..UNANSWERED {
        propagation.greeted(now);
        propagation.present("0-a", vec![], now);
    }
    let verdict = propagation.judge(&wish, now);
    assert_eq!(verdict.state, State::Live);
    assert_eq!(
        verdict.summary(),
        "live on 1/1 router after 6.0 ms; 1 router does not answer"
    );
    propagation.greeted(now + GONE);
    propagation.present("0-a", vec![], now + GONE);
    assert_eq!(propagation.routers(), ["0-a"].into());
}

#[test]
fn an_old_receipt_does_not_count() {
    let (mut propagation, now) = two_routers();
    let wish = wish(&[("web", 7)]);
    for id in ["0-a", "1-b"] {
        propagation.served(receipts(id, &[process("web", 7, 1)]), now, 106 * MS);
    }
    let later = now + FRESH;
    assert_eq!(propagation.judge(&wish, later).state, State::Pending);
    // The answers to a question show the time of the first receipt.
    for id in ["0-a", "1-b"] {
        propagation.served(receipts(id, &[process("web", 7, 3)]), later, 2_106 * MS);
    }
    let verdict = propagation.judge(&wish, later);
    assert_eq!(verdict.after_ns(), Some(6 * MS));
}

#[test]
fn the_start_of_an_instance_does_not_count() {
    let (mut propagation, now) = two_routers();
    propagation.desired("r", 7, 102 * MS);
    let emitted = 9_000 * MS;
    for (id, at) in [("0-a", 9_003), ("1-b", 9_004)] {
        let mut receipts = receipts(id, &[process("web", 7, 1)]);
        receipts.routes[0].change = Some(AppliedChange {
            generation: 7,
            emitted_at_ns: emitted,
            applied_at_ns: emitted + MS,
        });
        propagation.served(receipts, now, at * MS);
    }
    let verdict = propagation.judge(&wish(&[("web", 7)]), now);
    assert_eq!(verdict.after_ns(), Some(4 * MS));
}

#[test]
fn hops_are_those_of_the_last_change_only() {
    let (mut propagation, now) = two_routers();
    propagation.desired("r", 6, 101 * MS);
    propagation.desired("r", 7, 102 * MS);
    propagation.desired("r", 7, 999 * MS);
    let change = propagation.judge(&wish(&[]), now).change.unwrap();
    assert_eq!(change.desired_at_ns, Some(102 * MS));
    // Another Cloud Controller made a newer change.
    let newer = Wish {
        generation: 8,
        ..wish(&[])
    };
    assert_eq!(propagation.judge(&newer, now).change, None);
}

#[test]
fn the_newest_routes_are_kept() {
    let now = origin();
    let mut propagation = Propagation::default();
    for n in 0..=MOST {
        let receipt = Receipt {
            uri: format!("{n}.test"),
            ..Receipt::default()
        };
        let receipts = Receipts {
            router: "0-a".to_owned(),
            routes: vec![receipt],
        };
        propagation.served(receipts, now, 1);
    }
    assert_eq!(propagation.routes.entries.len(), MOST);
    assert!(propagation.routes.get("0.test").is_none());
    assert!(propagation.routes.get("1.test").is_some());
}
