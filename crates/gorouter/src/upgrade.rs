//! Replaces this router process by a new one, without a moment in which nobody listens. The new process is started as a child and
//! gets copies of all listening sockets over a Unix socket, which is its standard input. Neither process ever closes a socket and
//! binds it again.
//! ```text
//!  old ──spawn, sockets, number of routes──▶ new
//!                                             │ reads the configuration, gathers routes (start delay)
//!  old ◀──────────── "ready" ──────────────── │ accepts
//!   │ accepts no more, finishes its requests, ends
//!  old ◀── "failed …", or it ends ─────────── ✗    old goes on as if nothing had been
//! ```

use anyhow::{Context as _, Result, bail, ensure};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::fs::File;
use std::io::{IoSlice, IoSliceMut, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio::io::AsyncReadExt as _;

/// The environment variable that marks a process's standard input as the socket of a predecessor. Its value is the predecessor's
/// process id.
const FROM: &str = "CUPOLA_UPGRADE_FROM";
/// The maximum number of sockets that are handed over.
const MOST: usize = 64;
/// The maximum length of the first message, and of the answer.
const LONGEST: usize = 4096;

/// The message that a successor receives beside the sockets.
#[derive(Debug, Serialize, Deserialize)]
struct Hello {
    /// The number of routes in the table when the upgrade began.
    routes: usize,
}

/// The program and arguments with which this process was started, so that it can be started again.
#[derive(Clone, Debug)]
pub(super) struct Program {
    path: PathBuf,
    arguments: Vec<OsString>,
}

impl Program {
    /// Returns the program of this process. It must be called before the binary may be replaced.
    pub(super) fn this() -> Result<Self> {
        Ok(Self {
            path: std::env::current_exe().context("find the path of this binary")?,
            arguments: std::env::args_os().skip(1).collect(),
        })
    }

    /// Starts the program with the sockets. The future resolves when the successor has taken over. If the future is dropped
    /// before, the successor is killed.
    pub(super) fn succeed(
        &self,
        sockets: &[OwnedFd],
        routes: usize,
        patience: Duration,
    ) -> Result<impl Future<Output = Result<u32>> + use<>> {
        let (ours, theirs) =
            UnixStream::pair().context("create the socket pair for the handover")?;
        send(&ours, sockets, &Hello { routes }).context("send the sockets to the successor")?;
        let child = Command::new(&self.path)
            .args(&self.arguments)
            .env(FROM, std::process::id().to_string())
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .spawn()
            .with_context(|| format!("start {}", self.path.display()))?;
        let child = Successor(Some(child));
        ours.set_nonblocking(true)?;
        let stream = tokio::net::UnixStream::from_std(ours)?;
        Ok(async move {
            let answered = tokio::time::timeout(patience, answer(stream)).await;
            answered
                .with_context(|| format!("it was not ready within {patience:?}"))
                .and_then(|answer| answer)?;
            Ok(child.release())
        })
    }
}

/// A successor that is killed unless it has taken over.
struct Successor(Option<Child>);

impl Successor {
    fn release(mut self) -> u32 {
        self.0.take().map_or(0, |child| child.id())
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

async fn answer(mut stream: tokio::net::UnixStream) -> Result<()> {
    let mut answer = Vec::new();
    let mut buffer = [0; LONGEST];
    while !answer.ends_with(b"\n") && answer.len() < LONGEST {
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(n) => answer.extend_from_slice(&buffer[..n]),
        }
    }
    let answer = String::from_utf8_lossy(&answer);
    match answer.trim() {
        "ready" => Ok(()),
        "" => bail!("it ended without an answer"),
        other => bail!("{}", other.strip_prefix("failed ").unwrap_or(other)),
    }
}

/// The process from which this one takes over.
#[derive(Debug)]
pub(super) struct Predecessor {
    stream: UnixStream,
    pub(super) sockets: Vec<OwnedFd>,
    pub(super) routes: usize,
}

impl Predecessor {
    /// Returns the predecessor; `None` if this process was started in the ordinary way.
    pub(super) fn find() -> Result<Option<Self>> {
        let Ok(from) = std::env::var(FROM) else {
            return Ok(None);
        };
        let parent = std::os::unix::process::parent_id().to_string();
        ensure!(
            from == parent,
            "{FROM} is {from}, but the process that started this one is {parent}: unset it"
        );
        let stdin = std::io::stdin().as_fd().try_clone_to_owned()?;
        let stream = UnixStream::from(stdin);
        let (sockets, hello) =
            receive(&stream).context("receive the sockets of the predecessor")?;
        rustix::stdio::dup2_stdin(File::open("/dev/null")?).context("replace standard input")?;
        Ok(Some(Self {
            stream,
            sockets,
            routes: hello.routes,
        }))
    }

    /// Reports to the predecessor that this process accepts connections, so that it may end.
    pub(super) fn ready(mut self) -> Result<()> {
        let sent = self.stream.write_all(b"ready\n");
        sent.context("notify the predecessor that it may end")
    }

    /// Reports to the predecessor that it must continue.
    pub(super) fn failed(mut self, error: &anyhow::Error) {
        let error = format!("{error:#}").replace('\n', " ");
        let short: String = error.chars().take(LONGEST / 8).collect();
        // The predecessor may have ended in the meantime.
        let _ = self
            .stream
            .write_all(format!("failed {short}\n").as_bytes());
    }
}

fn send(stream: &UnixStream, sockets: &[OwnedFd], hello: &Hello) -> Result<()> {
    ensure!(
        sockets.len() <= MOST,
        "cannot hand over more than {MOST} sockets; this process has {}",
        sockets.len()
    );
    let borrowed: Vec<_> = sockets.iter().map(OwnedFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    ensure!(
        control.push(SendAncillaryMessage::ScmRights(&borrowed)),
        "the sockets do not fit into a message"
    );
    let text = serde_json::to_vec(hello)?;
    sendmsg(
        stream,
        &[IoSlice::new(&text)],
        &mut control,
        SendFlags::empty(),
    )?;
    Ok(())
}

fn receive(stream: &UnixStream) -> Result<(Vec<OwnedFd>, Hello)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut text = [0; LONGEST];
    let received = recvmsg(
        stream,
        &mut [IoSliceMut::new(&mut text)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    let mut sockets = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            sockets.extend(descriptors);
        }
    }
    ensure!(!sockets.is_empty(), "the predecessor sent no sockets");
    let hello = serde_json::from_slice(&text[..received.bytes]);
    Ok((
        sockets,
        hello.context("read the message that came with the sockets")?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn sockets_pass_with_what_waits_on_them() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let client = TcpStream::connect(address).unwrap();
        send(&ours, &[listener.into()], &Hello { routes: 7 }).unwrap();
        let (mut sockets, hello) = receive(&theirs).unwrap();
        assert_eq!((sockets.len(), hello.routes), (1, 7));
        let listener = TcpListener::from(sockets.remove(0));
        let (_, peer) = listener.accept().unwrap();
        assert_eq!(peer, client.local_addr().unwrap());
    }

    #[tokio::test]
    async fn answers_of_a_successor() {
        for (sent, wanted) in [
            ("ready\n", None),
            ("failed port 80 is taken\n", Some("port 80 is taken")),
            ("", Some("it ended without an answer")),
        ] {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            theirs.write_all(sent.as_bytes()).unwrap();
            drop(theirs);
            ours.set_nonblocking(true).unwrap();
            let stream = tokio::net::UnixStream::from_std(ours).unwrap();
            let answered = answer(stream).await;
            assert_eq!(answered.err().map(|e| e.to_string()).as_deref(), wanted);
        }
    }
}
