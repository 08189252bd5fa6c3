//! Action trees: processes, downloads, uploads, and their combinations.
//!
//! An action's position in its tree names its process and its journal entry. So a restarted rep walks the same tree again: it
//! attaches to processes that were started and skips transfers that are done.

use crate::cell::Cell;
use crate::instance::logs::Logs;
use crate::instance::process;
use crate::instance::record::ContainerDir;
use crate::supply::archive;
use crate::supply::transfer::Checksum;
use anyhow::anyhow;
use clients::loggregator::Stream;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt as _};
use garden::api::{Exit, ProcessSpec};
use go_values::{duration, quantity};
use kit::CancellationToken;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use wire::bbs::{Action, DownloadAction, RunAction, UploadAction};

const DEFAULT_USER: &str = "vcap";

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StepError {
    /// The step was asked to end and has ended.
    Cancelled,
    /// The step failed. The text is shown to users.
    Failed(String),
}

pub(crate) type StepResult = Result<(), StepError>;

/// The values that all actions of one container need.
#[derive(Clone, Debug)]
pub(crate) struct Steps {
    pub(crate) cell: Arc<Cell>,
    pub(crate) handle: String,
    pub(crate) logs: Logs,
    /// The `CF_INSTANCE_*` variables of every process.
    pub(crate) env: Vec<(String, String)>,
    pub(crate) dir: Arc<ContainerDir>,
    /// The number of bytes that the container may use. No download unpacks to more.
    pub(crate) disk: u64,
    /// The ids of processes that an earlier rep started.
    pub(crate) started: Arc<BTreeSet<String>>,
}

