//! Undoes a breakage. A file keeps the steps; every step can be run again, and does nothing if there is nothing to undo.

use crate::plan::Plan;
use anyhow::{Context as _, Result};
use kit::private_file;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use wire::router::{RegistryMessage, subject};

/// The breakage that is made now.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) exercise: u8,
    /// The time at which the guard repairs, in seconds since 1970.
    pub(super) deadline: u64,
    pub(super) undo: Vec<Undo>,
}

/// One step. Rules of iptables need none, because all marked rules are removed.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Undo {
    /// Lets a process continue. `started` is its start time, so that no other process with its number is meant.
    Continue { pid: i32, started: String },
    /// Unregisters an endpoint that does not exist.
    Unregister { message: Box<RegistryMessage> },
    /// Puts a file back that was kept elsewhere.
    PutBack { file: PathBuf, kept: PathBuf },
}

impl Record {
    pub(super) fn read(data: &Path) -> Result<Option<Self>> {
        let path = path(data);
        match std::fs::read_to_string(&path) {
            Ok(text) => serde_json::from_str(&text)
                .map(Some)
                .with_context(|| format!("read {}", path.display())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
        }
    }

    pub(super) fn write(&self, data: &Path) -> Result<()> {
        private_file::replace(&path(data), &serde_json::to_string_pretty(self)?)
    }

    pub(super) fn remove(data: &Path) -> Result<()> {
        let path = path(data);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).with_context(|| format!("remove {}", path.display()))
            }
            _ => Ok(()),
        }
    }
}

fn path(data: &Path) -> PathBuf {
    data.join("lesson-breakage.json")
}

impl Undo {
    pub(super) async fn run(&self, data: &Path, plan: &Plan) -> Result<()> {
        match self {
            Self::Continue { pid, started } => {
                if start_time(*pid).as_ref() == Some(started) {
                    // The process may have ended since.
                    let _ = kill(Pid::from_raw(*pid), Signal::SIGCONT);
                }
                Ok(())
            }
            Self::Unregister { message } => {
                // A bus that is stopped has no router that knows the endpoint.
                let _ = publish(data, plan, subject::UNREGISTER, message).await;
                Ok(())
            }
            Self::PutBack { file, kept } => put_back(file, kept),
        }
    }
}

/// Publishes a message about an endpoint on the foundation's bus.
pub(super) async fn publish(
    data: &Path,
    plan: &Plan,
    subject: &'static str,
    message: &RegistryMessage,
) -> Result<()> {
    let bus = crate::nats_command::bus(data, plan)?;
    let publishing = async {
        let client = clients::nats::connect(&bus, "lesson", |_| async {}).await?;
        let payload = serde_json::to_vec(message)?;
        client.publish(subject, payload.into()).await?;
        client.flush().await?;
        anyhow::Ok(())
    };
    let limit = std::time::Duration::from_secs(5);
    tokio::time::timeout(limit, publishing)
        .await
        .context("the message bus did not answer within 5 s")?
}

/// Puts the kept file in its place again. Both may have gone together with their container.
fn put_back(file: &Path, kept: &Path) -> Result<()> {
    if !kept.exists() {
        return Ok(());
    }
    std::fs::rename(kept, file).with_context(|| format!("put {} back", file.display()))
}

/// Returns the time at which a process started, as the kernel counts; nothing if there is no such process.
pub(super) fn start_time(pid: i32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may have spaces. The start time is field 22, the 20th after the name.
    let (_, fields) = stat.rsplit_once(") ")?;
    fields.split(' ').nth(19).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_kept_until_it_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Record::read(folder.path()).unwrap().is_none());
        let record = Record {
            exercise: 4,
            deadline: 7,
            undo: vec![Undo::Continue {
                pid: 1,
                started: "2".into(),
            }],
        };
        record.write(folder.path()).unwrap();
        let read = Record::read(folder.path()).unwrap().unwrap();
        assert_eq!((read.exercise, read.deadline, read.undo.len()), (4, 7, 1));
        Record::remove(folder.path()).unwrap();
        Record::remove(folder.path()).unwrap();
        assert!(Record::read(folder.path()).unwrap().is_none());
    }

    #[test]
    fn a_file_is_put_back_once() {
        let folder = tempfile::tempdir().unwrap();
        let (file, kept) = (folder.path().join("file"), folder.path().join("kept"));
        std::fs::write(&file, "wrong").unwrap();
        std::fs::write(&kept, "right").unwrap();
        put_back(&file, &kept).unwrap();
        put_back(&file, &kept).unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "right");
    }

    #[test]
    fn the_start_time_of_a_process_is_a_number() {
        let own = i32::try_from(std::process::id()).unwrap();
        let started = start_time(own).unwrap();
        assert!(started.parse::<u64>().is_ok(), "{started}");
        assert_eq!(start_time(-1), None);
    }
}
