//! The interface between the rep (what should run) and garden (how it runs on this machine).
//!
//! A container outlives the process that made it: its shim keeps the processes, their output and exit statuses until somebody
//! attaches. After a restart [`Garden::containers`] lists what still exists, with its properties.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use tokio::sync::mpsc;

/// The operations on containers. The Linux garden and testkit's simulated one implement them.
#[async_trait::async_trait]
pub trait Garden: Send + Sync + 'static {
    /// Creates the whole container: root file system, network, firewall, limits and init, but no app process yet. If it fails,
    /// nothing is left behind.
    async fn create(&self, spec: ContainerSpec) -> Result<Container, GardenError>;
    /// Returns every container that exists, including those made before a restart.
    async fn containers(&self) -> Result<Vec<Container>, GardenError>;
    /// Starts a process in the container; its id is unique there. Returns once it has been executed.
    async fn run(&self, handle: &str, spec: ProcessSpec) -> Result<Process, GardenError>;
    /// Attaches to a process that [`Self::run`] started, perhaps before a restart. Output that nobody read is kept (the newest 64
    /// KiB per stream). An exit that already happened is delivered at once.
    async fn attach(&self, handle: &str, process_id: &str) -> Result<Process, GardenError>;
    /// Sends a signal to the process (not to its children).
    async fn signal(
        &self,
        handle: &str,
        process_id: &str,
        signal: Signal,
    ) -> Result<(), GardenError>;
    /// Kills the container's processes and removes everything of it. An unknown handle is no error (idempotent). If the container
    /// is being made, the call waits for that and then removes it: nothing of it appears afterwards.
    async fn destroy(&self, handle: &str) -> Result<(), GardenError>;
    /// Sets properties; they survive a restart.
    async fn set_properties(
        &self,
        handle: &str,
        properties: BTreeMap<String, String>,
    ) -> Result<(), GardenError>;
    /// Unpacks a tar stream into a directory of the container, which is created if missing. The files are owned by `user`. A
    /// relative directory starts at the user's home.
    async fn stream_in(
        &self,
        handle: &str,
        directory: &str,
        user: &str,
        tar: PathBuf,
    ) -> Result<(), GardenError>;
    /// Reads one file of the container in its present state, at most `limit` bytes.
    async fn read_file(&self, handle: &str, path: &str, limit: u64)
    -> Result<Vec<u8>, GardenError>;
    /// Copies one file or directory of the container to a tar file on the host. A relative path starts at the user's home.
    async fn stream_out(
        &self,
        handle: &str,
        path: &str,
        user: &str,
        tar: PathBuf,
    ) -> Result<(), GardenError>;
    /// Replaces the container's egress rules. Connections that are not permitted any more end.
    async fn set_egress(&self, handle: &str, rules: Vec<EgressRule>) -> Result<(), GardenError>;
    /// Compares the firewall rules of the cell and of all containers with the rules on the machine, and restores what is missing,
    /// changed or out of order. Returns the names of what was repaired. The call is cheap when nothing is wrong.
    async fn repair(&self) -> Result<Vec<String>, GardenError>;
    /// Returns the rules that are on the machine now and decide about packets to the container's mapped ports, with their
    /// counters: the container's translations, the jumps to them, and rules of other programs before the cell's own.
    async fn firewall(&self, handle: &str) -> Result<Vec<FirewallRule>, GardenError>;
    /// Returns the TCP addresses on which processes of the container listen.
    async fn listeners(&self, handle: &str) -> Result<Vec<SocketAddr>, GardenError>;
    /// Replaces all network policies of the cell. They survive a restart, and containers that are made later obey them too.
    async fn set_policies(&self, policies: Vec<Policy>) -> Result<(), GardenError>;
    /// Returns the current resource usage of the container.
    async fn metrics(&self, handle: &str) -> Result<Metrics, GardenError>;
    /// Returns the resources that this machine offers.
    fn capacity(&self) -> Capacity;
    /// Returns the cell's address, on which mapped ports are reached.
    fn cell_ip(&self) -> Ipv4Addr;
}

#[derive(Clone, Debug, Default)]
pub struct ContainerSpec {
    /// The unique name. For an LRP it is the instance guid, for a task the task guid.
    pub handle: String,
    /// The root file system: `preloaded:<stack>` or a directory.
    pub rootfs: String,
    /// The environment of every process.
    pub env: Vec<(String, String)>,
    pub limits: Limits,
    /// The mapped ports. Host port 0 lets garden choose one. The order is kept.
    pub net_in: Vec<NetIn>,
    pub egress: Vec<EgressRule>,
    pub bind_mounts: Vec<BindMount>,
    pub properties: BTreeMap<String, String>,
    /// The host name inside the container. It is cut to the length that the kernel allows.
    pub hostname: String,
    pub privileged: bool,
}

