use super::*;
use crate::SECOND;
use crate::evacuation::Wanted;
use proptest::prelude::*;

fn key() -> ActualLrpKey {
    ActualLrpKey {
        process_guid: "p".into(),
        index: 0,
        domain: "d".into(),
    }
}
fn instance(name: &str) -> InstanceKey {
    InstanceKey {
        instance_guid: name.into(),
        cell_id: format!("cell-{name}").into(),
    }
}
fn at(seconds: i64) -> Moment {
    Moment {
        now: seconds * SECOND,
        epoch: format!("epoch-{seconds}").into(),
    }
}
fn details(routable: bool) -> Arc<Running> {
    Arc::new(Running {
        routable,
        ..Running::default()
    })
}

/// A call that leads to a slot; `slot` runs several one after another, and each must be allowed.
type Step = fn(&Slot) -> Result<Transition, Refusal>;
fn slot(calls: &[Step]) -> Slot {
    calls
        .iter()
        .fold(Slot::default(), |slot, call| call(&slot).unwrap().slot)
}
fn create(slot: &Slot) -> Result<Transition, Refusal> {
    slot.create(&key(), &at(0))
}
fn claim_a(slot: &Slot) -> Result<Transition, Refusal> {
    slot.claim(&instance("a"), &at(1))
}
fn start_a(slot: &Slot) -> Result<Transition, Refusal> {
    slot.start(&key(), &instance("a"), &details(true), &at(2))
}
fn crash_a(slot: &Slot) -> Result<Transition, Refusal> {
    slot.crash(&instance("a"), "boom", &RestartPolicy::default(), &at(3))
}

/// Returns the names of the rows' states, in the order evacuating, suspect, ordinary.
fn shape(slot: &Slot) -> String {
    slot.rows()
        .map(|row| {
            format!(
                "{:?} {} {}",
                row.presence,
                row.state.name(),
                row.instance().map_or("-", |i| &i.instance_guid)
            )
        })
        .collect::<Vec<_>>()
        .join(", ")
}

#[test]
fn allowed_and_refused() {
    let states: [(&str, Slot); 4] = [
        ("unclaimed", slot(&[create])),
        ("claimed", slot(&[create, claim_a])),
        ("running", slot(&[create, claim_a, start_a])),
        (
            "crashed",
            slot(&[create, start_a, crash_a, start_a, crash_a, start_a, crash_a]),
        ),
    ];
    type Call = fn(&Slot, &InstanceKey) -> Result<Transition, Refusal>;
    let claim: Call = |s, i| s.claim(i, &at(9));
    let start: Call = |s, i| s.start(&key(), i, &details(true), &at(9));
    let crash: Call = |s, i| s.crash(i, "x", &RestartPolicy::default(), &at(9));
    let fail: Call = |s, _| s.fail("no room", &at(9));
    let remove: Call = |s, i| s.remove(Some(i));
    let check = |name: &str, call: Call, by: &str, want: [Result<&str, Refusal>; 4]| {
        for ((state, slot), want) in states.iter().zip(want) {
            let got = call(slot, &instance(by)).map(|t| shape(&t.slot));
            assert_eq!(got, want.map(str::to_owned), "{name} by {by} when {state}");
        }
    };
    use Refusal::*;
    let (claimed_a, running_a) = ("Ordinary CLAIMED a", "Ordinary RUNNING a");
    check(
        "claim",
        claim,
        "a",
        [
            Ok(claimed_a),
            Ok(claimed_a),
            Ok(claimed_a),
            Err(CannotBeClaimed),
        ],
    );
    check(
        "claim",
        claim,
        "b",
        [
            Ok("Ordinary CLAIMED b"),
            Err(CannotBeClaimed),
            Err(CannotBeClaimed),
            Err(CannotBeClaimed),
        ],
    );
    check(
        "start",
        start,
        "a",
        [
            Ok(running_a),
            Ok(running_a),
            Ok(running_a),
            Err(CannotBeStarted),
        ],
    );
    check(
        "start",
        start,
        "b",
        [
            Ok("Ordinary RUNNING b"),
            Ok("Ordinary RUNNING b"),
            Err(CannotBeStarted),
            Err(CannotBeStarted),
        ],
    );
    check(
        "crash",
        crash,
        "a",
        [
            Err(CannotBeCrashed),
            Ok("Ordinary UNCLAIMED -"),
            Ok("Ordinary UNCLAIMED -"),
            Err(CannotBeCrashed),
        ],
    );
    check("crash", crash, "b", [Err(CannotBeCrashed); 4]);
    check(
        "fail",
        fail,
        "",
        [
            Ok("Ordinary UNCLAIMED -"),
            Err(CannotBeFailed),
            Err(CannotBeFailed),
            Err(CannotBeFailed),
        ],
    );
    check(
        "remove",
        remove,
        "a",
        [Err(NotFound), Ok(""), Ok(""), Err(NotFound)],
    );
    check("remove", remove, "b", [Err(NotFound); 4]);
}