impl Steps {
    /// Performs `action`, whose position in its tree is `at` (`setup`, `action-0-1`). Lines go to `source` unless the action
    /// names another.
    pub(crate) fn perform<'a>(
        &'a self,
        action: &'a Action,
        at: String,
        source: &'a str,
        cancel: CancellationToken,
    ) -> BoxFuture<'a, StepResult> {
        Box::pin(async move {
            if let Some(run) = &action.run {
                self.run(run, &at, source, &cancel).await
            } else if let Some(download) = &action.download {
                self.once(&at, &cancel, self.download(download, source))
                    .await
            } else if let Some(upload) = &action.upload {
                self.once(&at, &cancel, self.upload(upload, source)).await
            } else if let Some(timeout) = &action.timeout {
                let limit = Duration::from_millis(u64::try_from(timeout.timeout_ms).unwrap_or(0));
                let Some(inner) = &timeout.action else {
                    return Ok(());
                };
                self.within(limit, inner, at, pick(&timeout.log_source, source), cancel)
                    .await
            } else if let Some(progress) = &action.emit_progress {
                let source = pick(&progress.log_source, source);
                let Some(inner) = &progress.action else {
                    return Ok(());
                };
                self.log(source, Stream::Out, &progress.start_message);
                let result = self.perform(inner, at, source, cancel).await;
                match &result {
                    Ok(()) => self.log(source, Stream::Out, &progress.success_message),
                    Err(StepError::Failed(reason))
                        if !progress.failure_message_prefix.is_empty() =>
                    {
                        self.log(
                            source,
                            Stream::Err,
                            &format!("{}: {reason}", progress.failure_message_prefix),
                        )
                    }
                    Err(_) => {}
                }
                result
            } else if let Some(attempt) = &action.try_ {
                let Some(inner) = &attempt.action else {
                    return Ok(());
                };
                match self
                    .perform(inner, at, pick(&attempt.log_source, source), cancel)
                    .await
                {
                    Err(StepError::Failed(_)) => Ok(()),
                    other => other,
                }
            } else if let Some(parallel) = &action.parallel {
                self.parallel(
                    &parallel.actions,
                    &at,
                    pick(&parallel.log_source, source),
                    &cancel,
                )
                .await
            } else if let Some(serial) = &action.serial {
                for (n, inner) in serial.actions.iter().enumerate() {
                    self.perform(
                        inner,
                        format!("{at}-{n}"),
                        pick(&serial.log_source, source),
                        cancel.clone(),
                    )
                    .await?;
                }
                Ok(())
            } else if let Some(codependent) = &action.codependent {
                let source = pick(&codependent.log_source, source);
                let together = cancel.child_token();
                let steps = codependent
                    .actions
                    .iter()
                    .enumerate()
                    .map(|(n, inner)| {
                        self.perform(inner, format!("{at}-{n}"), source, together.clone())
                    })
                    .collect();
                codependent_steps(steps, &together).await
            } else {
                Err(StepError::Failed(
                    "the action is of an unknown kind".to_owned(),
                ))
            }
        })
    }

    async fn within(
        &self,
        limit: Duration,
        action: &Action,
        at: String,
        source: &str,
        cancel: CancellationToken,
    ) -> StepResult {
        let inner = cancel.child_token();
        let step = self.perform(action, at, source, inner.clone());
        tokio::pin!(step);
        tokio::select! {
            result = &mut step => result,
            () = tokio::time::sleep(limit) => {
                inner.cancel();
                match step.await {
                    Err(StepError::Cancelled) if !cancel.is_cancelled() => Err(StepError::Failed(format!("exceeded {} timeout", duration::show(limit)))),
                    result => result,
                }
            }
        }
    }

    /// Runs all actions to their end. The error combines all failures.
    async fn parallel(
        &self,
        actions: &[Action],
        at: &str,
        source: &str,
        cancel: &CancellationToken,
    ) -> StepResult {
        let steps = actions
            .iter()
            .enumerate()
            .map(|(n, inner)| self.perform(inner, format!("{at}-{n}"), source, cancel.clone()));
        let mut failures = Vec::new();
        let mut cancelled = false;
        for result in futures::future::join_all(steps).await {
            match result {
                Ok(()) => {}
                Err(StepError::Cancelled) => cancelled = true,
                Err(StepError::Failed(reason)) => failures.push(reason),
            }
        }
        match (failures.is_empty(), cancelled) {
            (true, false) => Ok(()),
            (true, true) => Err(StepError::Cancelled),
            (false, _) => Err(StepError::Failed(failures.join("; "))),
        }
    }

    /// Performs work that is not a process. It is done only once, even if the rep restarts.
    async fn once(
        &self,
        at: &str,
        cancel: &CancellationToken,
        work: impl Future<Output = StepResult>,
    ) -> StepResult {
        if self.dir.is_done(at) {
            return Ok(());
        }
        tokio::select! {
            () = cancel.cancelled() => Err(StepError::Cancelled),
            result = work => {
                if result.is_ok() {
                    self.dir.record_done(at);
                }
                result
            }
        }
    }

    async fn run(
        &self,
        action: &RunAction,
        at: &str,
        source: &str,
        cancel: &CancellationToken,
    ) -> StepResult {
        if cancel.is_cancelled() {
            return Err(StepError::Cancelled);
        }
        let source = pick(&action.log_source, source);
        let mut env = self.env.clone();
        env.extend(action.env.iter().map(|v| (v.name.clone(), v.value.clone())));
        let spec = ProcessSpec {
            id: at.to_owned(),
            path: action.path.clone(),
            args: action.args.clone(),
            env,
            dir: action.dir.clone(),
            user: action.user.clone(),
            nofile: action
                .resource_limits
                .as_ref()
                .and_then(|limits| limits.nofile)
                .unwrap_or(0),
            sidecar: false,
        };
        self.process(spec, source, action.suppress_log_output, cancel)
            .await
    }

    /// Runs (or attaches to) one process and writes its end to the log.
    pub(crate) async fn process(
        &self,
        spec: ProcessSpec,
        source: &str,
        quiet: bool,
        cancel: &CancellationToken,
    ) -> StepResult {
        let started = self.started.contains(&spec.id);
        let run = process::Run {
            garden: self.cell.garden.as_ref(),
            handle: &self.handle,
            spec,
            started,
            lines: (!quiet).then(|| self.logs.lines(source)),
            keep: 0,
            grace: self.cell.settings.timing.grace,
        };
        let ended = match process::run(run, cancel).await {
            Ok(ended) => ended,
            Err(error) => {
                let reason = format!("{error:#}");
                self.log(source, Stream::Err, &reason);
                return Err(StepError::Failed(prefixed(source, &reason)));
            }
        };
        if !quiet {
            self.log(
                source,
                Stream::Out,
                &format!("Exit status {}", status(ended.exit)),
            );
        }
        if ended.cancelled {
            return Err(StepError::Cancelled);
        }
        match ended.exit.status {
            0 => Ok(()),
            _ => Err(StepError::Failed(prefixed(
                source,
                &format!("Exited with status {}", status(ended.exit)),
            ))),
        }
    }

    async fn download(&self, action: &DownloadAction, source: &str) -> StepResult {
        let source = pick(&action.log_source, source);
        if !action.artifact.is_empty() {
            self.log(
                source,
                Stream::Out,
                &format!("Downloading {}...", action.artifact),
            );
        }
        match self.download_into(action).await {
            Ok(size) => {
                if !action.artifact.is_empty() {
                    self.log(
                        source,
                        Stream::Out,
                        &format!("Downloaded {} ({})", action.artifact, quantity::show(size)),
                    );
                }
                Ok(())
            }
            Err(error) => self.transfer_failed(source, "download", &action.artifact, &error),
        }
    }

    async fn download_into(&self, action: &DownloadAction) -> anyhow::Result<u64> {
        let checksum = Checksum {
            algorithm: &action.checksum_algorithm,
            value: &action.checksum_value,
        };
        let content = self
            .cell
            .cache
            .file(&action.from, &action.cache_key, &checksum)
            .await?;
        let tar = self.cell.cache.transfers.temp_file();
        let (from, to) = (content.path().to_owned(), tar.path().to_owned());
        let limit = self.disk;
        tokio::task::spawn_blocking(move || archive::to_tar(&from, &to, limit)).await??;
        self.cell
            .garden
            .stream_in(
                &self.handle,
                &action.to,
                user_of(&action.user),
                tar.path().to_owned(),
            )
            .await
            .map_err(|error| anyhow!("{error}"))?;
        Ok(content.size)
    }

    async fn upload(&self, action: &UploadAction, source: &str) -> StepResult {
        let source = pick(&action.log_source, source);
        if !action.artifact.is_empty() {
            self.log(
                source,
                Stream::Out,
                &format!("Uploading {}...", action.artifact),
            );
        }
        match self.upload_from(action).await {
            Ok(size) => {
                if !action.artifact.is_empty() {
                    self.log(
                        source,
                        Stream::Out,
                        &format!("Uploaded {} ({})", action.artifact, quantity::show(size)),
                    );
                }
                Ok(())
            }
            Err(error) => self.transfer_failed(source, "upload", &action.artifact, &error),
        }
    }

    async fn upload_from(&self, action: &UploadAction) -> anyhow::Result<u64> {
        let transfers = &self.cell.cache.transfers;
        let (tar, file) = (transfers.temp_file(), transfers.temp_file());
        self.cell
            .garden
            .stream_out(
                &self.handle,
                &action.from,
                user_of(&action.user),
                tar.path().to_owned(),
            )
            .await
            .map_err(|error| anyhow!("{error}"))?;
        let (from, to) = (tar.path().to_owned(), file.path().to_owned());
        let size = tokio::task::spawn_blocking(move || archive::first_file(&from, &to)).await??;
        transfers.upload(&action.to, file.path()).await?;
        Ok(size)
    }

    fn transfer_failed(
        &self,
        source: &str,
        verb: &str,
        artifact: &str,
        error: &anyhow::Error,
    ) -> StepResult {
        let artifact = if artifact.is_empty() {
            "a file"
        } else {
            artifact
        };
        let reason = format!("Failed to {verb} {artifact}: {error:#}");
        self.log(source, Stream::Err, &reason);
        Err(StepError::Failed(reason))
    }

    fn log(&self, source: &str, stream: Stream, text: &str) {
        if !text.is_empty() {
            self.logs.line(source, stream, text);
        }
    }
}

