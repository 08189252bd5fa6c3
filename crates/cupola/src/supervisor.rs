//! Runs one role in a thread and a runtime of its own. When the role fails or panics, its runtime is dropped with everything that
//! the role had started, and the role is built again after a pause. Other roles only notice that it is absent for a while.
//!
//! ```text
//! build ─▶ (all roles are built) ─▶ run ─▶ asked to stop ─▶ wait until the process lets go of it
//!   ▲                                │
//!   └────── pause ◀── runtime dropped ◀── failed, panicked, ended without a request
//! ```

use crate::monitor::{Monitor, RoleState};
use anyhow::{Context as _, Result};
use futures::future::LocalBoxFuture;
use kit::CancellationToken;
use kit::backoff::Backoff;
use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot};

/// The future that a built role runs.
pub(crate) type Run = Box<dyn FnOnce(CancellationToken) -> LocalBoxFuture<'static, Result<()>>>;

/// A role that can be built as often as needed.
pub(crate) struct Unit {
    name: &'static str,
    last: bool,
    may_finish: bool,
    on_one_thread: bool,
    state: Option<RoleState>,
    build: Box<dyn Fn() -> LocalBoxFuture<'static, Result<Run>> + Send>,
}

impl Unit {
    /// Creates a unit. `build` runs in the role's own runtime.
    pub(crate) fn new<S, F>(name: &'static str, setting: S, build: F) -> Self
    where
        S: Clone + Send + 'static,
        F: AsyncFn(S) -> Result<Run> + Clone + Send + 'static,
    {
        Self {
            name,
            last: false,
            may_finish: false,
            on_one_thread: false,
            state: None,
            build: Box::new(move || {
                let (setting, build) = (setting.clone(), build.clone());
                Box::pin(async move { build(setting).await })
            }),
        }
    }
}

impl Unit {
    /// Makes the role end after all others, because they send their last messages through it.
    pub(crate) fn last(self) -> Self {
        Self { last: true, ..self }
    }

    /// Allows the role to end by itself. It is not started again then.
    pub(crate) fn may_finish(self) -> Self {
        Self {
            may_finish: true,
            ..self
        }
    }

    /// Makes one thread do all of the role's work. It suits roles of many short steps: a step that another thread takes waits until
    /// that thread wakes.
    pub(crate) fn on_one_thread(self) -> Self {
        Self {
            on_one_thread: true,
            ..self
        }
    }

    /// Reports to `monitor` when the role runs, fails and ends.
    pub(crate) fn watched(self, monitor: &Monitor) -> Self {
        Self {
            state: Some(monitor.role(self.name)),
            ..self
        }
    }

    fn report(&self, report: impl FnOnce(&RoleState)) {
        if let Some(state) = &self.state {
            report(state);
        }
    }
}

/// Wraps the function that a built component runs.
pub(crate) fn run<F, Fut>(run: F) -> Run
where
    F: FnOnce(CancellationToken) -> Fut + 'static,
    Fut: Future<Output = Result<()>> + 'static,
{
    Box::new(move |shutdown| Box::pin(run(shutdown)))
}

/// The pauses between attempts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pauses {
    pub(crate) first: Duration,
    pub(crate) cap: Duration,
    /// The running time after which the next pause is the first one again.
    pub(crate) healthy: Duration,
}

pub(crate) const PAUSES: Pauses = Pauses {
    first: Duration::from_millis(200),
    cap: Duration::from_secs(15),
    healthy: Duration::from_secs(60),
};

/// The time limit for ending everything that a failed role had started.
const RUNTIME_LIMIT: Duration = Duration::from_secs(5);

/// The report that a role has failed and will be started again.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) role: &'static str,
    pub(crate) error: anyhow::Error,
}

/// The message that makes a built role run.
struct Go {
    shutdown: CancellationToken,
    failures: mpsc::UnboundedSender<Failed>,
    pauses: Pauses,
}

/// A role that is built but not running. Dropping it removes it.
pub(crate) struct Built {
    pub(crate) name: &'static str,
    pub(crate) last: bool,
    go: oneshot::Sender<Go>,
    ended: oneshot::Receiver<()>,
    release: oneshot::Sender<()>,
    thread: std::thread::JoinHandle<()>,
}

/// A running role.
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
        // The thread waits only for this message, so sending cannot fail unless it has ended.
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

    /// Drops what was built. Its sockets are closed when this returns.
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
    /// Waits until the role has ended permanently. It may be awaited again. What the role built stays until [`Self::release`].
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

/// The state of a role's thread.
struct Supervised {
    unit: Unit,
    released: oneshot::Receiver<()>,
}

/// A role that has ended. Its runtime lives until it is released.
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
    /// Builds the role and runs it when [`Go`] arrives. Returns `None` if the role could not be built or never had to run.
    fn live(self, built: oneshot::Sender<Result<()>>, go: oneshot::Receiver<Go>) -> Option<Ended> {
        let first = runtime(&self.unit).and_then(|runtime| {
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
            // Tasks that outlive a failed role are asked to end too.
            let shutdown = go.shutdown.child_token();
            let ended = run.and_then(|run| {
                self.unit.report(RoleState::runs);
                guarded(&runtime, run(shutdown.clone()))
            });
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
                Ok(()) => anyhow::anyhow!("it ended without a request"),
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
                "role-failed: it is restarted, the others continue"
            );
            let role = self.unit.name;
            self.unit.report(|state| state.failed(&error));
            let _ = go.failures.send(Failed { role, error });
            runtime = renewed(runtime, &self.unit);
            // A timer must be created inside the runtime that drives it.
            let stopped = async {
                let pause = tokio::time::sleep(pause);
                go.shutdown.run_until_cancelled(pause).await
            };
            if runtime.block_on(stopped).is_none() {
                break;
            }
            run = guarded(&runtime, (self.unit.build)());
        }
        self.unit.report(RoleState::ended);
        Ended {
            runtime,
            released: self.released,
        }
    }
}

/// Drops a runtime with everything that runs on it, and creates a new one.
fn renewed(old: Runtime, unit: &Unit) -> Runtime {
    old.shutdown_timeout(RUNTIME_LIMIT);
    loop {
        match runtime(unit) {
            Ok(runtime) => return runtime,
            Err(error) => {
                let error = format!("{error:#}");
                tracing::error!(role = unit.name, error, "no-runtime");
                std::thread::sleep(Duration::from_secs(1));
            }
        }
    }
}

fn runtime(unit: &Unit) -> Result<Runtime> {
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let mut builder = match unit.on_one_thread {
        true => tokio::runtime::Builder::new_current_thread(),
        false => tokio::runtime::Builder::new_multi_thread(),
    };
    builder
        .worker_threads(cores.clamp(2, 4))
        .thread_name(unit.name)
        .enable_all()
        .build()
        .with_context(|| format!("start a runtime for the role {}", unit.name))
}

/// Runs a future and turns a panic into an error.
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
mod tests;
