//! The root file system: an overlay of the stack and a writable layer, with bind mounts on top, in a mount namespace that only
//! the shim and its container share.

use anyhow::{Context, Result, bail};
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{Gid, Uid, chown, fchown};
use shim_protocol::{Bind, Setup};
use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const NONE: Option<&str> = None;

pub(crate) fn mount_root(setup: &Setup) -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).context("make a mount namespace")?;
    // With the slave mode, unmounts on the host propagate to here, and mounts made here stay here.
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_SLAVE, NONE)
        .context("separate the mounts")?;
    quieten_crun()?;
    let layer = writable_layer(setup)?;
    let (upper, work) = (layer.join("upper"), layer.join("work"));
    for dir in [&upper, &work] {
        fs::create_dir(dir).with_context(|| format!("make {}", dir.display()))?;
    }
    own(&upper, setup.base_id, 0o755)?;
    for (path, content) in &setup.files {
        write_file(&upper, path, content, setup.base_id)?;
    }
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        setup.lower.display(),
        upper.display(),
        work.display()
    );
    mount(
        Some("overlay"),
        &setup.root,
        Some("overlay"),
        MsFlags::MS_NODEV,
        Some(options.as_str()),
    )
    .with_context(|| format!("mount overlay ({options})"))?;
    let root = File::open(&setup.root).context("open the root file system")?;
    for bind in &setup.binds {
        bind_mount(&root, bind, setup.base_id)
            .with_context(|| format!("bind {} to {}", bind.host.display(), bind.container))?;
    }
    Ok(())
}

/// Hides the controllers of cgroup version 2 from crun, only in this mount namespace. crun refuses hybrid machines whose version
/// 2 has any controller (often hugetlb), even if it is configured to leave cgroups alone.
fn quieten_crun() -> Result<()> {
    const CONTROLLERS: &str = "/sys/fs/cgroup/unified/cgroup.controllers";
    if fs::read_to_string(CONTROLLERS).is_ok_and(|text| !text.trim().is_empty()) {
        mount(Some("/dev/null"), CONTROLLERS, NONE, MsFlags::MS_BIND, NONE)
            .context("hide the controllers of cgroup2 from crun")?;
    }
    Ok(())
}

/// Creates the writable layer: a folder, or, if there is a limit, a file system of that size in a sparse file.
fn writable_layer(setup: &Setup) -> Result<PathBuf> {
    let layer = setup.dir.join("layer");
    fs::create_dir(&layer).context("make the writable layer")?;
    if setup.disk > 0 {
        let image = setup.dir.join("disk.img");
        let size = setup.disk.max(MIN_DISK);
        File::create(&image)
            .and_then(|file| file.set_len(size))
            .context("make the disk file")?;
        // No journal is needed, because the container does not survive a crash of the machine.
        let options = [
            "-q",
            "-F",
            "-m",
            "0",
            "-O",
            "^has_journal,^resize_inode",
            "-E",
            "lazy_itable_init=1,nodiscard",
        ];
        run(Command::new("mkfs.ext4").args(options).arg(&image))
            .context("make the disk's file system (Debian package e2fsprogs)")?;
        run(Command::new("mount")
            .args(["-t", "ext4", "-o", "loop,noatime,nodev"])
            .arg(&image)
            .arg(&layer))
        .context("mount the disk")?;
        let _ = fs::remove_dir(layer.join("lost+found"));
    }
    Ok(layer)
}

/// The minimum size in bytes of a file system, which needs space for itself.
const MIN_DISK: u64 = 2 << 20;

