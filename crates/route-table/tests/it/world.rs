//! The world of the simulation: its true state, what happens in it, and what must hold.

use crate::cells::{Cell, Emitter};
use crate::routers::{Message, Router, STALE_TLS};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use route_table::emission::{Changes, Desired, Event, Route, RowVersion};
use route_table::numbering::Numbered;
use route_table::registry::{Attempts, Failure, Want};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

const CELLS: usize = 3;
const PROCESSES: usize = 5;
/// Each uri with a request that only this route answers.
const URIS: [(&str, &str, &str); 6] = [
    ("a.test", "a.test", "/"),
    ("a.test/deep", "a.test", "/deep/x"),
    ("b.test", "b.test", "/"),
    ("*.wild.test", "any.wild.test", "/"),
    ("one.wild.test", "one.wild.test", "/"),
    ("c.test/p", "c.test", "/p"),
];

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) requests: u64,
    pub(crate) reached: u64,
    pub(crate) refreshed: u64,
}

#[derive(Debug)]
pub(crate) struct World {
    rng: StdRng,
    start: Instant,
    now_ms: u64,
    desired: Vec<Desired>,
    /// The uris that each process owned at some time, as bits. Each process has some uris that it never owns.
    owned: [u64; PROCESSES],
    cells: Vec<Cell>,
    routers: Vec<Router>,
    instances_ever: u64,
    counts: Counts,
    /// Whether only the bus and the routers fail: no emitter and no cell does, and nothing is pruned for its age.
    only_losses: bool,
}

impl World {
    /// Makes a world in which messages are lost, but in which no cell and no emitter fails.
    pub(crate) fn with_losses(seed: u64) -> Self {
        Self {
            only_losses: true,
            ..Self::new(seed)
        }
    }

    pub(crate) fn new(seed: u64) -> Self {
        #[expect(clippy::disallowed_methods, reason = "an Instant has no other origin")]
        let start = Instant::now();
        let process = |n: usize| Desired {
            process_guid: format!("process-{n}"),
            domain: "cf-apps".into(),
            log_guid: format!("app-{n}"),
            instances: 4,
            tag: RowVersion {
                epoch: format!("d{n}"),
                index: 0,
            },
            ..Desired::default()
        };
        Self {
            rng: StdRng::seed_from_u64(seed),
            start,
            now_ms: 0,
            desired: (0..PROCESSES).map(process).collect(),
            owned: [0; PROCESSES],
            cells: (1..=CELLS).map(Cell::new).collect(),
            routers: vec![Router::new(start), Router::new(start)],
            instances_ever: 0,
            counts: Counts::default(),
            only_losses: false,
        }
    }

    pub(crate) fn counts(&self) -> Counts {
        Counts {
            refreshed: self.routers.iter().map(|router| router.refreshed).sum(),
            ..self.counts
        }
    }

    fn now(&self) -> Instant {
        self.start + Duration::from_millis(self.now_ms)
    }

    pub(crate) fn step(&mut self) {
        self.now_ms += self.rng.random_range(0..200);
        let now = self.now();
        let cell = self.rng.random_range(0..CELLS);
        let router = self.rng.random_range(0..self.routers.len());
        match self.rng.random_range(0..1000) {
            984..990 | 997..=998 if self.only_losses => {}
            0..350 => self.routers[router].deliver_badly(&mut self.rng, now),
            350..650 => self.request(router),
            650..800 => {
                let changes = self.cells[cell].emitter.apply_next_event(&self.desired);
                self.publish(cell, &changes);
            }
            800..850 => self.start_instance(cell),
            850..890 => self.stop_instance(cell),
            890..930 => self.change_routes(),
            930..950 => {
                let snapshot = self.cells[cell].snapshot(&self.desired);
                self.cells[cell].emitter.fetch(snapshot);
            }
            950..970 => {
                let changes = self.cells[cell].emitter.sync();
                self.publish(cell, &changes);
            }
            970..980 => self.emit_everything(cell),
            980..984 => self.repeat_unregistrations(cell),
            984..990 => drop(self.routers[router].registry.prune(now)),
            990..992 => self.bus_outage(router),
            992..995 => self.routers[router].lose_messages(),
            995..997 => {
                // The event stream broke: its pending events are lost, and a sync follows.
                let snapshot = self.cells[cell].snapshot(&self.desired);
                self.cells[cell].emitter.events.clear();
                self.cells[cell].emitter.fetch(snapshot);
            }
            997 => self.restart_emitter(cell),
            998 => self.lose_cell(cell),
            _ => {
                self.routers[router] = Router::new(now);
                (0..CELLS).for_each(|cell| self.emit_everything(cell));
            }
        }
    }

    fn publish(&mut self, cell: usize, changes: &Changes) {
        let messages = self.cells[cell].emitter.messages(changes);
        self.send(&messages);
    }

