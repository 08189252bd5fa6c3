//! The shim's loop: requests on its socket, output of processes, their exits.

use super::process::{self, RunError};
use anyhow::{Context, Result};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use shim_protocol::{
    EXIT, Ended, FRAME_HEADER, MAX_FRAME, REPLY, REQUEST, Reply, Request, Run, STDERR, STDOUT,
    Setup, State, frame, header,
};
use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The number of bytes of output that are kept per stream while nobody reads it. It also limits what is held back for a slow
/// reader.
const KEPT: usize = 64 << 10;
/// The number of ended processes that are still listed after their exit was delivered.
const REMEMBERED: usize = 32;
/// How long an exit is held back for more output, because other processes may still write to the same pipe.
const PATIENCE: Duration = Duration::from_millis(300);

pub(crate) fn block_signals() -> Result<SignalFd> {
    let mut set = SigSet::empty();
    for signal in [
        Signal::SIGCHLD,
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGHUP,
    ] {
        set.add(signal);
    }
    set.thread_block().context("block signals")?;
    SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
        .context("make a signal descriptor")
}

#[derive(Debug)]
pub(crate) struct Server {
    setup: Setup,
    init: i32,
    init_status: Option<i32>,
    listener: UnixListener,
    signals: SignalFd,
    processes: BTreeMap<String, Process>,
    connections: Vec<Connection>,
    /// The ids of processes whose exit was delivered, oldest first.
    delivered: VecDeque<String>,
}

#[derive(Debug)]
struct Process {
    pid: i32,
    sidecar: bool,
    oom_kills_before: u64,
    ended: Option<(Ended, Instant)>,
    stdout: Stream,
    stderr: Stream,
}

#[derive(Debug, Default)]
struct Stream {
    pipe: Option<File>,
    kept: VecDeque<u8>,
    /// Whether the last read found nothing.
    dry: bool,
}

#[derive(Debug)]
struct Connection {
    stream: UnixStream,
    input: Vec<u8>,
    output: VecDeque<u8>,
    attached: Option<String>,
    exit_sent: bool,
    /// Whether nothing more will be written: the connection closes when its output is sent.
    finished: bool,
    broken: bool,
}

enum Source {
    Signals,
    Listener,
    Connection(usize),
    Stream(String, bool),
}

impl Server {
    pub(crate) fn new(
        setup: Setup,
        init: i32,
        listener: UnixListener,
        signals: SignalFd,
    ) -> Result<Self> {
        listener
            .set_nonblocking(true)
            .context("set the socket non-blocking")?;
        let (processes, connections, delivered) = (BTreeMap::new(), Vec::new(), VecDeque::new());
        Ok(Self {
            setup,
            init,
            init_status: None,
            listener,
            signals,
            processes,
            connections,
            delivered,
        })
    }

    pub(crate) fn init(&self) -> i32 {
        self.init
    }

    pub(crate) fn run(mut self) {
        while self.turn() {}
        let init = self.init_status.is_none().then_some(self.init);
        process::end_container(&self.setup, init);
        for connection in &mut self.connections {
            // The client that requested the end is notified that it has happened.
            let _ = connection.stream.set_nonblocking(false);
            let _ = connection
                .stream
                .set_write_timeout(Some(Duration::from_secs(1)));
            let output: Vec<u8> = connection.output.drain(..).collect();
            let _ = connection.stream.write_all(&output);
        }
    }

    /// Waits for an event and handles it. Returns `false` if the container should end.
    fn turn(&mut self) -> bool {
        let mut go_on = true;
        for source in self.wait() {
            match source {
                Source::Signals => go_on &= self.signalled(),
                Source::Listener => self.accept(),
                Source::Connection(i) => go_on &= self.serve(i),
                Source::Stream(id, stdout) => {
                    if let Some(process) = self.processes.get_mut(&id) {
                        let listened_to = self
                            .connections
                            .iter()
                            .any(|connection| connection.attached.as_ref() == Some(&id));
                        let stream = if stdout {
                            &mut process.stdout
                        } else {
                            &mut process.stderr
                        };
                        stream.read(listened_to);
                    }
                }
            }
        }
        self.pump();
        self.connections.retain(|connection| !connection.is_over());
        self.forget();
        go_on
    }

