//! The health of an instance. Start-up checks run until it has been healthy once. Then liveness checks (a failure ends the
//! instance) and readiness checks (which only decide whether it gets requests) run.
//!
//! A check is the `healthcheck` program in the container. It loops by itself and exits when the result changes: with 0 when the
//! app became healthy, otherwise with a failure whose reason is its output. A classic monitor action is run repeatedly instead.

use crate::instance::container::Container;
use crate::instance::process;
use crate::instance::record::HEALTHY;
use crate::instance::steps::{StepError, StepResult, Steps};
use crate::supply::assets::HEALTHCHECK;
use cell_plan::listening::Sockets;
use cell_plan::ports::PortPlan;
use clients::loggregator::Stream;
use futures::future::{BoxFuture, join_all, select_all};
use garden::api::{GardenError, ProcessSpec};
use go_values::duration;
use kit::CancellationToken;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use wire::bbs::{Action, Check, DesiredLrp};

/// The number of bytes of a check's output that are shown.
const MAX_OUTPUT: usize = 4096;
/// The limit of open files of a check.
const NOFILE: u64 = 1024;

pub(crate) struct Monitor<'a> {
    pub(crate) steps: &'a Steps,
    pub(crate) container: &'a Container,
    pub(crate) desired: &'a DesiredLrp,
    /// The ports of the instance. The proxy's TLS ports must listen before the instance counts as healthy.
    pub(crate) ports: &'a PortPlan,
    /// The address of the container.
    pub(crate) address: Ipv4Addr,
    pub(crate) cancel: &'a CancellationToken,
}

/// One check: the port and path that it requests, and its time limits.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Probe {
    port: u32,
    /// The path of an HTTP check.
    path: Option<String>,
    timeout: Duration,
    interval: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Startup { interval: Duration, limit: Duration },
    Liveness,
    UntilReady { interval: Duration },
    Readiness,
}

/// The result of inspecting an app's sockets.
struct Found {
    /// A text that describes the problem and its remedy.
    advice: Option<String>,
    listens: bool,
}

/// The result of a check that has ended. `Err` holds its output.
type Checked = Result<(), String>;

/// Monitors the instance. It returns only when a check has failed or when it is cancelled.
pub(crate) async fn monitor(monitor: Monitor<'_>) -> StepResult {
    tokio::select! {
        () = monitor.cancel.cancelled() => Err(StepError::Cancelled),
        reason = monitor.watch() => Err(StepError::Failed(reason)),
    }
}

