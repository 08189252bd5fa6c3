//! The router's side of the message bus, from which it learns its routes.
//!
//! The socket is drained between any two portions of messages, so that slow parsing does not lose a burst ([`Subscription`]).
//! Here messages are parsed and applied; a message that only repeats an earlier one is recognised and not parsed ([`apply`]). All
//! of this runs in one thread of its own: nothing else waits for it, and no message costs a wake-up of another thread. Pruning is
//! suspended while the bus is absent. When the bus returns, or when messages were lost because we were too slow, the router
//! publishes `router.start`, which every emitter answers with all of its routes.
//!
//! Emitters of ours number their messages, so that a lost one is noticed and requested from its emitter ([`losses`]).
//!
//! The router confirms changes that carry a generation, and answers what it serves of a route ([`receipts`], docs/propagation.md) and
//! what a request to a URL would meet ([`view`]).

mod apply;
mod losses;
pub(crate) mod message;
mod presence;
mod receipts;

use crate::observe::view;
use crate::worker::Shared;
use anyhow::Result;
use apply::Applier;
use clients::nats::{Delivery, Subscription};
use kit::CancellationToken;
use losses::Losses;
use presence::BusPresence;
use route_table::receipts::Receipts;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use wire::router::{StartMessage, subject};

/// The time after the last loss at which `router.start` is published: the answers to an earlier one would be lost as well.
const HEAL_AFTER: Duration = Duration::from_secs(1);
const GAUGE_INTERVAL: Duration = Duration::from_secs(1);

/// The number of messages that are applied before the socket is read again.
const PORTION: usize = 64;

const SUBJECTS: &[&str] = &[
    "router.*",
    subject::ASK_RECEIPTS,
    subject::DIGEST,
    subject::DIFFERENCE,
    subject::ASK_VIEW,
];

/// The most questions about a URL that are answered in one portion. Each answer costs as much as a page.
const VIEWS: usize = 4;

/// Keeps the table up to date until `end`.
pub(crate) async fn subscribe(
    shared: Arc<Shared>,
    nats: clients::nats::Config,
    end: CancellationToken,
) -> Result<()> {
    let name = format!("router-{}", shared.lasting.index);
    let limit = shared.lasting.bus_pending_limit;
    tracing::info!("subscriber-starting");
    let mut subscription = Subscription::new(&nats, &name, SUBJECTS, limit)?;
    let mut applier = Applier::new(shared.clone());
    let mut heal_at: Option<Instant> = None;
    let mut presence = BusPresence::new(nats.ping_interval);
    let mut gauge = tokio::time::interval(GAUGE_INTERVAL);
    loop {
        tokio::select! {
            () = end.cancelled() => break,
            () = subscription.wait() => {
                let portion = subscription.front(PORTION);
                let (mut messages, mut asked) = (Vec::with_capacity(portion.len()), Vec::new());
                let (mut questions, mut urls) = (Vec::new(), Vec::new());
                for delivery in portion {
                    match delivery {
                        Delivery::Message(message) => match message.subject() {
                            subject::GREET => asked.extend(message.reply().map(str::to_owned)),
                            subject::ASK_RECEIPTS => questions.push(message.payload()),
                            subject::ASK_VIEW => urls.extend(
                                message.reply().map(|reply| (reply.to_owned(), message.payload())),
                            ),
                            other => messages.push((other, message.payload())),
                        },
                        Delivery::Lost(count) => lost(&shared, *count, &mut heal_at),
                        Delivery::Connected => {
                            let addr = subscription.peer();
                            presence.connected(subscription.server(), addr);
                            shared.bus_is_connected.met();
                            shared.registry.resume_pruning(Instant::now());
                            asked.push(subject::START.to_owned());
                        }
                        Delivery::Disconnected(error) => {
                            presence.disconnected(error);
                            shared.bus_is_connected.unmet(error.as_str());
                            if shared.lasting.suspend_pruning_if_nats_unavailable {
                                shared.registry.suspend_pruning();
                            }
                        }
                    }
                }
                applier.apply(&messages, Instant::now());
                let answer = |question: &&[u8]| receipts::answer(&shared, question);
                let answers: Vec<Vec<u8>> = questions.iter().filter_map(answer).collect();
                let views = urls.into_iter().take(VIEWS).filter_map(|(reply, question)| {
                    Some((reply, view::answer(&shared, question)?))
                });
                let views: Vec<(String, Vec<u8>)> = views.collect();
                let count = portion.len();
                subscription.forget(count);
                for answer in answers {
                    subscription.publish(subject::RECEIPTS, &answer);
                }
                for (reply, view) in views {
                    subscription.publish(&reply, &view);
                }
                confirm(&mut subscription, &shared, applier.receipts());
                catch_up(&mut subscription, &shared, applier.losses());
                for reply in asked {
                    subscription.publish(&reply, &start_payload(&shared));
                }
                if subscription.pending() > 0 {
                    // Requests that wait for this core go first.
                    std::thread::yield_now();
                }
            },
            () = until(applier.receipts().due_at()) => {
                confirm(&mut subscription, &shared, applier.receipts());
            }
            () = until(applier.losses().ask_at()) => {
                catch_up(&mut subscription, &shared, applier.losses());
            }
            () = until(presence.remind_at()) => presence.remind(),
            () = until(heal_at) => {
                heal_at = None;
                // Every emitter publishes all of its routes again.
                subscription.publish(subject::START, &start_payload(&shared));
            }
            _ = gauge.tick() => {
                let pending = subscription.pending() as u64;
                shared.metrics.buffered_messages.store(pending, Ordering::Relaxed);
            }
        }
    }
    Ok(())
}

/// Publishes the receipts that are due.
fn confirm(subscription: &mut Subscription, shared: &Shared, receipts: &mut Receipts) {
    let changes = receipts.take(Instant::now());
    for message in receipts::of_changes(shared, &changes) {
        subscription.publish(subject::RECEIPTS, &message);
    }
}

/// Asks the emitters whose messages were lost for the difference, as far as that is due.
fn catch_up(subscription: &mut Subscription, shared: &Shared, losses: &mut Losses) {
    let now = Instant::now();
    if losses.ask_at().is_some_and(|at| at <= now) {
        for question in losses.ask(shared, now) {
            subscription.publish(subject::ASK_DIFFERENCE, &question);
        }
    }
}

/// Counts and logs dropped messages. It is unknown which messages they were.
fn lost(shared: &Shared, count: u64, heal_at: &mut Option<Instant>) {
    shared.metrics.total_dropped_messages.add(count);
    if heal_at.replace(Instant::now() + HEAL_AFTER).is_none() {
        tracing::error!("nats-slow-consumer");
    }
}

/// Waits until this time; `None`: waits without end.
async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

fn start_payload(shared: &Shared) -> Vec<u8> {
    let start = StartMessage {
        id: shared.id.clone(),
        hosts: vec![shared.lasting.ip.to_string()],
        minimum_register_interval_in_seconds: shared.lasting.register_interval.as_secs(),
        prune_threshold_in_seconds: shared.lasting.stale_threshold.as_secs(),
    };
    serde_json::to_vec(&start).unwrap_or_default()
}
