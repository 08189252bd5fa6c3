//! Ten thousand changes of routes over a bus that loses a fifth of all messages and reorders another fifth, with a real BBS, the
//! emitters of two cells, a real nats-server and instances over TLS. No timer helps: all of them are longer than the test.
//!
//! Each space has two processes with one instance each, some hosts, and three places for instances on one cell. It makes one change
//! after the other, and waits until the router serves exactly what runs. Any answer of an instance that had no part in the route,
//! before the change or after it, fails the test.

use crate::cells::{CELLS, Cells, NEVER, Place};
use crate::certs::Ca;
use crate::world::{Nats, World, free_port, wait_for};
use bytes::Bytes;
use futures::future::join_all;
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use router::Settings;
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use testkit::lossy_bus::{Faults, LossyBus};
use tokio::net::TcpStream;

const CHANGES: u64 = 10_000;
const SPACES: usize = 24;
const HOSTS: usize = 6;
const FAULTS: Faults = Faults {
    seed: 1,
    lost: 0.2,
    overtaken: 0.2,
};

/// The promise: a change is live within a second, and if the machine stands still for a moment, soon after that.
const LIVE: Duration = Duration::from_secs(1);
const LIVE_AT_LATEST: Duration = Duration::from_secs(3);

/// The changes that were begun, and the generations that were used, by all spaces.
#[derive(Default)]
struct Sequences {
    changes: AtomicU64,
    generations: AtomicU64,
}

/// A connection that is kept from one request to the next.
struct Caller {
    address: SocketAddr,
    open: Option<SendRequest<Full<Bytes>>>,
}

impl Caller {
    fn new(address: SocketAddr) -> Self {
        Self {
            address,
            open: None,
        }
    }

    /// Returns the status and the body of an answer. A kept connection may have been closed meanwhile, so there is a second attempt.
    async fn get(&mut self, host: &str, path: &str) -> (u16, String) {
        if let Some(answer) = self.attempt(host, path).await {
            return answer;
        }
        let second = self.attempt(host, path).await;
        second.expect("an answer on a new connection")
    }

    async fn attempt(&mut self, host: &str, path: &str) -> Option<(u16, String)> {
        let mut sender = match self.open.take() {
            Some(sender) => sender,
            None => {
                let stream = TcpStream::connect(self.address).await.unwrap();
                let (sender, connection) = handshake(TokioIo::new(stream)).await.unwrap();
                tokio::spawn(connection);
                sender
            }
        };
        let request = Request::builder()
            .uri(path)
            .header("host", host)
            // The credentials of the operator's pages are status:secret. Apps ignore them.
            .header("authorization", "Basic c3RhdHVzOnNlY3JldA==")
            .body(Full::default())
            .unwrap();
        sender.ready().await.ok()?;
        let (head, body) = sender.send_request(request).await.ok()?.into_parts();
        let body = body.collect().await.ok()?.to_bytes();
        self.open = Some(sender);
        let text = String::from_utf8_lossy(&body).into_owned();
        Some((head.status.as_u16(), text))
    }
}

#[derive(Clone, Debug)]
struct Process {
    guid: String,
    instance: String,
    /// The position of its place in the space.
    place: usize,
}

/// The owner of each host of a space: the position of its process, and the generation of the change that made it so.
type Owners = BTreeMap<String, Option<(usize, u64)>>;

struct Space<'a> {
    name: String,
    cell: &'static str,
    cells: &'a Cells,
    ca: &'a Ca,
    rng: StdRng,
    places: [Place; 3],
    processes: [Process; 2],
    owners: Owners,
    sequences: &'a Sequences,
    instances: u32,
    requests: Caller,
    pages: Caller,
}

#[derive(Clone, Copy, Debug)]
enum Change {
    /// A host gets another owner, or none.
    Own { host: usize, by: Option<usize> },
    /// The instance of a process is replaced by another one at the free place.
    Replace(usize),
    /// Both processes get new instances, each at the address that the other one had.
    Swap,
}

impl<'a> Space<'a> {
    async fn new(
        number: usize,
        world: &'a World,
        cells: &'a Cells,
        sequences: &'a Sequences,
    ) -> Self {
        let name = format!("space{number}");
        let process = |at| Process {
            guid: format!("{name}-{at}"),
            instance: String::new(),
            place: at,
        };
        let processes = [process(0), process(1)];
        let hosts = (0..HOSTS).map(|host| (format!("{host}.{name}.test"), None));
        let owners = hosts.collect();
        let mut space = Self {
            cell: CELLS[number % CELLS.len()],
            cells,
            ca: &world.ca,
            rng: StdRng::seed_from_u64(number as u64),
            places: [Place::new().await, Place::new().await, Place::new().await],
            processes,
            owners,
            sequences,
            instances: 0,
            requests: Caller::new(world.addr),
            pages: Caller::new(world.status),
            name,
        };
        for at in 0..2 {
            space.cells.desire(&space.processes[at].guid).await;
            space.begin_instance(at);
            space.report(at).await;
        }
        space
    }

