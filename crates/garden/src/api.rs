//! The seam between rep (what should run) and garden (how it runs on this machine).
//!
//! A container outlives the process that made it: its shim keeps the processes, their output and exit statuses until
//! somebody attaches. After a restart [`Garden::containers`] lists what is still there, with its properties.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use tokio::sync::mpsc;

/// Implemented by the Linux garden and by testkit's simulated one.
#[async_trait::async_trait]
pub trait Garden: Send + Sync + 'static {
    /// Makes the whole container: root file system, network, firewall, limits, init; no app process yet. On error nothing is left.
    async fn create(&self, spec: ContainerSpec) -> Result<Container, GardenError>;
    /// Every container that exists, also those made before a restart.
    async fn containers(&self) -> Result<Vec<Container>, GardenError>;
    /// Starts a process in the container; its id is unique there. Returns once it has been executed.
    async fn run(&self, handle: &str, spec: ProcessSpec) -> Result<Process, GardenError>;
    /// Attaches to a process that [`Self::run`] started, perhaps before a restart. Output that nobody read is kept
    /// (newest 64 KiB per stream); an exit that already happened is delivered at once.
    async fn attach(&self, handle: &str, process_id: &str) -> Result<Process, GardenError>;
    /// Sends a signal to the process (not to its children).
    async fn signal(
        &self,
        handle: &str,
        process_id: &str,
        signal: Signal,
    ) -> Result<(), GardenError>;
    /// Removes everything of the container, killing what runs; unknown handles are fine (idempotent). A container that is
    /// being made is made first, then removed: nothing of it comes into being afterwards.
    async fn destroy(&self, handle: &str) -> Result<(), GardenError>;
    /// Sets properties; they survive a restart.
    async fn set_properties(
        &self,
        handle: &str,
        properties: BTreeMap<String, String>,
    ) -> Result<(), GardenError>;
    /// Unpacks a tar stream into a directory of the container (made if missing), owned by `user`. A relative directory starts
    /// at the user's home.
    async fn stream_in(
        &self,
        handle: &str,
        directory: &str,
        user: &str,
        tar: PathBuf,
    ) -> Result<(), GardenError>;
    /// Reads one file of the container as it stands there, at most `limit` bytes.
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
    /// Replaces what the container may reach; connections that are not permitted any more end.
    async fn set_egress(&self, handle: &str, rules: Vec<EgressRule>) -> Result<(), GardenError>;
    /// Compares the cell's and all containers' firewall rules with what stands on the machine, and brings back what is missing,
    /// changed or out of order. Returns the names of what was repaired. Cheap when nothing is wrong.
    async fn repair(&self) -> Result<Vec<String>, GardenError>;
    /// The TCP addresses that processes of the container listen on.
    async fn listeners(&self, handle: &str) -> Result<Vec<SocketAddr>, GardenError>;
    /// Makes these the only network policies of the cell; they survive a restart. Containers that are made later obey them, too.
    async fn set_policies(&self, policies: Vec<Policy>) -> Result<(), GardenError>;
    /// Use of resources now.
    async fn metrics(&self, handle: &str) -> Result<Metrics, GardenError>;
    /// What this machine can give.
    fn capacity(&self) -> Capacity;
    /// The cell's address: where mapped ports are reached.
    fn cell_ip(&self) -> Ipv4Addr;
}

#[derive(Clone, Debug, Default)]
pub struct ContainerSpec {
    /// Unique name; for an LRP its instance guid, for a task its task guid.
    pub handle: String,
    /// `preloaded:<stack>` or a directory.
    pub rootfs: String,
    /// Of every process.
    pub env: Vec<(String, String)>,
    pub limits: Limits,
    /// Host port 0: choose one. Order is kept.
    pub net_in: Vec<NetIn>,
    pub egress: Vec<EgressRule>,
    pub bind_mounts: Vec<BindMount>,
    pub properties: BTreeMap<String, String>,
    /// Host name inside; cut to what the kernel takes.
    pub hostname: String,
    pub privileged: bool,
}

