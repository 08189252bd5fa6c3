//! The levels that operators see of the BBS and of locket. They are counted in the state when the page is read; one walk over the
//! state serves all levels of a page.

use crate::locket::Locket;
use crate::state::{State, now};
use crate::store::Store;
use ids::CellId;
use kit::metrics::Registry;
use lrp::TaskState;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use wire::locket::TypeCode;

/// The age up to which a census is used again.
const CENSUS_AGE: Duration = Duration::from_secs(1);

/// The name, help and value of each level of the state.
type Level = (&'static str, &'static str, fn(&Census) -> usize);

const LEVELS: &[Level] = &[
    ("bbs_lrps_desired", "Instances that are desired", |c| {
        c.desired
    }),
    (
        "bbs_lrps_unclaimed",
        "Instances that wait for a cell",
        |c| c.unclaimed,
    ),
    (
        "bbs_lrps_claimed",
        "Instances that a cell is about to run",
        |c| c.claimed,
    ),
    ("bbs_lrps_running", "Instances that run", |c| c.running),
    (
        "bbs_crashed_actual_lrps",
        "Instances that crashed and wait for their restart",
        |c| c.crashed,
    ),
    (
        "bbs_crashing_desired_lrps",
        "Desired LRPs with an instance that crashed",
        |c| c.crashing_desired,
    ),
    (
        "bbs_lrps_missing",
        "Instances that are desired and have no record",
        |c| c.missing,
    ),
    (
        "bbs_lrps_extra",
        "Instances with a record that are not desired",
        |c| c.extra,
    ),
    (
        "bbs_suspect_claimed_actual_lrps",
        "Claimed instances of cells that are not present",
        |c| c.suspect_claimed,
    ),
    (
        "bbs_suspect_running_actual_lrps",
        "Running instances of cells that are not present",
        |c| c.suspect_running,
    ),
    (
        "bbs_evacuating_actual_lrps",
        "Instances that run on a cell that is being emptied",
        |c| c.evacuating,
    ),
    ("bbs_present_cells", "Cells that are present", |c| {
        c.present_cells
    }),
    (
        "bbs_suspect_cells",
        "Cells that are not present and have suspect instances",
        |c| c.suspect_cells.len(),
    ),
    ("bbs_tasks_pending", "Tasks that wait for a cell", |c| {
        c.tasks_pending
    }),
    ("bbs_tasks_running", "Tasks that run", |c| c.tasks_running),
    (
        "bbs_tasks_completed",
        "Tasks that completed and whose result is not delivered",
        |c| c.tasks_completed,
    ),
    (
        "bbs_tasks_resolving",
        "Tasks whose result is being delivered",
        |c| c.tasks_resolving,
    ),
];

/// Adds the levels of the state.
pub(crate) fn read_store(registry: &mut Registry, store: &Arc<Store>) {
    let census = Arc::new(LastCensus {
        store: store.clone(),
        last: Mutex::default(),
    });
    for &(name, help, level) in LEVELS {
        let census = census.clone();
        registry.read(name, help, move || Some(census.read(level)));
    }
    let store = store.clone();
    registry.read_all(
        "bbs_domain",
        "1 for each domain that is fresh",
        "domain",
        move || {
            let fresh = store.peek(|state| state.fresh_domains(now()));
            fresh.into_iter().map(|domain| (domain, 1.0)).collect()
        },
    );
}

/// Adds the levels of locket.
pub(crate) fn read_locket(registry: &mut Registry, locket: &Arc<Locket>) {
    for (name, help, kind) in [
        ("locket_active_locks", "Locks that are held", TypeCode::Lock),
        (
            "locket_active_presences",
            "Presences that are held",
            TypeCode::Presence,
        ),
    ] {
        let locket = locket.clone();
        registry.read(
            name,
            help,
            move || Some(locket.fetch_all(kind).len() as f64),
        );
    }
}

/// The numbers of things in the state at one moment.
#[derive(Debug, Default)]
struct Census {
    desired: usize,
    unclaimed: usize,
    claimed: usize,
    running: usize,
    crashed: usize,
    crashing_desired: usize,
    missing: usize,
    extra: usize,
    suspect_claimed: usize,
    suspect_running: usize,
    evacuating: usize,
    present_cells: usize,
    suspect_cells: BTreeSet<CellId>,
    tasks_pending: usize,
    tasks_running: usize,
    tasks_completed: usize,
    tasks_resolving: usize,
}

impl Census {
    fn take(state: &State) -> Self {
        let mut census = Self {
            present_cells: state.cells.present().count(),
            ..Self::default()
        };
        census.count_lrps(state);
        for record in state.tasks.values() {
            match record.task.state {
                TaskState::Pending => census.tasks_pending += 1,
                TaskState::Running { .. } => census.tasks_running += 1,
                TaskState::Completed { .. } => census.tasks_completed += 1,
                TaskState::Resolving { .. } => census.tasks_resolving += 1,
            }
        }
        census
    }

    fn count_lrps(&mut self, state: &State) {
        for (process_guid, desired) in &state.desired {
            let wanted = usize::try_from(desired.core.instances).unwrap_or_default();
            let slots = state.actual.get(process_guid);
            let kept = slots.map_or(0, |slots| {
                slots
                    .keys()
                    .filter(|index| desired.core.wants(**index))
                    .count()
            });
            self.desired += wanted;
            self.missing += wanted.saturating_sub(kept);
            let mut rows = slots.into_iter().flat_map(|slots| slots.values());
            if rows.any(|slot| {
                slot.rows()
                    .any(|row| matches!(row.state, lrp::State::Crashed))
            }) {
                self.crashing_desired += 1;
            }
        }
        for (process_guid, slots) in &state.actual {
            let desired = state.desired.get(process_guid);
            for (index, slot) in slots {
                if !desired.is_some_and(|desired| desired.core.wants(*index)) {
                    self.extra += 1;
                }
                slot.rows().for_each(|row| self.count(row));
            }
        }
    }

    fn count(&mut self, row: &lrp::ActualLrp) {
        use lrp::{Presence, State};
        match (row.presence, &row.state) {
            (Presence::Evacuating, _) => self.evacuating += 1,
            (Presence::Suspect, state) => {
                match state {
                    State::Claimed { .. } => self.suspect_claimed += 1,
                    State::Running { .. } => self.suspect_running += 1,
                    State::Unclaimed { .. } | State::Crashed => {}
                }
                let cell = row.instance().map(|instance| instance.cell_id.clone());
                self.suspect_cells.extend(cell);
            }
            (Presence::Ordinary, State::Unclaimed { .. }) => self.unclaimed += 1,
            (Presence::Ordinary, State::Claimed { .. }) => self.claimed += 1,
            (Presence::Ordinary, State::Running { .. }) => self.running += 1,
            (Presence::Ordinary, State::Crashed) => self.crashed += 1,
        }
    }
}

/// The last census, which all levels of one page share.
#[derive(Debug)]
struct LastCensus {
    store: Arc<Store>,
    last: Mutex<Option<(Instant, Census)>>,
}

impl LastCensus {
    fn read(&self, level: fn(&Census) -> usize) -> f64 {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let is_old = |(at, _): &(Instant, Census)| at.elapsed() > CENSUS_AGE;
        if last.as_ref().is_none_or(is_old) {
            *last = None;
        }
        let (_, census) =
            last.get_or_insert_with(|| (Instant::now(), self.store.peek(Census::take)));
        level(census) as f64
    }
}
