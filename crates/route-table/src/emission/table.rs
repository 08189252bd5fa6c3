//! Holds desired and actual LRPs as the BBS last reported them, and the registrations that follow from them.

use super::{
    Actual, ActualKey, Audience, Changes, Desired, Event, Marker, Registration, RegistrationKey,
    Registrations, RowVersion, Snapshot, derive, diff,
};
use crate::registry::{ComponentHosts, RouteKey};
use std::collections::{BTreeMap, HashMap, HashSet};

/// The table of the [module above](super). It has one owner, and all changes go through [`Table::apply`] and [`Table::sync`].
#[derive(Debug, Default)]
pub struct Table {
    processes: HashMap<String, Process>,
    /// The processes that have registrations at an address. There are two only while an outdated row of the BBS remains.
    holders: HashMap<(String, u16), Vec<String>>,
    /// The removed rows, kept for two syncs, so that a late event does not restore them.
    removals: HashMap<Removed, (RowVersion, u64)>,
    /// The processes with instances that wait for a cell, as far as this table knows, and the event at which each began to wait.
    waiting: HashMap<String, u64>,
    /// The processes whose last registration here was removed although they want instances, and the event that removed it. The
    /// owner of the table is to ask the BBS whether an instance of them waits.
    left: HashMap<String, u64>,
    /// The hosts of components, which no route of an app may use.
    components: ComponentHosts,
    /// The routes to these hosts that were left out since the last [`Table::left_out`]: process and uri.
    left_out: Vec<(String, String)>,
    /// The number of events so far; it shows what changed while a snapshot was fetched.
    clock: u64,
    /// The values of `clock` at the start of the last two syncs.
    marks: [u64; 2],
}

#[derive(Debug, Default)]
struct Process {
    desired: Option<Touched<Desired>>,
    actuals: BTreeMap<(String, bool), Touched<Actual>>,
    registrations: Registrations,
}

impl Process {
    fn is_starting(&self) -> bool {
        let Some(desired) = &self.desired else {
            return false;
        };
        let mut rows = self.actuals.values().map(|row| &row.value);
        self.registrations.is_empty()
            && rows.any(|actual| actual.starting && actual.index < desired.value.instances)
    }

    /// Returns the uris of the routes that routers know.
    fn uris(&self) -> Vec<String> {
        let routes = self
            .desired
            .iter()
            .flat_map(|desired| &desired.value.routes);
        routes
            .filter(|route| route.audience == Audience::Routers)
            .map(|route| route.uri.clone())
            .collect()
    }
}

#[derive(Debug)]
struct Touched<T> {
    value: T,
    at: u64,
}

#[derive(Debug, PartialEq, Eq, Hash)]
enum Removed {
    Desired(String),
    Actual(ActualKey),
}

impl Table {
    /// Makes a table that makes no registrations for the components' hosts.
    pub fn without_components(components: ComponentHosts) -> Self {
        Self {
            components,
            ..Self::default()
        }
    }

    /// Returns the routes to components' hosts that were left out since the last call: process and uri.
    pub fn left_out(&mut self) -> Vec<(String, String)> {
        std::mem::take(&mut self.left_out)
    }