#[derive(Clone, Debug, Default)]
pub struct Limits {
    /// Bytes of the app; 0: no limit.
    pub memory: u64,
    /// Bytes of all sidecars together (proxy, health checks); 0: no limit.
    pub sidecar_memory: u64,
    /// Bytes of the writable layer; 0: no limit.
    pub disk: u64,
    /// cgroup v1 shares scale (1024 = one full share); 0: default.
    pub cpu_shares: u64,
    /// Processes and threads; 0: the cell's default.
    pub pids: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetIn {
    pub host_port: u16,
    pub container_port: u16,
}

/// An egress permission of a security group, validated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EgressRule {
    pub protocol: Protocol,
    /// Inclusive ranges.
    pub destinations: Vec<(Ipv4Addr, Ipv4Addr)>,
    /// Inclusive ranges; empty: all (tcp and udp only).
    pub ports: Vec<(u16, u16)>,
    /// Type and code, -1 for any (icmp only).
    pub icmp: Option<(i32, i32)>,
    pub log: bool,
}

/// The property of a container that names its group for network policies: the app's guid.
pub const POLICY_GROUP: &str = "network.policy_group_id";

/// Containers of one group may connect to containers of another on these ports. Without a policy they may not.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Policy {
    pub source: String,
    /// The source's number, never 0; the same in all its policies, on all cells, and no other group's.
    pub source_tag: u32,
    pub destination: String,
    pub protocol: PolicyProtocol,
    /// Inclusive.
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
    /// Overlay IP.
    pub container_ip: Ipv4Addr,
    /// With the host ports chosen; same order as asked.
    pub net_in: Vec<NetIn>,
    pub properties: BTreeMap<String, String>,
    /// Ids of the processes started in it, with their exit if they ended.
    pub processes: BTreeMap<String, Option<Exit>>,
}

#[derive(Clone, Debug, Default)]
pub struct ProcessSpec {
    pub id: String,
    /// Absolute, or found in the container's PATH.
    pub path: String,
    pub args: Vec<String>,
    /// Added to the container's; later wins.
    pub env: Vec<(String, String)>,
    /// Empty: the user's home.
    pub dir: String,
    /// Name or number; empty: vcap.
    pub user: String,
    /// 0: default (16384, never above the machine's limit).
    pub nofile: u64,
    /// Memory of this process is not the app's (sidecar proxy, health check): it counts against the sidecars' limit.
    pub sidecar: bool,
}

/// A running (or ended) process: its output and its exit.
#[derive(Debug)]
pub struct Process {
    pub id: String,
    /// Chunks as they come, not lines; closed after both streams ended.
    pub output: mpsc::Receiver<Output>,
    /// Closed without an exit when whoever watches over the container has ended.
    pub exit: tokio::sync::oneshot::Receiver<Exit>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    Stdout(bytes::Bytes),
    Stderr(bytes::Bytes),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Exit {
    /// Exit status; 128 + signal when a signal ended it.
    pub status: i32,
    /// The kernel killed something of the process's group (app or sidecars) for want of memory while it ran.
    pub out_of_memory: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    Term,
    Kill,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Metrics {
    /// Bytes of the app, without page cache that can be given back.
    pub memory: u64,
    pub memory_limit: u64,
    /// Bytes of the writable layer.
    pub disk: u64,
    pub disk_limit: u64,
    /// Nanoseconds of CPU since the container began.
    pub cpu: u64,
    /// Nanoseconds since the container began.
    pub age: u64,
    pub rx_bytes: u64,
    pub tx_bytes: u64,
    /// Packets that the container's limits of connections and packets have refused.
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
    /// How its processes end cannot be known any more.
    #[error("the process that watches over container {0} has ended (was it killed?)")]
    WatcherGone(String),
    #[error("root file system {0:?} is not known here")]
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