impl Monitor<'_> {
    /// Returns the reason why the instance cannot continue.
    async fn watch(&self) -> String {
        // This branch must never end by itself, because it would drop the other one.
        let advice = async {
            self.advise().await;
            std::future::pending::<String>().await
        };
        tokio::select! {
            reason = self.judge() => reason,
            reason = advice => reason,
        }
    }

    async fn judge(&self) -> String {
        if !self.steps.dir.is_done(HEALTHY) {
            if let Err(reason) = self.start_up().await {
                return reason;
            }
            self.steps.dir.record_done(HEALTHY);
            self.container.set_running(self.probes(true).is_empty());
        }
        tokio::select! {
            reason = self.liveness() => reason,
            () = self.readiness() => std::future::pending().await,
        }
    }

    async fn start_up(&self) -> Result<(), String> {
        let begun = Instant::now();
        let limit =
            Duration::from_millis(u64::try_from(self.desired.start_timeout_ms).unwrap_or(0));
        self.steps
            .logs
            .cell(Stream::Out, "Starting health monitoring of container");
        let mut probes = self.probes(false);
        probes.extend(self.ports.tls.iter().map(|port| Probe {
            port: u32::from(port.tls),
            path: None,
            timeout: self.timing().health_timeout,
            interval: Duration::ZERO,
        }));
        let mode = Mode::Startup {
            interval: self.timing().unhealthy_interval,
            limit,
        };
        // All checks run to their end, so that the app's log shows everything that is wrong.
        let checks = join_all(
            probes
                .iter()
                .map(|probe| self.check(probe, mode, self.cancel)),
        );
        let monitored = async {
            match &self.desired.monitor {
                Some(action) if self.desired.check_definition.is_none() => {
                    self.classic_start_up(action, limit).await
                }
                _ => Ok(()),
            }
        };
        let (checks, monitored) = tokio::join!(checks, monitored);
        let mut failures: Vec<String> = Vec::new();
        for output in checks
            .into_iter()
            .chain([monitored])
            .filter_map(Result::err)
        {
            if !failures.contains(&output) {
                failures.push(output);
            }
        }
        if failures.is_empty() {
            self.steps
                .logs
                .cell(Stream::Out, "Container became healthy");
            return Ok(());
        }
        failures.extend(self.sockets().await.and_then(|found| found.advice));
        for failure in &failures {
            self.steps
                .logs
                .line(self.source(), Stream::Err, failure.clone());
        }
        self.steps.logs.cell(
            Stream::Err,
            format!(
                "Failed after {}: startup health check never passed.",
                duration::show_measured(begun.elapsed())
            ),
        );
        Err(format!(
            "Instance never healthy after {}: {}",
            duration::show(limit),
            failures.join("; ")
        ))
    }

    /// Inspects the sockets of the app, and logs a problem with them if it persists. Returns when there is no problem.
    async fn advise(&self) {
        let (mut before, mut logged) = (None, None);
        loop {
            tokio::time::sleep(self.timing().advice).await;
            let Some(found) = self.sockets().await else {
                continue;
            };
            if found.advice.is_none() {
                return;
            }
            // An app that does not listen yet may still be starting.
            if found.listens && found.advice == before && found.advice != logged {
                let advice = found.advice.clone().unwrap_or_default();
                self.steps.logs.cell(Stream::Err, advice);
                logged.clone_from(&found.advice);
            }
            before = found.advice;
        }
    }

    /// Returns `None` if the container's sockets cannot be read.
    async fn sockets(&self) -> Option<Found> {
        let listening = self
            .steps
            .cell
            .garden
            .listeners(&self.steps.handle)
            .await
            .ok()?;
        let own: Vec<u16> = self
            .ports
            .tls
            .iter()
            .map(|port| port.tls)
            .chain(self.ports.admin)
            .collect();
        let mut wanted: Vec<u16> = self
            .probes(false)
            .iter()
            .filter_map(|probe| u16::try_from(probe.port).ok())
            .collect();
        if wanted.is_empty() {
            // Requests go to the first port.
            wanted.extend(self.ports.app.first());
        }
        let sockets = Sockets {
            listening: &listening,
            own: &own,
            address: self.address,
            wanted: &wanted,
        };
        Some(Found {
            advice: sockets.advice(),
            listens: sockets.listens(),
        })
    }

    async fn liveness(&self) -> String {
        let probes = self.probes(false);
        let mut checks: Vec<BoxFuture<'_, Checked>> = Vec::new();
        checks.extend(probes.iter().map(|probe| -> BoxFuture<'_, Checked> {
            Box::pin(self.check(probe, Mode::Liveness, self.cancel))
        }));
        if let (Some(action), None) = (&self.desired.monitor, &self.desired.check_definition) {
            checks.push(Box::pin(self.classic_liveness(action)));
        }
        if checks.is_empty() {
            return std::future::pending().await;
        }
        let (checked, at, _) = select_all(checks).await;
        if let Some(probe) = probes.get(at) {
            let is_http = probe.path.is_some();
            self.steps.cell.metrics.liveness_failed(is_http);
        }
        let output = match checked {
            Err(output) => output,
            Ok(()) => "liveness check ended".to_owned(),
        };
        self.steps
            .logs
            .line(self.source(), Stream::Err, output.clone());
        self.steps
            .logs
            .cell(Stream::Err, "Container became unhealthy");
        format!("Instance became unhealthy: {output}")
    }

    /// Runs the readiness checks and never returns. The instance is not routable until all checks have passed, and after a
    /// failure until all have passed again.
    async fn readiness(&self) {
        let probes = self.probes(true);
        if probes.is_empty() {
            return std::future::pending().await;
        }
        loop {
            let mode = Mode::UntilReady {
                interval: self.timing().unhealthy_interval,
            };
            join_all(probes.iter().map(async |probe| {
                while self.check(probe, mode, self.cancel).await.is_err() {
                    tokio::time::sleep(self.timing().unhealthy_interval).await;
                }
            }))
            .await;
            self.steps.logs.cell(Stream::Out, "Container passed the readiness health check. Container marked ready and added to route pool.");
            self.container.set_routable(true);
            let round = self.cancel.child_token();
            let (failed, _, others) = select_all(
                probes
                    .iter()
                    .map(|probe| Box::pin(self.check(probe, Mode::Readiness, &round))),
            )
            .await;
            self.container.set_routable(false);
            // Otherwise their programs would run in the container without end.
            round.cancel();
            join_all(others).await;
            if let Err(output) = failed {
                self.steps.logs.line(self.source(), Stream::Err, output);
            }
            self.steps.logs.cell(Stream::Out, "Container failed the readiness health check. Container marked not ready and removed from route pool.");
        }
    }

    async fn check(&self, probe: &Probe, mode: Mode, cancel: &CancellationToken) -> Checked {
        let spec = ProcessSpec {
            id: self.check_id(probe, mode),
            path: HEALTHCHECK.to_owned(),
            args: arguments(probe, mode, self.timing().healthy_interval),
            env: self.steps.env.clone(),
            dir: "/".to_owned(),
            user: String::new(),
            nofile: NOFILE,
            sidecar: true,
        };
        match check_process(self.steps, spec, MAX_OUTPUT, cancel).await {
            Ok(ended) if ended.exit.status == 0 => Ok(()),
            Ok(ended) if ended.output.is_empty() => Err(format!(
                "health check exited with status {}",
                ended.exit.status
            )),
            Ok(ended) => Err(ended.output),
            // The same process watches the app: its end is reported as the reason, rather than the app's health.
            Err(GardenError::WatcherGone(_)) => std::future::pending().await,
            Err(error) => Err(format!("health check could not be run: {error:#}")),
        }
    }

    /// Returns the id of a check's process. A liveness check that an earlier rep started keeps its id and continues; other checks
    /// are started anew.
    fn check_id(&self, probe: &Probe, mode: Mode) -> String {
        let place = format!(
            "{}{}",
            probe.port,
            probe.path.as_deref().map_or("", |_| "-http")
        );
        match mode {
            Mode::Liveness => format!("liveness-{place}"),
            Mode::Startup { .. } => format!("startup-{place}-{}", unique()),
            Mode::UntilReady { .. } => format!("until-ready-{place}-{}", unique()),
            Mode::Readiness => format!("readiness-{place}-{}", unique()),
        }
    }

    async fn classic_start_up(&self, action: &Action, limit: Duration) -> Checked {
        let begun = Instant::now();
        loop {
            match self.classic(action).await {
                Ok(()) => return Ok(()),
                Err(output) if !limit.is_zero() && begun.elapsed() >= limit => return Err(output),
                Err(_) => tokio::time::sleep(self.timing().unhealthy_interval).await,
            }
        }
    }

    async fn classic_liveness(&self, action: &Action) -> Checked {
        loop {
            tokio::time::sleep(self.timing().healthy_interval).await;
            self.classic(action).await?;
        }
    }

    async fn classic(&self, action: &Action) -> Checked {
        match self
            .steps
            .perform(
                action,
                format!("monitor-{}", unique()),
                self.source(),
                self.cancel.clone(),
            )
            .await
        {
            Ok(()) => Ok(()),
            Err(StepError::Failed(reason)) => Err(reason),
            Err(StepError::Cancelled) => std::future::pending().await,
        }
    }

    fn probes(&self, readiness: bool) -> Vec<Probe> {
        let Some(definition) = &self.desired.check_definition else {
            return Vec::new();
        };
        let checks = if readiness {
            &definition.readiness_checks
        } else {
            &definition.checks
        };
        checks
            .iter()
            .filter_map(|check| probe(check, self.timing().health_timeout))
            .collect()
    }

    fn source(&self) -> &str {
        self.desired
            .check_definition
            .as_ref()
            .map(|d| d.log_source.as_str())
            .filter(|s| !s.is_empty())
            .unwrap_or("HEALTH")
    }

    fn timing(&self) -> &crate::config::Timing {
        &self.steps.cell.settings.timing
    }
}

