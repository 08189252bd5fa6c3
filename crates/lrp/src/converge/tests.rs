use super::*;
use crate::actual::{ActualLrpKey, Running};
use crate::desired::UpdateStrategy;
use crate::slot::{Moment, Transition};
use proptest::prelude::*;
use std::sync::Arc;

const POLICY: RestartPolicy = RestartPolicy {
    immediate: 3,
    first_wait: 30 * SECOND,
    max_doublings: 5,
    give_up: 200,
    forget_after: 300 * SECOND,
};

fn desired(instances: i32) -> DesiredLrp {
    DesiredLrp {
        process_guid: "p".into(),
        domain: "d".into(),
        instances,
        update_strategy: UpdateStrategy::Rolling,
        internal_routes: vec![],
        metric_tags: BTreeMap::new(),
    }
}
fn key(index: i32) -> ActualLrpKey {
    ActualLrpKey {
        process_guid: "p".into(),
        index,
        domain: "d".into(),
    }
}
fn at(seconds: i64) -> Moment {
    Moment {
        now: seconds * SECOND,
        epoch: format!("e{seconds}").into(),
    }
}
fn on(cell: &str) -> InstanceKey {
    InstanceKey {
        instance_guid: format!("on-{cell}").into(),
        cell_id: cell.into(),
    }
}
fn ready() -> Arc<Running> {
    Arc::new(Running {
        routable: true,
        ..Running::default()
    })
}
fn cells(id: &CellId) -> CellState {
    match id.as_str() {
        name if name.starts_with("lost") => CellState::Lost,
        name if name.starts_with("held") => CellState::Held,
        _ => CellState::Present,
    }
}
fn running(cell: &str) -> Slot {
    Slot::default()
        .start(&key(0), &on(cell), &ready(), &at(0))
        .unwrap()
        .slot
}
fn unclaimed() -> Slot {
    Slot::default().create(&key(0), &at(0)).unwrap().slot
}

fn plan(
    desired: Option<&DesiredLrp>,
    slots: &BTreeMap<i32, Slot>,
    fresh: bool,
    cell_appeared: bool,
    seconds: i64,
) -> Plan {
    let guid = ProcessGuid::from("p");
    let around = Circumstances {
        cells,
        policy: &POLICY,
        cell_appeared,
    };
    converge(
        [Process {
            process_guid: &guid,
            desired,
            slots,
            fresh,
        }],
        &around,
        seconds * SECOND,
    )
}

/// Checks the steps for one slot of a process with one desired instance.
fn check(name: &str, slot: Slot, seconds: i64, want: &[Step]) {
    let slots = BTreeMap::from([(0, slot)]);
    let steps: Vec<Step> = plan(Some(&desired(1)), &slots, true, false, seconds)
        .steps
        .into_iter()
        .map(|(_, _, step)| step)
        .collect();
    assert_eq!(steps, want, "{name}");
}

#[test]
fn one_slot() {
    check("unclaimed, lately", unclaimed(), 29, &[]);
    check("unclaimed for long", unclaimed(), 30, &[Step::Auction]);
    check("running", running("a"), 9999, &[]);
    check(
        "running on a lost cell",
        running("lost"),
        1,
        &[Step::Suspend],
    );
    check("running on a held cell", running("held"), 1, &[]);
    let lost = running("lost").suspend(&at(1)).unwrap().slot;
    check("replacement waits", lost.clone(), 2, &[]);
    check(
        "replacement serves",
        Slot {
            ordinary: running("b").ordinary,
            ..lost.clone()
        },
        2,
        &[Step::DropSuspect],
    );
    check(
        "replacement lost too",
        Slot {
            ordinary: running("lost-2").ordinary,
            ..lost
        },
        2,
        &[Step::Suspend],
    );
    let back = running("a").suspend(&at(1)).unwrap().slot;
    check("suspect is back", back, 2, &[Step::RestoreSuspect]);
    let mut crashed = unclaimed();
    for _ in 0..3 {
        crashed = crashed
            .start(&key(0), &on("a"), &ready(), &at(0))
            .unwrap()
            .slot;
        crashed = crashed
            .crash(&on("a"), "x", &POLICY, &at(100))
            .unwrap()
            .slot;
    }
    check("crashed, not due", crashed.clone(), 129, &[]);
    check("crashed, due", crashed, 130, &[Step::Restart]);
    let evacuating = Slot {
        evacuating: running("lost").ordinary.map(|row| ActualLrp {
            presence: crate::Presence::Evacuating,
            ..row
        }),
        ..running("b")
    };
    check(
        "evacuating on a lost cell",
        evacuating,
        1,
        &[Step::DropEvacuating],
    );
}

#[test]
fn next_due_is_the_earliest() {
    let slots = BTreeMap::from([
        (0, unclaimed()),
        (1, Slot::default().create(&key(1), &at(-5)).unwrap().slot),
    ]);
    assert_eq!(
        plan(Some(&desired(2)), &slots, true, false, 1).next_due,
        Some(25 * SECOND)
    );
}

