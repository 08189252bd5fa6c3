//! A garden in memory: containers are entries, and processes follow scripts.
//!
//! It replaces the machine in tests of the rep and of whole clusters. A process that no script matches runs until it is
//! signalled; health checks succeed at once. Like the real garden it outlives the rep that uses it: attach finds what was
//! started.

mod firewall;
mod script;

pub use script::Script;

use crate::wait::within;
use garden::api::{
    Capacity, Container, ContainerSpec, EgressRule, Exit, FirewallRule, Garden, GardenError,
    Metrics, NetIn, Output, Policy, Process, ProcessSpec, Signal,
};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};

type Matcher = Box<dyn Fn(&ProcessSpec) -> bool + Send + Sync>;

/// A simulated garden. It is cheap to clone: all clones are the same garden.
#[derive(Clone)]
pub struct SimGarden {
    state: Arc<Mutex<State>>,
    changes: watch::Sender<u64>,
    /// Whether the answers of lists are held back.
    lists_held: watch::Sender<bool>,
    /// The number of lists that have been made.
    lists_made: watch::Sender<u64>,
    /// The random numbers that decide how long each step of a call takes.
    jitter: Arc<Mutex<Option<StdRng>>>,
    /// The locks of containers, each held by the call that makes or destroys the container.
    turns: Arc<Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<()>>>>>,
    capacity: Capacity,
    cell_ip: Ipv4Addr,
}

impl std::fmt::Debug for SimGarden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimGarden")
            .field("handles", &self.handles())
            .finish_non_exhaustive()
    }
}

#[derive(Default)]
struct State {
    containers: BTreeMap<String, SimContainer>,
    scripts: Vec<(Matcher, Script)>,
    /// The reason with which the next create fails.
    refusal: Option<String>,
    created: u32,
    next_port: u16,
    repairs: u32,
    refused_packets: u64,
    /// The containers that were lost. The exits of their processes are never reported.
    lost: Vec<SimContainer>,
    policies: Vec<Policy>,
}

struct SimContainer {
    spec: ContainerSpec,
    ip: Ipv4Addr,
    net_in: Vec<NetIn>,
    files: BTreeMap<String, Vec<u8>>,
    processes: BTreeMap<String, SimProcess>,
    listeners: Vec<SocketAddr>,
}

struct SimProcess {
    spec: ProcessSpec,
    script: Script,
    exit: Option<Exit>,
    signals: Vec<Signal>,
    /// The output channel of the attached caller.
    output: Option<mpsc::Sender<Output>>,
    waiting: Vec<oneshot::Sender<Exit>>,
    unread: Vec<Output>,
}

impl Default for SimGarden {
    fn default() -> Self {
        Self::new(Capacity {
            memory_mb: 4096,
            disk_mb: 8192,
            containers: 100,
        })
    }
}

impl SimGarden {
    pub fn new(capacity: Capacity) -> Self {
        let state = State {
            next_port: 61001,
            ..State::default()
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            changes: watch::Sender::new(0),
            lists_held: watch::Sender::new(false),
            lists_made: watch::Sender::new(0),
            jitter: Arc::default(),
            turns: Arc::default(),
            capacity,
            cell_ip: Ipv4Addr::new(10, 0, 0, 1),
        }
    }

    /// Makes processes that `matcher` accepts follow `script`. The script that was added last is tried first.
    pub fn script(
        &self,
        matcher: impl Fn(&ProcessSpec) -> bool + Send + Sync + 'static,
        script: Script,
    ) {
        self.lock().scripts.insert(0, (Box::new(matcher), script));
    }

    /// Makes the next create fail.
    pub fn refuse_create(&self, reason: &str) {
        self.lock().refusal = Some(reason.to_owned());
    }

    pub fn handles(&self) -> Vec<String> {
        self.lock().containers.keys().cloned().collect()
    }

    pub fn spec(&self, handle: &str) -> Option<ContainerSpec> {
        self.lock().containers.get(handle).map(|c| c.spec.clone())
    }

