//! Renders publications as the events that subscribers receive.

use super::Topic;
use crate::convert;
use crate::journal::Publication;
use base64::Engine as _;
use lrp::{ActualLrp, Change, Presence};
use prost::Message as _;
use std::sync::Arc;
use wire::bbs::{self as m, Event};

/// An event without its id.
#[derive(Debug)]
pub(super) struct Frame {
    /// The cell that the event concerns. Only subscribers of this cell, and of all cells, receive it. `None` means every
    /// subscriber.
    pub(super) cell_id: Option<String>,
    pub(super) text: String,
}

/// Returns the events of a publication for the subscribers of a topic. The same publication always yields the same events.
pub(super) fn render(publication: &Publication, topic: Topic, trace: &str) -> Vec<Frame> {
    let mut frames = Vec::new();
    let mut push = |name: &str, data: &[u8], cell_id: Option<String>| {
        let data = base64::engine::general_purpose::STANDARD.encode(data);
        frames.push(Frame {
            cell_id,
            text: format!("event: {name}\ndata: {data}\n\n"),
        });
    };
    match (publication, topic) {
        (Publication::Actual(changes), Topic::Instances) => {
            for (event, cell) in instance_events(changes, trace) {
                push(event.name(), &event.encode(), Some(cell));
            }
        }
        (Publication::Actual(changes), Topic::Groups) => {
            for change in changes {
                let (name, data, cell) = group_event(change);
                push(name, &data, Some(cell));
            }
        }
        (_, Topic::Tasks) => task_event(publication)
            .iter()
            .for_each(|event| push(event.name(), &event.encode(), None)),
        _ => desired_event(publication, trace)
            .iter()
            .for_each(|event| push(event.name(), &event.encode(), None)),
    }
    frames
}

fn desired_event(publication: &Publication, trace: &str) -> Option<Event> {
    let owned = |lrp: &Arc<m::DesiredLrp>| Some(m::DesiredLrp::clone(lrp));
    let trace_id = trace.to_owned();
    Some(match publication {
        Publication::DesiredCreated(lrp) => Event::DesiredLrpCreated(m::DesiredLrpEvent {
            desired_lrp: owned(lrp),
            trace_id,
        }),
        Publication::DesiredRemoved(lrp) => Event::DesiredLrpRemoved(m::DesiredLrpEvent {
            desired_lrp: owned(lrp),
            trace_id,
        }),
        Publication::DesiredChanged { before, after } => {
            Event::DesiredLrpChanged(m::DesiredLrpChangedEvent {
                before: owned(before),
                after: owned(after),
                trace_id,
            })
        }
        _ => return None,
    })
}

fn task_event(publication: &Publication) -> Option<Event> {
    let owned = |task: &Arc<m::Task>| Some(m::Task::clone(task));
    Some(match publication {
        Publication::TaskCreated(task) => Event::TaskCreated(m::TaskEvent { task: owned(task) }),
        Publication::TaskRemoved(task) => Event::TaskRemoved(m::TaskEvent { task: owned(task) }),
        Publication::TaskChanged { before, after } => Event::TaskChanged(m::TaskChangedEvent {
            before: owned(before),
            after: owned(after),
        }),
        _ => return None,
    })
}

/// Returns the events of one transition, each with the cell that it concerns. Crashes come first, then events that make an
/// instance routable; removals come last.
fn instance_events(changes: &[Change], trace: &str) -> Vec<(Event, String)> {
    let mut events: Vec<(u8, Event, String)> = Vec::new();
    let trace_id = || trace.to_owned();
    let created = |row: &ActualLrp| {
        let event = Event::ActualLrpInstanceCreated(m::ActualLrpInstanceEvent {
            actual_lrp: Some(convert::actual(row)),
            trace_id: trace_id(),
        });
        (
            if row.running().is_some() { 1 } else { 2 },
            event,
            cell_of(row),
        )
    };
    let removed = |row: &ActualLrp| {
        let event = Event::ActualLrpInstanceRemoved(m::ActualLrpInstanceEvent {
            actual_lrp: Some(convert::actual(row)),
            trace_id: trace_id(),
        });
        (3, event, cell_of(row))
    };
    for change in changes {
        match change {
            Change::Crashed { before, after } => {
                let event = m::ActualLrpCrashedEvent {
                    key: Some(convert::key(&after.key)),
                    instance_key: Some(
                        before.instance().map(convert::instance).unwrap_or_default(),
                    ),
                    crash_count: after.crash_count,
                    crash_reason: after.crash_reason.clone(),
                    since: after.since,
                };
                events.push((0, Event::ActualLrpCrashed(event), cell_of(before)));
            }
            Change::Created(row) => events.push(created(row)),
            Change::Removed(row) => events.push(removed(row)),
            // The instance is abandoned: the row that waits for a cell is published as a new one.
            Change::Changed { before, after } if after.is_unclaimed() && !before.is_unclaimed() => {
                events.extend([created(after), removed(before)])
            }
            Change::Changed { before, after } => {
                let about = if after.instance().is_some() {
                    after
                } else {
                    before
                };
                let event = m::ActualLrpInstanceChangedEvent {
                    key: Some(convert::key(&after.key)),
                    instance_key: Some(about.instance().map(convert::instance).unwrap_or_default()),
                    before: Some(convert::info(before)),
                    after: Some(convert::info(after)),
                    trace_id: trace_id(),
                };
                events.push((
                    if after.running().is_some() { 1 } else { 2 },
                    Event::ActualLrpInstanceChanged(event),
                    cell_of(about),
                ));
            }
        }
    }
    events.sort_by_key(|(rank, _, _)| *rank);
    events
        .into_iter()
        .map(|(_, event, cell)| (event, cell))
        .collect()
}

