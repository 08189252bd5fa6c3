//! Control groups, which garden writes itself: a folder per container with the leaves `app`, which has the limits, and `sidecar`,
//! whose memory does not count as the app's. Version 1, version 2 and both at once (hybrid) are supported.
//!
//! crun is configured to leave cgroups alone, because on hybrid machines it refuses to work at all.

use crate::api::Limits;
use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(crate) const APP: &str = "app";
pub(crate) const SIDECAR: &str = "sidecar";
/// The group of the shims.
pub(crate) const SHIMS: &str = "shims";
/// The cpuset controller of version 1. Garden sets nothing there, but programs that look up their limits expect all hierarchies.
const CPUSET: &str = "cpuset";
/// The limit of processes of a container's sidecars: the proxy, health checks, operators' commands.
const SIDECAR_PIDS: u64 = 512;

/// The mount points of the controllers.
#[derive(Clone, Debug)]
pub(crate) struct Cgroups {
    hierarchies: Vec<Hierarchy>,
    parent: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Hierarchy {
    mount: PathBuf,
    unified: bool,
    controllers: Vec<String>,
}

/// Returns the hierarchies that garden uses, from the text of `/proc/self/mounts`.
fn hierarchies(mounts: &str) -> Vec<Hierarchy> {
    const USED: [&str; 5] = ["memory", "cpu", "cpuacct", "pids", CPUSET];
    let mut found: Vec<Hierarchy> = Vec::new();
    for line in mounts.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let [_, mount, kind, options, ..] = fields.as_slice() else {
            continue;
        };
        let unified = *kind == "cgroup2";
        let controllers: Vec<String> = options
            .split(',')
            .filter(|option| USED.contains(option))
            .map(str::to_owned)
            .collect();
        let known = found.iter().any(|other| {
            if unified {
                other.unified
            } else {
                other.controllers == controllers && !other.unified
            }
        });
        if !known && (unified || (*kind == "cgroup" && !controllers.is_empty())) {
            found.push(Hierarchy {
                mount: mount.into(),
                unified,
                controllers: if unified { Vec::new() } else { controllers },
            });
        }
    }
    found
}

impl Cgroups {
    /// Finds the hierarchies and creates the parent groups.
    pub(crate) fn open(parent: &str) -> Result<Self> {
        let mut hierarchies = hierarchies(
            &fs::read_to_string("/proc/self/mounts").context("read /proc/self/mounts")?,
        );
        for hierarchy in hierarchies.iter_mut().filter(|hierarchy| hierarchy.unified) {
            let available =
                fs::read_to_string(hierarchy.mount.join("cgroup.controllers")).unwrap_or_default();
            hierarchy.controllers = available
                .split_whitespace()
                .filter(|name| ["memory", "cpu", "pids"].contains(name))
                .map(str::to_owned)
                .collect();
        }
        let cgroups = Self {
            hierarchies,
            parent: parent.to_owned(),
        };
        for needed in ["memory", "cpu", "pids"] {
            if cgroups.with(needed).is_none() {
                bail!(
                    "no cgroup hierarchy with the controller {needed:?} is mounted; mount cgroup2 on /sys/fs/cgroup, or {needed} of version 1 on /sys/fs/cgroup/{needed}"
                );
            }
        }
        for hierarchy in &cgroups.hierarchies {
            let folder = hierarchy.mount.join(parent);
            hierarchy.make(&folder)?;
            if hierarchy.unified {
                delegate(&hierarchy.mount, &hierarchy.controllers)?;
                delegate(&folder, &hierarchy.controllers)?;
            }
            hierarchy.make(&folder.join(SHIMS))?;
        }
        Ok(cgroups)
    }

    fn with(&self, controller: &str) -> Option<&Hierarchy> {
        self.hierarchies
            .iter()
            .find(|hierarchy| hierarchy.controllers.iter().any(|name| name == controller))
    }

