//! Locks of a data directory and of the machine: which process runs a role, changes the plan, or chooses ports.

use crate::role::Role;
use anyhow::{Context as _, Result, bail};
use std::fs::{File, TryLockError};
use std::path::Path;

/// Locks on the roles of one data directory that this process runs, so that no other process runs the same roles. The locks are
/// released when the process ends, however it ends.
#[derive(Debug)]
pub(crate) struct RoleLocks {
    _files: Vec<File>,
}

impl RoleLocks {
    pub(crate) fn acquire(data: &Path, roles: &[Role]) -> Result<Self> {
        let mut files = Vec::new();
        for role in Role::ALL.iter().filter(|r| roles.contains(r)) {
            let file = lock_file(data, role.name())?;
            match file.try_lock() {
                Ok(()) => files.push(file),
                Err(TryLockError::WouldBlock) => bail!(
                    "data directory {} is in use: another cupola runs its role {}; stop that one, or choose another directory with --data",
                    data.display(),
                    role.name()
                ),
                Err(TryLockError::Error(error)) => {
                    return Err(error)
                        .with_context(|| format!("lock {}/{}.lock", data.display(), role.name()));
                }
            }
        }
        Ok(Self { _files: files })
    }
}

/// A lock that is held while the plan, the certificate authorities or the operator's certificate are read, created or changed.
#[derive(Debug)]
pub(crate) struct PlanLock {
    _file: File,
}

impl PlanLock {
    pub(crate) async fn acquire(data: &Path) -> Result<Self> {
        let (data, file) = (data.to_owned(), lock_file(data, "plan")?);
        tokio::task::spawn_blocking(move || {
            file.lock()
                .with_context(|| format!("lock {}/plan.lock", data.display()))?;
            Ok(Self { _file: file })
        })
        .await?
    }
}

/// A lock that a foundation holds at its first start, from choosing free ports until it listens on them. Other foundations that
/// start at the same time on this machine choose their ports after it.
#[derive(Debug)]
pub(crate) struct FirstStart {
    _folder: File,
}

impl FirstStart {
    pub(crate) async fn acquire() -> Result<Self> {
        tokio::task::spawn_blocking(|| {
            let folder = File::open("/var/lib").context("open /var/lib")?;
            folder.lock().context("lock /var/lib")?;
            Ok(Self { _folder: folder })
        })
        .await?
    }
}

fn lock_file(data: &Path, name: &str) -> Result<File> {
    use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(data)
        .with_context(|| format!("create data directory {}", data.display()))?;
    let path = data.join(format!("{name}.lock"));
    File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path)
        .with_context(|| format!("open {}", path.display()))
}
