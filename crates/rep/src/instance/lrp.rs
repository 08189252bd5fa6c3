//! The life of one LRP instance, owned by one task.
//!
//! ```text
//! claim ─▶ fetch ─▶ create ─▶ certificate, Envoy ─▶ setup ─▶ action + sidecars + health ─▶ RUNNING ─┬─ asked ──▶ unroutable ─▶ SIGTERM ─▶ destroy ─▶ remove
//!                                                                                              └─ failed ─▶ crash reported, SIGTERM ─▶ destroy
//! ```

use crate::cell::{Cell, SIDECAR_MEMORY_MB};
use crate::identity::CREDENTIALS_DIR;
use crate::instance::container::{Container, Phase, StopReason, Work};
use crate::instance::create::{self, Made};
use crate::instance::egress;
use crate::instance::health;
use crate::instance::logs::Logs;
use crate::instance::metrics;
use crate::instance::record::{self, ContainerDir, HEALTHY, Record};
use crate::instance::report;
use crate::instance::spec::{self, Definition};
use crate::instance::steps::{StepError, StepResult, Steps, long_lived_steps};
use anyhow::{Context as _, Result};
use cell_plan::{credentials, envoy};
use clients::bbs::BbsError;
use clients::loggregator::Stream;
use futures::future::BoxFuture;
use garden::api::ProcessSpec;
use kit::CancellationToken;
use kit::backoff::Backoff;
use std::collections::BTreeSet;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;
use wire::bbs::{Action, ClaimActualLrpRequest, DesiredLrp, ParallelAction, SecurityGroupRule};

const PROXY: &str = "PROXY";
const SETUP: &str = "setup";

/// Runs an instance that `/work` has reserved, from its reservation to its end.
pub(crate) async fn start(cell: Arc<Cell>, container: Arc<Container>) {
    let Some(desired) = claim(&cell, &container).await else {
        return;
    };
    let definition = Definition::from(&desired);
    let Work::Lrp { index, .. } = container.work else {
        return;
    };
    container.begin_routing(
        spec::internal_routes(&desired),
        definition.tags(&container.guid, index),
    );
    let logs = create::logs(&cell, &container, &definition);
    let made = async {
        let dir = ContainerDir::create(
            &cell.settings.work_dir,
            &container.guid,
            &record_of(&container),
            &desired,
        )?;
        let made = create::create(&cell, &container, &definition, &dir, &logs).await?;
        anyhow::Ok((dir, made))
    };
    match made.await {
        Ok((dir, made)) => {
            Instance::new(
                cell.clone(),
                container.clone(),
                desired,
                definition,
                dir,
                logs,
                made,
                BTreeSet::new(),
            )
            .live()
            .await
        }
        Err(error) => {
            report::crashed(
                &cell,
                &container,
                &format!("failed to create container: {error:#}"),
            )
            .await
        }
    }
    record::remove(&cell.settings.work_dir, &container.guid);
}

/// Continues an instance whose container exists, after a restart of the rep.
pub(crate) async fn resume(
    cell: Arc<Cell>,
    container: Arc<Container>,
    existing: garden::api::Container,
) {
    let opened = ContainerDir::open::<DesiredLrp>(&cell.settings.work_dir, &container.guid);
    let made = opened.and_then(|(dir, desired)| {
        let definition = Definition::from(&desired);
        let made = create::adopted(&cell, &container, &definition, &dir, &existing)?;
        Ok((dir, desired, definition, made))
    });
    match made {
        Ok((dir, desired, definition, made)) => {
            container.set_phase(Phase::Created);
            let logs = create::logs(&cell, &container, &definition);
            let started = existing.processes.into_keys().collect();
            let instance = Instance::new(
                cell.clone(),
                container.clone(),
                desired,
                definition,
                dir,
                logs,
                made,
                started,
            );
            if instance.still_desired().await {
                instance.live().await
            } else {
                instance.abandon().await
            }
        }
        Err(error) => {
            tracing::warn!(
                container = container.guid,
                error = format!("{error:#}"),
                "container-not-adopted"
            );
            destroy(&cell, &container.guid).await;
            report::crashed(
                &cell,
                &container,
                &format!("container could not be adopted: {error:#}"),
            )
            .await;
        }
    }
    record::remove(&cell.settings.work_dir, &container.guid);
}

pub(crate) fn record_of(container: &Container) -> Record {
    let status = container.status();
    Record {
        work: container.work.clone(),
        constraint: container.constraint.clone(),
        resource: container.resource,
        internal_routes: status.internal_routes,
        metric_tags: status.metric_tags,
    }
}