fn user_of(wanted: &str) -> &str {
    if wanted.is_empty() {
        DEFAULT_USER
    } else {
        wanted
    }
}

/// Runs steps together. The first failure cancels the others, and `first` receives it before they have ended. A success cancels
/// them only if `cancel_on_success`.
pub(crate) async fn long_lived_steps(
    steps: Vec<BoxFuture<'_, StepResult>>,
    cancel_on_success: bool,
    cancel: &CancellationToken,
    first: impl FnOnce(&StepResult),
) -> StepResult {
    let mut running: FuturesUnordered<_> = steps.into_iter().collect();
    while let Some(ended) = running.next().await {
        if ended.is_err() || cancel_on_success || running.is_empty() {
            first(&ended);
            cancel.cancel();
            while running.next().await.is_some() {}
            return ended;
        }
    }
    Ok(())
}

/// Runs steps that depend on each other: the first one that ends, even successfully, is a failure and cancels the others.
pub(crate) async fn codependent_steps(
    steps: Vec<BoxFuture<'_, StepResult>>,
    cancel: &CancellationToken,
) -> StepResult {
    let mut running: FuturesUnordered<_> = steps.into_iter().collect();
    let Some(ended) = running.next().await else {
        return Ok(());
    };
    let result = match ended {
        Ok(()) => Err(StepError::Failed("Codependent step exited".to_owned())),
        other => other,
    };
    cancel.cancel();
    while running.next().await.is_some() {}
    result
}

fn pick<'a>(own: &'a str, inherited: &'a str) -> &'a str {
    if own.is_empty() { inherited } else { own }
}

fn prefixed(source: &str, reason: &str) -> String {
    if source.is_empty() {
        reason.to_owned()
    } else {
        format!("{source}: {reason}")
    }
}

fn status(exit: Exit) -> String {
    if exit.out_of_memory {
        format!("{} (out of memory)", exit.status)
    } else {
        exit.status.to_string()
    }
}
