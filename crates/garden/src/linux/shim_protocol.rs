//! What garden and a container's shim say to each other. This one file is compiled into both programs.
//!
//! Garden starts `inside shim SETUP_FILE`; the shim answers with one line of JSON ([`Ready`]) on stdout. From then on it
//! serves a Unix socket: the client sends one [`Request`] frame and gets a [`Reply`] frame; after a successful `Run` or
//! `Attach` frames with output and at last the exit follow.
//!
//! A frame is one byte of kind, four bytes of length (big endian), and that many bytes.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

pub(crate) const REQUEST: u8 = 0;
pub(crate) const REPLY: u8 = 1;
pub(crate) const STDOUT: u8 = 2;
pub(crate) const STDERR: u8 = 3;
pub(crate) const EXIT: u8 = 4;

pub(crate) const FRAME_HEADER: usize = 5;
/// No frame is longer; a longer one is an error of the peer.
pub(crate) const MAX_FRAME: usize = 4 << 20;

/// Everything the shim needs to make the container; nothing is looked up elsewhere.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Setup {
    /// crun's name for the container.
    pub key: String,
    /// The container's folder: bundle, disk, records.
    pub dir: PathBuf,
    /// Where the root file system is mounted, in the shim's own mount namespace.
    pub root: PathBuf,
    pub socket: PathBuf,
    pub crun: PathBuf,
    pub crun_root: PathBuf,
    /// The stack, id-mapped, read-only.
    pub lower: PathBuf,
    /// Bytes of the writable layer; 0: no limit of its own.
    pub disk: u64,
    /// The host id of the container's root.
    pub base_id: u32,
    /// Absolute path and content of files that differ from the stack's.
    pub files: Vec<(String, String)>,
    pub binds: Vec<Bind>,
    /// The `cgroup.procs` files that a process of the app, or of a sidecar, is written to.
    pub app_cgroups: Vec<PathBuf>,
    pub sidecar_cgroups: Vec<PathBuf>,
    /// The file whose line `oom_kill N` counts what the kernel killed for want of memory.
    pub oom_counter: Option<PathBuf>,
    /// The same for sidecars.
    #[serde(default)]
    pub sidecar_oom_counter: Option<PathBuf>,
    /// Names under `/proc/sys/user` and their values in the container's user namespace.
    #[serde(default)]
    pub user_limits: Vec<(String, u64)>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Bind {
    pub host: PathBuf,
    pub container: String,
    pub read_only: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Ready {
    /// The container's init runs; its id on the host.
    Pid(i32),
    Failed(String),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    Run(Run),
    Attach {
        id: String,
    },
    Signal {
        id: String,
        signal: i32,
    },
    State,
    /// Kill everything, unmount, end.
    Stop,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Run {
    pub id: String,
    /// An OCI process, as a file on the host.
    pub process: PathBuf,
    pub sidecar: bool,
    /// Files on the host in the place of the null device and the kept output.
    pub stdin: Option<PathBuf>,
    pub stdout: Option<PathBuf>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    Done,
    State(State),
    UnknownProcess,
    /// The program could not be executed.
    CannotExecute(String),
    Failed(String),
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct State {
    pub init: i32,
    /// Set when the container's init has ended, and all its processes with it.
    pub init_status: Option<i32>,
    pub processes: BTreeMap<String, Option<Ended>>,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ended {
    /// 128 + signal when a signal ended it.
    pub status: i32,
    pub out_of_memory: bool,
}

pub(crate) fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(FRAME_HEADER + body.len());
    bytes.push(kind);
    bytes.extend_from_slice(&(body.len() as u32).to_be_bytes());
    bytes.extend_from_slice(body);
    bytes
}

/// Kind and length of the frame that begins with these bytes.
pub(crate) fn header(bytes: [u8; FRAME_HEADER]) -> (u8, usize) {
    let [kind, a, b, c, d] = bytes;
    (kind, u32::from_be_bytes([a, b, c, d]) as usize)
}