    /// Returns the spec of the process that was started with this id.
    pub fn process(&self, handle: &str, id: &str) -> Option<ProcessSpec> {
        self.lock()
            .containers
            .get(handle)?
            .processes
            .get(id)
            .map(|p| p.spec.clone())
    }

    /// Returns the ids of the processes that were started, with their exits.
    pub fn processes(&self, handle: &str) -> BTreeMap<String, Option<Exit>> {
        self.lock()
            .containers
            .get(handle)
            .map(SimContainer::exits)
            .unwrap_or_default()
    }

    pub fn signals(&self, handle: &str, id: &str) -> Vec<Signal> {
        let state = self.lock();
        state
            .containers
            .get(handle)
            .and_then(|c| c.processes.get(id))
            .map(|p| p.signals.clone())
            .unwrap_or_default()
    }

    /// Ends a running process.
    pub fn exit(&self, handle: &str, id: &str, exit: Exit) {
        if let Some(process) = self
            .lock()
            .containers
            .get_mut(handle)
            .and_then(|c| c.processes.get_mut(id))
        {
            process.end(exit);
        }
        self.changed();
    }

    /// Writes output of a process.
    pub fn print(&self, handle: &str, id: &str, output: Output) {
        if let Some(process) = self
            .lock()
            .containers
            .get_mut(handle)
            .and_then(|c| c.processes.get_mut(id))
        {
            process.print(output);
        }
    }

    pub fn write_file(&self, handle: &str, path: &str, content: &[u8]) {
        if let Some(container) = self.lock().containers.get_mut(handle) {
            container.files.insert(path.to_owned(), content.to_vec());
        }
    }

    /// Waits until `condition` holds. It is evaluated again after every change.
    pub async fn wait_for<T>(
        &self,
        what: &str,
        mut condition: impl FnMut(&Self) -> Option<T>,
    ) -> T {
        let mut changes = self.changes.subscribe();
        let wait = async {
            loop {
                changes.borrow_and_update();
                if let Some(found) = condition(self) {
                    return found;
                }
                // The wait cannot fail, because the sender lives in `self`.
                let _ = changes.changed().await;
            }
        };
        within(what, wait).await
    }

    /// Makes every call take some milliseconds before and after its effect from now on, as this seed decides.
    pub fn jitter(&self, seed: u64) {
        *self.jitter.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(StdRng::seed_from_u64(seed));
    }

    /// Holds back the answers of lists until [`Self::answer_lists`]; they are then answered as they were made. Waits until one is
    /// held.
    pub async fn hold_lists(&self) {
        let mut made = self.lists_made.subscribe();
        let before = *made.borrow_and_update();
        self.lists_held.send_replace(true);
        // The wait cannot fail, because the sender lives in `self`.
        let _ = within("a list", made.wait_for(|made| *made > before)).await;
    }

    pub fn answer_lists(&self) {
        self.lists_held.send_replace(false);
    }

    /// Returns how often the firewall was compared.
    pub fn repairs(&self) -> u32 {
        self.lock().repairs
    }

    /// Sets the number of packets that the limits of every container have refused so far.
    pub fn refuse_packets(&self, packets: u64) {
        self.lock().refused_packets = packets;
    }

    /// Sets the addresses on which the container's processes listen from now on.
    pub fn listen(&self, handle: &str, listeners: &[SocketAddr]) {
        if let Some(container) = self.lock().containers.get_mut(handle) {
            container.listeners = listeners.to_vec();
        }
    }

    /// Waits for this number of further lists, made after this call.
    pub async fn wait_for_lists(&self, more: u64) {
        let mut made = self.lists_made.subscribe();
        let enough = *made.borrow_and_update() + more;
        // The wait cannot fail, because the sender lives in `self`.
        let _ = within("further lists", made.wait_for(|made| *made >= enough)).await;
    }

