//! Mounts a stack so that its ids are those of containers: root is 0 on disk, and the base id when seen through the mount.
//!
//! Only this module uses `unsafe`: these system calls have no safe wrapper yet, and Debian 12's mount command has no option for
//! them.

use super::config::ID_COUNT;
use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use std::ffi::CString;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// Mounts `source` at `target`, read-only, with ids shifted by `base`.
pub(crate) fn mount_shifted(inside: &Path, source: &Path, target: &Path, base: u32) -> Result<()> {
    let namespace = user_namespace(inside, base)?;
    let tree =
        open_tree(source).with_context(|| format!("clone the mount of {}", source.display()))?;
    shift(&tree, &namespace).with_context(|| {
        format!(
            "map the ids of {} (needs Linux 5.12, and 5.19 for overlays)",
            source.display()
        )
    })?;
    move_mount(&tree, target).with_context(|| format!("mount on {}", target.display()))
}

pub(crate) fn unmount(target: &Path) -> Result<()> {
    match umount2(target, MntFlags::MNT_DETACH) {
        Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("unmount {}", target.display())),
    }
}

/// Returns whether something is mounted at exactly this path.
pub(crate) fn is_mounted(target: &Path) -> bool {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let target = target.to_string_lossy();
    mounts
        .lines()
        .any(|line| line.split(' ').nth(1) == Some(&*target))
}

/// Creates a user namespace with the mapping of a container. Only a process can create one; ours ends at once.
fn user_namespace(inside: &Path, base: u32) -> Result<File> {
    let mut command = Command::new(inside);
    std::os::unix::process::CommandExt::arg0(&mut command, "inside");
    let mut child = command
        .arg("userns")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("run {}", inside.display()))?;
    let made = (|| {
        let mut line = String::new();
        BufReader::new(
            child
                .stdout
                .take()
                .context("the child has no standard output")?,
        )
        .read_line(&mut line)
        .context("read its answer")?;
        if line.trim() != "ready" {
            bail!("no user namespace can be made; check sysctl user.max_user_namespaces");
        }
        let process = format!("/proc/{}", child.id());
        for map in ["uid_map", "gid_map"] {
            fs::write(format!("{process}/{map}"), format!("0 {base} {ID_COUNT}\n"))
                .with_context(|| format!("write {map}"))?;
        }
        File::open(format!("{process}/ns/user")).context("open the user namespace")
    })();
    drop(child.stdin.take());
    let _ = child.wait();
    made
}

fn c_path(path: &Path) -> Result<CString> {
    CString::new(path.as_os_str().as_bytes()).context("the path contains a NUL byte")
}

fn open_tree(source: &Path) -> Result<OwnedFd> {
    let path = c_path(source)?;
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC;
    // SAFETY: the path is a NUL-terminated string that lives through the call; nothing else is passed by reference.
    #[expect(unsafe_code, reason = "no safe wrapper")]
    let fd = unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) };
    let fd = Errno::result(fd)?;
    // SAFETY: the kernel has just given us this descriptor, and nobody else knows it.
    #[expect(unsafe_code, reason = "a raw descriptor becomes an owned one")]
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

fn shift(tree: &OwnedFd, namespace: &File) -> Result<()> {
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_IDMAP | libc::MOUNT_ATTR_RDONLY,
        attr_clr: 0,
        propagation: libc::MS_PRIVATE,
        userns_fd: namespace.as_raw_fd() as u64,
    };
    // SAFETY: the empty path is a NUL-terminated literal; the struct is the kernel's own layout, lives through the call,
    // and its exact size is passed.
    #[expect(unsafe_code, reason = "no safe wrapper")]
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    Errno::result(result)?;
    Ok(())
}

fn move_mount(tree: &OwnedFd, target: &Path) -> Result<()> {
    let target = c_path(target)?;
    // SAFETY: both paths are NUL-terminated strings that live through the call.
    #[expect(unsafe_code, reason = "no safe wrapper")]
    let result = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            target.as_ptr(),
            libc::MOVE_MOUNT_F_EMPTY_PATH,
        )
    };
    Errno::result(result)?;
    Ok(())
}