    fn wait(&self) -> Vec<Source> {
        let mut fds = vec![
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.listener.as_fd(), PollFlags::POLLIN),
        ];
        let mut sources = vec![Source::Signals, Source::Listener];
        for (i, connection) in self.connections.iter().enumerate() {
            let mut events = PollFlags::POLLIN;
            events.set(PollFlags::POLLOUT, !connection.output.is_empty());
            fds.push(PollFd::new(connection.stream.as_fd(), events));
            sources.push(Source::Connection(i));
        }
        let mut exit_pending = false;
        for (id, process) in &self.processes {
            let listened_to = self
                .connections
                .iter()
                .any(|connection| connection.attached.as_ref() == Some(id));
            for (stream, stdout) in [(&process.stdout, true), (&process.stderr, false)] {
                // A slow reader slows the writer down. Without a reader the oldest output is dropped.
                if let Some(pipe) = stream
                    .pipe
                    .as_ref()
                    .filter(|_| !listened_to || stream.kept.len() < KEPT)
                {
                    fds.push(PollFd::new(pipe.as_fd(), PollFlags::POLLIN));
                    sources.push(Source::Stream(id.clone(), stdout));
                }
            }
            exit_pending |= process.ended.is_some()
                && self
                    .connections
                    .iter()
                    .any(|listener| listener.attached.as_ref() == Some(id) && !listener.exit_sent);
        }
        let timeout = if exit_pending {
            PollTimeout::from(50u8)
        } else {
            PollTimeout::NONE
        };
        if poll(&mut fds, timeout).is_err() {
            return Vec::new();
        }
        let ready: Vec<bool> = fds.iter().map(|fd| fd.any().unwrap_or(true)).collect();
        sources
            .into_iter()
            .zip(ready)
            .filter_map(|(source, ready)| ready.then_some(source))
            .collect()
    }

    fn signalled(&mut self) -> bool {
        let mut go_on = true;
        while let Ok(Some(signal)) = self.signals.read_signal() {
            go_on &= signal.ssi_signo != Signal::SIGTERM as u32;
        }
        self.reap();
        go_on
    }

    fn reap(&mut self) {
        loop {
            let (pid, status) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, status)) => (pid.as_raw(), status),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid.as_raw(), 128 + signal as i32),
                Ok(WaitStatus::StillAlive) | Err(_) => return,
                Ok(_) => continue,
            };
            if pid == self.init {
                self.init_status = Some(status);
                continue;
            }
            let (app_kills, sidecar_kills) = (self.oom_kills(false), self.oom_kills(true));
            let Some((id, process)) = self
                .processes
                .iter_mut()
                .find(|(_, process)| process.pid == pid && process.ended.is_none())
            else {
                continue;
            };
            let kills = match process.sidecar {
                true => sidecar_kills,
                false => app_kills,
            };
            let out_of_memory = status != 0 && kills > process.oom_kills_before;
            let ended = Ended {
                status,
                out_of_memory,
            };
            process.ended = Some((ended, Instant::now()));
            process.stdout.dry = false;
            process.stderr.dry = false;
            let record = self.setup.dir.join("exits").join(file_name(id));
            if let Ok(text) = serde_json::to_vec(&(id, ended)) {
                let _ = fs::write(record, text);
            }
        }
    }

    /// Returns how many processes of the app's group, or of the sidecars', the kernel has killed for lack of memory.
    fn oom_kills(&self, sidecar: bool) -> u64 {
        let counter = match sidecar {
            true => &self.setup.sidecar_oom_counter,
            false => &self.setup.oom_counter,
        };
        let text = counter
            .as_ref()
            .and_then(|file| fs::read_to_string(file).ok())
            .unwrap_or_default();
        text.lines()
            .find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
            .unwrap_or(0)
    }

    fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            if stream.set_nonblocking(true).is_ok() {
                self.connections.push(Connection {
                    stream,
                    input: Vec::new(),
                    output: VecDeque::new(),
                    attached: None,
                    exit_sent: false,
                    finished: false,
                    broken: false,
                });
            }
        }
    }

    fn serve(&mut self, i: usize) -> bool {
        self.connections[i].flush();
        let Some(body) = self.connections[i].request() else {
            return true;
        };
        let (reply, attach, go_on) = match serde_json::from_slice::<Request>(&body) {
            Err(error) => (Reply::Failed(format!("request: {error}")), None, true),
            Ok(Request::Stop) => (Reply::Done, None, false),
            Ok(Request::State) => (Reply::State(self.state()), None, true),
            Ok(Request::Signal { id, signal }) => (self.signal(&id, signal), None, true),
            Ok(Request::Attach { id }) if self.processes.contains_key(&id) => {
                (Reply::Done, Some(id), true)
            }
            Ok(Request::Attach { .. }) => (Reply::UnknownProcess, None, true),
            Ok(Request::Run(run)) => match self.start(&run) {
                Ok(()) => (Reply::Done, Some(run.id), true),
                Err(RunError::CannotExecute(reason)) => (Reply::CannotExecute(reason), None, true),
                Err(RunError::Other(error)) => (Reply::Failed(format!("{error:#}")), None, true),
            },
        };
        if let Some(id) = &attach {
            // The newest client gets the output; an older one has gone or hangs.
            for other in self
                .connections
                .iter_mut()
                .filter(|other| other.attached.as_ref() == Some(id))
            {
                (other.attached, other.finished) = (None, true);
            }
        }
        let connection = &mut self.connections[i];
        connection.finished = attach.is_none();
        connection.attached = attach;
        let reply = serde_json::to_vec(&reply).unwrap_or_default();
        connection.output.extend(frame(REPLY, &reply));
        if go_on {
            connection.flush();
        }
        go_on
    }

    fn state(&self) -> State {
        let processes = self
            .processes
            .iter()
            .map(|(id, process)| (id.clone(), process.ended.map(|(ended, _)| ended)))
            .collect();
        State {
            init: self.init,
            init_status: self.init_status,
            processes,
        }
    }

    fn signal(&self, id: &str, signal: i32) -> Reply {
        let Some(process) = self.processes.get(id) else {
            return Reply::UnknownProcess;
        };
        if process.ended.is_some() {
            return Reply::Done;
        }
        let Ok(signal) = Signal::try_from(signal) else {
            return Reply::Failed(format!("signal {signal} does not exist"));
        };
        match kill(Pid::from_raw(process.pid), signal) {
            Ok(()) | Err(nix::Error::ESRCH) => Reply::Done,
            Err(error) => Reply::Failed(format!("send {signal} to {id}: {error}")),
        }
    }

    fn start(&mut self, run: &Run) -> Result<(), RunError> {
        if self.processes.contains_key(&run.id) {
            return Err(RunError::Other(anyhow::anyhow!(
                "process {} exists already",
                run.id
            )));
        }
        if self.init_status.is_some() {
            return Err(RunError::Other(anyhow::anyhow!("the container has ended")));
        }
        let oom_kills_before = self.oom_kills(run.sidecar);
        let started = process::start(&self.setup, run)?;
        let process = Process {
            pid: started.pid,
            sidecar: run.sidecar,
            oom_kills_before,
            ended: None,
            stdout: Stream::new(started.stdout),
            stderr: Stream::new(Some(started.stderr)),
        };
        self.processes.insert(run.id.clone(), process);
        Ok(())
    }

    /// Moves kept output to clients that are ready for more, and sends exits.
    fn pump(&mut self) {
        for connection in &mut self.connections {
            connection.flush();
            let Some(id) = connection.attached.clone() else {
                continue;
            };
            let Some(process) = self.processes.get_mut(&id) else {
                connection.finished = true;
                continue;
            };
            for _ in 0..4 {
                if !connection.output.is_empty() {
                    break;
                }
                connection.forward(STDOUT, &mut process.stdout);
                connection.forward(STDERR, &mut process.stderr);
                connection.flush();
            }
            let quiet =
                |stream: &Stream| stream.kept.is_empty() && (stream.dry || stream.pipe.is_none());
            let all_sent = quiet(&process.stdout) && quiet(&process.stderr);
            if let Some((ended, when)) = process.ended {
                if !connection.exit_sent && (all_sent || when.elapsed() > PATIENCE) {
                    let body = serde_json::to_vec(&ended).unwrap_or_default();
                    connection.output.extend(frame(EXIT, &body));
                    connection.exit_sent = true;
                    if !self.delivered.contains(&id) {
                        self.delivered.push_back(id);
                    }
                }
                let over = process.stdout.is_over() && process.stderr.is_over();
                connection.finished = connection.exit_sent && over;
                connection.flush();
            }
            if !connection.exit_sent && process.ended.is_some() {
                process.stdout.read(true);
                process.stderr.read(true);
            }
        }
    }

    fn forget(&mut self) {
        while self.delivered.len() > REMEMBERED {
            let Some(id) = self.delivered.pop_front() else {
                return;
            };
            self.processes.remove(&id);
            for folder in ["exits", "processes"] {
                let _ = fs::remove_file(self.setup.dir.join(folder).join(file_name(&id)));
            }
        }
    }
}