    /// Makes the hosts of the space known, and returns when the router serves them.
    async fn begin(&mut self) {
        for host in 0..HOSTS {
            let by = Some(host % 2);
            self.perform(Change::Own { host, by }).await;
        }
    }

    /// Makes changes until all spaces together have made enough. Returns the time after which each was live.
    async fn run(mut self) -> (Vec<Duration>, Owned) {
        let mut times = Vec::new();
        while self.sequences.changes.fetch_add(1, Ordering::Relaxed) < CHANGES {
            let change = self.choose();
            times.push(self.perform(change).await);
            self.check_one().await;
        }
        let owned = self.owned();
        (times, owned)
    }

    fn choose(&mut self) -> Change {
        match self.rng.random_range(0..10) {
            0..=1 => Change::Replace(self.rng.random_range(0..2)),
            2 => Change::Swap,
            _ => {
                let host = self.rng.random_range(0..HOSTS);
                let owners = [None, Some(0), Some(1)];
                let now = self.owner(&self.host(host));
                let others: Vec<_> = owners.into_iter().filter(|by| *by != now).collect();
                let by = others[self.rng.random_range(0..others.len())];
                Change::Own { host, by }
            }
        }
    }

    /// Makes one change, and returns the time after which the router served it.
    async fn perform(&mut self, change: Change) -> Duration {
        let before = self.serving();
        let hosts: Vec<String> = match change {
            Change::Own { host, by } => {
                let host = self.host(host);
                self.own(&host, by).await;
                vec![host]
            }
            Change::Replace(at) => {
                self.end_instance(at).await;
                self.processes[at].place = self.free_place();
                self.begin_instance(at);
                self.report(at).await;
                self.hosts_of(&[at])
            }
            Change::Swap => {
                self.end_instance(0).await;
                self.end_instance(1).await;
                let [one, two] = &mut self.processes;
                std::mem::swap(&mut one.place, &mut two.place);
                self.begin_instance(0);
                self.begin_instance(1);
                self.report(0).await;
                self.report(1).await;
                self.hosts_of(&[0, 1])
            }
        };
        let answered = Instant::now();
        let what = format!("{change:?} of {}", self.name);
        wait_for(&what, async || {
            for host in &hosts {
                self.check(host, &before).await?;
            }
            Ok::<(), String>(())
        })
        .await;
        answered.elapsed()
    }

    /// Requests one host that did not change. It must be served, whatever happened to others.
    async fn check_one(&mut self) {
        let number = self.rng.random_range(0..HOSTS);
        let (host, before) = (self.host(number), self.serving());
        let seen = self.check(&host, &before).await;
        assert_eq!(seen, Ok(()), "a host that did not change");
    }

    /// Checks that the router serves what runs. An answer of an instance that had no part in the route is never right.
    async fn check(&mut self, host: &str, before: &BTreeMap<String, String>) -> Result<(), String> {
        let serving = self.serving();
        let (now, before) = (serving.get(host), before.get(host));
        let (status, body) = self.requests.get(host, "/").await;
        if status == 200 {
            assert!(
                [now, before].contains(&Some(&body)),
                "{host}: wrong instance {body}, wanted {now:?}, before {before:?}"
            );
        }
        let is_right = match now {
            Some(instance) => status == 200 && body == *instance,
            None => status != 200,
        };
        if !is_right {
            return Err(format!("{host}: {status} {body}, wanted {now:?}"));
        }
        // The router's own page shows also what a single request does not meet.
        let page = format!("/route?url={host}");
        let (_, page) = self.pages.get("router", &page).await;
        let view: Value = serde_json::from_str(&page).map_err(|error| error.to_string())?;
        let endpoints = view["endpoints"].as_array().into_iter().flatten();
        let found: Vec<_> = endpoints
            .map(|endpoint| endpoint["private_instance_id"].as_str().unwrap_or_default())
            .collect();
        let wanted: Vec<_> = now.into_iter().map(String::as_str).collect();
        if found == wanted {
            Ok(())
        } else {
            Err(format!("{host}: endpoints {found:?}, wanted {wanted:?}"))
        }
    }

    async fn own(&mut self, host: &str, by: Option<usize>) {
        let before = self.owner(host);
        let generation = self.sequences.generations.fetch_add(1, Ordering::Relaxed) + 1;
        let owner = by.map(|at| (at, generation));
        self.owners.insert(host.to_owned(), owner);
        for at in before.into_iter().chain(by) {
            let routes = self.owners.iter().filter_map(|(host, owner)| {
                let (_, generation) = owner.filter(|(owner, _)| *owner == at)?;
                Some((host.clone(), generation))
            });
            let routes: Vec<_> = routes.collect();
            self.cells.route(&self.processes[at].guid, routes).await;
        }
    }

    /// Ends the instance of a process: it serves no more, and its row is removed.
    async fn end_instance(&self, at: usize) {
        let process = &self.processes[at];
        self.places[process.place].leave();
        self.cells
            .remove_instance(&process.guid, &process.instance, self.cell)
            .await;
    }

