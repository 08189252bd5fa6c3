//! Checks of the machine's programs and settings before anything is made. Every error names the remedy.

use super::config::{GardenConfig, find_program};
use anyhow::{Context, Result, bail};
use nix::sys::resource::{Resource, getrlimit};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The required programs, each with its Debian package.
const TOOLS: [(&str, &str); 6] = [
    ("iptables-restore", "iptables"),
    ("iptables-save", "iptables"),
    ("mkfs.ext4", "e2fsprogs"),
    ("mount", "mount"),
    ("tar", "tar"),
    ("nsenter", "util-linux"),
];

/// The required settings: name, least value, and whether containers cannot run without it.
const SETTINGS: [(&str, u64, bool); 7] = [
    (IP_FORWARD, 1, true),
    // These limits apply to all containers together; each container has limits of its own.
    ("fs/inotify/max_user_instances", 32_768, false),
    ("fs/inotify/max_user_watches", 2_097_152, false),
    ("kernel/pid_max", 131_072, false),
    ("net/netfilter/nf_conntrack_max", 262_144, false),
    ("net/ipv4/neigh/default/gc_thresh3", 4096, false),
    ("net/ipv4/neigh/default/gc_thresh2", 2048, false),
];
const IP_FORWARD: &str = "net/ipv4/ip_forward";

/// The default limit of descriptors per process, as in Cloud Foundry.
const NOFILE: u64 = 16384;

/// Checks the machine. Returns crun's path.
pub(crate) fn check(config: &GardenConfig) -> Result<PathBuf> {
    if !nix::unistd::geteuid().is_root() {
        bail!("containers need root; start with sudo");
    }
    config.check()?;
    let Some(crun) = find_program(&config.crun) else {
        bail!(
            "{} is not installed; apt-get install crun",
            config.crun.display()
        );
    };
    for (tool, package) in TOOLS {
        if find_program(Path::new(tool)).is_none() {
            bail!("{tool} is not installed; apt-get install {package}");
        }
    }
    let filesystems = fs::read_to_string("/proc/filesystems").context("read /proc/filesystems")?;
    for needed in ["overlay", "ext4"] {
        if !filesystems
            .lines()
            .any(|line| line.trim_start_matches("nodev").trim() == needed)
        {
            bail!(
                "the kernel does not support the file system {needed}; run modprobe {needed}, or use another kernel"
            );
        }
    }
    for (name, least, needed) in SETTINGS {
        raise(name, least, needed)?;
    }
    make_folders(config)?;
    Ok(crun)
}

/// Enables forwarding again if somebody disabled it, because without it no container can be reached. Returns whether it had to.
pub(crate) fn ensure_forwarding() -> Result<bool> {
    let file = format!("/proc/sys/{IP_FORWARD}");
    let is = fs::read_to_string(&file).with_context(|| format!("read {file}"))?;
    if is.trim() != "0" {
        return Ok(false);
    }
    fs::write(&file, "1").with_context(|| format!("set {file}"))?;
    Ok(true)
}

fn raise(name: &str, least: u64, needed: bool) -> Result<()> {
    let file = format!("/proc/sys/{name}");
    let text = match fs::read_to_string(&file) {
        // For instance, the setting of connection tracking does not exist before the first rule that needs it.
        Err(error) if !needed && error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        text => text.with_context(|| format!("read {file}"))?,
    };
    let is: u64 = text.trim().parse().unwrap_or(0);
    if is >= least {
        return Ok(());
    }
    match fs::write(&file, least.to_string()) {
        Ok(()) => tracing::info!(
            setting = name,
            from = is,
            to = least,
            "kernel setting raised"
        ),
        Err(error) if needed => bail!(
            "sysctl {} is {is} and cannot be set to {least}: {error}; set it in /etc/sysctl.d",
            name.replace('/', ".")
        ),
        Err(error) => {
            tracing::warn!(setting = name, is, wanted = least, %error, "kernel setting is low: many containers will not start")
        }
    }
    Ok(())
}

fn make_folders(config: &GardenConfig) -> Result<()> {
    let paths = config.paths();
    for folder in [
        paths.data.clone(),
        paths.containers(),
        paths.stacks(),
        paths.run.clone(),
        paths.lowers(),
        paths.run.join("root"),
        paths.crun(),
    ] {
        fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    }
    // Container state holds credentials. The mount points must be passable for the ids of containers.
    for (folder, mode) in [
        (paths.containers(), 0o700),
        (paths.stacks(), 0o700),
        (paths.crun(), 0o700),
        (paths.run.clone(), 0o711),
        (paths.run.join("root"), 0o711),
    ] {
        fs::set_permissions(&folder, fs::Permissions::from_mode(mode))
            .with_context(|| format!("set the mode of {}", folder.display()))?;
    }
    for folder in paths.run.ancestors() {
        let mode = fs::metadata(folder)
            .with_context(|| format!("examine {}", folder.display()))?
            .permissions()
            .mode();
        if mode & 0o001 == 0 {
            bail!(
                "garden run_dir {}: containers' users cannot pass {}; chmod o+x it, or choose another folder",
                config.run_dir.display(),
                folder.display()
            );
        }
    }
    for path in [&config.data_dir, &config.run_dir] {
        if path.to_string_lossy().contains([':', ',', '\\', ' ', '"']) {
            bail!(
                "{} has a character that mount options cannot carry; choose a plain path",
                path.display()
            );
        }
    }
    Ok(())
}

/// Returns the limit of descriptors for a process that requests `wanted` (0 means the default). It never exceeds the machine's
/// limit.
pub(crate) fn nofile(wanted: u64) -> u64 {
    let most = getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(_, hard)| hard);
    if wanted == 0 {
        NOFILE.min(most)
    } else {
        wanted.min(most)
    }
}