/// Claims the row and fetches the desired LRP. Returns `None` if this instance is not wanted.
async fn claim(cell: &Cell, container: &Container) -> Option<DesiredLrp> {
    let (key, instance_key) = container.lrp_keys(&cell.settings.cell_id)?;
    let request = ClaimActualLrpRequest {
        process_guid: key.process_guid.clone(),
        index: key.index,
        instance_key: Some(instance_key),
    };
    let limit = cell.settings.timing.claim_limit;
    let claimed = tokio::select! {
        () = container.stop.cancelled() => return None,
        answer = report::until_answered(limit, || cell.bbs.claim(&request)) => answer?,
    };
    if let Err(error) = claimed {
        tracing::info!(
            container = container.guid,
            process_guid = key.process_guid,
            index = key.index,
            error = format!("{:#}", anyhow::Error::from(error)),
            "claim-refused"
        );
        return None;
    }
    match report::until_answered(limit, || cell.bbs.desired_lrp(&key.process_guid)).await {
        Some(Ok(desired)) => Some(desired),
        Some(Err(error)) => {
            tracing::info!(
                container = container.guid,
                error = format!("{:#}", anyhow::Error::from(error)),
                "desired-lrp-not-fetched"
            );
            report::removed(cell, container).await;
            None
        }
        None => None,
    }
}

/// Destroys the container. If garden fails, it retries a few times and then leaves the container to the periodic clean-up.
pub(crate) async fn destroy(cell: &Cell, guid: &str) {
    for wait in [
        Duration::from_millis(200),
        Duration::from_secs(1),
        Duration::from_secs(3),
    ] {
        match cell.destroy(guid).await {
            Ok(()) => return,
            Err(error) => tracing::warn!(
                container = guid,
                error = format!("{error:#}"),
                "container-not-destroyed"
            ),
        }
        tokio::time::sleep(wait).await;
    }
}

/// The way in which an instance ended.
#[derive(Debug)]
enum Ending {
    Stopped,
    Crashed,
}

/// An instance whose container exists.
struct Instance {
    cell: Arc<Cell>,
    container: Arc<Container>,
    desired: DesiredLrp,
    definition: Definition,
    dir: Arc<ContainerDir>,
    logs: Logs,
    made: Made,
    steps: Steps,
    /// The token that asks the app's processes to end (not Envoy, which requests in flight still need).
    processes: CancellationToken,
    /// The token that is cancelled when the app's processes have ended.
    ended: CancellationToken,
}

