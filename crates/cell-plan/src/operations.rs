//! The bulk reconcile: compares this cell's containers with the BBS's rows of this cell.
//!
//! The rep reads the rows, lists its containers afterwards, and calls [`operations`]. A container is *settled* when it has been
//! in the same state since before the rows were read. Only for such a container does a missing row have a meaning.

use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    pub guid: String,
    pub work: Work,
    pub settled: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work {
    /// An instance. `running` means that it is reported (or about to be) as RUNNING; `routable` is the value that the BBS should
    /// have.
    Lrp {
        process_guid: String,
        index: i32,
        running: bool,
        routable: bool,
        stopping: bool,
    },
    Task {
        started: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    Ordinary,
    Evacuating,
    Suspect,
}

/// An actual LRP row that names this cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LrpRow {
    pub process_guid: String,
    pub index: i32,
    pub domain: String,
    pub instance_guid: String,
    pub presence: Presence,
    pub running: bool,
    pub routable: bool,
}

/// A task row that names this cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskRow {
    pub guid: String,
    pub running: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// The row's container is gone: remove the row, so that the index is started again.
    RemoveLrp(LrpRow),
    /// The row's container is gone, and the row is an evacuating one: remove it.
    RemoveEvacuatingLrp(LrpRow),
    /// The container runs but the BBS does not show that: report it again.
    ReportRunning { guid: String },
    /// The task's container is gone: complete it as failed.
    FailTask { guid: String },
    /// The container's task is over (cancelled, resolved, deleted): destroy the container.
    DestroyTask { guid: String },
}

pub const TASK_CONTAINER_GONE: &str = "task container does not exist";

/// Returns the operations that make rows and containers agree. Those of rows come first, in the rows' order.
pub fn operations(containers: &[Container], lrps: &[LrpRow], tasks: &[TaskRow]) -> Vec<Operation> {
    let known: BTreeSet<&str> = containers.iter().map(|c| c.guid.as_str()).collect();
    let lrp_rows: BTreeMap<&str, &LrpRow> =
        lrps.iter().map(|r| (r.instance_guid.as_str(), r)).collect();
    let task_rows: BTreeMap<&str, &TaskRow> = tasks.iter().map(|r| (r.guid.as_str(), r)).collect();
    let mut plan = Vec::new();
    for row in lrps
        .iter()
        .filter(|r| !known.contains(r.instance_guid.as_str()))
    {
        plan.push(match row.presence {
            Presence::Evacuating => Operation::RemoveEvacuatingLrp(row.clone()),
            Presence::Ordinary | Presence::Suspect => Operation::RemoveLrp(row.clone()),
        });
    }
    for row in tasks
        .iter()
        .filter(|r| r.running && !known.contains(r.guid.as_str()))
    {
        plan.push(Operation::FailTask {
            guid: row.guid.clone(),
        });
    }
    for container in containers.iter().filter(|c| c.settled) {
        match &container.work {
            Work::Lrp {
                running: true,
                stopping: false,
                routable,
                ..
            } => {
                let agrees = lrp_rows.get(container.guid.as_str()).is_some_and(|row| {
                    row.running && row.routable == *routable && row.presence != Presence::Suspect
                });
                if !agrees {
                    plan.push(Operation::ReportRunning {
                        guid: container.guid.clone(),
                    });
                }
            }
            Work::Lrp { .. } => {}
            Work::Task { started } => {
                if *started
                    && !task_rows
                        .get(container.guid.as_str())
                        .is_some_and(|row| row.running)
                {
                    plan.push(Operation::DestroyTask {
                        guid: container.guid.clone(),
                    });
                }
            }
        }
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(guid: &str) -> LrpRow {
        LrpRow {
            process_guid: "p".into(),
            index: 0,
            domain: "cf-apps".into(),
            instance_guid: guid.into(),
            presence: Presence::Ordinary,
            running: true,
            routable: true,
        }
    }

    fn lrp(guid: &str, running: bool) -> Container {
        let work = Work::Lrp {
            process_guid: "p".into(),
            index: 0,
            running,
            routable: true,
            stopping: false,
        };
        Container {
            guid: guid.into(),
            work,
            settled: true,
        }
    }

    fn task(guid: &str, started: bool) -> Container {
        Container {
            guid: guid.into(),
            work: Work::Task { started },
            settled: true,
        }
    }

    #[test]
    fn agreement_needs_nothing() {
        let tasks = [TaskRow {
            guid: "t".into(),
            running: true,
        }];
        assert_eq!(
            operations(&[lrp("i", true), task("t", true)], &[row("i")], &tasks),
            vec![]
        );
    }

    #[test]
    fn rows_without_container_are_removed() {
        let evacuating = LrpRow {
            presence: Presence::Evacuating,
            ..row("j")
        };
        assert_eq!(
            operations(&[], &[row("i"), evacuating.clone()], &[]),
            vec![
                Operation::RemoveLrp(row("i")),
                Operation::RemoveEvacuatingLrp(evacuating)
            ]
        );
    }

    #[test]
    fn a_reserved_container_protects_its_row() {
        assert_eq!(operations(&[lrp("i", false)], &[row("i")], &[]), vec![]);
    }

    #[test]
    fn running_containers_unknown_or_different_at_the_bbs_are_reported() {
        let report = vec![Operation::ReportRunning { guid: "i".into() }];
        assert_eq!(operations(&[lrp("i", true)], &[], &[]), report);
        assert_eq!(
            operations(
                &[lrp("i", true)],
                &[LrpRow {
                    running: false,
                    ..row("i")
                }],
                &[]
            ),
            report
        );
        assert_eq!(
            operations(
                &[lrp("i", true)],
                &[LrpRow {
                    routable: false,
                    ..row("i")
                }],
                &[]
            ),
            report
        );
        assert_eq!(
            operations(
                &[lrp("i", true)],
                &[LrpRow {
                    presence: Presence::Suspect,
                    ..row("i")
                }],
                &[]
            ),
            report
        );
    }

    #[test]
    fn stopping_or_changing_containers_are_left_alone() {
        let mut unsettled = lrp("i", true);
        unsettled.settled = false;
        assert_eq!(operations(&[unsettled], &[], &[]), vec![]);
        let work = Work::Lrp {
            process_guid: "p".into(),
            index: 0,
            running: true,
            routable: false,
            stopping: true,
        };
        assert_eq!(
            operations(
                &[Container {
                    guid: "i".into(),
                    work,
                    settled: true
                }],
                &[row("i")],
                &[]
            ),
            vec![]
        );
    }

    #[test]
    fn tasks() {
        let row = |running| TaskRow {
            guid: "t".into(),
            running,
        };
        assert_eq!(
            operations(&[], &[], &[row(true)]),
            vec![Operation::FailTask { guid: "t".into() }]
        );
        assert_eq!(operations(&[], &[], &[row(false)]), vec![]);
        let destroy = vec![Operation::DestroyTask { guid: "t".into() }];
        assert_eq!(operations(&[task("t", true)], &[], &[]), destroy);
        assert_eq!(operations(&[task("t", true)], &[], &[row(false)]), destroy);
        assert_eq!(operations(&[task("t", false)], &[], &[]), vec![]);
    }
}
