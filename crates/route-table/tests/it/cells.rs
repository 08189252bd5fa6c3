//! The cells of the simulation with their instances, and an emitter each.

use crate::routers::Message;
use route_table::emission::{
    Actual, ActualKey, Changes, Desired, Event, Marker, Port, Registration, RowVersion, Snapshot,
    Table, UnregistrationRepeats,
};
use route_table::numbering::Outgoing;
use std::collections::{HashSet, VecDeque};

/// An instance that runs.
#[derive(Clone, Debug)]
pub(crate) struct Instance {
    pub(crate) actual: Actual,
}

/// One machine: the address at which its instances listen, and the emitter that publishes their routes.
#[derive(Debug)]
pub(crate) struct Cell {
    pub(crate) address: String,
    pub(crate) instances: Vec<Instance>,
    pub(crate) emitter: Emitter,
}

/// The emitter of a cell, with the events of the BBS in their order; a broken stream loses some of them.
#[derive(Debug)]
pub(crate) struct Emitter {
    table: Table,
    pub(crate) repeats: UnregistrationRepeats,
    /// The name, which every start of an emitter makes anew.
    pub(crate) name: String,
    pub(crate) numbers: Outgoing,
    pub(crate) events: VecDeque<Event>,
    /// A snapshot that is being fetched.
    fetched: Option<(Marker, Snapshot)>,
}

impl Emitter {
    pub(crate) fn new(name: String) -> Self {
        Self {
            table: Table::default(),
            repeats: UnregistrationRepeats::new(20),
            name,
            numbers: Outgoing::default(),
            events: VecDeque::new(),
            fetched: None,
        }
    }

    /// Applies the next event and returns the changes to publish.
    pub(crate) fn apply_next_event(&mut self, desired: &[Desired]) -> Changes {
        let Some(event) = self.events.pop_front() else {
            return Changes::default();
        };
        // An emitter fetches the routes of a process when the first event about it arrives.
        let unknown = match &event {
            Event::ActualSet(actual) if !self.table.knows(&actual.process_guid) => desired
                .iter()
                .find(|desired| desired.process_guid == actual.process_guid),
            _ => None,
        };
        self.events.extend(unknown.cloned().map(Event::DesiredSet));
        let changes = self.table.apply(event);
        self.repeats.record(&changes);
        self.numbers.record(&changes);
        changes
    }

    pub(crate) fn fetch(&mut self, snapshot: Snapshot) {
        if self.fetched.is_none() {
            self.fetched = Some((self.table.begin_sync(), snapshot));
        }
    }

    /// Applies the snapshot that was being fetched, and returns the changes to publish.
    pub(crate) fn sync(&mut self) -> Changes {
        let Some((marker, snapshot)) = self.fetched.take() else {
            return Changes::default();
        };
        let changes = self.table.sync(marker, snapshot);
        self.repeats.record(&changes);
        self.numbers.record(&changes);
        changes
    }

    /// Returns the messages about changes.
    pub(crate) fn messages(&self, changes: &Changes) -> Vec<Message> {
        let register = changes.register.iter().map(|r| self.message(true, r));
        let unregister = changes.unregister.iter().map(|r| self.message(false, r));
        register.chain(unregister).collect()
    }

    pub(crate) fn message(&self, registers: bool, registration: &Registration) -> Message {
        Message {
            registers,
            registration: registration.clone(),
            emitter: self.name.clone(),
            number: self.numbers.number(&registration.key()),
        }
    }

    pub(crate) fn everything(&self) -> Vec<Registration> {
        self.table.registrations().cloned().collect()
    }
}

impl Cell {
    pub(crate) fn new(number: usize) -> Self {
        Self {
            address: format!("10.0.0.{number}"),
            instances: Vec::new(),
            emitter: Emitter::new(format!("cell-{number}")),
        }
    }

    /// Returns the instance that presents its certificate at this port.
    pub(crate) fn at(&self, port: u16) -> Option<&Instance> {
        self.instances
            .iter()
            .find(|instance| instance.actual.ports[0].host_tls == u32::from(port))
    }

    /// Returns a port that no instance uses now; most often one that an instance used a moment ago.
    pub(crate) fn free_port(&self) -> u16 {
        (61_000..)
            .find(|port| self.at(*port).is_none())
            .expect("there are more ports than instances")
    }

    pub(crate) fn start(&mut self, process: &Desired, index: u32, guid: String) {
        let port = self.free_port();
        let actual = Actual {
            process_guid: process.process_guid.clone(),
            index,
            instance_guid: guid.clone(),
            routable: true,
            cell_address: self.address.clone(),
            ports: vec![Port {
                container: 8080,
                host: 0,
                container_tls: 61001,
                host_tls: port.into(),
            }],
            tag: RowVersion {
                epoch: guid,
                index: 1,
            },
            ..Actual::default()
        };
        self.emitter
            .events
            .push_back(Event::ActualSet(actual.clone()));
        self.instances.push(Instance { actual });
    }

    pub(crate) fn stop(&mut self, at: usize) {
        let Actual { tag, .. } = &self.instances[at].actual;
        let tag = RowVersion {
            epoch: tag.epoch.clone(),
            index: tag.index + 1,
        };
        let key: ActualKey = self.instances.swap_remove(at).actual.key();
        self.emitter
            .events
            .push_back(Event::ActualRemoved { key, tag });
    }

    pub(crate) fn snapshot(&self, desired: &[Desired]) -> Snapshot {
        let actuals: Vec<Actual> = self.instances.iter().map(|i| i.actual.clone()).collect();
        let here: HashSet<&str> = actuals.iter().map(|a| a.process_guid.as_str()).collect();
        Snapshot {
            desired: desired
                .iter()
                .filter(|desired| here.contains(desired.process_guid.as_str()))
                .cloned()
                .collect(),
            actuals,
            fresh_domains: ["cf-apps".to_owned()].into(),
        }
    }
}
