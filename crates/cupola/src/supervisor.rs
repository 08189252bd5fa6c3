//! One role in a thread and a runtime of its own. When the role fails or panics, everything that it had started goes with
//! its runtime, and it is built again after a pause; no other role notices more than that it is away.
//!
//! ```text
//! build ─▶ (all roles are built) ─▶ run ─▶ asked to stop ─▶ wait until the process lets go of it
//!   ▲                                │
//!   └────── pause ◀── runtime dropped ◀── failed, panicked, ended unasked
//! ```

use anyhow::{Context as _, Result};
use futures::future::LocalBoxFuture;
use kit::CancellationToken;
use kit::backoff::Backoff;
use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot};

/// What a role does once it is built.
pub(crate) type Run = Box<dyn FnOnce(CancellationToken) -> LocalBoxFuture<'static, Result<()>>>;

/// A role that can be built, as often as it is needed.
pub(crate) struct Unit {
    name: &'static str,
    last: bool,
    may_finish: bool,
    build: Box<dyn Fn() -> LocalBoxFuture<'static, Result<Run>> + Send>,
}

impl Unit {
    /// `build` runs in the role's own runtime.
    pub(crate) fn new<S, F>(name: &'static str, setting: S, build: F) -> Self
    where
        S: Clone + Send + 'static,
        F: AsyncFn(S) -> Result<Run> + Clone + Send + 'static,
    {
        Self {
            name,
            last: false,
            may_finish: false,
            build: Box::new(move || {
                let (setting, build) = (setting.clone(), build.clone());
                Box::pin(async move { build(setting).await })
            }),
        }
    }
}

impl Unit {
    /// It ends when all others have: they send their last messages through it.
    pub(crate) fn last(self) -> Self {
        Self { last: true, ..self }
    }

    /// It may end by itself, and is not started again then.
    pub(crate) fn may_finish(self) -> Self {
        Self {
            may_finish: true,
            ..self
        }
    }
}

/// Wraps what a built component runs.
pub(crate) fn run<F, Fut>(run: F) -> Run
where
    F: FnOnce(CancellationToken) -> Fut + 'static,
    Fut: Future<Output = Result<()>> + 'static,
{
    Box::new(move |shutdown| Box::pin(run(shutdown)))
}

/// Pauses between attempts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pauses {
    pub(crate) first: Duration,
    pub(crate) cap: Duration,
    /// After so long a run the next pause is the first again.
    pub(crate) healthy: Duration,
}

pub(crate) const PAUSES: Pauses = Pauses {
    first: Duration::from_millis(200),
    cap: Duration::from_secs(15),
    healthy: Duration::from_secs(60),
};

/// How long what a failed role had started may take to go.
const RUNTIME_LIMIT: Duration = Duration::from_secs(5);

/// A role failed; it will be started again.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) role: &'static str,
    pub(crate) error: anyhow::Error,
}

/// What a built role waits for.
struct Go {
    shutdown: CancellationToken,
    failures: mpsc::UnboundedSender<Failed>,
    pauses: Pauses,
}

/// A role that is built and not running; dropped, it goes.
pub(crate) struct Built {
    pub(crate) name: &'static str,
    pub(crate) last: bool,
    go: oneshot::Sender<Go>,
    ended: oneshot::Receiver<()>,
    release: oneshot::Sender<()>,
    thread: std::thread::JoinHandle<()>,
}

/// A role at work.
pub(crate) struct Running {
    pub(crate) name: &'static str,
    has_ended: bool,
    ended: oneshot::Receiver<()>,
    release: oneshot::Sender<()>,
    thread: std::thread::JoinHandle<()>,
}

impl Built {
    /// Builds the role in a thread of its own.
    pub(crate) async fn build(unit: Unit) -> Result<Self> {
        let (name, last) = (unit.name, unit.last);
        let (go, wait) = oneshot::channel();
        let (built, is_built) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let (release, released) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                let supervised = Supervised { unit, released };
                if let Some(supervised) = supervised.live(built, wait) {
                    let _ = end.send(());
                    supervised.stay();
                }
            })
            .with_context(|| format!("start a thread for the role {name}"))?;
        is_built
            .await
            .with_context(|| format!("the thread of the role {name} ended"))??;
        Ok(Self {
            name,
            last,
            go,
            ended,
            release,
            thread,
        })
    }

    pub(crate) fn run(
        self,
        shutdown: CancellationToken,
        failures: mpsc::UnboundedSender<Failed>,
        pauses: Pauses,
    ) -> Running {
        // Its thread waits for nothing else.
        let _ = self.go.send(Go {
            shutdown,
            failures,
            pauses,
        });
        Running {
            name: self.name,
            has_ended: false,
            ended: self.ended,
            release: self.release,
            thread: self.thread,
        }
    }

    /// Lets go of what was built; its sockets are closed when this returns.
    pub(crate) async fn undo(self) {
        let Self {
            go,
            release,
            thread,
            ..
        } = self;
        drop((go, release));
        join(thread).await;
    }
}

