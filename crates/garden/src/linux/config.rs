//! The configuration of the Linux garden, and the names and paths that follow from it.

use super::cell_network::CellNetwork;
use super::host_services::HostService;
use anyhow::{Result, bail};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

/// The first host id of containers, above all ids that distributions and systemd allocate. From here on [`base_id`] gives each
/// container [`ID_COUNT`] ids of its own. All of them are below the ids that some programs treat as negative.
pub const BASE_ID: u32 = 0x7000_0000;
pub const ID_COUNT: u32 = 65536;

/// Returns the host id that root in the container with this address is mapped to. Everything that the kernel counts by user
/// (epoll watches, pages of pipes, descriptors in flight in sockets) is then counted by container.
pub(crate) fn base_id(address: Ipv4Addr) -> u32 {
    BASE_ID + (u32::from(address) & 0xff) * ID_COUNT
}

#[derive(Clone, Debug)]
pub struct GardenConfig {
    /// The short name of this foundation on this machine, `[a-z0-9]{1,8}`. Interfaces and cgroups carry it, so that several
    /// foundations can run at the same time.
    pub tag: String,
    /// The directory of container state, writable layers and unpacked stacks. Other users need no access to it.
    pub data_dir: PathBuf,
    /// The directory of sockets and mount points. Every folder above it must be passable (mode o+x) for the ids of containers.
    pub run_dir: PathBuf,
    /// The OCI runtime: a name or a path.
    pub crun: PathBuf,
    /// The path of our static program for containers.
    pub inside: PathBuf,
    /// The root file systems: stack name to tar file or folder.
    pub stacks: BTreeMap<String, PathBuf>,
    pub network: CellNetwork,
    /// The name server of containers. If it is an address of this machine, containers may send packets to its port 53.
    pub dns: Ipv4Addr,
    /// The TCP ports on the cell IP that containers may reach, which are the router's.
    pub router_ports: Vec<u16>,
    /// The other ports of this machine that containers may reach.
    pub host_services: Vec<HostService>,
    /// Whether refused egress is logged to the kernel log.
    pub log_denied: bool,
    /// The limits of each container on resources that all containers share.
    pub limits: SharedLimits,
    /// The memory capacity in MB; 0 means the machine's memory.
    pub memory_mb: u64,
    /// The disk capacity in MB; 0 means the free space under data_dir.
    pub disk_mb: u64,
    /// The maximum number of containers; 0 means 250, or fewer if the address range is smaller.
    pub max_containers: u64,
}

/// The limits of one container on kernel tables that all containers share. 0 means no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SharedLimits {
    pub network: NetworkLimits,
    /// The number of inotify instances per user. Envoy uses two.
    pub inotify_instances: u64,
    pub inotify_watches: u64,
    /// The number of processes and threads of an app that sets no limit of its own.
    pub pids: u64,
    /// The size of /dev/shm in MiB. It counts as the app's memory.
    pub shared_memory_mb: u64,
}

impl Default for SharedLimits {
    fn default() -> Self {
        Self {
            network: NetworkLimits::default(),
            inotify_instances: 128,
            inotify_watches: 8192,
            pids: 1024,
            shared_memory_mb: 64,
        }
    }
}

/// The limits of connections and packets of one container. 0 means no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NetworkLimits {
    /// The number of concurrent connections to everything outside the container.
    pub connections_out: u32,
    /// The number of concurrent connections from routers and others.
    pub connections_in: u32,
    /// The number of new connections per second to the outside. A burst of four times as many is allowed.
    pub new_connections_per_second: u32,
    /// The number of packets per second in each direction.
    pub packets_per_second: u32,
}

impl Default for NetworkLimits {
    fn default() -> Self {
        Self {
            connections_out: 2000,
            connections_in: 4000,
            new_connections_per_second: 250,
            packets_per_second: 100_000,
        }
    }
}

impl GardenConfig {
    /// Checks the configuration. The error names what is wrong.
    pub(crate) fn check(&self) -> Result<()> {
        check_tag(&self.tag)?;
        for (name, path) in [("data_dir", &self.data_dir), ("run_dir", &self.run_dir)] {
            if !path.is_absolute() {
                bail!(
                    "garden {name} {} is not absolute; write the whole path",
                    path.display()
                );
            }
        }
        // The name of a socket has at most 107 bytes, and a key has 32.
        if self.run_dir.as_os_str().len() > 60 {
            bail!(
                "garden run_dir {} is longer than 60 characters; choose a shorter one",
                self.run_dir.display()
            );
        }
        for (stack, path) in &self.stacks {
            if !path.exists() {
                bail!(
                    "root file system of stack {stack}: {} does not exist; run `make setup`, which creates it",
                    path.display()
                );
            }
        }
        if !self.inside.is_file() {
            bail!(
                "program for containers: {} does not exist; build it with the crate `inside`",
                self.inside.display()
            );
        }
        if self.inside.file_name().is_none_or(|name| name != "inside") {
            bail!(
                "program for containers: {} must be named `inside`; rename it",
                self.inside.display()
            );
        }
        Ok(())
    }

