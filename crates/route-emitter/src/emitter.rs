//! Runs the one loop that owns the table: select, apply, publish.

use crate::message::Occasion;
use crate::metrics::Metrics;
use crate::publisher::{PATIENCE, Publisher};
use crate::watch::{StreamEvent, watch};
use crate::{Config, fetch};
use anyhow::{Context as _, Result};
use async_nats::connection::State;
use clients::bbs::{BbsError, Client};
use futures::StreamExt as _;
use kit::CancellationToken;
use kit::backoff::Backoff;
use kit::reconcile::{Begun, Changed, LastPass};
use rand::Rng as _;
use route_table::emission::{
    Changes, Desired, Event, Marker, Snapshot, Table, UnregistrationRepeats,
};
use std::collections::{HashSet, VecDeque};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;
use wire::router::digests::DifferenceQuestion;
use wire::router::{StartMessage, subject};

/// The number of events that may wait for the loop. Beyond it the BBS waits.
const EVENTS: usize = 4096;
const GREET_INTERVAL: Duration = Duration::from_secs(1);
const RETRY_SYNC: Duration = Duration::from_secs(1);
/// The approximate number of messages in a piece of a full emission, which is split so that events need not wait behind it.
const PIECE: usize = 200;
/// The time after which routers have reconnected: a little longer than the pause between two attempts of a client of the bus.
const LATE_ROUTERS: Duration = Duration::from_millis(1500);
const FAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// The results of tasks that the loop started, and events of the bus.
enum Input {
    Snapshot(Marker, Result<Snapshot>),
    /// The routes of the processes in `processes`.
    Routes {
        processes: Vec<String>,
        found: Vec<Desired>,
    },
    /// The processes that still wait for a cell, among those in `processes`.
    Waiting {
        processes: (Marker, Vec<String>),
        still: Result<HashSet<String>, BbsError>,
    },
    BusConnected,
    RouterStarted(StartMessage),
    /// A router asks what changed after a number.
    Asked(DifferenceQuestion),
    /// A name server of containers has started and has no names yet.
    NameServerStarted,
}

struct Emitter {
    config: Config,
    bbs: Client,
    bus: async_nats::Client,
    publisher: Publisher,
    greetings: String,
    table: Table,
    repeats: UnregistrationRepeats,
    /// The processes that are still to be emitted in the current full emission.
    backlog: VecDeque<String>,
    interval: Duration,
    emit_at: Instant,
    sync_at: Instant,
    /// The sync whose snapshot is being fetched, and whether that is already out of date (`again`).
    syncing: Option<Begun>,
    again: bool,
    last_sync: LastPass,
    greeted: bool,
    fetching_routes: HashSet<String>,
    /// Whether the BBS is being asked which processes still wait.
    fetching_waiting: bool,
    inputs: mpsc::UnboundedSender<Input>,
    shutdown: CancellationToken,
    sync_began: Instant,
    metrics: Metrics,
}