    /// Ends the watcher of the container, so that the exits of its processes are no longer delivered.
    pub fn kill_watcher(&self, handle: &str) {
        if let Some(container) = self.lock().containers.get_mut(handle) {
            for process in container.processes.values_mut() {
                process.output = None;
                process.waiting.clear();
            }
        }
        self.changed();
    }

    /// Removes a container, as when it is killed from outside.
    pub fn destroy_from_outside(&self, handle: &str) {
        let mut state = self.lock();
        let lost = state.containers.remove(handle);
        state.lost.extend(lost);
        drop(state);
        self.changed();
    }

    async fn pause(&self) {
        let millis = {
            let mut jitter = self.jitter.lock().unwrap_or_else(PoisonError::into_inner);
            jitter.as_mut().map(|rng| rng.random_range(0..25))
        };
        if let Some(millis) = millis {
            tokio::time::sleep(Duration::from_millis(millis)).await;
        }
    }

    async fn turn(&self, handle: &str) -> tokio::sync::OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            turns.entry(handle.to_owned()).or_default().clone()
        };
        turn.lock_owned().await
    }

    fn changed(&self) {
        self.changes.send_modify(|n| *n += 1);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn container(&mut self, handle: &str) -> Result<&mut SimContainer, GardenError> {
        self.containers
            .get_mut(handle)
            .ok_or_else(|| GardenError::ContainerNotFound(handle.to_owned()))
    }

    fn process(&mut self, handle: &str, id: &str) -> Result<&mut SimProcess, GardenError> {
        let missing = || GardenError::ProcessNotFound {
            handle: handle.to_owned(),
            process: id.to_owned(),
        };
        self.container(handle)?
            .processes
            .get_mut(id)
            .ok_or_else(missing)
    }

    fn script_of(&self, spec: &ProcessSpec) -> Script {
        let health_check = spec
            .args
            .iter()
            .any(|a| a.starts_with("-startup-interval") || a.starts_with("-until-ready-interval"));
        let scripted = self
            .scripts
            .iter()
            .find(|(matcher, _)| matcher(spec))
            .map(|(_, script)| script.clone());
        scripted.unwrap_or_else(|| {
            if health_check {
                Script::exits(0)
            } else {
                Script::runs()
            }
        })
    }
}

impl SimContainer {
    fn exits(&self) -> BTreeMap<String, Option<Exit>> {
        self.processes
            .iter()
            .map(|(id, p)| (id.clone(), p.exit))
            .collect()
    }

    fn listed(&self) -> Container {
        Container {
            handle: self.spec.handle.clone(),
            container_ip: self.ip,
            net_in: self.net_in.clone(),
            properties: self.spec.properties.clone(),
            processes: self.exits(),
        }
    }
}

impl SimProcess {
    fn attach(&mut self, id: &str) -> Process {
        let (sender, output) = mpsc::channel(1024);
        let (exit_sender, exit) = oneshot::channel();
        for unread in self.unread.drain(..) {
            let _ = sender.try_send(unread);
        }
        match self.exit {
            Some(ended) => drop(exit_sender.send(ended)),
            None => {
                self.output = Some(sender);
                self.waiting.push(exit_sender);
            }
        }
        Process {
            id: id.to_owned(),
            output,
            exit,
        }
    }

    fn print(&mut self, output: Output) {
        let unsent = match &self.output {
            Some(sender) => sender
                .try_send(output)
                .err()
                .map(|error| error.into_inner()),
            None => Some(output),
        };
        self.unread.extend(unsent);
    }

    fn end(&mut self, exit: Exit) {
        if self.exit.is_none() {
            self.exit = Some(exit);
            self.output = None;
            for waiting in self.waiting.drain(..) {
                let _ = waiting.send(exit);
            }
        }
    }

    fn signal(&mut self, signal: Signal) {
        self.signals.push(signal);
        let status = match signal {
            Signal::Term => self.script.on_term,
            Signal::Kill => Some(137),
        };
        if let Some(status) = status {
            self.end(Exit {
                status,
                out_of_memory: false,
            });
        }
    }
}

