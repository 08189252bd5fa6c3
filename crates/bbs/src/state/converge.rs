//! One pass of convergence: it asks the core for a plan and applies it, all under one lock.

use super::{State, moment, now};
use crate::journal::{Effect, Journal, Write};
use ids::{Domain, ProcessGuid};
use lrp::converge::Circumstances;
use lrp::{Nanos, Process, Slot, Step};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// The result of a pass.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pass {
    /// The time at which the next step falls due by time alone.
    pub(crate) due: Option<Nanos>,
    /// The time that the pass took for LRPs and for tasks.
    pub(crate) lrps: Duration,
    pub(crate) tasks: Duration,
    /// The number of tasks whose next step was repeated, and of those that were deleted.
    pub(crate) tasks_kicked: u64,
    pub(crate) tasks_pruned: u64,
}

impl State {
    /// Makes one pass.
    pub(crate) fn converge(&mut self, journal: &mut Journal, cell_appeared: bool) -> Pass {
        let (now, began) = (now(), Instant::now());
        self.expire_domains(journal, now);
        let plan = self.plan(cell_appeared, now);
        for (process_guid, index, step) in plan.steps {
            tracing::debug!(%process_guid, index, ?step, "converge");
            self.step(journal, &process_guid, index, step);
        }
        let lrps = began.elapsed();
        let (tasks_kicked, tasks_pruned) = self.converge_tasks(journal, cell_appeared, now);
        let due = [plan.next_due, self.cells.next_loss(now)];
        Pass {
            due: due.into_iter().flatten().min(),
            lrps,
            tasks: began.elapsed().saturating_sub(lrps),
            tasks_kicked,
            tasks_pruned,
        }
    }

    fn plan(&self, cell_appeared: bool, now: Nanos) -> lrp::Plan {
        let none = BTreeMap::new();
        let guids: BTreeSet<&ProcessGuid> = self.desired.keys().chain(self.actual.keys()).collect();
        let processes = guids.into_iter().map(|process_guid| {
            let desired = self.desired.get(process_guid).map(|d| &d.core);
            let slots = self.actual.get(process_guid).unwrap_or(&none);
            let row = slots.values().flat_map(Slot::rows).next();
            let domain = desired
                .map(|d| &d.domain)
                .or(row.map(|row| &row.key.domain));
            Process {
                process_guid,
                desired,
                slots,
                fresh: !self.damaged.contains(process_guid)
                    && domain.is_some_and(|d| self.is_fresh(d, now)),
            }
        });
        let cells = |cell: &_| self.cells.state(cell, now);
        lrp::converge(
            processes,
            &Circumstances {
                cells,
                policy: &self.policy,
                cell_appeared,
            },
            now,
        )
    }

    fn step(&mut self, journal: &mut Journal, process_guid: &ProcessGuid, index: i32, step: Step) {
        let slot = self.slot(process_guid, index).cloned().unwrap_or_default();
        let transition = match step {
            Step::Create => return self.ensure_row(journal, process_guid, index),
            Step::Retire => return self.retire(journal, process_guid, index),
            Step::Auction => {
                return journal
                    .effects
                    .push(Effect::AuctionLrp(process_guid.clone(), index));
            }
            Step::Update(instance) => {
                return self.request_update(journal, process_guid, index, &instance);
            }
            Step::Restart => slot.unclaim(&moment()),
            Step::Suspend => slot.suspend(&moment()),
            Step::RestoreSuspect => slot.restore_suspect(),
            Step::DropSuspect => Ok(slot.drop_suspect()),
            Step::DropEvacuating => Ok(slot.drop_evacuating()),
        };
        match transition {
            Ok(transition) => self.apply(journal, process_guid, index, transition),
            Err(refusal) => {
                tracing::warn!(%process_guid, index, %refusal, "convergence-step-refused")
            }
        }
    }

    fn expire_domains(&mut self, journal: &mut Journal, now: Nanos) {
        let expired: Vec<Domain> = self
            .domains
            .keys()
            .filter(|d| !self.is_fresh(d, now))
            .cloned()
            .collect();
        for domain in expired {
            self.domains.remove(&domain);
            journal.writes.push(Write::Domain(domain, None));
        }
    }
}