fn probe(check: &Check, default_timeout: Duration) -> Option<Probe> {
    let timeout = |ms: u64| {
        if ms == 0 {
            default_timeout
        } else {
            Duration::from_millis(ms)
        }
    };
    if let Some(http) = &check.http_check {
        let path = if http.path.is_empty() {
            "/".to_owned()
        } else {
            http.path.clone()
        };
        return Some(Probe {
            port: http.port,
            path: Some(path),
            timeout: timeout(http.request_timeout_ms),
            interval: Duration::from_millis(http.interval_ms),
        });
    }
    let tcp = check.tcp_check.as_ref()?;
    Some(Probe {
        port: tcp.port,
        path: None,
        timeout: timeout(tcp.connect_timeout_ms),
        interval: Duration::from_millis(tcp.interval_ms),
    })
}

fn arguments(probe: &Probe, mode: Mode, healthy_interval: Duration) -> Vec<String> {
    let mut args = vec![
        format!("-port={}", probe.port),
        format!("-timeout={}", duration::show(probe.timeout)),
    ];
    args.extend(probe.path.as_ref().map(|path| format!("-uri={path}")));
    let healthy = duration::show(if probe.interval.is_zero() {
        healthy_interval
    } else {
        probe.interval
    });
    match mode {
        Mode::Startup { interval, limit } => {
            args.push(format!("-startup-interval={}", duration::show(interval)));
            args.push(format!("-startup-timeout={}", duration::show(limit)));
        }
        Mode::Liveness => args.push(format!("-liveness-interval={healthy}")),
        Mode::UntilReady { interval } => args.push(format!(
            "-until-ready-interval={}",
            duration::show(interval)
        )),
        Mode::Readiness => args.push(format!("-readiness-interval={healthy}")),
    }
    args
}

