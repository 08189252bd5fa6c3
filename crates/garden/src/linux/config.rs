//! What the Linux garden is told, and the names and paths that follow from it.

use super::cell_network::CellNetwork;
use anyhow::{Result, bail};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

/// The first host id of containers, above everything that distributions and systemd hand out. [`base_id`] gives each
/// container [`ID_COUNT`] ids of its own from here on, all below the ids that some programs take for negative.
pub const BASE_ID: u32 = 0x7000_0000;
pub const ID_COUNT: u32 = 65536;

/// The host id that the root of the container with this address is mapped to. What the kernel counts by user (watches of
/// epoll, pages of pipes, descriptors under way in sockets) is then counted by container.
pub(crate) fn base_id(address: Ipv4Addr) -> u32 {
    BASE_ID + (u32::from(address) & 0xff) * ID_COUNT
}

#[derive(Clone, Debug)]
pub struct GardenConfig {
    /// Short name of this foundation on this machine, `[a-z0-9]{1,8}`: interfaces and cgroups carry it, so that several
    /// foundations may run at once.
    pub tag: String,
    /// Container state, writable layers, unpacked stacks. May be closed to others.
    pub data_dir: PathBuf,
    /// Sockets and mount points; every folder above it must be open (mode o+x) to the ids of containers.
    pub run_dir: PathBuf,
    /// The OCI runtime, a name or a path.
    pub crun: PathBuf,
    /// Our static program for containers.
    pub inside: PathBuf,
    /// Stack name to the tar file or folder of its root file system.
    pub stacks: BTreeMap<String, PathBuf>,
    pub network: CellNetwork,
    /// Name server of containers; an address of this machine that input from containers to port 53 is allowed for.
    pub dns: Ipv4Addr,
    /// TCP ports on the cell IP that containers may reach: the router's.
    pub router_ports: Vec<u16>,
    /// Log refused egress to the kernel log.
    pub log_denied: bool,
    /// What each container may take of what all share.
    pub limits: SharedLimits,
    /// 0: what the machine has.
    pub memory_mb: u64,
    /// 0: what is free under data_dir.
    pub disk_mb: u64,
    /// 0: 250, or fewer if the address range is smaller.
    pub max_containers: u64,
}

/// What one container may take of the kernel's tables that all containers share. 0: no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SharedLimits {
    pub network: NetworkLimits,
    /// Instances of inotify per user; Envoy takes two.
    pub inotify_instances: u64,
    pub inotify_watches: u64,
    /// Processes and threads of an app that asks for no limit of its own.
    pub pids: u64,
    /// MiB of /dev/shm; they count as the app's memory.
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

/// Connections and packets of one container. 0: no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NetworkLimits {
    /// At a time, to everything outside the container.
    pub connections_out: u32,
    /// At a time, from routers and others.
    pub connections_in: u32,
    /// To the outside; four times as many at once.
    pub new_connections_per_second: u32,
    /// In each direction.
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
    /// Says what is wrong with it.
    pub(crate) fn check(&self) -> Result<()> {
        check_tag(&self.tag)?;
        for (name, path) in [("data_dir", &self.data_dir), ("run_dir", &self.run_dir)] {
            if !path.is_absolute() {
                bail!(
                    "garden {name} {} is not absolute; give the whole path",
                    path.display()
                );
            }
        }
        // A socket's name has at most 107 bytes, and a key 32.
        if self.run_dir.as_os_str().len() > 60 {
            bail!(
                "garden run_dir {} is longer than 60 characters; choose a shorter one",
                self.run_dir.display()
            );
        }
        for (stack, path) in &self.stacks {
            if !path.exists() {
                bail!(
                    "root file system of stack {stack}: {} does not exist; set-up makes it",
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
        bail!("instance tag {tag:?}: want 1 to 8 of a-z and 0-9");
    }
    Ok(())
}

/// Every interface of a container, of any foundation, begins so; firewall rules count on it.
pub(crate) const VETH_PREFIX: &str = "cv";

/// The host's end of a container's link: unique by its address in the range.
pub(crate) fn veth_name(tag: &str, address: Ipv4Addr) -> String {
    let [_, _, c, d] = address.octets();
    format!("{VETH_PREFIX}{tag}-{c:02x}{d:02x}")
}

/// Where things lie.
#[derive(Clone, Debug)]
pub(crate) struct Paths {
    pub data: PathBuf,
    pub run: PathBuf,
}

impl Paths {
    pub(crate) fn containers(&self) -> PathBuf {
        self.data.join("containers")
    }

    /// Everything of one container that is a file.
    pub(crate) fn container(&self, key: &str) -> PathBuf {
        self.containers().join(key)
    }

    pub(crate) fn stacks(&self) -> PathBuf {
        self.data.join("stacks")
    }

    /// Where id-mapped lowers are mounted.
    pub(crate) fn lowers(&self) -> PathBuf {
        self.run.join("lower")
    }

    /// Where the shim mounts the root file system, in its own mount namespace only.
    pub(crate) fn root(&self, key: &str) -> PathBuf {
        self.run.join("root").join(key)
    }

    pub(crate) fn socket(&self, key: &str) -> PathBuf {
        self.run.join(format!("{key}.sock"))
    }

    /// crun's own state.
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

/// A container's key: its handle if that is a plain name short enough for a socket's, else a digest. It names files,
/// cgroups and crun's container.
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

/// FNV-1a: stable between versions, which std's hasher is not.
pub(crate) fn digest(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// A path on the search path of commands, or the path itself if it names one.
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