fn group_event(change: &Change) -> (&'static str, Vec<u8>, String) {
    let event = |row: &ActualLrp| {
        m::ActualLrpGroupEvent {
            actual_lrp_group: Some(group(row)),
        }
        .encode_to_vec()
    };
    match change {
        Change::Crashed { before, after } => {
            let event = m::ActualLrpCrashedEvent {
                key: Some(convert::key(&after.key)),
                instance_key: Some(before.instance().map(convert::instance).unwrap_or_default()),
                crash_count: after.crash_count,
                crash_reason: after.crash_reason.clone(),
                since: after.since,
            };
            ("actual_lrp_crashed", event.encode_to_vec(), cell_of(before))
        }
        Change::Created(row) => ("actual_lrp_created", event(row), cell_of(row)),
        Change::Removed(row) => ("actual_lrp_removed", event(row), cell_of(row)),
        Change::Changed { before, after } => {
            let event = m::ActualLrpGroupChangedEvent {
                before: Some(group(before)),
                after: Some(group(after)),
            };
            (
                "actual_lrp_changed",
                event.encode_to_vec(),
                cell_of(if after.instance().is_some() {
                    after
                } else {
                    before
                }),
            )
        }
    }
}

fn group(row: &ActualLrp) -> m::ActualLrpGroup {
    let lrp = Some(convert::actual(row));
    match row.presence {
        Presence::Evacuating => m::ActualLrpGroup {
            instance: None,
            evacuating: lrp,
        },
        Presence::Ordinary | Presence::Suspect => m::ActualLrpGroup {
            instance: lrp,
            evacuating: None,
        },
    }
}

fn cell_of(row: &ActualLrp) -> String {
    row.instance()
        .map(|i| i.cell_id.to_string())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use lrp::{ActualLrpKey, InstanceKey, Moment, RestartPolicy, Running, Slot};

    fn names(changes: &[Change]) -> Vec<(&'static str, String)> {
        instance_events(changes, "")
            .into_iter()
            .map(|(event, cell)| (event.name(), cell))
            .collect()
    }

    #[test]
    fn order_within_a_transition() {
        let key = ActualLrpKey {
            process_guid: "p".into(),
            index: 0,
            domain: "d".into(),
        };
        let on = |cell: &str| InstanceKey {
            instance_guid: format!("i-{cell}").into(),
            cell_id: cell.into(),
        };
        let moment = Moment {
            now: 1,
            epoch: "e".into(),
        };
        let details = Arc::new(Running {
            routable: true,
            ..Running::default()
        });
        let running = Slot::default()
            .start(&key, &on("a"), &details, &moment)
            .unwrap()
            .slot;
        let crash = running
            .crash(&on("a"), "x", &RestartPolicy::default(), &moment)
            .unwrap();
        let (created, removed, changed) = (
            "actual_lrp_instance_created",
            "actual_lrp_instance_removed",
            "actual_lrp_instance_changed",
        );
        assert_eq!(
            names(&crash.changes),
            [
                ("actual_lrp_crashed", "a".into()),
                (created, String::new()),
                (removed, "a".into())
            ]
        );
        let lost = running.suspend(&moment).unwrap();
        assert_eq!(
            names(&lost.changes),
            [(changed, "a".into()), (created, String::new())]
        );
        let replaced = lost.slot.start(&key, &on("b"), &details, &moment).unwrap();
        assert_eq!(
            names(&replaced.changes),
            [(changed, "b".into()), (removed, "a".into())]
        );
    }
}