pub(crate) async fn run(
    config: Config,
    bbs: Client,
    last_sync: LastPass,
    metrics: Metrics,
    shutdown: CancellationToken,
) -> Result<()> {
    let (inputs, mut received) = mpsc::unbounded_channel();
    let on_event = {
        let (inputs, need) = (inputs.clone(), metrics.bus.clone());
        move |event| {
            clients::nats::report(&event, &need);
            match event {
                async_nats::Event::Connected => drop(inputs.send(Input::BusConnected)),
                event => tracing::info!(%event, "nats-event"),
            }
            std::future::ready(())
        }
    };
    let bus = clients::nats::connect(&config.nats, "route-emitter", on_event).await?;
    let greetings = bus.new_inbox();
    listen_for_routers(&bus, &greetings, &inputs).await?;
    let (stream_events, mut events) = mpsc::channel(EVENTS);
    let watching = tokio::spawn(watch(
        bbs.clone(),
        config.cell_id.clone(),
        stream_events,
        shutdown.clone(),
    ));
    let (now, interval) = (Instant::now(), config.emission_interval);
    let mut repeat = tokio::time::interval(config.unregistration_interval);
    repeat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut greet = tokio::time::interval(GREET_INTERVAL);
    let mut announce = tokio::time::interval(config.announcement_interval);
    announce.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let table = Table::without_components(config.component_hosts.clone());
    let mut emitter = Emitter {
        repeats: UnregistrationRepeats::new(config.unregistration_send_count),
        publisher: Publisher::new(bus.clone(), &config.cell_id, metrics.clone()),
        config,
        bbs,
        bus,
        greetings,
        table,
        backlog: VecDeque::new(),
        interval,
        emit_at: now + interval,
        // The first sync runs when the event stream is open.
        sync_at: now + FAR,
        syncing: None,
        again: false,
        last_sync,
        greeted: false,
        fetching_routes: HashSet::new(),
        fetching_waiting: false,
        inputs,
        shutdown: shutdown.clone(),
        sync_began: now,
        metrics,
    };
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            Some(event) = events.recv() => emitter.handle_event(event).await,
            Some(input) = received.recv() => emitter.handle_input(input).await,
            _ = repeat.tick() => emitter.repeat_unregistrations().await,
            _ = announce.tick() => {
                emitter.metrics.still_holds(emitter.table.registrations());
                emitter.announce_all_starting().await;
            }
            _ = greet.tick(), if !emitter.greeted => emitter.greet().await,
            () = tokio::time::sleep_until(emitter.publisher.digest_at()) => {
                emitter.publisher.publish_digest().await;
            }
            () = tokio::time::sleep_until(emitter.sync_at) => emitter.sync(),
            () = tokio::time::sleep_until(emitter.emit_at) => emitter.emit_everything(),
            () = std::future::ready(()), if !emitter.backlog.is_empty() => emitter.emit_piece().await,
        }
    }
    let _ = tokio::time::timeout(PATIENCE, emitter.bus.flush()).await;
    let _ = watching.await;
    Ok(())
}

/// Subscribes to the routers' messages: `router.start` and the answers to our greetings both contain a router's interval.
async fn listen_for_routers(
    bus: &async_nats::Client,
    greetings: &str,
    inputs: &mpsc::UnboundedSender<Input>,
) -> Result<()> {
    for subject in [subject::START, greetings] {
        let mut messages = bus
            .subscribe(subject.to_owned())
            .await
            .with_context(|| format!("subscribe to {subject}"))?;
        let inputs = inputs.clone();
        tokio::spawn(async move {
            while let Some(message) = messages.next().await {
                // A status without a body means that no router answered.
                if message.payload.is_empty() {
                    continue;
                }
                match serde_json::from_slice(&message.payload) {
                    Ok(start) => drop(inputs.send(Input::RouterStarted(start))),
                    Err(error) => {
                        tracing::warn!(subject = %message.subject, %error, "router-start-not-understood")
                    }
                }
            }
        });
    }
    let mut questions = bus
        .subscribe(subject::ASK_DIFFERENCE)
        .await
        .with_context(|| format!("subscribe to {}", subject::ASK_DIFFERENCE))?;
    let asked = inputs.clone();
    tokio::spawn(async move {
        while let Some(message) = questions.next().await {
            match serde_json::from_slice(&message.payload) {
                Ok(question) => drop(asked.send(Input::Asked(question))),
                Err(error) => tracing::warn!(%error, "router-question-not-understood"),
            }
        }
    });
    let mut starts = bus
        .subscribe(subject::CONTAINER_START)
        .await
        .with_context(|| format!("subscribe to {}", subject::CONTAINER_START))?;
    let inputs = inputs.clone();
    tokio::spawn(async move {
        while starts.next().await.is_some() {
            let _ = inputs.send(Input::NameServerStarted);
        }
    });
    Ok(())
}