    /// Applies one event and returns the changes that follow. An event without news causes none.
    pub fn apply(&mut self, event: Event) -> Changes {
        self.clock += 1;
        match event {
            Event::DesiredSet(desired) => {
                if self.was_removed(
                    &Removed::Desired(desired.process_guid.clone()),
                    &desired.tag,
                ) {
                    return Changes::default();
                }
                let guid = desired.process_guid.clone();
                self.set_desired(desired);
                let changes = self.derive_and_announce(&guid);
                Changes {
                    withdrawn: !changes.unregister.is_empty(),
                    ..changes
                }
            }
            // The cell on which an instance is placed announces it from then on.
            Event::InstancesWanted { process_guid } => {
                let process = self.processes.get(&process_guid);
                let starting = process
                    .filter(|process| process.registrations.is_empty())
                    .map_or_else(Vec::new, Process::uris);
                if !starting.is_empty() {
                    self.waiting.insert(process_guid, self.clock);
                }
                Changes {
                    starting,
                    ..Changes::default()
                }
            }
            Event::DesiredRemoved { process_guid, tag } => {
                if let Some(process) = self.processes.get_mut(&process_guid)
                    && process
                        .desired
                        .as_ref()
                        .is_some_and(|known| !tag.is_older_than(&known.value.tag))
                {
                    process.desired = None;
                }
                self.record_removal(Removed::Desired(process_guid.clone()), tag);
                self.derive_registrations(&process_guid)
            }
            Event::ActualSet(actual) => {
                if self.was_removed(&Removed::Actual(actual.key()), &actual.tag) {
                    return Changes::default();
                }
                let (guid, routable) = (actual.process_guid.clone(), actual.routable);
                let was_routable = self.processes.get(&guid).is_some_and(|p| {
                    p.actuals
                        .values()
                        .any(|a| a.value.instance_guid == actual.instance_guid && a.value.routable)
                });
                self.set_actual(actual);
                let changes = self.derive_and_announce(&guid);
                Changes {
                    new_endpoint: routable && !was_routable,
                    wanted: self.is_left(&guid, &changes),
                    ..changes
                }
            }
            Event::ActualRemoved { key, tag } => {
                if let Some(process) = self.processes.get_mut(&key.process_guid) {
                    let row = (key.instance_guid.clone(), key.evacuating);
                    if process
                        .actuals
                        .get(&row)
                        .is_some_and(|known| !tag.is_older_than(&known.value.tag))
                    {
                        process.actuals.remove(&row);
                    }
                }
                let guid = key.process_guid.clone();
                self.record_removal(Removed::Actual(key), tag);
                let changes = self.derive_registrations(&guid);
                Changes {
                    wanted: self.is_left(&guid, &changes),
                    ..changes
                }
            }
        }
    }

    /// Marks the begin of a sync. Call it before fetching a snapshot; events may be applied meanwhile.
    pub fn begin_sync(&mut self) -> Marker {
        let Self {
            clock,
            marks,
            removals,
            ..
        } = self;
        removals.retain(|_, (_, at)| *at >= marks[0]);
        *marks = [marks[1], *clock];
        Marker(*clock)
    }

    /// Repairs the table from a snapshot. An object that an event changed since `marker` keeps the state of the event.
    pub fn sync(&mut self, marker: Marker, snapshot: Snapshot) -> Changes {
        self.clock += 1;
        let desired_there: HashSet<String> = snapshot
            .desired
            .iter()
            .map(|d| d.process_guid.clone())
            .collect();
        let actual_there: HashSet<ActualKey> = snapshot.actuals.iter().map(Actual::key).collect();
        let mut guids: HashSet<String> = self.processes.keys().cloned().collect();
        for (guid, process) in &mut self.processes {
            process
                .actuals
                .retain(|_, row| row.at > marker.0 || actual_there.contains(&row.value.key()));
            let keep = |known: &Touched<Desired>| {
                known.at > marker.0
                    // An instance appeared after the rows were listed, so the fetch of the routes did not include its process.
                    || process.actuals.values().any(|row| row.at > marker.0)
                    || desired_there.contains(guid)
                    || self.waiting.contains_key(guid)
                    || !snapshot.fresh_domains.contains(&known.value.domain)
            };
            if !process.desired.as_ref().is_some_and(keep) {
                process.desired = None;
            }
        }
        for desired in snapshot.desired {
            let newer_known = self
                .processes
                .get(&desired.process_guid)
                .and_then(|p| p.desired.as_ref())
                .is_some_and(|known| known.at > marker.0 && known.value.tag != desired.tag);
            if !newer_known
                && !self.was_removed(
                    &Removed::Desired(desired.process_guid.clone()),
                    &desired.tag,
                )
            {
                guids.insert(desired.process_guid.clone());
                self.set_desired(desired);
            }
        }
        for actual in snapshot.actuals {
            let row = (actual.instance_guid.clone(), actual.evacuating);
            let newer_known = self
                .processes
                .get(&actual.process_guid)
                .and_then(|p| p.actuals.get(&row))
                .is_some_and(|known| known.at > marker.0 && known.value.tag != actual.tag);
            if !newer_known && !self.was_removed(&Removed::Actual(actual.key()), &actual.tag) {
                guids.insert(actual.process_guid.clone());
                self.set_actual(actual);
            }
        }
        let mut changes = Changes::default();
        for guid in &guids {
            // The routes of a process without instances here are fetched again when this cell runs one.
            if let Some(process) = self.processes.get_mut(guid)
                && process.actuals.is_empty()
                && !self.waiting.contains_key(guid)
                && process
                    .desired
                    .as_ref()
                    .is_some_and(|desired| desired.at <= marker.0)
            {
                process.desired = None;
            }
            changes.append(self.derive_registrations(guid));
        }
        // An address may have moved from one process to another, or have left both. The state at the end decides.
        changes.register.retain(|r| self.has(&r.key()));
        changes.unregister.retain(|r| !self.has(&r.key()));
        changes
    }