    fn folder(&self, hierarchy: &Hierarchy, key: &str) -> PathBuf {
        hierarchy.mount.join(&self.parent).join(key)
    }

    /// Creates a container's groups and sets its limits.
    pub(crate) fn create(&self, key: &str, limits: &Limits) -> Result<()> {
        for hierarchy in &self.hierarchies {
            let folder = self.folder(hierarchy, key);
            hierarchy.make(&folder)?;
            if hierarchy.unified {
                delegate(&folder, &hierarchy.controllers)?;
            }
            hierarchy.make(&folder.join(APP))?;
            hierarchy.make(&folder.join(SIDECAR))?;
        }
        for (controller, leaf, v1, v2, value) in settings(limits) {
            let Some(hierarchy) = self.with(controller) else {
                continue;
            };
            let file = if hierarchy.unified { v2 } else { v1 };
            let folder = self.folder(hierarchy, key).join(leaf);
            let path = folder.join(file.0);
            // Swap accounting may be disabled.
            if !path.exists() && file.1 {
                continue;
            }
            fs::write(&path, value(hierarchy.unified))
                .with_context(|| format!("set {}", path.display()))?;
        }
        Ok(())
    }

    /// Returns the files through which a process joins a leaf.
    pub(crate) fn procs(&self, key: &str, leaf: &str) -> Vec<PathBuf> {
        self.hierarchies
            .iter()
            .map(|hierarchy| self.folder(hierarchy, key).join(leaf).join("cgroup.procs"))
            .collect()
    }

    pub(crate) fn shim_procs(&self) -> Vec<PathBuf> {
        self.hierarchies
            .iter()
            .map(|hierarchy| self.folder(hierarchy, SHIMS).join("cgroup.procs"))
            .collect()
    }

    /// Returns the app's groups as its processes should see them: each mount point in the container, and the folder here.
    pub(crate) fn views(&self, key: &str) -> Vec<(PathBuf, PathBuf)> {
        let root = Path::new("/sys/fs/cgroup");
        let version_1 = self.hierarchies.iter().any(|hierarchy| !hierarchy.unified);
        let views = self
            .hierarchies
            .iter()
            .filter(|h| !(version_1 && h.unified));
        views
            .map(|hierarchy| {
                let place = match hierarchy.unified {
                    true => root.to_owned(),
                    false => root.join(hierarchy.controllers.join(",")),
                };
                (place, self.folder(hierarchy, key).join(APP))
            })
            .collect()
    }

    /// Returns the file in which the kernel counts the processes that it killed for lack of memory in a leaf.
    pub(crate) fn oom_counter(&self, key: &str, leaf: &str) -> Option<PathBuf> {
        let hierarchy = self.with("memory")?;
        let file = if hierarchy.unified {
            "memory.events"
        } else {
            "memory.oom_control"
        };
        Some(self.folder(hierarchy, key).join(leaf).join(file))
    }

    /// Returns the app's memory in bytes without reclaimable cache, and the CPU time of the whole container in nanoseconds.
    pub(crate) fn usage(&self, key: &str) -> (u64, u64) {
        let memory = self.with("memory").map_or(0, |hierarchy| {
            memory_use(&self.folder(hierarchy, key).join(APP), hierarchy.unified)
        });
        let accounting = self.with("cpuacct").or_else(|| self.with("cpu"));
        let cpu = accounting.map_or(0, |hierarchy| {
            let folder = self.folder(hierarchy, key);
            if hierarchy.unified {
                let stat = fs::read_to_string(folder.join("cpu.stat")).unwrap_or_default();
                field(&stat, "usage_usec") * 1000
            } else {
                fs::read_to_string(folder.join("cpuacct.usage"))
                    .ok()
                    .and_then(|text| text.trim().parse().ok())
                    .unwrap_or(0)
            }
        });
        (memory, cpu)
    }