impl Instance {
    #[expect(
        clippy::too_many_arguments,
        reason = "puts together what the two ways to a container have made"
    )]
    fn new(
        cell: Arc<Cell>,
        container: Arc<Container>,
        desired: DesiredLrp,
        definition: Definition,
        dir: ContainerDir,
        logs: Logs,
        made: Made,
        started: BTreeSet<String>,
    ) -> Self {
        let dir = Arc::new(dir);
        container.set_version(desired.modification_tag.clone());
        let steps = Steps {
            cell: cell.clone(),
            handle: container.guid.clone(),
            logs: logs.clone(),
            env: made.env.clone(),
            dir: dir.clone(),
            disk: definition.download_limit(),
            started: Arc::new(started),
        };
        Self {
            cell,
            container,
            desired,
            definition,
            dir,
            logs,
            made,
            steps,
            processes: CancellationToken::new(),
            ended: CancellationToken::new(),
        }
    }

    /// Returns whether the LRP of an adopted instance still exists. It counts as existing if the BBS does not answer.
    async fn still_desired(&self) -> bool {
        let answer = report::until_answered(Duration::from_secs(5), || {
            self.cell.bbs.desired_lrp(&self.desired.process_guid)
        })
        .await;
        !matches!(answer, Some(Err(ref error)) if BbsError::is_not_found(error))
    }

    async fn abandon(&self) {
        self.logs.cell(
            Stream::Out,
            format!(
                "Cell {} stopping instance {}",
                self.cell.settings.cell_id, self.container.guid
            ),
        );
        self.destroy().await;
        report::removed(&self.cell, &self.container).await;
    }

    /// Runs the instance from the existing container until the container is destroyed.
    async fn live(&self) {
        let ending = match self.write_credentials() {
            Err(error) => {
                report::crashed(
                    &self.cell,
                    &self.container,
                    &format!("failed to create credentials: {error:#}"),
                )
                .await;
                Ending::Crashed
            }
            Ok(()) => {
                if self.dir.is_done(HEALTHY) {
                    self.container.set_running(self.readiness_checks() == 0);
                } else {
                    self.container.set_phase(Phase::Created);
                }
                let net_info = report::net_info(&self.cell, &self.made);
                self.container.set_net_info(net_info.clone());
                let background = async {
                    tokio::join!(
                        self.app(),
                        self.proxy(),
                        self.rotate(),
                        report::running(&self.cell, &self.container, net_info),
                        metrics::emit(&self.cell, &self.container, &self.logs, &self.definition,),
                        self.follow(),
                    );
                    pending::<()>().await;
                };
                tokio::select! {
                    () = background => Ending::Crashed,
                    ending = self.control() => ending,
                }
            }
        };
        self.destroy().await;
        if let (Ending::Stopped, Some(StopReason::Requested)) =
            (ending, self.container.status().stopping)
        {
            report::removed(&self.cell, &self.container).await;
        }
    }

    /// Waits for a reason to end, and stops the app gracefully.
    async fn control(&self) -> Ending {
        let timing = &self.cell.settings.timing;
        let wait = timing.grace + Duration::from_secs(2);
        tokio::select! {
            biased;
            () = self.container.stop.cancelled() => {
                self.logs.cell(Stream::Out, format!("Cell {} stopping instance {}", self.cell.settings.cell_id, self.container.guid));
                if self.container.reported.borrow().is_some() {
                    report::unroutable(&self.container).await;
                    let _ = tokio::time::timeout(timing.route_drain, self.ended.cancelled()).await;
                }
                self.processes.cancel();
                let _ = tokio::time::timeout(wait, self.ended.cancelled()).await;
                Ending::Stopped
            }
            reason = self.container.failed() => {
                tracing::info!(container = self.container.guid, process_guid = self.desired.process_guid, reason, "instance-crashed");
                self.cell.repair.nudge();
                let end = async {
                    self.processes.cancel();
                    let _ = tokio::time::timeout(wait, self.ended.cancelled()).await;
                };
                tokio::join!(report::crashed(&self.cell, &self.container, &reason), end);
                Ending::Crashed
            }
        }
    }

    async fn destroy(&self) {
        let (cell_id, guid) = (&self.cell.settings.cell_id, &self.container.guid);
        self.logs.cell(
            Stream::Out,
            format!("Cell {cell_id} destroying container for instance {guid}"),
        );
        destroy(&self.cell, guid).await;
        self.logs.cell(
            Stream::Out,
            format!("Cell {cell_id} successfully destroyed container for instance {guid}"),
        );
    }

    /// Runs the setup, and then everything that must run together. The first of them that ends makes the instance fail.
    async fn app(&self) {
        if let Err(StepError::Failed(reason)) = self.app_steps().await {
            self.container.fail(reason);
        }
        self.ended.cancel();
    }

    async fn app_steps(&self) -> StepResult {
        let source = self.definition.log_source.as_str();
        if !self.dir.is_done(SETUP) {
            let layers = Action {
                parallel: Some(ParallelAction {
                    actions: self.definition.layer_downloads(),
                    log_source: String::new(),
                }),
                ..Action::default()
            };
            self.steps
                .perform(&layers, "layers".to_owned(), source, self.processes.clone())
                .await?;
            if let Some(setup) = &self.desired.setup {
                self.steps
                    .perform(setup, SETUP.to_owned(), source, self.processes.clone())
                    .await?;
            }
            self.dir.record_done(SETUP);
        }
        let mut steps: Vec<BoxFuture<'_, StepResult>> = Vec::new();
        if let Some(action) = &self.desired.action {
            steps.push(self.steps.perform(
                action,
                "action".to_owned(),
                source,
                self.processes.clone(),
            ));
        }
        for (n, sidecar) in self.desired.sidecars.iter().enumerate() {
            if let Some(action) = &sidecar.action {
                steps.push(self.steps.perform(
                    action,
                    format!("sidecar-{n}"),
                    source,
                    self.processes.clone(),
                ));
            }
        }
        steps.push(Box::pin(health::monitor(health::Monitor {
            steps: &self.steps,
            container: &self.container,
            desired: &self.desired,
            ports: &self.made.ports,
            address: self.made.ip,
            cancel: &self.processes,
        })));
        // If there is a monitor, it decides: an action that has started a daemon may end.
        let alone = !self.is_monitored() || !self.desired.sidecars.is_empty();
        long_lived_steps(steps, alone, &self.processes, |first| {
            // The failure is reported at once, because the other steps may take time to end.
            match first {
                Err(StepError::Failed(reason)) => self.container.fail(reason.clone()),
                Ok(()) => self.container.fail("Exited with status 0"),
                Err(StepError::Cancelled) => {}
            }
        })
        .await
    }

    fn is_monitored(&self) -> bool {
        match &self.desired.check_definition {
            Some(definition) => {
                !definition.checks.is_empty() || !definition.readiness_checks.is_empty()
            }
            None => self.desired.monitor.is_some(),
        }
    }

    fn readiness_checks(&self) -> usize {
        self.desired
            .check_definition
            .as_ref()
            .map_or(0, |checks| checks.readiness_checks.len())
    }

    /// Runs Envoy beside the app. If Envoy ends, the instance ends.
    async fn proxy(&self) {
        if self.made.ports.tls.is_empty() {
            return;
        }
        let (path, args) = envoy::command();
        let spec = ProcessSpec {
            id: "envoy".to_owned(),
            path,
            args,
            env: self.made.env.clone(),
            dir: "/".to_owned(),
            user: String::new(),
            nofile: 0,
            sidecar: true,
        };
        let never = CancellationToken::new();
        match self.steps.process(spec, PROXY, false, &never).await {
            Err(StepError::Failed(reason)) => self.container.fail(reason),
            _ => self
                .container
                .fail(format!("{PROXY}: Exited with status 0")),
        }
    }

    fn write_credentials(&self) -> Result<()> {
        let proxy = !self.made.ports.tls.is_empty();
        let plan = credentials::identity(
            &self.container.guid,
            &self.definition.organizational_units,
            self.made.ip,
        );
        self.made
            .files
            .write_identity(&self.cell.issue(&plan)?, proxy)?;
        if proxy {
            self.write_c2c()?;
            self.made.files.write_envoy(
                &envoy::bootstrap(
                    &self.container.guid,
                    self.made.ip,
                    &self.made.ports,
                    SIDECAR_MEMORY_MB << 20,
                ),
                &self.cell.settings.router_ca_pem,
            )?;
        }
        Ok(())
    }

    fn write_c2c(&self) -> Result<()> {
        let routes = self.container.status().internal_routes;
        let plan = credentials::container_to_container(
            &self.container.guid,
            &self.definition.organizational_units,
            &routes,
        );
        self.made.files.write_c2c(&self.cell.issue(&plan)?)
    }

    /// Applies changes that the BBS makes to a running instance: changes of its egress rules.
    async fn follow(&self) {
        let mut applied = self.desired.egress_rules.clone();
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
        loop {
            self.container.refresh.notified().await;
            while let Err(error) = self.apply_changes(&mut applied).await {
                tracing::warn!(
                    container = self.container.guid,
                    error = format!("{error:#}"),
                    "change-of-desired-lrp-not-applied"
                );
                tokio::time::sleep(backoff.next_delay()).await;
            }
            backoff.reset();
        }
    }

    async fn apply_changes(&self, applied: &mut Vec<SecurityGroupRule>) -> Result<()> {
        let desired = match self.cell.bbs.desired_lrp(&self.desired.process_guid).await {
            // The instance is about to be stopped.
            Err(error) if error.is_not_found() => return Ok(()),
            desired => desired.context("fetch the desired LRP")?,
        };
        egress::apply(&self.cell, &self.container, applied, &desired.egress_rules).await?;
        self.container.set_version(desired.modification_tag.clone());
        self.dir.save_definition(&DesiredLrp {
            egress_rules: applied.clone(),
            modification_tag: desired.modification_tag,
            ..self.desired.clone()
        })
    }

    /// Issues new certificates before the old ones expire, and when the internal routes change.
    async fn rotate(&self) {
        let mut due =
            tokio::time::Instant::now() + credentials::rotate_after(self.cell.issuer.validity());
        loop {
            let written = tokio::select! {
                () = tokio::time::sleep_until(due) => {
                    due = tokio::time::Instant::now() + credentials::rotate_after(self.cell.issuer.validity());
                    self.write_credentials()
                }
                () = self.container.internal_routes_changed.notified() => {
                    let saved = self.dir.save(&record_of(&self.container));
                    if self.made.ports.tls.is_empty() { saved } else { saved.and(self.write_c2c()) }
                }
            };
            match written {
                Ok(()) => tracing::debug!(
                    container = self.container.guid,
                    dir = CREDENTIALS_DIR,
                    "credentials-written"
                ),
                Err(error) => {
                    tracing::error!(
                        container = self.container.guid,
                        error = format!("{error:#}"),
                        "credentials-not-written"
                    );
                    due = due.min(tokio::time::Instant::now() + Duration::from_secs(60));
                }
            }
        }
    }
}