/// Returns a text that is unique within this process. It contains the time, so it also differs from those of earlier processes.
fn unique() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let millis = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |d| d.as_millis());
    format!("{millis:x}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Runs one health check process in the instance's container.
async fn check_process(
    steps: &Steps,
    spec: ProcessSpec,
    keep: usize,
    cancel: &CancellationToken,
) -> Result<process::Ended, garden::api::GardenError> {
    let started = steps.started.contains(&spec.id);
    let grace = Duration::from_millis(500);
    process::run(
        process::Run {
            garden: steps.cell.garden.as_ref(),
            handle: &steps.handle,
            spec,
            started,
            lines: None,
            keep,
            grace,
        },
        cancel,
    )
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::bbs::{HttpCheck, TcpCheck};

    #[test]
    fn flags() {
        let second = Duration::from_secs(1);
        let tcp = probe(
            &Check {
                tcp_check: Some(TcpCheck {
                    port: 8080,
                    ..TcpCheck::default()
                }),
                http_check: None,
            },
            second,
        )
        .unwrap();
        let startup = Mode::Startup {
            interval: Duration::from_millis(200),
            limit: Duration::from_secs(60),
        };
        assert_eq!(
            arguments(&tcp, startup, 30 * second),
            [
                "-port=8080",
                "-timeout=1s",
                "-startup-interval=200ms",
                "-startup-timeout=1m0s"
            ]
        );
        assert_eq!(
            arguments(&tcp, Mode::Liveness, 30 * second)[2],
            "-liveness-interval=30s"
        );
        let http = HttpCheck {
            port: 1,
            request_timeout_ms: 1500,
            path: "/health".into(),
            interval_ms: 10_000,
        };
        let http = probe(
            &Check {
                tcp_check: None,
                http_check: Some(http),
            },
            second,
        )
        .unwrap();
        assert_eq!(
            arguments(&http, Mode::Readiness, 30 * second),
            [
                "-port=1",
                "-timeout=1.5s",
                "-uri=/health",
                "-readiness-interval=10s"
            ]
        );
        assert_eq!(probe(&Check::default(), second), None);
    }
}
