//! One process in a container, from start (or attach) to exit. Its output becomes log lines. A cancelled process is asked to end
//! and then killed.

use crate::instance::logs::Lines;
use garden::api::{Exit, Garden, GardenError, Output, ProcessSpec, Signal};
use kit::CancellationToken;
use std::time::Duration;
use tokio::time::Instant;

/// How long to wait for output after the exit (a grandchild may hold the pipe).
const LINGER: Duration = Duration::from_millis(500);
/// The time after SIGKILL after which to stop waiting.
const KILL_LIMIT: Duration = Duration::from_secs(1);

/// The process to run, and how to treat it.
pub(crate) struct Run<'a> {
    pub(crate) garden: &'a dyn Garden,
    pub(crate) handle: &'a str,
    pub(crate) spec: ProcessSpec,
    /// Whether an earlier rep started the process; if so, attach to it.
    pub(crate) started: bool,
    /// The destination of its output as log lines.
    pub(crate) lines: Option<Lines>,
    /// The number of bytes of its output to keep.
    pub(crate) keep: usize,
    pub(crate) grace: Duration,
}

#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) exit: Exit,
    pub(crate) output: String,
    /// Whether the process was asked to end.
    pub(crate) cancelled: bool,
}

/// Runs the process to its end. If the future is dropped, the process keeps running.
pub(crate) async fn run(run: Run<'_>, cancel: &CancellationToken) -> Result<Ended, GardenError> {
    let Run {
        garden,
        handle,
        spec,
        started,
        mut lines,
        keep,
        grace,
    } = run;
    let id = spec.id.clone();
    let mut process = if started {
        garden.attach(handle, &id).await?
    } else {
        garden.run(handle, spec).await?
    };
    let mut kept = Vec::new();
    let mut exit: Option<Exit> = None;
    let mut open = true;
    let mut deadline: Option<Instant> = None;
    let (mut cancelled, mut killed) = (false, false);
    while open || exit.is_none() {
        tokio::select! {
            output = process.output.recv(), if open => match output {
                None => open = false,
                Some(output) => {
                    let (Output::Stdout(bytes) | Output::Stderr(bytes)) = &output;
                    kept.extend_from_slice(&bytes[..bytes.len().min(keep.saturating_sub(kept.len()))]);
                    if let Some(lines) = &mut lines {
                        lines.write(&output);
                    }
                }
            },
            ended = &mut process.exit, if exit.is_none() => {
                let ended = ended.map_err(|_| GardenError::WatcherGone(handle.to_owned()))?;
                exit = Some(ended);
                deadline = Some(Instant::now() + LINGER);
            }
            () = cancel.cancelled(), if !cancelled && exit.is_none() => {
                cancelled = true;
                signal(garden, handle, &id, Signal::Term).await;
                deadline = Some(Instant::now() + grace);
            }
            () = tokio::time::sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                if exit.is_some() {
                    break;
                }
                if killed {
                    exit = Some(Exit { status: 137, out_of_memory: false });
                    break;
                }
                killed = true;
                signal(garden, handle, &id, Signal::Kill).await;
                deadline = Some(Instant::now() + KILL_LIMIT);
            }
        }
    }
    if let Some(lines) = &mut lines {
        lines.finish();
    }
    let exit = exit.unwrap_or(Exit {
        status: 137,
        out_of_memory: false,
    });
    Ok(Ended {
        exit,
        output: String::from_utf8_lossy(&kept).trim().to_owned(),
        cancelled,
    })
}

async fn signal(garden: &dyn Garden, handle: &str, id: &str, signal: Signal) {
    if let Err(error) = garden.signal(handle, id, signal).await {
        tracing::debug!(
            error = format!("{error:#}"),
            handle,
            process = id,
            ?signal,
            "signal-failed"
        );
    }
}