#[test]
fn start_without_a_row_inserts_one() {
    let started = start_a(&Slot::default()).unwrap();
    assert_eq!(shape(&started.slot), "Ordinary RUNNING a");
    assert!(matches!(started.changes[..], [Change::Created(_)]));
}

#[test]
fn the_same_start_again_changes_nothing() {
    let running = slot(&[create, start_a]);
    let again = running
        .start(&key(), &instance("a"), &details(true), &at(50))
        .unwrap();
    assert_eq!((again.changes.len(), &again.slot), (0, &running));
    let unready = running
        .start(&key(), &instance("a"), &details(false), &at(50))
        .unwrap();
    let row = unready.slot.ordinary.unwrap();
    assert_eq!(
        (row.tag.index, row.since),
        (2, 2 * SECOND),
        "a flip of readiness is a change, but not of the state"
    );
}

#[test]
fn crash_counts_and_forgets() {
    let policy = RestartPolicy::default();
    let mut slot = slot(&[create]);
    for (count, state, auction) in [
        (1, "UNCLAIMED", true),
        (2, "UNCLAIMED", true),
        (3, "CRASHED", false),
    ] {
        slot = start_a(&slot).unwrap().slot;
        let crash = slot
            .crash(&instance("a"), "boom", &policy, &at(10))
            .unwrap();
        assert!(matches!(
            crash.changes[..],
            [Change::Crashed { .. }, Change::Changed { .. }]
        ));
        slot = crash.slot;
        let row = slot.ordinary.as_ref().unwrap();
        assert_eq!(
            (row.crash_count, row.state.name(), crash.auction),
            (count, state, auction)
        );
    }
    let slot = slot
        .unclaim(&at(11))
        .unwrap()
        .slot
        .start(&key(), &instance("b"), &details(true), &at(12))
        .unwrap()
        .slot;
    let late = slot
        .crash(&instance("b"), "x", &policy, &at(12 + 301))
        .unwrap();
    assert_eq!(
        late.slot.ordinary.unwrap().crash_count,
        1,
        "it had run for more than five minutes"
    );
}

#[test]
fn long_reasons_are_cut_at_a_character() {
    let text = truncated(&"ü".repeat(2000));
    assert!(text.len() <= 1024 && text.ends_with("ü(truncated)"));
}

#[test]
fn lost_cell_and_back() {
    let running = slot(&[create, start_a]);
    let lost = running.suspend(&at(5)).unwrap();
    assert_eq!(shape(&lost.slot), "Suspect RUNNING a, Ordinary UNCLAIMED -");
    assert!(lost.auction);
    let claimed = lost.slot.claim(&instance("b"), &at(6)).unwrap().slot;
    assert_eq!(
        shape(&claimed.restore_suspect().unwrap().slot),
        "Ordinary RUNNING a"
    );
    let unready = claimed
        .start(&key(), &instance("b"), &details(false), &at(7))
        .unwrap()
        .slot;
    assert_eq!(
        shape(&unready),
        "Suspect RUNNING a, Ordinary RUNNING b",
        "a replacement that is not ready replaces nothing"
    );
    let ready = unready
        .start(&key(), &instance("b"), &details(true), &at(8))
        .unwrap();
    assert_eq!(shape(&ready.slot), "Ordinary RUNNING b");
    assert!(
        matches!(
            ready.changes[..],
            [Change::Changed { .. }, Change::Removed(_)]
        ),
        "make before break"
    );
    let again = unready.suspend(&at(9)).unwrap();
    assert_eq!(
        shape(&again.slot),
        "Suspect RUNNING a, Ordinary UNCLAIMED -",
        "the replacement got lost too"
    );
    assert_eq!(claim_a(&lost.slot).unwrap().changes, []);
    assert_eq!(
        shape(&crash_a(&lost.slot).unwrap().slot),
        "Ordinary UNCLAIMED -"
    );
}