    /// Kills all processes in a container's groups, and removes the groups.
    pub(crate) fn destroy(&self, key: &str) -> Result<()> {
        for attempt in 0..200 {
            let mut left = false;
            for hierarchy in &self.hierarchies {
                let folder = self.folder(hierarchy, key);
                for leaf in [APP, SIDECAR] {
                    left |= !remove(&folder.join(leaf), attempt > 0);
                }
                left |= !remove(&folder, false);
            }
            if !left {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(if attempt < 20 { 2 } else { 20 }));
        }
        bail!(
            "cgroup {}/{key} cannot be removed: something in it cannot be killed",
            self.parent
        )
    }

    /// Removes the parents, which must be empty.
    pub(crate) fn remove_parent(&self) -> Result<()> {
        for attempt in 0..100 {
            let mut left = false;
            for hierarchy in &self.hierarchies {
                left |= !remove(&self.folder(hierarchy, SHIMS), attempt > 50);
                left |= !remove(&hierarchy.mount.join(&self.parent), false);
            }
            if !left {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        bail!(
            "cgroup {} cannot be removed: it still holds containers",
            self.parent
        )
    }

    /// Returns the keys of the containers that have groups.
    pub(crate) fn keys(&self) -> Vec<String> {
        let mut keys: Vec<String> = Vec::new();
        for hierarchy in &self.hierarchies {
            let entries = fs::read_dir(hierarchy.mount.join(&self.parent))
                .into_iter()
                .flatten()
                .flatten();
            for entry in entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
                let name = entry.file_name().to_string_lossy().into_owned();
                if name != SHIMS && !keys.contains(&name) {
                    keys.push(name);
                }
            }
        }
        keys
    }
}

type Setting = (
    &'static str,
    &'static str,
    (&'static str, bool),
    (&'static str, bool),
    Box<dyn Fn(bool) -> String>,
);

/// Returns the settings of a container in writing order: controller, leaf, file in version 1 and 2 (may it be absent?), value.
fn settings(limits: &Limits) -> Vec<Setting> {
    let mut settings: Vec<Setting> = Vec::new();
    let Limits {
        memory,
        sidecar_memory,
        cpu_shares,
        pids,
        ..
    } = *limits;
    for (leaf, memory) in [(APP, memory), (SIDECAR, sidecar_memory)] {
        if memory > 0 {
            memory_settings(&mut settings, leaf, memory);
        }
    }
    if memory > 0 {
        // Version 1 counts the buffers of sockets separately, and all containers share the kernel's total. Version 2 counts them
        // as memory and has no such file. The sidecar's connections are those of the app and are limited as such.
        let file = ("memory.kmem.tcp.limit_in_bytes", true);
        settings.push((
            "memory",
            APP,
            file,
            file,
            Box::new(move |_| memory.to_string()),
        ));
    }
    if cpu_shares > 0 {
        let shares = cpu_shares.clamp(2, 262_144);
        let value = move |unified| {
            if unified {
                weight(shares).to_string()
            } else {
                shares.to_string()
            }
        };
        settings.push((
            "cpu",
            "",
            ("cpu.shares", false),
            ("cpu.weight", false),
            Box::new(value),
        ));
    }
    for (leaf, pids) in [(APP, pids), (SIDECAR, SIDECAR_PIDS)] {
        if pids > 0 {
            let file = ("pids.max", false);
            settings.push((
                "pids",
                leaf,
                file,
                file,
                Box::new(move |_| pids.to_string()),
            ));
        }
    }
    settings
}

/// Adds the settings of a strict memory limit: no swap beyond it, and no swap at all if swap is not accounted for.
fn memory_settings(settings: &mut Vec<Setting>, leaf: &'static str, memory: u64) {
    settings.push((
        "memory",
        leaf,
        ("memory.limit_in_bytes", false),
        ("memory.max", false),
        Box::new(move |_| memory.to_string()),
    ));
    let swap = move |unified: bool| match unified {
        true => "0".to_owned(),
        false => memory.to_string(),
    };
    settings.push((
        "memory",
        leaf,
        ("memory.memsw.limit_in_bytes", true),
        ("memory.swap.max", true),
        Box::new(swap),
    ));
    // This file does not exist in version 2.
    settings.push((
        "memory",
        leaf,
        ("memory.swappiness", true),
        ("memory.swappiness", true),
        Box::new(|_| "0".to_owned()),
    ));
}

/// Converts shares of version 1 to the scale of version 2, as runc and crun do.
fn weight(shares: u64) -> u64 {
    1 + ((shares - 2) * 9999) / 262_142
}

fn memory_use(folder: &Path, unified: bool) -> u64 {
    let stat = fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
    if unified {
        let current = fs::read_to_string(folder.join("memory.current"))
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or(0u64);
        current.saturating_sub(field(&stat, "inactive_file"))
    } else {
        (field(&stat, "total_rss") + field(&stat, "total_cache"))
            .saturating_sub(field(&stat, "total_inactive_file"))
    }
}

fn field(text: &str, name: &str) -> u64 {
    text.lines()
        .find_map(|line| {
            line.strip_prefix(name)?
                .strip_prefix(' ')?
                .trim()
                .parse()
                .ok()
        })
        .unwrap_or(0)
}

impl Hierarchy {
    fn make(&self, folder: &Path) -> Result<()> {
        match fs::create_dir(folder) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            other => other.with_context(|| format!("make cgroup {}", folder.display()))?,
        }
        if !self.unified && self.controllers.iter().any(|name| name == CPUSET) {
            inherit_cpuset(folder)?;
        }
        Ok(())
    }
}

/// Gives a new cpuset group the processors and memory nodes of its parent, because it accepts no process without them.
fn inherit_cpuset(folder: &Path) -> Result<()> {
    for name in ["cpuset.cpus", "cpuset.mems"] {
        let (file, parent) = (folder.join(name), folder.with_file_name(name));
        let is = |path: &Path| {
            fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
        };
        if is(&file)?.trim().is_empty() {
            fs::write(&file, is(&parent)?.trim())
                .with_context(|| format!("set {}", file.display()))?;
        }
    }
    Ok(())
}

/// Enables controllers for the groups below (version 2).
fn delegate(folder: &Path, controllers: &[String]) -> Result<()> {
    if controllers.is_empty() {
        return Ok(());
    }
    let file = folder.join("cgroup.subtree_control");
    let enabled = fs::read_to_string(&file).unwrap_or_default();
    let missing: Vec<String> = controllers
        .iter()
        .filter(|name| !enabled.split_whitespace().any(|on| on == **name))
        .map(|name| format!("+{name}"))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    fs::write(&file, missing.join(" ")).with_context(|| {
        format!(
            "enable {} in {} (processes in that very cgroup prevent it; move them to one below)",
            missing.join(" "),
            file.display()
        )
    })
}

/// Removes the group. Returns whether its folder is gone.
fn remove(folder: &Path, kill_first: bool) -> bool {
    if kill_first {
        let procs = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
        for pid in procs
            .lines()
            .filter_map(|line| line.trim().parse().ok())
            .filter(|pid| *pid > 1)
        {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
    fs::remove_dir(folder).is_ok() || !folder.exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_kinds_of_machines_are_understood() {
        let hybrid = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\ncgroup /sys/fs/cgroup/cpu cgroup rw,relatime,cpu,cpuacct 0 0\n\
                      cgroup /sys/fs/cgroup/memory cgroup rw,relatime,memory 0 0\ncgroup /sys/fs/cgroup/devices cgroup rw,devices 0 0\n\
                      cgroup /sys/fs/cgroup/pids cgroup rw,pids 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        let found = hierarchies(hybrid);
        let places: Vec<&str> = found.iter().map(|h| h.mount.to_str().unwrap()).collect();
        assert_eq!(
            places,
            [
                "/sys/fs/cgroup/cpu",
                "/sys/fs/cgroup/memory",
                "/sys/fs/cgroup/pids",
                "/sys/fs/cgroup/unified"
            ]
        );
        assert_eq!(found[0].controllers, ["cpu", "cpuacct"]);
        let pure = hierarchies("cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid 0 0\n");
        assert!(pure.len() == 1 && pure[0].unified);
    }

    #[test]
    fn limits_become_settings_in_order() {
        let limits = Limits {
            memory: 64 << 20,
            sidecar_memory: 32 << 20,
            disk: 0,
            cpu_shares: 1024,
            pids: 100,
        };
        let text = |unified| {
            settings(&limits)
                .iter()
                .map(|(_, leaf, v1, v2, value)| {
                    format!(
                        "{leaf}/{}={}",
                        if unified { v2.0 } else { v1.0 },
                        value(unified)
                    )
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(
            text(false),
            [
                "app/memory.limit_in_bytes=67108864",
                "app/memory.memsw.limit_in_bytes=67108864",
                "app/memory.swappiness=0",
                "sidecar/memory.limit_in_bytes=33554432",
                "sidecar/memory.memsw.limit_in_bytes=33554432",
                "sidecar/memory.swappiness=0",
                "app/memory.kmem.tcp.limit_in_bytes=67108864",
                "/cpu.shares=1024",
                "app/pids.max=100",
                "sidecar/pids.max=512"
            ]
        );
        assert_eq!(
            text(true),
            [
                "app/memory.max=67108864",
                "app/memory.swap.max=0",
                "app/memory.swappiness=0",
                "sidecar/memory.max=33554432",
                "sidecar/memory.swap.max=0",
                "sidecar/memory.swappiness=0",
                "app/memory.kmem.tcp.limit_in_bytes=67108864",
                "/cpu.weight=39",
                "app/pids.max=100",
                "sidecar/pids.max=512"
            ]
        );
        assert_eq!(
            settings(&Limits::default()).len(),
            1,
            "sidecars' processes only"
        );
    }

    #[test]
    fn apps_see_their_own_groups() {
        let hierarchy = |mount: &str, controllers: &[&str]| Hierarchy {
            mount: mount.into(),
            unified: mount.ends_with("unified") || mount == "/sys/fs/cgroup",
            controllers: controllers.iter().map(|name| (*name).to_owned()).collect(),
        };
        let views = |hierarchies| {
            let cgroups = Cgroups {
                hierarchies,
                parent: "cupola-t".to_owned(),
            };
            let text = |(place, folder): (PathBuf, PathBuf)| {
                format!("{}={}", place.display(), folder.display())
            };
            cgroups.views("k").into_iter().map(text).collect::<Vec<_>>()
        };
        let hybrid = vec![
            hierarchy("/sys/fs/cgroup/cpu,cpuacct", &["cpu", "cpuacct"]),
            hierarchy("/sys/fs/cgroup/memory", &["memory"]),
            hierarchy("/sys/fs/cgroup/unified", &[]),
        ];
        assert_eq!(
            views(hybrid),
            [
                "/sys/fs/cgroup/cpu,cpuacct=/sys/fs/cgroup/cpu,cpuacct/cupola-t/k/app",
                "/sys/fs/cgroup/memory=/sys/fs/cgroup/memory/cupola-t/k/app"
            ]
        );
        assert_eq!(
            views(vec![hierarchy("/sys/fs/cgroup", &["memory"])]),
            ["/sys/fs/cgroup=/sys/fs/cgroup/cupola-t/k/app"]
        );
    }

    #[test]
    fn fields_match_whole_names() {
        assert_eq!(field("total_rss_huge 7\ntotal_rss 5\n", "total_rss"), 5);
        assert_eq!(field("", "x"), 0);
    }
}