/// Returns a process id as a file name.
fn file_name(id: &str) -> PathBuf {
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || "-_.~".contains(c) {
            c
        } else {
            '_'
        }
    };
    PathBuf::from(format!(
        "{}.json",
        id.chars().map(plain).collect::<String>()
    ))
}

impl Stream {
    fn new(pipe: Option<File>) -> Self {
        if let Some(pipe) = &pipe {
            let _ = fcntl(pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK));
        }
        Self {
            pipe,
            kept: VecDeque::new(),
            dry: false,
        }
    }

    fn is_over(&self) -> bool {
        self.pipe.is_none() && self.kept.is_empty()
    }

    fn read(&mut self, listened_to: bool) {
        let mut buffer = [0; 16 << 10];
        while !listened_to || self.kept.len() < KEPT {
            let Some(pipe) = &mut self.pipe else { return };
            match pipe.read(&mut buffer) {
                Ok(0) => self.pipe = None,
                Ok(n) => {
                    self.kept.extend(&buffer[..n]);
                    if !listened_to && self.kept.len() > KEPT {
                        self.kept.drain(..self.kept.len() - KEPT);
                    }
                    if n < buffer.len() {
                        return;
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.dry = true;
                    return;
                }
                Err(_) => self.pipe = None,
            }
        }
    }
}

