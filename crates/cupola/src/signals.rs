//! The signals of `up` and `serve`. Some stop the process in order; the others are logged. None ends the process half way.

use anyhow::{Context as _, Result};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// The signals that request an orderly stop. SIGHUP is sent when a terminal is closed, SIGQUIT by Ctrl-\, SIGPWR when the power
/// fails.
const STOP: &[(&str, i32)] = &[
    ("SIGINT", libc::SIGINT),
    ("SIGTERM", libc::SIGTERM),
    ("SIGHUP", libc::SIGHUP),
    ("SIGQUIT", libc::SIGQUIT),
    ("SIGPWR", libc::SIGPWR),
];

/// The signals that would end the process at once if it did not receive them. The Rust runtime ignores SIGPIPE. Faults of the
/// program itself (SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT) and SIGKILL keep their effect.
const NOTHING: &[(&str, i32)] = &[
    ("SIGUSR1", libc::SIGUSR1),
    ("SIGUSR2", libc::SIGUSR2),
    ("SIGALRM", libc::SIGALRM),
    ("SIGVTALRM", libc::SIGVTALRM),
    ("SIGPROF", libc::SIGPROF),
    ("SIGIO", libc::SIGIO),
    ("SIGSTKFLT", libc::SIGSTKFLT),
    ("SIGXCPU", libc::SIGXCPU),
    ("SIGXFSZ", libc::SIGXFSZ),
    ("SIGTRAP", libc::SIGTRAP),
    ("SIGSYS", libc::SIGSYS),
];

/// The receiver of the signals that request a stop.
pub(crate) struct Signals {
    stops: mpsc::UnboundedReceiver<&'static str>,
}

/// The meaning of SIGHUP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hangup {
    Stops,
    /// The router reopens its log, because somebody has rotated it.
    OpensLogs,
}

impl Hangup {
    /// Returns the meaning for this process: a process that was started in a terminal gets SIGHUP when the terminal is closed; a
    /// daemon gets it from a log rotation.
    pub(crate) fn of_this_process() -> Self {
        if has_terminal() {
            Self::Stops
        } else {
            Self::OpensLogs
        }
    }
}

impl Signals {
    /// Receives signals from now on, so that none ends the process half way.
    pub(crate) fn new(hangup: Hangup) -> Result<Self> {
        let (stop, stops) = mpsc::unbounded_channel();
        for &(name, number) in STOP {
            if number == libc::SIGHUP {
                // A user who starts this process with nohup wants it to outlive the terminal.
                if is_ignored(number) {
                    continue;
                }
                if hangup == Hangup::OpensLogs {
                    receive(name, number, || tracing::info!("logs-opened-again"))?;
                    continue;
                }
            }
            let stop = stop.clone();
            receive(name, number, move || {
                let _ = stop.send(name);
            })?;
        }
        for &(name, number) in NOTHING {
            receive(name, number, move || {
                tracing::warn!(signal = name, "signal-ignored: SIGTERM stops");
            })?;
        }
        for number in libc::SIGRTMIN()..=libc::SIGRTMAX() {
            receive("a real-time signal", number, move || {
                tracing::warn!(number, "signal-ignored: SIGTERM stops");
            })?;
        }
        Ok(Self { stops })
    }

    /// Waits for the next signal and returns its name.
    pub(crate) async fn next(&mut self) -> &'static str {
        match self.stops.recv().await {
            Some(name) => name,
            // The receiving tasks live as long as the runtime.
            None => std::future::pending().await,
        }
    }

    /// Returns whether a signal has arrived since the last call.
    pub(crate) fn came(&mut self) -> bool {
        self.stops.try_recv().is_ok()
    }
}

fn receive(name: &'static str, number: i32, act: impl Fn() + Send + 'static) -> Result<()> {
    let mut stream = signal(SignalKind::from_raw(number))
        .with_context(|| format!("receive {name} ({number})"))?;
    tokio::spawn(async move {
        while stream.recv().await.is_some() {
            act();
        }
    });
    Ok(())
}

/// Returns whether this process has a controlling terminal: field 7 of /proc/self/stat. The command's name before it may contain
/// blanks.
fn has_terminal() -> bool {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let terminal = stat
        .rsplit_once(')')
        .and_then(|(_, fields)| fields.split_whitespace().nth(4));
    terminal.is_some_and(|terminal| terminal != "0")
}

/// Returns whether the process was started with this signal ignored.
fn is_ignored(number: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (number - 1) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tests that every signal that ends a process by default is in one of the two lists or must keep its effect.
    #[test]
    fn no_signal_is_forgotten() {
        const LEFT: &[i32] = &[
            // These are never delivered to a handler, or are faults of the program itself.
            libc::SIGKILL,
            libc::SIGSEGV,
            libc::SIGBUS,
            libc::SIGILL,
            libc::SIGFPE,
            libc::SIGABRT,
            // These are ignored by the runtime or by default.
            libc::SIGPIPE,
            libc::SIGCHLD,
            libc::SIGURG,
            libc::SIGWINCH,
            // These stop a process, and SIGCONT continues it.
            libc::SIGSTOP,
            libc::SIGTSTP,
            libc::SIGTTIN,
            libc::SIGTTOU,
            libc::SIGCONT,
        ];
        for number in 1..32 {
            let known = STOP
                .iter()
                .chain(NOTHING)
                .any(|(_, known)| *known == number);
            assert!(
                known != LEFT.contains(&number),
                "signal {number} is in no list, or in two"
            );
        }
    }

    #[tokio::test]
    async fn signals_are_received() {
        let mut signals = Signals::new(Hangup::Stops).unwrap();
        let send = |number: i32| {
            let signal = nix::sys::signal::Signal::try_from(number).unwrap();
            nix::sys::signal::raise(signal).unwrap();
        };
        for (_, number) in NOTHING {
            send(*number);
        }
        for (name, number) in STOP {
            if *number == libc::SIGHUP && is_ignored(*number) {
                // The tests run under nohup: a SIGHUP that was ignored at the start stays ignored.
                continue;
            }
            send(*number);
            assert_eq!(signals.next().await, *name);
        }
    }
}
