//! Processes in containers, and file transfers that use processes.

use super::garden::LinuxGarden;
use super::passwd::User;
use super::record::{self, Record, write_private};
use super::{oci, preflight, shim};
use crate::api::{GardenError, Output, Process, ProcessSpec, Signal};
use anyhow::{Context, Result, anyhow, bail};
use shim_protocol::{Reply, Run};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

/// The first character of the ids of garden's own processes, which are hidden from others.
pub(super) const OWN: char = '~';

impl LinuxGarden {
    pub(super) async fn run_process(
        &self,
        handle: &str,
        spec: ProcessSpec,
    ) -> Result<Process, GardenError> {
        let record = self.record(handle)?;
        if spec.id.is_empty() || spec.id.starts_with(OWN) {
            return Err(anyhow!(
                "process id {:?}: expected a name that does not begin with {OWN}",
                spec.id
            )
            .into());
        }
        if !spec.sidecar && record.app_env.is_empty() && !spec.env.is_empty() {
            self.remember_env(handle, &spec.env)?;
        }
        let user = record::user(&self.root(&record)?, &spec.user)?;
        let env = oci::environment(&user, &record.env, &spec.env);
        let dir = if spec.dir.is_empty() {
            &user.home
        } else {
            &spec.dir
        };
        let args: Vec<String> = std::iter::once(spec.path.clone())
            .chain(spec.args)
            .collect();
        let process = oci::process(&user, &args, &env, dir, preflight::nofile(spec.nofile));
        let run = Run {
            id: spec.id,
            process: PathBuf::new(),
            sidecar: spec.sidecar,
            stdin: None,
            stdout: None,
        };
        self.start(&record, run, process, &spec.path).await
    }

    /// Stores the environment of the first process that is no sidecar. That process is the app, and operators' commands need its
    /// environment.
    fn remember_env(&self, handle: &str, env: &[(String, String)]) -> Result<()> {
        let mut table = self.table();
        let Some(record) = table.containers.get_mut(handle) else {
            return Ok(());
        };
        record.app_env = env.to_vec();
        record.save(&self.paths)
    }

    async fn start(
        &self,
        record: &Record,
        mut run: Run,
        mut process: serde_json::Value,
        path: &str,
    ) -> Result<Process, GardenError> {
        let name: String = run
            .id
            .chars()
            .map(|c| {
                if c.is_ascii_alphanumeric() || "-_.~".contains(c) {
                    c
                } else {
                    '_'
                }
            })
            .collect();
        run.process = self
            .paths
            .container(&record.key)
            .join("processes")
            .join(format!("{name}.json"));
        // crun ignores an additional field. The id is found again by it.
        process["id"] = run.id.clone().into();
        write_private(
            &run.process,
            &serde_json::to_vec(&process).map_err(anyhow::Error::from)?,
        )?;
        let id = run.id.clone();
        match shim::run(&self.paths.socket(&record.key), run).await? {
            Ok(process) => Ok(process),
            Err(Reply::CannotExecute(reason)) => Err(GardenError::CannotExecute {
                path: path.to_owned(),
                reason,
            }),
            Err(Reply::Failed(reason)) => {
                Err(anyhow!("run {id} in container {}: {reason}", record.handle).into())
            }
            Err(other) => Err(anyhow!(
                "run {id} in container {}: the shim answered {other:?}",
                record.handle
            )
            .into()),
        }
    }

    pub(super) async fn attach_process(
        &self,
        handle: &str,
        id: &str,
    ) -> Result<Process, GardenError> {
        let record = self.record(handle)?;
        match shim::attach(&self.paths.socket(&record.key), id).await {
            Ok(Ok(process)) => Ok(process),
            Ok(Err(_)) => Err(GardenError::ProcessNotFound {
                handle: handle.to_owned(),
                process: id.to_owned(),
            }),
            Err(error) => match self.exits_on_disk(&record).get(id) {
                Some(exit) => {
                    tracing::warn!(
                        handle,
                        process = id,
                        error = format!("{error:#}"),
                        "the container's shim is gone"
                    );
                    Ok(exit.map_or_else(|| shim::unwatched(id), |exit| shim::ended(id, exit)))
                }
                None => Err(error.into()),
            },
        }
    }