impl Emitter {
    async fn handle_event(&mut self, event: StreamEvent) {
        match event {
            StreamEvent::Opened => self.sync(),
            StreamEvent::Event(event, vcap_request_id) => {
                let unknown = match &*event {
                    // The routes are also fetched for an instance that does not run yet, so that they are here when it does.
                    Event::ActualSet(actual) if !self.table.knows(&actual.process_guid) => {
                        Some(actual.process_guid.clone())
                    }
                    _ => None,
                };
                let changes = self.table.apply(*event);
                if !changes.is_empty() && !vcap_request_id.is_empty() {
                    tracing::info!(
                        registered = changes.register.len(),
                        unregistered = changes.unregister.len(),
                        vcap_request_id,
                        "routes-changed"
                    );
                }
                let occasion = Occasion::change(&changes);
                self.publish(changes, occasion).await;
                if let Some(guid) = unknown {
                    self.fetch_routes(guid);
                }
            }
        }
    }

    async fn handle_input(&mut self, input: Input) {
        match input {
            Input::Snapshot(marker, snapshot) => {
                self.synced(marker, snapshot).await;
                if std::mem::take(&mut self.again) {
                    self.sync();
                }
            }
            Input::Routes { processes, found } => {
                for guid in &processes {
                    self.fetching_routes.remove(guid);
                }
                for desired in found {
                    let changes = self.table.apply(Event::DesiredSet(desired));
                    let occasion = Occasion::change(&changes);
                    self.publish(changes, occasion).await;
                }
            }
            Input::Waiting { processes, still } => {
                self.fetching_waiting = false;
                match still {
                    Ok(still) => {
                        for uris in self.table.still_waiting(&processes, &still) {
                            self.publisher.announce_starting(uris).await;
                        }
                    }
                    Err(error) => tracing::warn!(%error, "fetch-waiting-failed"),
                }
            }
            Input::BusConnected => {
                tracing::info!("nats-connected");
                let pending: Vec<_> = self.repeats.pending().cloned().collect();
                self.publisher
                    .send(&[], &pending, Occasion::Repetition)
                    .await;
                self.emit_everything();
                // Routers may take this long to reconnect to the bus, and do not receive what was sent before.
                self.emit_at = Instant::now() + self.interval.min(LATE_ROUTERS);
            }
            Input::Asked(question) => self.publisher.answer(&question).await,
            Input::NameServerStarted => self.emit_at = Instant::now(),
            Input::RouterStarted(start) => {
                self.greeted = true;
                if start.minimum_register_interval_in_seconds > 0 {
                    self.interval = Duration::from_secs(start.minimum_register_interval_in_seconds);
                }
                let jitter = self
                    .interval
                    .mul_f64(self.config.jitter_factor * rand::rng().random::<f64>());
                tracing::info!(
                    router = start.id,
                    interval_s = self.interval.as_secs(),
                    "router-started"
                );
                self.emit_at = Instant::now() + jitter;
            }
        }
    }

    /// Applies the snapshot of a sync, and ends the sync.
    async fn synced(&mut self, marker: Marker, snapshot: Result<Snapshot>) {
        let begun = self.syncing.take();
        self.metrics.bbs.attempted(&snapshot);
        let changes = snapshot.map(|snapshot| self.table.sync(marker, snapshot));
        let mut changed = Changed::new();
        if let Ok(changes) = &changes {
            changed.insert("registered", changes.register.len() as u64);
            changed.insert("unregistered", changes.unregister.len() as u64);
        }
        if let Some(begun) = begun {
            begun.end(changed, &changes);
        }
        match changes {
            Ok(changes) => {
                tracing::debug!(
                    registered = changes.register.len(),
                    unregistered = changes.unregister.len(),
                    "synced"
                );
                self.metrics.synced(self.sync_began.elapsed(), &changes);
                self.metrics.holds(self.table.registrations());
                self.publish(changes, Occasion::Repetition).await;
                self.sync_at = Instant::now() + self.config.sync_interval;
            }
            Err(error) => {
                tracing::warn!(error = format!("{error:#}"), "sync-failed");
                self.sync_at = Instant::now() + RETRY_SYNC;
            }
        }
    }

