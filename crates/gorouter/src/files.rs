//! Files beside the configuration: the pid file, and the socket by which systemd is notified.

use anyhow::{Context as _, Result};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};

/// Reads a file. `key` is the configuration key that the error names.
pub(super) fn read_text(path: &Path, key: &str) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| {
        format!(
            "{key} {}: the file cannot be read: does it exist, and may this process read it?",
            path.display()
        )
    })
}

/// A file that holds this process's id while it serves. It is removed at the end.
#[derive(Debug)]
pub(super) struct PidFile {
    path: Option<PathBuf>,
    written: bool,
}

impl PidFile {
    /// Creates the value; `None` means that no pid file is configured.
    pub(super) fn new(path: Option<PathBuf>) -> Self {
        Self {
            path,
            written: false,
        }
    }

    pub(super) fn write(&mut self) -> Result<()> {
        let Some(path) = &self.path else {
            return Ok(());
        };
        let pid = format!("{}\n", std::process::id());
        std::fs::write(path, pid).with_context(|| {
            format!(
                "pid_file {}: does its directory exist, and may this process write there?",
                path.display()
            )
        })?;
        self.written = true;
        Ok(())
    }

    /// Leaves the file on disk, because it belongs to the successor now.
    pub(super) fn leave(&mut self) {
        self.written = false;
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if let Some(path) = self.path.take().filter(|_| self.written) {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Notifies systemd, if it requested that, that this process serves and is the service's main process.
pub(super) fn notify_systemd() {
    let Ok(socket) = std::env::var("NOTIFY_SOCKET") else {
        return;
    };
    let send = || {
        let address = match socket.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(&socket)?,
        };
        let message = format!("READY=1\nMAINPID={}\n", std::process::id());
        UnixDatagram::unbound()?.send_to_addr(message.as_bytes(), &address)
    };
    if let Err(error) = send() {
        tracing::warn!(%error, socket, "systemd-not-notified");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_file_is_removed_only_by_its_process() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pid");
        let mut file = PidFile::new(Some(path.clone()));
        file.write().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.trim(), std::process::id().to_string());
        let mut successor = PidFile::new(Some(path.clone()));
        successor.write().unwrap();
        file.leave();
        drop(file);
        assert!(path.exists());
        drop(successor);
        assert!(!path.exists());
        let nowhere = PidFile::new(Some(folder.path().join("no/pid"))).write();
        assert!(nowhere.unwrap_err().to_string().starts_with("pid_file "));
    }
}