    fn send(&mut self, messages: &[Message]) {
        self.routers
            .iter_mut()
            .for_each(|router| router.send(messages));
    }

    fn start_instance(&mut self, cell: usize) {
        if self.cells[cell].instances.len() >= 8 {
            return;
        }
        let process = self.rng.random_range(0..PROCESSES);
        self.instances_ever += 1;
        let guid = format!("instance-{}", self.instances_ever);
        let index = self.rng.random_range(0..4);
        self.cells[cell].start(&self.desired[process], index, guid);
    }

    fn stop_instance(&mut self, cell: usize) {
        let count = self.cells[cell].instances.len();
        if count > 0 {
            let at = self.rng.random_range(0..count);
            self.cells[cell].stop(at);
        }
    }

    /// Maps or unmaps one route of one process.
    fn change_routes(&mut self) {
        let process = self.rng.random_range(0..PROCESSES);
        // The route is never one of the two with the process's own number and the next one.
        let at = (process + self.rng.random_range(2..URIS.len())) % URIS.len();
        let (uri, ..) = URIS[at];
        self.owned[process] |= 1 << at;
        let desired = &mut self.desired[process];
        desired.tag.index += 1;
        let had = desired.routes.len();
        desired.routes.retain(|route| route.uri != uri);
        if desired.routes.len() == had {
            desired.routes.push(Arc::new(Route {
                uri: uri.into(),
                container_port: 8080,
                ..Route::default()
            }));
        }
        let event = Event::DesiredSet(desired.clone());
        for cell in &mut self.cells {
            cell.emitter.events.push_back(event.clone());
        }
    }

    fn emit_everything(&mut self, cell: usize) {
        let emitter = &self.cells[cell].emitter;
        let all = emitter.everything();
        let all: Vec<Message> = all.iter().map(|r| emitter.message(true, r)).collect();
        self.send(&all);
    }

    fn repeat_unregistrations(&mut self, cell: usize) {
        let due = self.cells[cell].emitter.repeats.due();
        let emitter = &self.cells[cell].emitter;
        let due: Vec<Message> = due.iter().map(|r| emitter.message(false, r)).collect();
        self.send(&due);
    }

    fn bus_outage(&mut self, router: usize) {
        let now = self.now();
        let router = &mut self.routers[router];
        if router.connected {
            router.connected = false;
            router.lose_messages();
            router.registry.suspend_pruning();
        } else {
            router.connected = true;
            router.registry.resume_pruning(now);
            (0..CELLS).for_each(|cell| self.emit_everything(cell));
        }
    }

    /// Restarts the emitter of a cell. It forgets which messages it has sent, also the unregistrations.
    fn restart_emitter(&mut self, cell: usize) {
        let name = format!("restarted-{}", self.rng.random::<u64>());
        self.cells[cell].emitter = Emitter::new(name);
        let snapshot = self.cells[cell].snapshot(&self.desired);
        self.cells[cell].emitter.fetch(snapshot);
        let changes = self.cells[cell].emitter.sync();
        self.publish(cell, &changes);
    }

    /// Loses the machine, which comes back empty. Its instances are not unregistered.
    fn lose_cell(&mut self, cell: usize) {
        self.cells[cell].instances.clear();
        self.restart_emitter(cell);
    }

    /// Sends a request as a router does: it picks an endpoint, connects, checks the certificate, and tries another.
    fn request(&mut self, router: usize) {
        let now = self.now();
        let at = self.rng.random_range(0..URIS.len());
        let (_, host, path) = URIS[at];
        self.counts.requests += 1;
        let registry = &self.routers[router].registry;
        let Some(pool) = registry.lookup(host, path) else {
            return;
        };
        let answered = URIS.iter().position(|(uri, ..)| *uri == pool.uri());
        let answered = answered.expect("the table holds known uris only");
        let mut attempts = Attempts::new(3);
        loop {
            let want = Want {
                tried: attempts.tried(),
                ..Want::default()
            };
            let Ok(endpoint) = pool.pick(&want, now) else {
                return;
            };
            let spec = endpoint.spec();
            let cell = self.cells.iter().find(|cell| cell.address == spec.host);
            let failure = match cell.and_then(|cell| cell.at(spec.port)) {
                None => Failure::NotListening,
                Some(there) if there.actual.instance_guid != endpoint.tls_name() => {
                    Failure::WrongName
                }
                Some(there) => {
                    let guid = &there.actual.process_guid;
                    let process = self.desired.iter().position(|d| d.process_guid == *guid);
                    let owned = self.owned[process.expect("it was started")];
                    assert!(
                        owned & 1 << answered != 0,
                        "a request for {} reached {there:?}",
                        pool.uri()
                    );
                    self.counts.reached += 1;
                    return;
                }
            };
            pool.fail(&endpoint, failure, now);
            let want = Want::default();
            if !attempts.failed(&pool, endpoint, Some(failure), &want, now) {
                return;
            }
        }
    }

