//! The record of how far changes of routes have come: it listens to the routers' receipts on the bus, and asks for those that are
//! missing. The verdicts are made in [`cc_rules::propagation`].
//!
//! ```text
//!  change ──stored, desired──▶ Receipts ◀──route-receipts.served── routers
//!  api::route_propagation ──verdict──▶  │ ──router.greet, route-receipts.ask──▶ routers
//! ```
//!
//! It decides nothing about routes and writes nothing to the database. Without a bus it knows no router.

use anyhow::Result;
use cc_rules::propagation::{Propagation, Verdict, Wish};
use clients::nats::{Config, Delivery, Subscription};
use kit::CancellationToken;
use kit::reconcile::Nudge;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;
use wire::router::receipts::{MOST_ROUTES, Question, Receipts as Served};
use wire::router::{StartMessage, subject};

const SUBJECTS: &[&str] = &[subject::RECEIPTS, subject::ROUTERS, subject::START];
/// The number of bytes of messages that may wait. A receipt that is lost is asked for again.
const PENDING: usize = 16 << 20;
/// The period in which routers are greeted while nobody waits.
const GREETING: Duration = Duration::from_secs(5);
/// The shortest time between two rounds of questions.
const PACE: Duration = Duration::from_millis(20);
/// The time after which a router that has not answered is asked again.
const AGAIN: Duration = Duration::from_millis(200);
/// The maximum number of routes that wait for a round of questions.
const QUESTIONS: usize = 1000;

/// The handle of the record; it is cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Receipts(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    known: Mutex<Propagation>,
    /// The routes to ask about.
    questions: Mutex<BTreeSet<String>>,
    ask: Nudge,
    /// The number of messages so far. Requests that wait judge again when it grows.
    news: watch::Sender<u64>,
    has_bus: bool,
}

impl Receipts {
    /// Makes the record, and the subscription with which it [runs](Self::run). `None`: there is no bus.
    pub(crate) fn new(nats: Option<&Config>) -> Result<(Self, Option<Subscription>)> {
        let bus = nats.map(|nats| Subscription::new(nats, "cloud-controller", SUBJECTS, PENDING));
        let bus = bus.transpose()?;
        let receipts = Self(Arc::new(Shared {
            known: Mutex::default(),
            questions: Mutex::default(),
            ask: Nudge::default(),
            news: watch::Sender::new(0),
            has_bus: bus.is_some(),
        }));
        Ok((receipts, bus))
    }

    /// Returns whether there is a bus, and so a chance that a router confirms something.
    pub(crate) fn has_bus(&self) -> bool {
        self.0.has_bus
    }

    /// Records that changes of these routes were committed.
    pub(crate) fn stored(&self, routes: &BTreeMap<String, u64>) {
        let now_ns = now_ns();
        let mut known = self.known();
        for (route, generation) in routes {
            known.stored(route, *generation, now_ns);
        }
    }

    /// Records that Diego has the changes of these routes.
    pub(crate) fn desired(&self, routes: &BTreeMap<String, u64>) {
        let now_ns = now_ns();
        let mut known = self.known();
        for (route, generation) in routes {
            known.desired(route, *generation, now_ns);
        }
    }

    /// Returns the verdict about a route as soon as it is final, and the last one at `until`. Routers that have not confirmed are
    /// asked.
    pub(crate) async fn verdict(&self, wish: &Wish, until: Instant) -> Verdict {
        let mut news = self.0.news.subscribe();
        let mut ask_at = Instant::now();
        loop {
            let (verdict, now) = (self.judge(wish), Instant::now());
            if verdict.state.is_final() || now >= until || !self.0.has_bus {
                return verdict;
            }
            if now >= ask_at {
                ask_at = now + AGAIN;
                self.ask(&wish.uri);
            }
            let pause = tokio::time::sleep_until(until.min(ask_at).into());
            tokio::select! {
                _ = news.changed() => {}
                () = pause => {}
            }
        }
    }

    fn judge(&self, wish: &Wish) -> Verdict {
        self.known().judge(wish, Instant::now())
    }

    fn ask(&self, uri: &str) {
        let mut questions = self.questions();
        if questions.len() < QUESTIONS {
            questions.insert(uri.to_owned());
        }
        drop(questions);
        self.0.ask.nudge();
    }

    /// Listens and asks until `shutdown`.
    pub(crate) async fn run(&self, mut bus: Subscription, shutdown: &CancellationToken) {
        let mut greet = tokio::time::interval(GREETING);
        greet.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut not_before = Instant::now();
        let mut is_asked = false;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                delivery = bus.next() => match delivery {
                    Delivery::Connected => is_asked = true,
                    Delivery::Message(message) => self.receive(message.subject(), message.payload()),
                    Delivery::Disconnected(_) | Delivery::Lost(_) => {}
                },
                () = self.0.ask.nudged() => is_asked = true,
                _ = greet.tick() => is_asked = true,
                () = tokio::time::sleep_until(not_before.into()), if is_asked => {
                    (is_asked, not_before) = (false, Instant::now() + PACE);
                    self.question(&mut bus);
                }
            }
        }
    }

    fn receive(&self, subject: &str, payload: &[u8]) {
        let understood = if subject == subject::RECEIPTS {
            serde_json::from_slice::<Served>(payload)
                .map(|served| self.known().served(served, Instant::now(), now_ns()))
        } else {
            serde_json::from_slice::<StartMessage>(payload)
                .map(|start| self.known().present(&start.id, start.hosts, Instant::now()))
        };
        match understood {
            Ok(()) => self.0.news.send_modify(|number| *number += 1),
            Err(error) => tracing::warn!(subject, %error, "router-message-not-understood"),
        }
    }

    /// Greets the routers and asks about the routes that wait for it. An original router answers the greeting only.
    fn question(&self, bus: &mut Subscription) {
        let uris: Vec<String> = std::mem::take(&mut *self.questions()).into_iter().collect();
        self.known().greeted(Instant::now());
        bus.publish_with_reply(subject::GREET, subject::ROUTERS, b"{}");
        // A question without routes asks which routers confirm.
        let nothing = [Vec::new()];
        let some: Vec<Vec<String>> = uris.chunks(MOST_ROUTES).map(<[String]>::to_vec).collect();
        let rounds = if some.is_empty() {
            &nothing[..]
        } else {
            &some[..]
        };
        for uris in rounds {
            let question = Question { uris: uris.clone() };
            let payload = serde_json::to_vec(&question).unwrap_or_default();
            bus.publish(subject::ASK_RECEIPTS, &payload);
        }
    }

    fn known(&self) -> MutexGuard<'_, Propagation> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn questions(&self) -> MutexGuard<'_, BTreeSet<String>> {
        let questions = &self.0.questions;
        questions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn now_ns() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(since_epoch.unwrap_or_default().as_nanos()).unwrap_or_default()
}
