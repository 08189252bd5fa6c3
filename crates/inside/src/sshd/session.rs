//! One session: a shell, a command or the file server, as a process with pipes or a terminal.
//!
//! ```text
//!  inbox ─▶ standard input      process      standard output and error ─▶ outlet
//!                                 └─ its end: what it has written, end of file, exit status or signal, close
//! ```
//!
//! The process is the leader of a session of Linux. When the client closes the channel, or the connection ends, its group gets
//! SIGHUP, as if a terminal had been closed.

use super::pty::Terminal;
use super::settings::{HOST_KEY, Settings};
use super::signals;
use crate::launcher;
use bytes::Bytes;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use russh::server::{Handle, Msg};
use russh::{ChannelId, ChannelMsg};
use ssh_sides::{Inbox, Outlet};
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStdin, Command};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// The script of shells and commands. `$1` is the directory of the app, `$2` this program, `$3` what follows: `shell`, `terminal` or
/// `command`, and `$4` the command. It sources what the launcher sources; nothing of it may appear among the output of the command,
/// because programs such as scp read that. A stack without scp gets ours.
const SCRIPT: &str = r#"
cd "$1"
{
  for profile in ../profile.d/* .profile.d/*; do
    if [ -f "$profile" ]; then source "$profile"; fi
  done
  if [ -f .profile ]; then source .profile; fi
  unset profile
} </dev/null >/dev/null 2>&1
case "$3" in
  terminal) exec bash -i;;
  shell) exec bash;;
esac
case "$4" in
  "scp "*)
    if ! command -v scp >/dev/null; then
      export INSIDE_PROGRAM="$2"
      scp() { (exec -a inside "$INSIDE_PROGRAM" scp "$@"); }
      export -f scp
    fi;;
esac
exec bash -c "$4"
"#;

/// The number of bytes that are read at once.
const CHUNK: usize = 32 << 10;
/// How long output may be silent after the end of the process. Processes that it left behind may hold it open without end.
const SILENCE: Duration = Duration::from_secs(1);
/// How often the processes of a session get SIGHUP, and how long each time may take until its leader has ended. Afterwards nobody waits
/// for it any more.
const HANG_UPS: u32 = 10;
const HANG_UP: Duration = Duration::from_secs(1);
/// The search path without an inherited environment.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

#[derive(Debug)]
pub(super) enum Program {
    Shell,
    Command(Vec<u8>),
    Sftp,
}

/// A session to start.
#[derive(Debug)]
pub(super) struct Start<'a> {
    pub settings: &'a Settings,
    pub program: Program,
    pub environment: Vec<(String, String)>,
    pub terminal: Option<(Arc<Terminal>, OwnedFd)>,
    pub channel: Streams,
}

/// The channel of a session.
#[derive(Debug)]
pub(super) struct Streams {
    pub id: ChannelId,
    pub outlet: Outlet<Msg>,
    pub inbox: Inbox,
    pub closed: CancellationToken,
    pub handle: Handle,
}

/// A running session, to which signals can be sent.
#[derive(Debug)]
pub(super) struct Running(Arc<AtomicI32>);

impl Running {
    /// Returns the leader of the session's processes, while it runs.
    pub(super) fn leader(&self) -> Option<Pid> {
        let pid = self.0.load(Ordering::SeqCst);
        (pid > 0).then(|| Pid::from_raw(pid))
    }
}

/// Starts the process, and the tasks that work for it.
pub(super) fn start(start: Start<'_>) -> io::Result<Running> {
    let mut command = command(&start);
    let mut child = match &start.terminal {
        Some((_, slave)) => command
            .stdin(Stdio::from(slave.try_clone()?))
            .stdout(Stdio::from(slave.try_clone()?))
            .stderr(Stdio::from(slave.try_clone()?))
            .spawn()?,
        None => command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?,
    };
    // The command holds descriptors of the terminal, which would keep it open.
    drop(command);
    let terminal = start.terminal.map(|(terminal, _)| terminal);
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
    let leader = Arc::new(AtomicI32::new(pid.unwrap_or_default()));
    let input = match (&terminal, child.stdin.take()) {
        (Some(terminal), _) => Input::Terminal(terminal.clone()),
        (None, Some(pipe)) => Input::Pipe(pipe),
        (None, None) => Input::None,
    };
    let running = Running(leader.clone());
    tokio::spawn(supervise(child, input, terminal, leader, start.channel));
    Ok(running)
}

fn command(start: &Start<'_>) -> Command {
    let Start {
        settings, program, ..
    } = start;
    let mut command = Command::new(&settings.program);
    command.arg0("inside").arg("ssh-session");
    if start.terminal.is_some() {
        command.arg("terminal");
    }
    command.arg("--");
    match program {
        Program::Sftp => {
            command.arg(&settings.program).arg("sftp-server");
        }
        Program::Shell => {
            let kind = match start.terminal {
                Some(_) => "terminal",
                None => "shell",
            };
            script(&mut command, settings).arg(kind);
        }
        Program::Command(text) => {
            let text = OsString::from_vec(text.clone());
            script(&mut command, settings).arg("command").arg(text);
        }
    }
    if !settings.inherits_environment {
        command.env_clear().env("PATH", PATH);
    }
    launcher::complete(command.as_std_mut(), &settings.app);
    command
        .env_remove(HOST_KEY)
        .envs(start.environment.iter().cloned())
        .current_dir(&settings.app);
    command
}

fn script<'a>(command: &'a mut Command, settings: &Settings) -> &'a mut Command {
    command
        .args(["/bin/bash", "-c", SCRIPT, "session"])
        .arg(&settings.app)
        .arg(&settings.program)
}

/// Where the client's bytes go.
#[derive(Debug)]
enum Input {
    Terminal(Arc<Terminal>),
    Pipe(ChildStdin),
    None,
}

impl Input {
    async fn write(&mut self, data: &[u8]) {
        let written = match self {
            Self::Terminal(terminal) => terminal.write_all(data).await,
            Self::Pipe(pipe) => pipe.write_all(data).await,
            Self::None => Ok(()),
        };
        if written.is_err() {
            *self = Self::None;
        }
    }

    /// Ends the input. On a terminal it is what Ctrl-D does.
    async fn finish(&mut self) {
        if let Self::Terminal(terminal) = self {
            let _ = terminal.write_all(&[4]).await;
        } else {
            *self = Self::None;
        }
    }
}

async fn feed(mut input: Input, mut inbox: Inbox) {
    while let Some(message) = inbox.next().await {
        match message {
            ChannelMsg::Data { data } => input.write(&data).await,
            ChannelMsg::Eof => input.finish().await,
            ChannelMsg::Close => return,
            _ => {}
        }
    }
}

/// Waits for the end of the process, and reports it after everything that it has written.
async fn supervise(
    mut child: Child,
    input: Input,
    terminal: Option<Arc<Terminal>>,
    leader: Arc<AtomicI32>,
    channel: Streams,
) {
    let outlet = Arc::new(channel.outlet);
    let reading = Arc::new(AtomicUsize::new(0));
    let mut readers = JoinSet::new();
    if let Some(stdout) = child.stdout.take() {
        readers.spawn(drain(stdout, None, outlet.clone(), reading.clone()));
    }
    if let Some(stderr) = child.stderr.take() {
        readers.spawn(drain(stderr, Some(1), outlet.clone(), reading.clone()));
    }
    if let Some(terminal) = terminal {
        readers.spawn(show(terminal, outlet.clone(), reading.clone()));
    }
    let feeding = tokio::spawn(feed(input, channel.inbox));
    let ended = tokio::select! {
        ended = child.wait() => Some(ended),
        () = channel.closed.cancelled() => None,
    };
    let Some(ended) = ended else {
        feeding.abort();
        readers.abort_all();
        hang_up(&mut child, &leader).await;
        return;
    };
    leader.store(0, Ordering::SeqCst);
    finish(readers, &reading, &channel.closed).await;
    feeding.abort();
    let _ = outlet.half().eof().await;
    if let Ok(status) = ended {
        report(status, channel.id, &channel.handle).await;
    }
    let _ = outlet.half().close().await;
    channel.closed.cancel();
}

/// Waits until the readers have ended, or until all of them wait for output that does not come.
async fn finish(mut readers: JoinSet<()>, reading: &AtomicUsize, closed: &CancellationToken) {
    loop {
        let next = tokio::select! {
            next = tokio::time::timeout(SILENCE, readers.join_next()) => next,
            () = closed.cancelled() => return,
        };
        match next {
            Ok(None) => return,
            Ok(Some(_)) => {}
            Err(_) if reading.load(Ordering::SeqCst) >= readers.len() => return,
            Err(_) => {}
        }
    }
}

/// Sends SIGHUP to the processes of a session whose client is gone, until its leader has ended: a shell that is just about to become
/// another program can lose a signal.
async fn hang_up(child: &mut Child, leader: &AtomicI32) {
    let pid = leader.swap(0, Ordering::SeqCst);
    if pid <= 0 {
        return;
    }
    for _ in 0..HANG_UPS {
        let _ = killpg(Pid::from_raw(pid), Signal::SIGHUP);
        if tokio::time::timeout(HANG_UP, child.wait()).await.is_ok() {
            return;
        }
    }
}

async fn report(status: ExitStatus, id: ChannelId, handle: &Handle) {
    if let Some(code) = status.code() {
        let code = u32::try_from(code).unwrap_or(255);
        let _ = handle.exit_status_request(id, code).await;
    } else if let Some(number) = status.signal() {
        let _ = handle
            .exit_signal_request(
                id,
                signals::of_process(number),
                status.core_dumped(),
                String::new(),
                String::new(),
            )
            .await;
    }
}

/// Copies one stream of the process to the client.
async fn drain(
    mut stream: impl AsyncRead + Unpin,
    kind: Option<u32>,
    outlet: Arc<Outlet<Msg>>,
    reading: Arc<AtomicUsize>,
) {
    let mut buffer = vec![0; CHUNK];
    loop {
        reading.fetch_add(1, Ordering::SeqCst);
        let read = stream.read(&mut buffer).await;
        reading.fetch_sub(1, Ordering::SeqCst);
        if !pass_on(read, &buffer, kind, &outlet).await {
            return;
        }
    }
}

/// Copies what appears on the terminal to the client.
async fn show(terminal: Arc<Terminal>, outlet: Arc<Outlet<Msg>>, reading: Arc<AtomicUsize>) {
    let mut buffer = vec![0; CHUNK];
    loop {
        reading.fetch_add(1, Ordering::SeqCst);
        let read = terminal.read(&mut buffer).await;
        reading.fetch_sub(1, Ordering::SeqCst);
        if !pass_on(read, &buffer, None, &outlet).await {
            return;
        }
    }
}

/// Returns whether more may follow.
async fn pass_on(
    read: io::Result<usize>,
    buffer: &[u8],
    kind: Option<u32>,
    outlet: &Outlet<Msg>,
) -> bool {
    match read {
        Ok(0) | Err(_) => false,
        Ok(length) => {
            let data = Bytes::copy_from_slice(&buffer[..length]);
            outlet.write(kind, data).await
        }
    }
}