#[async_trait::async_trait]
impl Garden for SimGarden {
    async fn set_policies(&self, policies: Vec<Policy>) -> Result<(), GardenError> {
        self.lock().policies = policies;
        self.changes.send_modify(|version| *version += 1);
        Ok(())
    }

    async fn create(&self, spec: ContainerSpec) -> Result<Container, GardenError> {
        let _turn = self.turn(&spec.handle).await;
        self.pause().await;
        let listed = {
            let mut state = self.lock();
            if let Some(reason) = state.refusal.take() {
                return Err(GardenError::Other(anyhow::anyhow!(reason)));
            }
            if state.containers.contains_key(&spec.handle) {
                return Err(GardenError::ContainerExists(spec.handle));
            }
            state.created += 1;
            // No server listens at these addresses, and a cell's connections to them do not leave this machine.
            let ip = Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 255, 0, 1)) + state.created);
            let mut net_in = Vec::new();
            for asked in &spec.net_in {
                let host_port = if asked.host_port == 0 {
                    state.next_port
                } else {
                    asked.host_port
                };
                state.next_port += 1;
                net_in.push(NetIn {
                    host_port,
                    container_port: asked.container_port,
                });
            }
            let container = SimContainer {
                ip,
                net_in,
                files: BTreeMap::new(),
                processes: BTreeMap::new(),
                listeners: Vec::new(),
                spec,
            };
            let listed = container.listed();
            state.containers.insert(listed.handle.clone(), container);
            listed
        };
        self.changed();
        self.pause().await;
        Ok(listed)
    }

    async fn containers(&self) -> Result<Vec<Container>, GardenError> {
        self.pause().await;
        let listed: Vec<Container> = self
            .lock()
            .containers
            .values()
            .map(SimContainer::listed)
            .collect();
        let mut held = self.lists_held.subscribe();
        self.lists_made.send_modify(|made| *made += 1);
        // The wait cannot fail, because the sender lives in `self`.
        let _ = held.wait_for(|held| !held).await;
        self.pause().await;
        Ok(listed)
    }

    async fn run(&self, handle: &str, spec: ProcessSpec) -> Result<Process, GardenError> {
        let process = {
            let mut state = self.lock();
            let script = state.script_of(&spec);
            let container = state.container(handle)?;
            if container.processes.contains_key(&spec.id) {
                return Err(GardenError::CannotExecute {
                    path: spec.path,
                    reason: format!("process {} exists already", spec.id),
                });
            }
            let id = spec.id.clone();
            let mut process = SimProcess {
                spec,
                script: script.clone(),
                exit: None,
                signals: Vec::new(),
                output: None,
                waiting: Vec::new(),
                unread: Vec::new(),
            };
            process.unread.extend(script.output);
            let attached = process.attach(&id);
            if let Some(status) = script.exit {
                process.end(Exit {
                    status,
                    out_of_memory: false,
                });
            }
            container.processes.insert(id, process);
            attached
        };
        self.changed();
        Ok(process)
    }

    async fn attach(&self, handle: &str, process_id: &str) -> Result<Process, GardenError> {
        Ok(self.lock().process(handle, process_id)?.attach(process_id))
    }

    async fn signal(
        &self,
        handle: &str,
        process_id: &str,
        signal: Signal,
    ) -> Result<(), GardenError> {
        self.lock().process(handle, process_id)?.signal(signal);
        self.changed();
        Ok(())
    }

    async fn destroy(&self, handle: &str) -> Result<(), GardenError> {
        let _turn = self.turn(handle).await;
        self.pause().await;
        if let Some(mut container) = self.lock().containers.remove(handle) {
            container.processes.values_mut().for_each(|p| {
                p.end(Exit {
                    status: 137,
                    out_of_memory: false,
                })
            });
        }
        self.changed();
        Ok(())
    }

    async fn set_properties(
        &self,
        handle: &str,
        properties: BTreeMap<String, String>,
    ) -> Result<(), GardenError> {
        self.lock()
            .container(handle)?
            .spec
            .properties
            .extend(properties);
        self.changed();
        Ok(())
    }

    /// Stores the archive itself as a file named after the directory.
    async fn stream_in(
        &self,
        handle: &str,
        directory: &str,
        user: &str,
        tar: PathBuf,
    ) -> Result<(), GardenError> {
        let content = std::fs::read(&tar).map_err(anyhow::Error::from)?;
        self.lock()
            .container(handle)?
            .files
            .insert(from_home(user, directory), content);
        self.changed();
        Ok(())
    }

    async fn read_file(
        &self,
        handle: &str,
        path: &str,
        limit: u64,
    ) -> Result<Vec<u8>, GardenError> {
        let mut state = self.lock();
        let content = state
            .container(handle)?
            .files
            .get(path)
            .ok_or_else(|| anyhow::anyhow!("{path}: no such file"))?;
        Ok(content
            .iter()
            .copied()
            .take(usize::try_from(limit).unwrap_or(usize::MAX))
            .collect())
    }

    /// Makes a tar that contains the one file (ustar, written by hand: a header block, the content, two empty blocks).
    async fn stream_out(
        &self,
        handle: &str,
        path: &str,
        user: &str,
        tar: PathBuf,
    ) -> Result<(), GardenError> {
        let path = &from_home(user, path);
        let content = self.read_file(handle, path, u64::MAX).await?;
        let name = path.rsplit('/').next().unwrap_or_default();
        std::fs::write(&tar, one_file_tar(name, &content)).map_err(anyhow::Error::from)?;
        Ok(())
    }

    async fn set_egress(&self, handle: &str, rules: Vec<EgressRule>) -> Result<(), GardenError> {
        self.lock().container(handle)?.spec.egress = rules;
        self.changed();
        Ok(())
    }

    async fn repair(&self) -> Result<Vec<String>, GardenError> {
        self.lock().repairs += 1;
        self.changed();
        Ok(Vec::new())
    }

    /// Returns the rules as the real garden makes them, without packets.
    async fn firewall(&self, handle: &str) -> Result<Vec<FirewallRule>, GardenError> {
        let listed = self.lock().container(handle)?.listed();
        Ok(firewall::rules(&listed, self.cell_ip))
    }

    async fn listeners(&self, handle: &str) -> Result<Vec<SocketAddr>, GardenError> {
        Ok(self.lock().container(handle)?.listeners.clone())
    }

    async fn metrics(&self, handle: &str) -> Result<Metrics, GardenError> {
        let mut state = self.lock();
        let limits = state.container(handle)?.spec.limits.clone();
        Ok(Metrics {
            memory: 1 << 20,
            memory_limit: limits.memory,
            disk: 1 << 10,
            disk_limit: limits.disk,
            cpu: 1000,
            age: 2000,
            rx_bytes: 1,
            tx_bytes: 2,
            refused_packets: state.refused_packets,
        })
    }

    fn capacity(&self) -> Capacity {
        self.capacity
    }

    fn cell_ip(&self) -> Ipv4Addr {
        self.cell_ip
    }
}

fn from_home(user: &str, path: &str) -> String {
    match path.starts_with('/') {
        true => path.to_owned(),
        false => format!("/home/{user}/{path}"),
    }
}

fn one_file_tar(name: &str, content: &[u8]) -> Vec<u8> {
    const BLOCK: usize = 512;
    let mut header = [0u8; BLOCK];
    let mut put =
        |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(100, "0000644\0");
    put(108, "0000000\0");
    put(116, "0000000\0");
    put(124, &format!("{:011o}\0", content.len()));
    put(136, "00000000000\0");
    put(148, "        ");
    put(156, "0");
    put(257, "ustar\x0000");
    let sum: u32 = header.iter().map(|b| u32::from(*b)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut tar = header.to_vec();
    tar.extend_from_slice(content);
    tar.resize(tar.len().next_multiple_of(BLOCK) + 2 * BLOCK, 0);
    tar
}