#[test]
fn missing_and_surplus() {
    let slots = BTreeMap::from([(1, running("a")), (3, running("b"))]);
    let steps = |fresh| {
        plan(Some(&desired(3)), &slots, fresh, false, 1)
            .steps
            .into_iter()
            .map(|(_, index, step)| (index, step))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        steps(true),
        [(3, Step::Retire), (0, Step::Create), (2, Step::Create)]
    );
    assert_eq!(
        steps(false),
        [(0, Step::Create), (2, Step::Create)],
        "a stale domain is no licence to remove"
    );
    assert_eq!(plan(None, &slots, false, false, 1).steps, []);
    assert_eq!(plan(None, &slots, true, false, 1).steps.len(), 2);
}

#[test]
fn a_new_cell_is_tried_at_once() {
    let failed = unclaimed().fail("no room", &at(0)).unwrap().slot;
    let slots = BTreeMap::from([(0, failed)]);
    assert_eq!(
        plan(Some(&desired(1)), &slots, true, false, 1).steps.len(),
        0
    );
    assert_eq!(
        plan(Some(&desired(1)), &slots, true, true, 1).steps.len(),
        1
    );
}

#[test]
fn changed_tags_cause_an_update() {
    let slots = BTreeMap::from([(0, running("a"))]);
    let desired = DesiredLrp {
        metric_tags: BTreeMap::from([("i".into(), crate::MetricTag::Index)]),
        ..desired(1)
    };
    assert_eq!(
        plan(Some(&desired), &slots, true, false, 1).steps[0].2,
        Step::Update(on("a"))
    );
}

/// Does what the bbs does with a step. Stopping is assumed to succeed at once.
fn apply(slot: &Slot, step: &Step, index: i32, moment: &Moment) -> Transition {
    match step {
        Step::Create => slot.create(&key(index), moment).unwrap(),
        Step::Restart => slot.unclaim(moment).unwrap(),
        Step::Suspend => slot.suspend(moment).unwrap(),
        Step::RestoreSuspect => slot.restore_suspect().unwrap(),
        Step::DropSuspect => slot.drop_suspect(),
        Step::DropEvacuating => slot.drop_evacuating(),
        Step::Retire => slot.retire(|_| false).transition,
        Step::Auction | Step::Update(_) => slot.retire(|_| true).transition,
    }
}

fn any_slot() -> impl Strategy<Value = Slot> {
    let cell = prop_oneof![
        Just("a"),
        Just("b"),
        Just("lost"),
        Just("lost-2"),
        Just("held")
    ];
    let row = (cell, 0..4u8).prop_map(|(cell, state)| match state {
        0 => unclaimed(),
        1 => unclaimed().claim(&on(cell), &at(0)).unwrap().slot,
        2 => running(cell),
        _ => Slot {
            ordinary: unclaimed().ordinary.map(|row| ActualLrp {
                state: State::Crashed,
                crash_count: 3,
                ..row
            }),
            ..Slot::default()
        },
    });
    (
        row,
        proptest::option::of(prop_oneof![Just("a"), Just("lost")]),
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(|(slot, suspect, evacuating, ordinary)| Slot {
            ordinary: slot.ordinary.filter(|_| ordinary),
            suspect: suspect
                .and_then(|cell| running(cell).ordinary)
                .map(|row| ActualLrp {
                    presence: crate::Presence::Suspect,
                    ..row
                }),
            evacuating: running("lost")
                .ordinary
                .filter(|_| evacuating)
                .map(|row| ActualLrp {
                    presence: crate::Presence::Evacuating,
                    ..row
                }),
        })
}

proptest! {
    /// After a few passes exactly the wanted indexes have an ordinary row, none of them is on a lost cell, nothing evacuates from
    /// a lost cell, and the plan is empty.
    #[test]
    fn converges(slots in proptest::collection::btree_map(0..5i32, any_slot(), 0..5), instances in 0..4i32) {
        let desired = desired(instances);
        let mut slots: BTreeMap<i32, Slot> = slots.into_iter().map(|(index, mut slot)| {
            for row in [&mut slot.ordinary, &mut slot.suspect, &mut slot.evacuating].into_iter().flatten() {
                row.key.index = index;
            }
            (index, slot)
        }).collect();
        for pass in 0..4 {
            let steps = plan(Some(&desired), &slots, true, false, 60 + pass).steps;
            for (_, index, step) in &steps {
                let slot = slots.entry(*index).or_default();
                if matches!(step, Step::Auction | Step::Update(_)) { continue; }
                *slot = apply(slot, step, *index, &at(60 + pass)).slot;
            }
            slots.retain(|_, slot| !slot.is_empty());
        }
        for (index, slot) in &slots {
            prop_assert_eq!(slot.ordinary.is_some(), desired.wants(*index));
            for row in slot.ordinary.iter().chain(&slot.evacuating) {
                prop_assert!(row.instance().is_none_or(|i| cells(&i.cell_id) != CellState::Lost));
            }
        }
        prop_assert_eq!(slots.values().filter(|s| s.ordinary.is_some()).count() as i32, instances);
        let rest = plan(Some(&desired), &slots, true, false, 64).steps;
        prop_assert!(rest.iter().all(|(_, _, step)| matches!(step, Step::Auction)), "{:?}", rest);
    }
}