    pub(super) async fn signal_process(
        &self,
        handle: &str,
        id: &str,
        signal: Signal,
    ) -> Result<(), GardenError> {
        let record = self.record(handle)?;
        let number = match signal {
            Signal::Term => libc::SIGTERM,
            Signal::Kill => libc::SIGKILL,
        };
        match shim::signal(&self.paths.socket(&record.key), id, number).await? {
            Reply::Done => Ok(()),
            Reply::UnknownProcess => Err(GardenError::ProcessNotFound {
                handle: handle.to_owned(),
                process: id.to_owned(),
            }),
            other => Err(
                anyhow!("signal {id} in container {handle}: the shim answered {other:?}").into(),
            ),
        }
    }

    pub(super) async fn unpack(
        &self,
        handle: &str,
        directory: &str,
        user: &str,
        tar: PathBuf,
    ) -> Result<(), GardenError> {
        let record = self.record(handle)?;
        let user = record::user(&self.root(&record)?, user)?;
        let directory = &from_home(&user, directory);
        let args = [
            oci::INSIDE.to_owned(),
            "untar".to_owned(),
            directory.clone(),
            user.uid.to_string(),
            user.gid.to_string(),
        ];
        let run = Run {
            id: own_id("untar"),
            process: PathBuf::new(),
            sidecar: false,
            stdin: Some(tar),
            stdout: None,
        };
        Ok(self
            .complete(&record, run, &args)
            .await
            .with_context(|| format!("stream into {directory} of container {handle}"))?)
    }

    pub(super) async fn pack(
        &self,
        handle: &str,
        path: &str,
        user: &str,
        tar: PathBuf,
    ) -> Result<(), GardenError> {
        let record = self.record(handle)?;
        let path = &from_home(&record::user(&self.root(&record)?, user)?, path);
        let args = [oci::INSIDE.to_owned(), "tar".to_owned(), path.clone()];
        let run = Run {
            id: own_id("tar"),
            process: PathBuf::new(),
            sidecar: false,
            stdin: None,
            stdout: Some(tar),
        };
        Ok(self
            .complete(&record, run, &args)
            .await
            .with_context(|| format!("stream {path} out of container {handle}"))?)
    }

    /// Runs one of our own programs in the container as root, to its end.
    async fn complete(&self, record: &Record, run: Run, args: &[String]) -> Result<()> {
        let root = User {
            name: "root".to_owned(),
            uid: 0,
            gid: 0,
            groups: Vec::new(),
            home: "/".to_owned(),
        };
        let process = oci::process(
            &root,
            args,
            &oci::environment(&root, &[], &[]),
            "/",
            preflight::nofile(0),
        );
        let mut process = self.start(record, run, process, &args[0]).await?;
        let mut complaint = Vec::new();
        while let Some(Output::Stdout(chunk) | Output::Stderr(chunk)) = process.output.recv().await
        {
            complaint
                .extend_from_slice(&chunk[..chunk.len().min(4096 - complaint.len().min(4096))]);
        }
        let exit = process
            .exit
            .await
            .context("the process has no exit status")?;
        if exit.status != 0 {
            let killed = if exit.out_of_memory {
                " (out of memory)"
            } else {
                ""
            };
            bail!(
                "{} (exit status {}{killed})",
                String::from_utf8_lossy(&complaint).trim(),
                exit.status
            );
        }
        Ok(())
    }
}

/// Returns an absolute path. A relative path starts at the user's home.
fn from_home(user: &User, path: &str) -> String {
    if path.starts_with('/') {
        return path.to_owned();
    }
    // The text is kept as it is, because a trailing slash marks a folder.
    format!(
        "{}/{}",
        user.home.trim_end_matches('/'),
        path.trim_start_matches("./")
    )
}

fn own_id(what: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    // The id is also unique among runs of this program, because the shim remembers ids for a while.
    format!(
        "{OWN}{what}-{}-{}",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_paths_start_at_the_home() {
        let user = User {
            name: "vcap".into(),
            uid: 2000,
            gid: 2000,
            groups: vec![],
            home: "/home/vcap".into(),
        };
        for (path, whole) in [
            ("/tmp/x", "/tmp/x"),
            ("app/", "/home/vcap/app/"),
            ("./a/b", "/home/vcap/a/b"),
            (".", "/home/vcap/."),
            ("", "/home/vcap/"),
        ] {
            assert_eq!(from_home(&user, path), whole);
        }
    }
}
