//! Garden's side of the shims: starts a shim and communicates with it.

use crate::api::{Exit, Output, Process};
use anyhow::{Context, Result, bail};
use bytes::Bytes;
use shim_protocol::{
    EXIT, Ended, FRAME_HEADER, MAX_FRAME, REPLY, REQUEST, Ready, Reply, Request, Run, STDERR,
    STDOUT, State, frame, header,
};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::process::Command;
use tokio::sync::{mpsc, oneshot};

/// The time limit for making a container. It takes 0.1 s, and more on an overloaded machine.
const START_TIME: Duration = Duration::from_secs(60);
const REPLY_TIME: Duration = Duration::from_secs(30);

/// The exit that is reported for a process whose shim vanished: killed.
pub(crate) const VANISHED: Exit = Exit {
    status: 137,
    out_of_memory: false,
};

/// A shim that was just started. Its process id is known before the container is made.
#[derive(Debug)]
pub(crate) struct Starting {
    child: tokio::process::Child,
    pub(crate) pid: i32,
}

/// Starts a shim within the given cgroups.
pub(crate) fn spawn(
    inside: &Path,
    cgroups: &[PathBuf],
    setup: &Path,
    log: &Path,
) -> Result<Starting> {
    let log = std::fs::File::create(log).with_context(|| format!("create {}", log.display()))?;
    let mut command = Command::new(inside);
    command
        .as_std_mut()
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    std::os::unix::process::CommandExt::arg0(command.as_std_mut(), "inside");
    command.arg("enter").args(cgroups).arg("--").arg(inside);
    // `enter` executes the program by its own path, so the first argument names the program.
    command
        .args(["shim"])
        .arg(setup)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .kill_on_drop(false);
    let child = command
        .spawn()
        .with_context(|| format!("run {}", inside.display()))?;
    let pid = child.id().context("the shim ended at once")? as i32;
    Ok(Starting { child, pid })
}

impl Starting {
    /// Waits until the container's init runs. Returns its process id.
    pub(crate) async fn ready(mut self) -> Result<i32> {
        let mut stdout = self.child.stdout.take().context("the shim has no stdout")?;
        let mut answer = String::new();
        let read = tokio::time::timeout(START_TIME, stdout.read_to_string(&mut answer)).await;
        // The task reaps the shim when it ends. If this process ends first, no reaping is needed.
        tokio::spawn(async move { self.child.wait().await });
        read.context("the shim did not answer in time")?
            .context("read the shim's answer")?;
        match serde_json::from_str(answer.trim()) {
            Ok(Ready::Pid(pid)) => Ok(pid),
            Ok(Ready::Failed(reason)) => bail!("{reason}"),
            Err(_) => {
                bail!("the shim ended without an answer; see shim.log in the container's folder")
            }
        }
    }
}

/// Sends one request on a connection of its own. Only after `Run` and `Attach` is the connection used further.
async fn request(socket: &Path, request: &Request) -> Result<(Reply, UnixStream)> {
    let exchange = async {
        let mut stream = UnixStream::connect(socket)
            .await
            .with_context(|| format!("connect to shim {}", socket.display()))?;
        let body = serde_json::to_vec(request).context("encode a request")?;
        stream
            .write_all(&frame(REQUEST, &body))
            .await
            .context("write to the shim")?;
        let (kind, body) = read_frame(&mut stream).await?;
        if kind != REPLY {
            bail!("the shim answered with a frame of kind {kind}");
        }
        Ok((
            serde_json::from_slice(&body).context("parse the shim's answer")?,
            stream,
        ))
    };
    tokio::time::timeout(REPLY_TIME, exchange)
        .await
        .context("the shim did not answer in time")?
}

async fn read_frame(stream: &mut UnixStream) -> Result<(u8, Bytes)> {
    let mut head = [0; FRAME_HEADER];
    stream
        .read_exact(&mut head)
        .await
        .context("read from the shim")?;
    let (kind, length) = header(head);
    if length > MAX_FRAME {
        bail!("the shim sent a frame of {length} bytes, which is too long");
    }
    let mut body = vec![0; length];
    stream
        .read_exact(&mut body)
        .await
        .context("read from the shim")?;
    Ok((kind, body.into()))
}

