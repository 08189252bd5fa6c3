//! The protocol between garden and a container's shim. Both programs compile this crate.
//!
//! It is pure and small, because the shim is a part of the static binary in every container.
//!
//! Garden starts `inside shim SETUP_FILE`. The shim answers with one line of JSON ([`Ready`]) on stdout. From then on it serves a
//! Unix socket: the client sends one [`Request`] frame and gets a [`Reply`] frame. After a successful `Run` or `Attach`, frames
//! with output follow, and the last frame is the exit.
//!
//! A frame is one byte of kind, four bytes of length (big endian), and that many bytes.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The kind of a frame with a [`Request`].
pub const REQUEST: u8 = 0;
/// The kind of a frame with a [`Reply`].
pub const REPLY: u8 = 1;
/// The kind of a frame with bytes of a process's standard output.
pub const STDOUT: u8 = 2;
/// The kind of a frame with bytes of a process's standard error.
pub const STDERR: u8 = 3;
/// The kind of a frame with a process's [`Ended`].
pub const EXIT: u8 = 4;

/// The number of bytes before a frame's body.
pub const FRAME_HEADER: usize = 5;
/// The maximum length of a frame. A longer one is an error of the peer.
pub const MAX_FRAME: usize = 4 << 20;

/// Everything that the shim needs to make the container. It looks up nothing elsewhere.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Setup {
    /// crun's name for the container.
    pub key: String,
    /// The container's folder with bundle, disk and records.
    pub dir: PathBuf,
    /// The directory at which the root file system is mounted, in the shim's own mount namespace.
    pub root: PathBuf,
    pub socket: PathBuf,
    pub crun: PathBuf,
    pub crun_root: PathBuf,
    /// The stack, id-mapped and read-only.
    pub lower: PathBuf,
    /// The size of the writable layer in bytes; 0 means no limit of its own.
    pub disk: u64,
    /// The host id of the container's root.
    pub base_id: u32,
    /// The files that differ from the stack's: absolute path and content.
    pub files: Vec<(String, String)>,
    pub binds: Vec<Bind>,
    /// The `cgroup.procs` files through which a process of the app joins its group. The next field has those of a sidecar.
    pub app_cgroups: Vec<PathBuf>,
    pub sidecar_cgroups: Vec<PathBuf>,
    /// The file whose line `oom_kill N` counts the processes that the kernel killed for lack of memory.
    pub oom_counter: Option<PathBuf>,
    /// The counter file of the sidecars.
    #[serde(default)]
    pub sidecar_oom_counter: Option<PathBuf>,
    /// The names under `/proc/sys/user` and their values in the container's user namespace.
    #[serde(default)]
    pub user_limits: Vec<(String, u64)>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Bind {
    pub host: PathBuf,
    pub container: String,
    pub read_only: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Ready {
    /// The container's init runs. The value is its process id on the host.
    Pid(i32),
    Failed(String),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Request {
    Run(Run),
    Attach {
        id: String,
    },
    Signal {
        id: String,
        signal: i32,
    },
    State,
    /// Kill all processes, unmount, and end.
    Stop,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Run {
    pub id: String,
    /// The file on the host that describes the OCI process.
    pub process: PathBuf,
    pub sidecar: bool,
    /// The files on the host that replace the null device (stdin) and the kept output (stdout).
    pub stdin: Option<PathBuf>,
    pub stdout: Option<PathBuf>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Reply {
    Done,
    State(State),
    UnknownProcess,
    /// The program could not be executed.
    CannotExecute(String),
    Failed(String),
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct State {
    pub init: i32,
    /// The status of the container's init. It is set when init has ended, and all processes with it.
    pub init_status: Option<i32>,
    pub processes: BTreeMap<String, Option<Ended>>,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// The exit status; 128 + signal if a signal ended the process.
    pub status: i32,
    pub out_of_memory: bool,
}

/// Returns the bytes of one frame.
pub fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(FRAME_HEADER + body.len());
    bytes.push(kind);
    bytes.extend_from_slice(&(body.len() as u32).to_be_bytes());
    bytes.extend_from_slice(body);
    bytes
}

/// Returns kind and length of the frame that begins with these bytes.
pub fn header(bytes: [u8; FRAME_HEADER]) -> (u8, usize) {
    let [kind, a, b, c, d] = bytes;
    (kind, u32::from_be_bytes([a, b, c, d]) as usize)
}