    /// Begins an instance at the place of a process. The BBS does not know it yet.
    fn begin_instance(&mut self, at: usize) {
        self.instances += 1;
        let process = &mut self.processes[at];
        process.instance = format!("{}-{}", process.guid, self.instances);
        self.places[process.place].occupy(&process.instance, self.ca);
    }

    async fn report(&self, at: usize) {
        let process = &self.processes[at];
        let address = self.places[process.place].address;
        self.cells
            .start_instance(&process.guid, &process.instance, self.cell, address)
            .await;
    }

    fn free_place(&self) -> usize {
        let taken = [0, 1].map(|at| self.processes[at].place);
        let free = (0..self.places.len()).find(|place| !taken.contains(place));
        free.expect("three places have room for two instances")
    }

    fn host(&self, number: usize) -> String {
        let host = self.owners.keys().nth(number);
        host.expect("a space has six hosts").clone()
    }

    fn owner(&self, host: &str) -> Option<usize> {
        self.owners[host].map(|(at, _)| at)
    }

    fn hosts_of(&self, processes: &[usize]) -> Vec<String> {
        let owned = |host: &&String| {
            let owner = self.owner(host);
            owner.is_some_and(|at| processes.contains(&at))
        };
        self.owners.keys().filter(owned).cloned().collect()
    }

    /// Returns the instance that serves each host.
    fn serving(&self) -> BTreeMap<String, String> {
        let serving = self.owners.iter().filter_map(|(host, owner)| {
            let (at, _) = (*owner)?;
            Some((host.clone(), self.processes[at].instance.clone()))
        });
        serving.collect()
    }

    /// Returns the address and the instance of each host, as a router's table has them.
    fn owned(&self) -> Owned {
        let owned = self.owners.iter().filter_map(|(host, owner)| {
            let (at, _) = (*owner)?;
            let process = &self.processes[at];
            let address = self.places[process.place].address.to_string();
            Some((host.clone(), (address, process.instance.clone())))
        });
        owned.collect()
    }
}

/// The address and the instance of each host.
type Owned = BTreeMap<String, (String, String)>;

/// Returns the router's table. A host with several endpoints has them all in its row, which is then equal to no other.
async fn table(world: &World) -> Owned {
    let table = world.table().await;
    let rows = table.as_object().into_iter().flatten();
    let text = |endpoints: &[Value], key: &str| {
        let values = endpoints.iter().map(|row| row[key].as_str().unwrap_or("?"));
        values.collect::<Vec<_>>().join(" and ")
    };
    rows.filter_map(|(host, endpoints)| {
        let endpoints = endpoints.as_array().filter(|all| !all.is_empty())?;
        let address = text(endpoints, "address");
        let instance = text(endpoints, "server_cert_domain_san");
        Some((host.clone(), (address, instance)))
    })
    .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ten_thousand_changes_are_live_within_a_second_though_messages_are_lost() {
    let nats = Nats::start(free_port());
    nats.ready().await;
    let direct = Nats::config(nats.port());
    let lossy = LossyBus::start(&nats, FAULTS).await;
    let settings = Settings {
        register_interval: NEVER,
        stale_threshold: 3 * NEVER,
        ..Settings::default()
    };
    let world = World::on(nats, lossy.config(), settings).await;
    let (cells, sequences) = (Cells::start(&direct).await, Sequences::default());
    let mut spaces = Vec::new();
    for number in 0..SPACES {
        spaces.push(Space::new(number, &world, &cells, &sequences).await);
    }
    // An emitter that is new to a router has two seconds before it is asked, which are not measured.
    join_all(spaces.iter_mut().map(Space::begin)).await;

    let (mut times, mut runs) = (Vec::new(), Owned::new());
    for (of_space, owned) in join_all(spaces.into_iter().map(Space::run)).await {
        times.extend(of_space);
        runs.extend(owned);
    }
    wait_for("the table to be equal to what runs", async || {
        let table = table(&world).await;
        (table == runs).then_some(()).ok_or_else(|| {
            let more = table.iter().filter(|row| !runs.contains_key(row.0));
            let more: Vec<_> = more.collect();
            let other = runs
                .iter()
                .filter(|(host, at)| table.get(*host) != Some(at));
            format!("too much: {more:?}, other: {:?}", other.collect::<Vec<_>>())
        })
    })
    .await;

    assert_eq!(times.len() as u64, CHANGES);
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100];
    let (p50, p99, longest) = (at(50), at(99), at(100));
    let counts = lossy.counts();
    println!("live after p50 {p50:?}, p99 {p99:?}, at most {longest:?}; {counts:?}");
    assert!(counts.lost > CHANGES / 10 && counts.overtaken > CHANGES / 10);
    assert!(p99 <= LIVE, "p99 {p99:?}");
    assert!(longest <= LIVE_AT_LATEST, "at most {longest:?}");
}