pub(crate) async fn state(socket: &Path) -> Result<State> {
    match request(socket, &Request::State).await? {
        (Reply::State(state), _) => Ok(state),
        (other, _) => bail!("the shim answered {other:?}"),
    }
}

/// Ends the container and the shim. Returns when both are gone.
pub(crate) async fn stop(socket: &Path) -> Result<()> {
    let (_, mut stream) = request(socket, &Request::Stop).await?;
    // The socket closes when the shim has ended.
    let _ = tokio::time::timeout(REPLY_TIME, stream.read(&mut [0])).await;
    Ok(())
}

pub(crate) async fn signal(socket: &Path, id: &str, signal: i32) -> Result<Reply> {
    Ok(request(
        socket,
        &Request::Signal {
            id: id.to_owned(),
            signal,
        },
    )
    .await?
    .0)
}

/// Runs a process. If the shim does not start it, its reply gives the reason.
pub(crate) async fn run(socket: &Path, run: Run) -> Result<Result<Process, Reply>> {
    let id = run.id.clone();
    let (reply, stream) = request(socket, &Request::Run(run)).await?;
    Ok(if matches!(reply, Reply::Done) {
        Ok(follow(id, stream))
    } else {
        Err(reply)
    })
}

pub(crate) async fn attach(socket: &Path, id: &str) -> Result<Result<Process, Reply>> {
    let (reply, stream) = request(socket, &Request::Attach { id: id.to_owned() }).await?;
    Ok(if matches!(reply, Reply::Done) {
        Ok(follow(id.to_owned(), stream))
    } else {
        Err(reply)
    })
}

/// Returns a process that has ended and about which nothing else is known.
pub(crate) fn ended(id: &str, exit: Exit) -> Process {
    let (_, output) = mpsc::channel(1);
    let (exit_sender, exit_receiver) = oneshot::channel();
    let _ = exit_sender.send(exit);
    Process {
        id: id.to_owned(),
        output,
        exit: exit_receiver,
    }
}

/// Returns a process whose exit will never be known.
pub(crate) fn unwatched(id: &str) -> Process {
    let (_, output) = mpsc::channel(1);
    let (_, exit_receiver) = oneshot::channel();
    Process {
        id: id.to_owned(),
        output,
        exit: exit_receiver,
    }
}

pub(crate) fn exit(ended: Ended) -> Exit {
    Exit {
        status: ended.status,
        out_of_memory: ended.out_of_memory,
    }
}

/// Forwards output and exit until the shim closes the connection or the process's owner drops both receivers.
fn follow(id: String, mut stream: UnixStream) -> Process {
    let (output, received) = mpsc::channel(64);
    let (exit_sender, exit_receiver) = oneshot::channel();
    tokio::spawn(async move {
        let mut exit_sender = Some(exit_sender);
        let mut output = Some(output);
        loop {
            let abandoned = async {
                if let Some(output) = &output {
                    output.closed().await;
                }
                if let Some(exit_sender) = &mut exit_sender {
                    exit_sender.closed().await;
                }
            };
            // The owner has dropped its receivers. The shim keeps further output for the next one that attaches.
            let frame = tokio::select! {
                frame = read_frame(&mut stream) => frame,
                () = abandoned => return,
            };
            let Ok((kind, body)) = frame else { break };
            let chunk = match kind {
                STDOUT => Output::Stdout(body),
                STDERR => Output::Stderr(body),
                EXIT => {
                    if let (Some(exit_sender), Ok(status)) =
                        (exit_sender.take(), serde_json::from_slice(&body))
                    {
                        let _ = exit_sender.send(exit(status));
                    }
                    continue;
                }
                _ => break,
            };
            // When the output has no reader any more, this loop still reads, because the exit is yet to come.
            let closed = match &output {
                Some(output) => output.send(chunk).await.is_err(),
                None => false,
            };
            if closed {
                output = None;
            }
        }
        // If there was no exit, the shim has ended.
    });
    Process {
        id,
        output: received,
        exit: exit_receiver,
    }
}