#[test]
fn evacuation() {
    let running = slot(&[create, start_a]);
    let evacuate = |slot: &Slot, wanted| {
        slot.evacuate_running(&key(), &instance("a"), &details(true), wanted, &at(5))
    };
    let first = evacuate(&running, Wanted::Rolling);
    assert_eq!(
        shape(&first.transition.slot),
        "Evacuating RUNNING a, Ordinary UNCLAIMED -"
    );
    assert!(first.keep_container && first.transition.auction);
    let waiting = first.transition.slot;
    assert_eq!(evacuate(&waiting, Wanted::Rolling).transition.changes, []);
    let crashed = Slot {
        ordinary: waiting.ordinary.clone().map(|row| ActualLrp {
            state: State::Crashed,
            ..row
        }),
        ..waiting.clone()
    };
    assert!(
        evacuate(&crashed, Wanted::Rolling).keep_container,
        "a crashed replacement replaces nothing"
    );
    let replaced = waiting
        .start(&key(), &instance("b"), &details(true), &at(6))
        .unwrap()
        .slot;
    assert_eq!(shape(&replaced), "Ordinary RUNNING b");
    assert!(!evacuate(&replaced, Wanted::Rolling).keep_container);
    let unwanted = evacuate(&waiting, Wanted::No);
    assert_eq!(
        (
            shape(&unwanted.transition.slot).as_str(),
            unwanted.keep_container
        ),
        ("Ordinary UNCLAIMED -", false)
    );
    assert!(evacuate(&running, Wanted::Recreate { all_run: false }).keep_container);
    let recreate = evacuate(&running, Wanted::Recreate { all_run: true });
    assert_eq!(
        (
            shape(&recreate.transition.slot).as_str(),
            recreate.keep_container
        ),
        ("Ordinary UNCLAIMED -", false)
    );
    assert_eq!(shape(&running.evacuate_stopped(&instance("a")).slot), "");
    let claimed = slot(&[create, claim_a]);
    assert!(claimed.evacuate_claimed(&instance("a"), &at(7)).auction);
    assert_eq!(
        waiting.remove_evacuating(&instance("b")),
        Err(Refusal::CannotBeRemoved)
    );
}

#[test]
fn retirement_stops_what_can_be_reached() {
    let lost = slot(&[create, start_a]).suspend(&at(5)).unwrap().slot;
    let all = lost.retire(|_| true);
    assert_eq!(
        (shape(&all.transition.slot).as_str(), all.stop),
        ("Suspect RUNNING a", vec![instance("a")])
    );
    assert_eq!(shape(&lost.retire(|_| false).transition.slot), "");
}

#[derive(Clone, Debug)]
enum Call {
    Create,
    Claim(u8),
    Start(u8, bool),
    Crash(u8),
    Fail,
    Unclaim,
    Remove(u8),
    Suspend,
    Restore,
    EvacuateRunning(u8, bool),
    EvacuateClaimed(u8),
    EvacuateStopped(u8),
    EvacuateCrashed(u8),
}