    /// Returns whether the routes of a process are known; a process may have none.
    pub fn knows(&self, process_guid: &str) -> bool {
        self.processes
            .get(process_guid)
            .is_some_and(|process| process.desired.is_some())
    }

    /// Returns the processes that have registrations now.
    pub fn registered_processes(&self) -> impl Iterator<Item = &str> {
        self.processes
            .iter()
            .filter(|(_, process)| !process.registrations.is_empty())
            .map(|(guid, _)| guid.as_str())
    }

    /// Returns the registrations that one process should have now.
    pub fn registrations_of(&self, process_guid: &str) -> impl Iterator<Item = &Registration> {
        self.processes
            .get(process_guid)
            .into_iter()
            .flat_map(|process| process.registrations.values())
    }

    /// Returns the uris of each process that has starting instances on this cell and no instance that can serve requests.
    pub fn starting(&self) -> impl Iterator<Item = Vec<String>> {
        let processes = self.processes.values();
        processes
            .filter(|process| process.is_starting())
            .map(Process::uris)
    }

    /// Returns the processes of which an instance may wait for a cell while this cell has none. The BBS sends no event to this
    /// cell when another cell claims such an instance; the caller has to ask the BBS, and to report the result to
    /// [`Table::still_waiting`].
    pub fn waiting(&mut self) -> (Marker, Vec<String>) {
        let processes = &self.processes;
        let may_wait = |guid: &String| {
            processes.get(guid).is_some_and(|process| {
                process.desired.is_some()
                    && process.registrations.is_empty()
                    && !process.is_starting()
            })
        };
        self.waiting.retain(|guid, _| may_wait(guid));
        self.left.retain(|guid, _| may_wait(guid));
        let left = self.left.keys();
        let left = left.filter(|guid| !self.waiting.contains_key(*guid));
        let asked = self.waiting.keys().chain(left).cloned().collect();
        (Marker(self.clock), asked)
    }

    /// Records which of the processes that were `asked` about at `marker` are `still` waiting. A process that has wanted new
    /// instances since then waits as well. Returns the uris of each waiting process, so that the caller announces them.
    pub fn still_waiting(
        &mut self,
        (marker, asked): &(Marker, Vec<String>),
        still: &HashSet<String>,
    ) -> Vec<Vec<String>> {
        let is_meant = |at: Option<&u64>| at.is_some_and(|at| *at <= marker.0);
        for guid in asked {
            let left = is_meant(self.left.get(guid));
            if left {
                self.left.remove(guid);
            }
            if !still.contains(guid) {
                if is_meant(self.waiting.get(guid)) {
                    self.waiting.remove(guid);
                }
            } else if left {
                self.waiting.entry(guid.clone()).or_insert(marker.0);
            }
        }
        let waits = |guid: &&String| self.waiting.contains_key(*guid);
        let known = still.iter().filter(waits);
        known
            .filter_map(|guid| self.processes.get(guid))
            .map(Process::uris)
            .collect()
    }

    /// Returns everything that should be registered now.
    pub fn registrations(&self) -> impl Iterator<Item = &Registration> {
        self.processes
            .values()
            .flat_map(|process| process.registrations.values())
    }

    /// Returns whether the changes removed the last registration of a process here although instances of it are still wanted.
    fn is_left(&mut self, guid: &str, changes: &Changes) -> bool {
        let wants = |process: &Process| {
            let desired = process.desired.as_ref();
            process.registrations.is_empty() && desired.is_some_and(|d| d.value.instances > 0)
        };
        let left = !changes.unregister.is_empty() && self.processes.get(guid).is_some_and(wants);
        if left {
            self.left.insert(guid.to_owned(), self.clock);
        }
        left
    }