    pub(crate) fn paths(&self) -> Paths {
        Paths {
            data: self.data_dir.clone(),
            run: self.run_dir.clone(),
        }
    }

    pub(crate) fn cgroup_parent(&self) -> String {
        format!("cupola-{}", self.tag)
    }
}

pub(crate) fn check_tag(tag: &str) -> Result<()> {
    let fine = (1..=8).contains(&tag.len())
        && tag
            .bytes()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    if !fine {
        bail!("instance tag {tag:?}: expected 1 to 8 of a-z and 0-9");
    }
    Ok(())
}

/// The prefix of every container interface of any foundation. Firewall rules depend on it.
pub(crate) const VETH_PREFIX: &str = "cv";

/// Returns the name of the host's end of a container's link. Its address in the range makes it unique.
pub(crate) fn veth_name(tag: &str, address: Ipv4Addr) -> String {
    let [_, _, c, d] = address.octets();
    format!("{VETH_PREFIX}{tag}-{c:02x}{d:02x}")
}

/// The directories of garden.
#[derive(Clone, Debug)]
pub(crate) struct Paths {
    pub data: PathBuf,
    pub run: PathBuf,
}

impl Paths {
    pub(crate) fn containers(&self) -> PathBuf {
        self.data.join("containers")
    }

    /// Returns the folder with all files of one container.
    pub(crate) fn container(&self, key: &str) -> PathBuf {
        self.containers().join(key)
    }

    pub(crate) fn stacks(&self) -> PathBuf {
        self.data.join("stacks")
    }

    /// Returns the directory in which id-mapped lowers are mounted.
    pub(crate) fn lowers(&self) -> PathBuf {
        self.run.join("lower")
    }

    /// Returns the directory at which the shim mounts the root file system, in its own mount namespace only.
    pub(crate) fn root(&self, key: &str) -> PathBuf {
        self.run.join("root").join(key)
    }

    pub(crate) fn socket(&self, key: &str) -> PathBuf {
        self.run.join(format!("{key}.sock"))
    }

    /// Returns the directory of crun's own state.
    pub(crate) fn crun(&self) -> PathBuf {
        self.run.join("crun")
    }

    pub(crate) fn policies(&self) -> PathBuf {
        self.data.join("policies.json")
    }

    pub(crate) fn next_port(&self) -> PathBuf {
        self.data.join("next-port")
    }
}

/// Returns a container's key: its handle if that is a plain name short enough for a socket's name, else a digest. The key names
/// files, cgroups and crun's container.
pub(crate) fn key(handle: &str) -> String {
    let plain = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'_';
    if (1..=40).contains(&handle.len()) && handle.bytes().all(plain) && !handle.starts_with('-') {
        return handle.to_owned();
    }
    let start: String = handle
        .chars()
        .filter(|c| c.is_ascii_alphanumeric())
        .take(12)
        .collect();
    format!("{start}_{:016x}", digest(handle))
}

/// Returns the FNV-1a hash. It is stable between versions, unlike std's hasher.
pub(crate) fn digest(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Looks up a program on the search path, or returns the path itself if it names a file.
pub(crate) fn find_program(program: &Path) -> Option<PathBuf> {
    if program.components().count() > 1 {
        return program.is_file().then(|| program.to_owned());
    }
    let search = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&search)
        .chain(["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from));
    places
        .map(|place| place.join(program))
        .find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_within_the_kernels_limits() {
        assert_eq!(
            veth_name("abcdefgh", "10.255.3.200".parse().unwrap()),
            "cvabcdefgh-03c8"
        );
        assert_eq!(
            key("4f2b1c9e-0f5d-4c0e-6e6e-1a2b"),
            "4f2b1c9e-0f5d-4c0e-6e6e-1a2b"
        );
        assert!(key("../etc").starts_with("etc_"));
        assert!(key(&"x".repeat(200)).len() < 40);
        assert_ne!(key("a/b"), key("a/c"));
        assert!(
            check_tag("demo1").is_ok()
                && check_tag("Demo").is_err()
                && check_tag("").is_err()
                && check_tag("ninechars").is_err()
        );
    }
}