fn call() -> impl Strategy<Value = Call> {
    let who = 0u8..3;
    prop_oneof![
        Just(Call::Create),
        who.clone().prop_map(Call::Claim),
        (who.clone(), any::<bool>()).prop_map(|(w, r)| Call::Start(w, r)),
        who.clone().prop_map(Call::Crash),
        Just(Call::Fail),
        Just(Call::Unclaim),
        who.clone().prop_map(Call::Remove),
        Just(Call::Suspend),
        Just(Call::Restore),
        (who.clone(), any::<bool>()).prop_map(|(w, r)| Call::EvacuateRunning(w, r)),
        who.clone().prop_map(Call::EvacuateClaimed),
        who.clone().prop_map(Call::EvacuateStopped),
        who.prop_map(Call::EvacuateCrashed),
    ]
}

fn apply(slot: &Slot, call: &Call, moment: &Moment) -> Option<Transition> {
    let who = |n: &u8| instance(&n.to_string());
    let policy = RestartPolicy::default();
    Some(match call {
        Call::Create => slot.create(&key(), moment).ok()?,
        Call::Claim(n) => slot.claim(&who(n), moment).ok()?,
        Call::Start(n, routable) => slot
            .start(&key(), &who(n), &details(*routable), moment)
            .ok()?,
        Call::Crash(n) => slot.crash(&who(n), "x", &policy, moment).ok()?,
        Call::Fail => slot.fail("no", moment).ok()?,
        Call::Unclaim => slot.unclaim(moment).ok()?,
        Call::Remove(n) => slot.remove(Some(&who(n))).ok()?,
        Call::Suspend => slot.suspend(moment).ok()?,
        Call::Restore => slot.restore_suspect().ok()?,
        Call::EvacuateRunning(n, wanted) => {
            slot.evacuate_running(
                &key(),
                &who(n),
                &details(true),
                if *wanted { Wanted::Rolling } else { Wanted::No },
                moment,
            )
            .transition
        }
        Call::EvacuateClaimed(n) => slot.evacuate_claimed(&who(n), moment),
        Call::EvacuateStopped(n) => slot.evacuate_stopped(&who(n)),
        Call::EvacuateCrashed(n) => slot.evacuate_crashed(&who(n), "x", &policy, moment),
    })
}

proptest! {
    /// Replaying the changes gives the slot; tags grow; each row is in the place of its presence; a suspect or evacuating row has
    /// an instance.
    #[test]
    fn every_sequence_keeps_the_laws(calls in proptest::collection::vec(call(), 1..40)) {
        let mut slot = Slot::default();
        for (n, call) in calls.iter().enumerate() {
            let Some(transition) = apply(&slot, call, &at(n as i64)) else { continue };
            let mut rows: Vec<ActualLrp> = slot.rows().cloned().collect();
            for change in &transition.changes {
                match change {
                    Change::Crashed { .. } => {}
                    Change::Created(row) => { rows.push(row.clone()); }
                    Change::Changed { before, after } => {
                        prop_assert!(before.tag.epoch != after.tag.epoch || before.tag.index < after.tag.index, "{call:?}");
                        let at = rows.iter().position(|row| row == before);
                        prop_assert!(at.is_some(), "{call:?} changes a row that is not there");
                        rows[at.unwrap()] = after.clone();
                    }
                    Change::Removed(row) => {
                        let at = rows.iter().position(|known| known == row);
                        prop_assert!(at.is_some(), "{call:?} removes a row that is not there");
                        rows.remove(at.unwrap());
                    }
                }
            }
            // A row that moves aside leaves its place to the replacement, which continues the old epoch.
            let mut now: Vec<ActualLrp> = transition.slot.rows().cloned().collect();
            let order = |row: &ActualLrp| (row.presence, row.tag.epoch.to_string());
            rows.sort_by_key(order);
            now.sort_by_key(order);
            prop_assert_eq!(&rows, &now, "{:?}", call);
            prop_assert_eq!(transition.auction, transition.auction && transition.slot.ordinary.as_ref().is_some_and(ActualLrp::is_unclaimed));
            slot = transition.slot;
            for presence in [Presence::Ordinary, Presence::Evacuating, Presence::Suspect] {
                if let Some(row) = slot.row(presence) {
                    prop_assert_eq!(row.presence, presence);
                    prop_assert!(presence == Presence::Ordinary || row.instance().is_some());
                }
            }
        }
    }
}