impl Running {
    /// When the role has ended for good; may be awaited again. What it has built stays until [`Self::release`].
    pub(crate) async fn ended(&mut self) {
        if !self.has_ended {
            let _ = (&mut self.ended).await;
            self.has_ended = true;
        }
    }

    pub(crate) async fn release(self) {
        drop(self.release);
        join(self.thread).await;
    }
}

async fn join(thread: std::thread::JoinHandle<()>) {
    let _ = tokio::task::spawn_blocking(move || thread.join()).await;
}

/// What a role's thread has.
struct Supervised {
    unit: Unit,
    released: oneshot::Receiver<()>,
}

/// A role that has ended: its runtime lives until it is released.
struct Ended {
    runtime: Runtime,
    released: oneshot::Receiver<()>,
}

impl Ended {
    fn stay(self) {
        let _ = self.runtime.block_on(self.released);
        self.runtime.shutdown_timeout(RUNTIME_LIMIT);
    }
}

impl Supervised {
    /// `None`: it was never told to run.
    fn live(self, built: oneshot::Sender<Result<()>>, go: oneshot::Receiver<Go>) -> Option<Ended> {
        let first = runtime(self.unit.name).and_then(|runtime| {
            let run = guarded(&runtime, (self.unit.build)())?;
            Ok((runtime, run))
        });
        let (runtime, run) = match first {
            Ok(first) => {
                let _ = built.send(Ok(()));
                first
            }
            Err(error) => {
                let _ = built.send(Err(error));
                return None;
            }
        };
        let Ok(go) = runtime.block_on(go) else {
            drop(run);
            runtime.shutdown_timeout(RUNTIME_LIMIT);
            return None;
        };
        Some(self.supervise(runtime, run, &go))
    }

    fn supervise(self, mut runtime: Runtime, run: Run, go: &Go) -> Ended {
        let mut backoff = Backoff::new(go.pauses.first, go.pauses.cap);
        let mut run = Ok(run);
        loop {
            let began = Instant::now();
            // What outlives a failed role is asked to go, too.
            let shutdown = go.shutdown.child_token();
            let ended = run.and_then(|run| guarded(&runtime, run(shutdown.clone())));
            shutdown.cancel();
            let error = match ended {
                _ if go.shutdown.is_cancelled() => {
                    if let Err(error) = ended {
                        let error = format!("{error:#}");
                        tracing::warn!(role = self.unit.name, error, "role-ended-badly");
                    }
                    break;
                }
                Ok(()) if self.unit.may_finish => break,
                Ok(()) => anyhow::anyhow!("it ended unasked"),
                Err(error) => error,
            };
            if began.elapsed() > go.pauses.healthy {
                backoff.reset();
            }
            let pause = backoff.next_delay();
            tracing::error!(
                role = self.unit.name,
                error = format!("{error:#}"),
                again_in = ?pause,
                "role-failed: it starts again, the others go on"
            );
            let role = self.unit.name;
            let _ = go.failures.send(Failed { role, error });
            runtime = renewed(runtime, role);
            // A timer is made inside the runtime that drives it.
            let stopped = async {
                let pause = tokio::time::sleep(pause);
                go.shutdown.run_until_cancelled(pause).await
            };
            if runtime.block_on(stopped).is_none() {
                break;
            }
            run = guarded(&runtime, (self.unit.build)());
        }
        Ended {
            runtime,
            released: self.released,
        }
    }
}

/// Drops a runtime with all that runs on it, and makes a new one.
fn renewed(old: Runtime, name: &str) -> Runtime {
    old.shutdown_timeout(RUNTIME_LIMIT);
    loop {
        match runtime(name) {
            Ok(runtime) => return runtime,
            Err(error) => {
                tracing::error!(role = name, error = format!("{error:#}"), "no-runtime");
                std::thread::sleep(Duration::from_secs(1));
            }
        }
    }
}

fn runtime(name: &str) -> Result<Runtime> {
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores.clamp(2, 4))
        .thread_name(name)
        .enable_all()
        .build()
        .with_context(|| format!("start a runtime for the role {name}"))
}

/// A panic is an error like any other.
fn guarded<T>(runtime: &Runtime, future: impl Future<Output = Result<T>>) -> Result<T> {
    std::panic::catch_unwind(AssertUnwindSafe(|| runtime.block_on(future))).unwrap_or_else(
        |panic| {
            Err(anyhow::anyhow!(
                "it panicked: {}",
                kit::http::panic_text(&*panic)
            ))
        },
    )
}

#[cfg(test)]
#[path = "supervisor_tests.rs"]
mod tests;