    /// Lets emitters and routers compare their digests for a while. All messages that were on their way are lost, nothing is
    /// repeated, and a part of the digests and of the answers is lost as well.
    pub(crate) fn compare_digests(&mut self) {
        self.settle_emitters();
        self.routers.iter_mut().for_each(Router::lose_messages);
        for _ in 0..600 {
            self.now_ms += 100;
            let now = self.now();
            for router in &mut self.routers {
                for cell in &self.cells {
                    let emitter = &cell.emitter;
                    if self.rng.random_bool(0.8) {
                        let digest = emitter.numbers.digest();
                        router.incoming.compare(&emitter.name, digest, now);
                    }
                }
                for ask in router.incoming.ask(now) {
                    let asked = self.cells.iter().find(|c| c.emitter.name == ask.emitter);
                    let Some(cell) = asked.filter(|_| self.rng.random_bool(0.8)) else {
                        continue;
                    };
                    let difference = cell.emitter.numbers.after(ask.after, 3);
                    for (number, numbered) in &difference.changes {
                        let message = Message {
                            registers: matches!(numbered, Numbered::Present(_)),
                            registration: numbered.registration().clone(),
                            emitter: ask.emitter.clone(),
                            number: Some(*number),
                        };
                        router.apply(&message, now);
                    }
                    let upto = difference.upto;
                    router.incoming.applied(&ask.emitter, ask.after, upto, now);
                }
            }
        }
    }

    /// Lets time pass while nothing fails any more.
    pub(crate) fn deliver_everything(&mut self) {
        self.settle_emitters();
        self.deliver_repetitions();
    }

    /// Connects every router, and lets every emitter learn what runs.
    fn settle_emitters(&mut self) {
        for router in 0..self.routers.len() {
            if !self.routers[router].connected {
                self.bus_outage(router);
            }
        }
        for cell in 0..CELLS {
            while !self.cells[cell].emitter.events.is_empty() {
                let changes = self.cells[cell].emitter.apply_next_event(&self.desired);
                self.publish(cell, &changes);
            }
            // The first sync was under way already; the second one sees everything.
            let late = self.cells[cell].emitter.sync();
            self.publish(cell, &late);
            let snapshot = self.cells[cell].snapshot(&self.desired);
            self.cells[cell].emitter.fetch(snapshot);
            let changes = self.cells[cell].emitter.sync();
            self.publish(cell, &changes);
        }
    }

    fn deliver_repetitions(&mut self) {
        for _ in 0..=(STALE_TLS / 20) {
            self.now_ms += 20_000;
            for cell in 0..CELLS {
                self.repeat_unregistrations(cell);
                self.emit_everything(cell);
            }
            let now = self.now();
            for router in &mut self.routers {
                router.deliver_all(now);
                router.registry.prune(now);
            }
        }
        // The pools that failures emptied are forgotten last.
        self.now_ms += 100_000;
        for cell in 0..CELLS {
            self.emit_everything(cell);
        }
        let now = self.now();
        for router in &mut self.routers {
            router.deliver_all(now);
            router.registry.prune(now);
        }
    }

    /// Checks that every router's table agrees with what runs. Pools that failures emptied may still be there, empty.
    pub(crate) fn check_endpoints(&self) {
        self.check(false);
    }

    pub(crate) fn check_table(&self) {
        self.check(true);
    }

    fn check(&self, no_empty_pools: bool) {
        let mut runs = BTreeSet::new();
        for cell in &self.cells {
            for instance in &cell.instances {
                let actual = &instance.actual;
                let mut processes = self.desired.iter();
                let process = processes.find(|d| d.process_guid == actual.process_guid);
                for route in &process.expect("it was started").routes {
                    let port = actual.ports[0].host_tls;
                    let address = format!("{}:{port}", cell.address);
                    let guid = actual.instance_guid.clone();
                    runs.insert((route.uri.clone(), address, guid));
                }
            }
        }
        for router in &self.routers {
            let mut table = BTreeSet::new();
            for (uri, pool) in router.registry.snapshot() {
                assert!(
                    !no_empty_pools || !pool.is_empty(),
                    "{uri} is empty, but there"
                );
                for endpoint in pool.endpoints() {
                    let (address, guid) = (endpoint.address(), endpoint.spec().instance_id);
                    table.insert((uri.clone(), address.to_owned(), guid.to_owned()));
                }
            }
            assert_eq!(table, runs, "the table, and what runs");
            assert_eq!(router.registry.endpoints(), table.len());
        }
    }
}