impl Connection {
    fn is_over(&self) -> bool {
        self.broken || (self.finished && self.output.is_empty())
    }

    fn forward(&mut self, kind: u8, stream: &mut Stream) {
        if stream.kept.is_empty() {
            return;
        }
        let chunk: Vec<u8> = stream
            .kept
            .drain(..stream.kept.len().min(32 << 10))
            .collect();
        if stream.kept.is_empty() && stream.pipe.is_none() {
            stream.kept = VecDeque::new();
        }
        self.output.extend(frame(kind, &chunk));
    }

    fn flush(&mut self) {
        while !self.output.is_empty() && !self.broken {
            let (front, _) = self.output.as_slices();
            match self.stream.write(front) {
                Ok(n) => drop(self.output.drain(..n)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => self.broken = true,
            }
        }
        if self.output.is_empty() && self.output.capacity() > 256 {
            self.output = VecDeque::new();
        }
    }

    /// Returns the body of a whole request, if one has arrived.
    fn request(&mut self) -> Option<Vec<u8>> {
        let mut buffer = [0; 4096];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => {
                    self.broken = true;
                    return None;
                }
                Ok(n) => self.input.extend_from_slice(&buffer[..n]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => {
                    self.broken = true;
                    return None;
                }
            }
        }
        let head: [u8; FRAME_HEADER] = self.input.get(..FRAME_HEADER)?.try_into().ok()?;
        let (kind, length) = header(head);
        if kind != REQUEST || length > MAX_FRAME {
            self.broken = true;
            return None;
        }
        if self.input.len() < FRAME_HEADER + length {
            return None;
        }
        let body = self.input[FRAME_HEADER..FRAME_HEADER + length].to_vec();
        self.input = Vec::new();
        Some(body)
    }
}
