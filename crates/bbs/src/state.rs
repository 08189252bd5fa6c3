//! The whole state of the BBS, in memory, and every change to it.
//!
//! The core (crate `lrp`) decides each change or refuses it before anything is modified. The results of a change go to the
//! [`Journal`]. All functions are called under the store's lock; they do no IO and never wait.

mod actual;
mod cells;
mod converge;
mod desired;
mod task;

pub(crate) use cells::{Cells, Departure};
pub(crate) use converge::Pass;

use crate::failure::Failure;
use crate::journal::{Effect, Journal, Publication, Write};
use ids::{Domain, ProcessGuid, TaskGuid};
use lrp::{ActualLrp, Change, Moment, Nanos, Presence, RestartPolicy, Slot, Task, Transition};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use wire::bbs as m;

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) desired: BTreeMap<ProcessGuid, Desired>,
    pub(crate) actual: BTreeMap<ProcessGuid, BTreeMap<i32, Slot>>,
    pub(crate) tasks: BTreeMap<TaskGuid, TaskRecord>,
    /// The time at which each domain stops being fresh; `None` means never.
    pub(crate) domains: BTreeMap<Domain, Option<Nanos>>,
    /// The processes whose stored desired LRP cannot be read. Their instances keep running until a client desires the LRP again.
    pub(crate) damaged: BTreeSet<ProcessGuid>,
    pub(crate) cells: Cells,
    pub(crate) policy: RestartPolicy,
}

/// A desired LRP as the client sent it, and the part of it that decisions need.
#[derive(Debug)]
pub(crate) struct Desired {
    pub(crate) wire: Arc<m::DesiredLrp>,
    pub(crate) core: lrp::DesiredLrp,
}

impl Desired {
    pub(crate) fn new(wire: m::DesiredLrp) -> Self {
        Self {
            core: crate::convert::desired(&wire),
            wire: Arc::new(wire),
        }
    }
}

#[derive(Debug)]
pub(crate) struct TaskRecord {
    pub(crate) task: Task,
    pub(crate) wire: Arc<m::Task>,
}

impl State {
    /// Inserts a stored row into its slot.
    pub(crate) fn load_actual(&mut self, row: ActualLrp) {
        self.actual
            .entry(row.key.process_guid.clone())
            .or_default()
            .entry(row.key.index)
            .or_default()
            .insert(row);
    }

    pub(crate) fn slot(&self, process_guid: &str, index: i32) -> Option<&Slot> {
        self.actual.get(process_guid)?.get(&index)
    }

    /// Returns all slots, by process and index.
    pub(crate) fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.actual.values().flat_map(BTreeMap::values)
    }

    pub(crate) fn upsert_domain(
        &mut self,
        journal: &mut Journal,
        domain: &str,
        ttl_seconds: u32,
    ) -> Result<(), Failure> {
        crate::validate::present(domain, "domain")?;
        let expires = (ttl_seconds > 0).then(|| now() + i64::from(ttl_seconds) * lrp::SECOND);
        self.domains.insert(domain.into(), expires);
        journal
            .writes
            .push(Write::Domain(domain.into(), Some(expires)));
        Ok(())
    }

    pub(crate) fn is_fresh(&self, domain: &str, now: Nanos) -> bool {
        self.domains
            .get(domain)
            .is_some_and(|expires| expires.is_none_or(|at| at > now))
    }

    pub(crate) fn fresh_domains(&self, now: Nanos) -> Vec<String> {
        self.domains
            .keys()
            .filter(|domain| self.is_fresh(domain, now))
            .map(ToString::to_string)
            .collect()
    }

    /// Issues again the effects that were lost with the last process. Called once after a start.
    pub(crate) fn resume(&mut self, journal: &mut Journal) {
        let waiting = self
            .slots()
            .filter_map(|slot| slot.ordinary.as_ref())
            .filter(|row| row.is_unclaimed());
        journal.effects.extend(
            waiting.map(|row| Effect::AuctionLrp(row.key.process_guid.clone(), row.key.index)),
        );
        self.resume_tasks(journal);
    }

    /// Applies a transition: it changes the slot and journals rows and events.
    fn apply(
        &mut self,
        journal: &mut Journal,
        process_guid: &ProcessGuid,
        index: i32,
        transition: Transition,
    ) {
        let Transition {
            slot,
            changes,
            auction,
        } = transition;
        if auction {
            journal
                .effects
                .push(Effect::AuctionLrp(process_guid.clone(), index));
        }
        if changes.is_empty() {
            return;
        }
        let slots = self.actual.entry(process_guid.clone()).or_default();
        let before = slots.remove(&index).unwrap_or_default();
        for presence in [Presence::Ordinary, Presence::Evacuating, Presence::Suspect] {
            let row = slot.row(presence);
            if row != before.row(presence) {
                journal.writes.push(Write::Actual(
                    process_guid.clone(),
                    index,
                    presence,
                    row.cloned().map(Box::new),
                ));
            }
        }
        if !slot.is_empty() {
            slots.insert(index, slot);
        } else if slots.is_empty() {
            self.actual.remove(process_guid);
        }
        journal.publications.push(Publication::Actual(changes));
    }

    /// Creates an ordinary row for a wanted index that has none, and requests an auction for it.
    fn ensure_row(&mut self, journal: &mut Journal, process_guid: &ProcessGuid, index: i32) {
        let Some(desired) = self
            .desired
            .get(process_guid)
            .filter(|d| d.core.wants(index))
        else {
            return;
        };
        let key = lrp::ActualLrpKey {
            process_guid: process_guid.clone(),
            index,
            domain: desired.core.domain.clone(),
        };
        let slot = self.slot(process_guid, index).cloned().unwrap_or_default();
        if let Ok(transition) = slot.create(&key, &moment()) {
            self.apply(journal, process_guid, index, transition);
        }
    }
}

/// Returns the instance that a change reports as crashed, if it does (for the log).
pub(crate) fn crashed(change: &Change) -> Option<&ActualLrp> {
    match change {
        Change::Crashed { after, .. } => Some(after),
        _ => None,
    }
}

pub(crate) fn now() -> Nanos {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| i64::try_from(d.as_nanos()).unwrap_or(i64::MAX))
}

/// Returns the current time and a fresh epoch.
pub(crate) fn moment() -> Moment {
    Moment {
        now: now(),
        epoch: uuid::Uuid::new_v4().to_string().into(),
    }
}