    fn sync(&mut self) {
        self.sync_at = Instant::now() + FAR;
        if self.syncing.is_some() {
            self.again = true;
            return;
        }
        self.syncing = Some(self.last_sync.begin());
        self.sync_began = Instant::now();
        let marker = self.table.begin_sync();
        let (bbs, cell_id, inputs) = (
            self.bbs.clone(),
            self.config.cell_id.clone(),
            self.inputs.clone(),
        );
        tokio::spawn(async move {
            let snapshot = fetch::snapshot(&bbs, &cell_id).await;
            let _ = inputs.send(Input::Snapshot(marker, snapshot));
        });
    }

    fn fetch_routes(&mut self, guid: String) {
        if !self.fetching_routes.insert(guid.clone()) {
            return;
        }
        let (bbs, inputs, shutdown) =
            (self.bbs.clone(), self.inputs.clone(), self.shutdown.clone());
        tokio::spawn(shutdown.run_until_cancelled_owned(async move {
            let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
            let found = loop {
                match fetch::routes(&bbs, vec![guid.clone()]).await {
                    Ok(found) => break found,
                    Err(error) => {
                        tracing::warn!(
                            process_guid = guid,
                            error = format!("{error:#}"),
                            "fetch-routes-failed"
                        );
                        tokio::time::sleep(backoff.next_delay()).await;
                    }
                }
            };
            let _ = inputs.send(Input::Routes {
                processes: vec![guid],
                found,
            });
        }));
    }

    async fn greet(&mut self) {
        if self.bus.connection_state() == State::Connected {
            let greeting =
                self.bus
                    .publish_with_reply(subject::GREET, self.greetings.clone(), "{}".into());
            let _ = tokio::time::timeout(PATIENCE, greeting).await;
        }
    }

    async fn announce_all_starting(&mut self) {
        for uris in self.table.starting() {
            self.publisher.announce_starting(uris).await;
        }
        let processes = self.table.waiting();
        if processes.1.is_empty() || self.fetching_waiting {
            return;
        }
        self.fetching_waiting = true;
        let (bbs, inputs) = (self.bbs.clone(), self.inputs.clone());
        tokio::spawn(async move {
            let still = fetch::waiting(&bbs, processes.1.clone()).await;
            let _ = inputs.send(Input::Waiting { processes, still });
        });
    }

    fn emit_everything(&mut self) {
        self.emit_at = Instant::now() + self.interval;
        self.backlog = self
            .table
            .registered_processes()
            .map(str::to_owned)
            .collect();
    }

    /// Emits the next processes with their present registrations, not with those from the begin of the emission.
    async fn emit_piece(&mut self) {
        let mut piece = Vec::new();
        while piece.len() < PIECE {
            let Some(guid) = self.backlog.pop_front() else {
                break;
            };
            piece.extend(self.table.registrations_of(&guid).cloned());
        }
        self.publisher.send(&piece, &[], Occasion::Repetition).await;
    }

    async fn repeat_unregistrations(&mut self) {
        let due = self.repeats.due();
        self.publisher.send(&[], &due, Occasion::Repetition).await;
    }

    async fn publish(&mut self, changes: Changes, occasion: Occasion) {
        for (process_guid, uri) in self.table.left_out() {
            tracing::warn!(
                process_guid,
                uri,
                "component-route-left-out: the host is a component's, and apps cannot use it"
            );
        }
        if !changes.is_empty() {
            self.metrics.changed(&changes);
            self.publisher.record(&changes);
            self.repeats.record(&changes);
            self.publisher
                .send(&changes.register, &changes.unregister, occasion)
                .await;
        }
        self.publisher.announce_starting(changes.starting).await;
        if changes.wanted {
            // Only the BBS knows whether the next instance waits for a cell, and routers need the answer.
            self.announce_all_starting().await;
        }
    }
}