    fn set_desired(&mut self, mut desired: Desired) {
        let components = &self.components;
        let left_out = desired.routes.extract_if(.., |route| {
            components.cover(RouteKey::new(&route.uri).host())
        });
        let guid = &desired.process_guid;
        let left_out = left_out.map(|route| (guid.clone(), route.uri.clone()));
        self.left_out.extend(left_out);
        let (at, process) = (
            self.clock,
            self.processes
                .entry(desired.process_guid.clone())
                .or_default(),
        );
        match &mut process.desired {
            Some(known) if desired.tag.is_older_than(&known.value.tag) => {}
            slot => *slot = Some(Touched { value: desired, at }),
        }
    }

    fn set_actual(&mut self, actual: Actual) {
        let (at, process) = (
            self.clock,
            self.processes
                .entry(actual.process_guid.clone())
                .or_default(),
        );
        let row = (actual.instance_guid.clone(), actual.evacuating);
        if !process
            .actuals
            .get(&row)
            .is_some_and(|known| actual.tag.is_older_than(&known.value.tag))
        {
            process.actuals.insert(row, Touched { value: actual, at });
        }
    }

    fn derive_and_announce(&mut self, guid: &str) -> Changes {
        let changes = self.derive_registrations(guid);
        let process = self.processes.get(guid).filter(|p| p.is_starting());
        Changes {
            starting: process.map_or_else(Vec::new, Process::uris),
            ..changes
        }
    }

    /// Derives the registrations of a process anew, and forgets a process of which no row is left.
    fn derive_registrations(&mut self, guid: &str) -> Changes {
        let Some(process) = self.processes.get_mut(guid) else {
            return Changes::default();
        };
        let new = match &process.desired {
            Some(desired) => derive(
                &desired.value,
                process.actuals.values().map(|row| &row.value),
            ),
            None => Registrations::new(),
        };
        let mut changes = diff(&process.registrations, &new);
        let addresses = |registrations: &Registrations| {
            registrations
                .keys()
                .map(|key| (key.host.clone(), key.port))
                .collect::<HashSet<_>>()
        };
        let (before, after) = (addresses(&process.registrations), addresses(&new));
        if process.desired.is_none() && process.actuals.is_empty() {
            self.processes.remove(guid);
        } else {
            process.registrations = new;
        }
        for address in before.difference(&after) {
            if let Some(holders) = self.holders.get_mut(address) {
                holders.retain(|holder| holder != guid);
                if holders.is_empty() {
                    self.holders.remove(address);
                }
            }
        }
        for address in after.difference(&before) {
            self.holders
                .entry(address.clone())
                .or_default()
                .push(guid.to_owned());
        }
        self.keep_successors(guid, &mut changes);
        changes
    }

    /// Returns whether any process has this registration now.
    fn has(&self, key: &RegistrationKey) -> bool {
        let holders = self.holders.get(&(key.host.clone(), key.port));
        holders.into_iter().flatten().any(|holder| {
            let process = self.processes.get(holder);
            process.is_some_and(|process| process.registrations.contains_key(key))
        })
    }

    /// Removes from the changes each unregistration of an address that a new instance already uses. The BBS may remove the row of
    /// the old instance later than it adds the new one, and the registrations of the new instance must stay.
    fn keep_successors(&self, guid: &str, changes: &mut Changes) {
        let mut restored = Vec::new();
        changes.unregister.retain(|gone| {
            let key = gone.key();
            let others = self
                .holders
                .get(&(key.host.clone(), key.port))
                .into_iter()
                .flatten()
                .filter(|holder| *holder != guid);
            let successor = others
                .filter_map(|holder| self.processes.get(holder)?.registrations.get(&key))
                .next();
            restored.extend(successor.cloned());
            successor.is_none()
        });
        changes.register.append(&mut restored);
    }

    fn record_removal(&mut self, row: Removed, tag: RowVersion) {
        let at = self.clock;
        let known = self
            .removals
            .entry(row)
            .or_insert_with(|| (tag.clone(), at));
        if !tag.is_older_than(&known.0) {
            *known = (tag, at);
        }
    }

    /// Returns whether a row of this version was removed, by a removal that is at least as new.
    fn was_removed(&self, row: &Removed, tag: &RowVersion) -> bool {
        self.removals.get(row).is_some_and(|(removed, _)| {
            !tag.epoch.is_empty() && removed.epoch == tag.epoch && tag.index <= removed.index
        })
    }
}