#[derive(Clone, Debug, Default)]
pub struct Limits {
    /// The memory limit of the app in bytes; 0 means no limit.
    pub memory: u64,
    /// The memory limit of all sidecars together (proxy, health checks) in bytes; 0 means no limit.
    pub sidecar_memory: u64,
    /// The size limit of the writable layer in bytes; 0 means no limit.
    pub disk: u64,
    /// The CPU shares on the scale of cgroup v1 (1024 is one full share); 0 means the default.
    pub cpu_shares: u64,
    /// The limit of processes and threads; 0 means the cell's default.
    pub pids: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetIn {
    pub host_port: u16,
    pub container_port: u16,
}

/// A rule of the machine's firewall.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirewallRule {
    /// The table: `nat`, `filter`, `raw` or `mangle`.
    pub table: &'static str,
    /// The rule with its chain, as `iptables -S` prints it.
    pub rule: String,
    /// The number of packets that it has matched.
    pub packets: u64,
}

/// An egress permission of a security group, validated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EgressRule {
    pub protocol: Protocol,
    /// The permitted addresses as inclusive ranges.
    pub destinations: Vec<(Ipv4Addr, Ipv4Addr)>,
    /// The permitted ports as inclusive ranges (tcp and udp only); empty means all ports.
    pub ports: Vec<(u16, u16)>,
    /// The ICMP type and code (icmp only); -1 means any.
    pub icmp: Option<(i32, i32)>,
    pub log: bool,
}

/// The property of a container that names its group for network policies: the app's guid.
pub const POLICY_GROUP: &str = "network.policy_group_id";

/// A network policy: containers of one group may connect to containers of another on these ports. Without a policy they may not.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Policy {
    pub source: String,
    /// The number of the source, never 0. It is the same in all policies of the source on all cells, and no other group has it.
    pub source_tag: u32,
    pub destination: String,
    pub protocol: PolicyProtocol,
    /// The permitted ports as an inclusive range.
    pub ports: (u16, u16),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum PolicyProtocol {
    Tcp,
    Udp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Tcp,
    Udp,
    Icmp,
    All,
}

#[derive(Clone, Debug)]
pub struct BindMount {
    pub host: PathBuf,
    pub container: String,
    pub read_only: bool,
}

#[derive(Clone, Debug)]
pub struct Container {
    pub handle: String,
    /// The overlay IP.
    pub container_ip: Ipv4Addr,
    /// The mapped ports with the chosen host ports, in the order of the request.
    pub net_in: Vec<NetIn>,
    pub properties: BTreeMap<String, String>,
    /// The ids of the processes started in it. A process that has ended has its exit.
    pub processes: BTreeMap<String, Option<Exit>>,
}

#[derive(Clone, Debug, Default)]
pub struct ProcessSpec {
    pub id: String,
    /// The program: an absolute path, or a name that is looked up in the container's PATH.
    pub path: String,
    pub args: Vec<String>,
    /// The variables that are added to the container's. If a name occurs twice, the last one wins.
    pub env: Vec<(String, String)>,
    /// The working directory; empty means the user's home.
    pub dir: String,
    /// The user, by name or number; empty means vcap.
    pub user: String,
    /// The limit of open files. 0 means the default (16384, never above the machine's limit).
    pub nofile: u64,
    /// Whether the process is a sidecar (proxy, health check). Its memory counts against the sidecars' limit, not the app's.
    pub sidecar: bool,
}

/// A running (or ended) process: its output and its exit.
#[derive(Debug)]
pub struct Process {
    pub id: String,
    /// The output in chunks as they arrive, not in lines. The channel is closed after both streams have ended.
    pub output: mpsc::Receiver<Output>,
    /// The exit. The channel is closed without an exit if the process that watches the container has ended.
    pub exit: tokio::sync::oneshot::Receiver<Exit>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    Stdout(bytes::Bytes),
    Stderr(bytes::Bytes),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Exit {
    /// The exit status; 128 + signal if a signal ended the process.
    pub status: i32,
    /// Whether the kernel killed a process of the same group (app or sidecars) for lack of memory while this one ran.
    pub out_of_memory: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    Term,
    Kill,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Metrics {
    /// The memory of the app in bytes, without page cache that can be reclaimed.
    pub memory: u64,
    pub memory_limit: u64,
    /// The bytes used in the writable layer.
    pub disk: u64,
    pub disk_limit: u64,
    /// The CPU time in nanoseconds since the container began.
    pub cpu: u64,
    /// The age of the container in nanoseconds.
    pub age: u64,
    pub rx_bytes: u64,
    pub tx_bytes: u64,
    /// The number of packets that the container's limits of connections and packets have refused.
    pub refused_packets: u64,
}

#[derive(Clone, Copy, Debug)]
pub struct Capacity {
    pub memory_mb: u64,
    pub disk_mb: u64,
    pub containers: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum GardenError {
    #[error("container {0} does not exist")]
    ContainerNotFound(String),
    #[error("container {0} exists already")]
    ContainerExists(String),
    #[error("process {process} does not exist in container {handle}")]
    ProcessNotFound { handle: String, process: String },
    /// The shim has ended, so the exits of its processes cannot be known any more.
    #[error("the process that watches over container {0} has ended (was it killed?)")]
    WatcherGone(String),
    #[error("root file system {0:?} is unknown on this cell")]
    UnknownRootfs(String),
    #[error("no host port is free")]
    NoPorts,
    #[error("no overlay address is free")]
    NoAddresses,
    #[error("{path}: {reason}")]
    CannotExecute { path: String, reason: String },
    #[error("{0:#}")]
    Other(#[from] anyhow::Error),
}