fn run(command: &mut Command) -> Result<()> {
    let output = command
        .output()
        .with_context(|| format!("run {}", command.get_program().to_string_lossy()))?;
    if !output.status.success() {
        bail!(
            "{}: {}",
            command.get_program().to_string_lossy(),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}

fn own(path: &Path, id: u32, mode: u32) -> Result<()> {
    chown(path, Some(Uid::from_raw(id)), Some(Gid::from_raw(id)))
        .with_context(|| format!("change the owner of {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .with_context(|| format!("set the mode of {}", path.display()))
}

/// Writes a file into the upper layer before the overlay is mounted. The layer contains only what we made.
fn write_file(upper: &Path, path: &str, content: &str, base_id: u32) -> Result<()> {
    let mut place = upper.to_owned();
    let mut names = Path::new(path.trim_start_matches('/'))
        .components()
        .peekable();
    while let Some(name) = names.next() {
        place.push(name);
        if names.peek().is_none() {
            fs::write(&place, content).with_context(|| format!("write {}", place.display()))?;
            own(&place, base_id, 0o644)?;
        } else if !place.is_dir() {
            fs::create_dir(&place).with_context(|| format!("make {}", place.display()))?;
            own(&place, base_id, 0o755)?;
        }
    }
    Ok(())
}

fn bind_mount(root: &File, bind: &Bind, base_id: u32) -> Result<()> {
    let directory = fs::metadata(&bind.host)
        .context("look at the source")?
        .is_dir();
    let target = target_in(root, &bind.container, directory, base_id)?;
    let target = format!("/proc/self/fd/{}", target.as_raw_fd());
    mount(
        Some(&bind.host),
        target.as_str(),
        NONE,
        MsFlags::MS_BIND | MsFlags::MS_REC,
        NONE,
    )?;
    // The descriptor still refers to the directory below the new mount, so the place is looked up again.
    let place = in_root(root.as_fd(), Path::new(&bind.container), OFlag::O_PATH)?;
    let place = format!("/proc/self/fd/{}", place.as_raw_fd());
    let mut flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    flags.set(MsFlags::MS_RDONLY, bind.read_only);
    mount(NONE, place.as_str(), NONE, flags, NONE).context("set the mount's flags")
}

/// Returns the place for a mount. It is created if missing. Links of the stack are followed as the container would follow them.
fn target_in(root: &File, path: &str, directory: bool, base_id: u32) -> Result<OwnedFd> {
    let mut parent: OwnedFd = root.try_clone()?.into();
    let mut so_far = PathBuf::from("/");
    let names: Vec<&str> = path
        .split('/')
        .filter(|name| !name.is_empty() && *name != ".")
        .collect();
    for (i, name) in names.iter().enumerate() {
        so_far.push(name);
        parent = match in_root(root.as_fd(), &so_far, OFlag::O_PATH) {
            Ok(found) => found,
            Err(nix::Error::ENOENT) => {
                if i + 1 < names.len() || directory {
                    mkdirat(&parent, *name, Mode::from_bits_truncate(0o755))
                        .with_context(|| format!("make {}", so_far.display()))?;
                } else {
                    let how = OpenHow::new()
                        .flags(OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY)
                        .mode(Mode::from_bits_truncate(0o644));
                    drop(
                        openat2(&parent, *name, how)
                            .with_context(|| format!("make {}", so_far.display()))?,
                    );
                }
                let made = in_root(root.as_fd(), &so_far, OFlag::O_RDONLY)?;
                fchown(
                    &made,
                    Some(Uid::from_raw(base_id)),
                    Some(Gid::from_raw(base_id)),
                )?;
                in_root(root.as_fd(), &so_far, OFlag::O_PATH)?
            }
            Err(error) => return Err(error).with_context(|| format!("open {}", so_far.display())),
        };
    }
    Ok(parent)
}

fn in_root(root: impl AsFd, path: &Path, flags: OFlag) -> nix::Result<OwnedFd> {
    openat2(
        root,
        path,
        OpenHow::new()
            .flags(flags | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT),
    )
}

/// Unmounts now rather than when the namespace ends, so that the loop device is free when the shim has answered.
pub(crate) fn unmount_root(setup: &Setup) {
    for place in [setup.root.clone(), setup.dir.join("layer")] {
        let _ = umount2(&place, MntFlags::MNT_DETACH);
    }
}
