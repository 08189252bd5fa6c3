use super::*;
use crate::emission::{Audience, Changes, EmittedEndpoint, Registration, Route};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Returns a moment to count from.
#[expect(clippy::disallowed_methods, reason = "an Instant has no other origin")]
fn origin() -> Instant {
    Instant::now()
}

fn registration(uri: &str, generation: u64) -> Registration {
    Registration {
        route: Arc::new(Route {
            uri: uri.to_owned(),
            generation: Some(generation),
            ..Route::default()
        }),
        endpoint: Arc::new(EmittedEndpoint {
            host: "10.0.0.1".to_owned(),
            port: 61001,
            tls_port: None,
            app: "app".to_owned(),
            instance_guid: "instance".to_owned(),
            index: 0,
            tags: BTreeMap::new(),
            availability_zone: String::new(),
        }),
        since_ns: 0,
    }
}

fn registered(uri: &str, generation: u64) -> Changes {
    Changes {
        register: vec![registration(uri, generation)],
        ..Changes::default()
    }
}

fn removed(uri: &str) -> Changes {
    Changes {
        unregister: vec![registration(uri, 0)],
        ..Changes::default()
    }
}

/// A router that receives from one emitter: the generation that it serves of each uri.
#[derive(Default)]
struct Router {
    incoming: Incoming,
    table: BTreeMap<String, u64>,
}

/// A message: a number, and what it is about.
type Message = (u64, Numbered);

fn hash(uri: &str) -> u64 {
    uri.bytes()
        .fold(7, |hash, byte| hash * 131 + u64::from(byte))
}

impl Router {
    fn receive(&mut self, (number, numbered): &Message, now: Instant) {
        let route = &numbered.registration().route;
        let (uri, key) = (route.uri.clone(), hash(&route.uri));
        match numbered {
            Numbered::Present(_) => {
                if self.incoming.admit_registration("e", *number, key, now) {
                    self.table.insert(uri, route.generation.unwrap());
                }
            }
            Numbered::Removed(_) => {
                if self.incoming.admit_removal("e", *number, key, now) {
                    self.table.remove(&uri);
                }
            }
        }
    }

    /// Asks what is due, and applies the answers.
    fn catch_up(&mut self, outgoing: &Outgoing, now: Instant) -> usize {
        let asks = self.incoming.ask(now);
        for ask in &asks {
            let difference = outgoing.after(ask.after, 2);
            for message in &difference.changes {
                self.receive(message, now);
            }
            self.incoming.applied("e", ask.after, difference.upto, now);
        }
        asks.len()
    }
}

/// Records changes, and returns the messages about them.
fn publish(outgoing: &mut Outgoing, changes: &Changes) -> Vec<Message> {
    let before = outgoing.digest().sequence;
    outgoing.record(changes);
    outgoing.after(before, usize::MAX - 1).changes
}

#[test]
fn a_registration_keeps_its_number_until_it_changes() {
    let mut outgoing = Outgoing::default();
    let number = |outgoing: &Outgoing, uri: &str| outgoing.number(&registration(uri, 0).key());
    outgoing.record(&registered("a.x", 1));
    outgoing.record(&registered("b.x", 1));
    assert_eq!(
        (number(&outgoing, "a.x"), number(&outgoing, "b.x")),
        (Some(1), Some(2))
    );
    outgoing.record(&registered("a.x", 2));
    assert_eq!(number(&outgoing, "a.x"), Some(3));
    outgoing.record(&removed("a.x"));
    assert_eq!(number(&outgoing, "a.x"), Some(4));
    let digest = outgoing.digest();
    assert_eq!((digest.sequence, digest.registrations), (4, 1));
    let mut internal = registered("c.internal", 1);
    Arc::make_mut(&mut internal.register[0].route).audience = Audience::Containers;
    outgoing.record(&internal);
    assert_eq!(outgoing.digest(), digest, "routers do not get it");
}

#[test]
fn the_difference_is_the_newest_state_in_parts() {
    let mut outgoing = Outgoing::default();
    for changes in [
        registered("a.x", 1),
        registered("b.x", 1),
        registered("a.x", 2),
        removed("b.x"),
        registered("c.x", 1),
    ] {
        outgoing.record(&changes);
    }
    let numbers = |difference: &Difference| {
        let changes = difference.changes.iter();
        changes.map(|(number, _)| *number).collect::<Vec<_>>()
    };
    let first = outgoing.after(0, 2);
    assert_eq!((first.upto, numbers(&first)), (4, vec![3, 4]));
    let rest = outgoing.after(first.upto, 2);
    assert_eq!((rest.upto, numbers(&rest)), (5, vec![5]));
    assert!(outgoing.after(5, 2).changes.is_empty());
}

#[test]
fn a_lost_message_is_noticed_by_the_digest_and_repaired() {
    let start = origin();
    let (mut outgoing, mut router) = (Outgoing::default(), Router::default());
    for message in publish(&mut outgoing, &registered("a.x", 1)) {
        router.receive(&message, start);
    }
    router.incoming.compare("e", outgoing.digest(), start);
    assert_eq!(router.incoming.ask_at(), None, "both agree");
    // These two are lost: a registration, and an unregistration.
    publish(&mut outgoing, &registered("b.x", 1));
    publish(&mut outgoing, &removed("a.x"));
    let now = start + Duration::from_secs(1);
    router.incoming.compare("e", outgoing.digest(), now);
    assert_eq!(router.catch_up(&outgoing, now), 1);
    assert_eq!(router.table, BTreeMap::from([("b.x".to_owned(), 1)]));
    assert_eq!(router.catch_up(&outgoing, now), 0);
}

/// While the bus is away, nobody publishes a digest. The router must then not forget what it has from an emitter: it would never
/// notice that a registration was removed meanwhile.
#[test]
fn a_removal_during_an_outage_is_repaired() {
    let start = origin();
    let (mut outgoing, mut router) = (Outgoing::default(), Router::default());
    for uri in ["a.x", "b.x", "c.x", "d.x"] {
        for message in publish(&mut outgoing, &registered(uri, 1)) {
            router.receive(&message, start);
        }
    }
    router.incoming.compare("e", outgoing.digest(), start);
    router.incoming.compare("other", Digest::default(), start);
    for uri in ["a.x", "c.x", "d.x"] {
        publish(&mut outgoing, &removed(uri));
    }
    let mut now = start + Duration::from_secs(3600);
    router.incoming.compare("other", Digest::default(), now);
    for _ in 0..100 {
        router.incoming.compare("e", outgoing.digest(), now);
        router.catch_up(&outgoing, now);
        now += Duration::from_millis(100);
    }
    assert_eq!(router.table, BTreeMap::from([("b.x".to_owned(), 1)]));
}

#[test]
fn an_emitter_that_ended_is_forgotten() {
    let start = origin();
    let mut incoming = Incoming::default();
    incoming.admit_registration("ended", 1, 1, start);
    for second in 0..1200 {
        incoming.compare("e", Digest::default(), start + Duration::from_secs(second));
    }
    assert_eq!(incoming.emitters(), 1);
}

#[test]
fn a_message_that_was_overtaken_changes_nothing() {
    let now = origin();
    let (mut outgoing, mut router) = (Outgoing::default(), Router::default());
    let old = publish(&mut outgoing, &registered("a.x", 1));
    let new = publish(&mut outgoing, &registered("a.x", 2));
    let gone = publish(&mut outgoing, &removed("a.x"));
    let back = publish(&mut outgoing, &registered("a.x", 3));
    for (messages, served) in [
        (&new, Some(2)),
        (&old, Some(2)),
        (&gone, None),
        (&new, None),
        (&back, Some(3)),
        (&gone, Some(3)),
        (&old, Some(3)),
    ] {
        router.receive(&messages[0], now);
        assert_eq!(router.table.get("a.x").copied(), served);
    }
}

#[test]
fn a_new_emitter_has_time_to_introduce_itself() {
    let start = origin();
    let (mut outgoing, mut router) = (Outgoing::default(), Router::default());
    for uri in ["a.x", "b.x", "c.x"] {
        publish(&mut outgoing, &registered(uri, 1));
    }
    router.incoming.compare("e", outgoing.digest(), start);
    assert_eq!(router.catch_up(&outgoing, start), 0);
    let mut now = start + Duration::from_secs(3);
    while router.catch_up(&outgoing, now) > 0 {
        now += Duration::from_millis(50);
    }
    assert_eq!(router.table.len(), 3);
}

#[test]
fn questions_become_rare_when_they_do_not_help() {
    let start = origin();
    let mut incoming = Incoming::default();
    let digest = Digest {
        sequence: 9,
        registrations: 1,
        sum: 1,
    };
    let (mut asked, mut everything) = (0, 0);
    for ms in (0..60_000).step_by(10) {
        let now = start + Duration::from_millis(ms);
        incoming.compare("e", digest, now);
        for ask in incoming.ask(now) {
            asked += 1;
            everything += usize::from(ask.after == 0);
        }
    }
    assert!((20..60).contains(&asked), "{asked} questions in a minute");
    assert!(everything > 0);
    let later = start + Duration::from_secs(200);
    assert!(
        incoming.ask(later).is_empty(),
        "a silent emitter is not asked"
    );
}

#[test]
fn questions_become_rare_when_their_answers_do_not_help() {
    let start = origin();
    let mut incoming = Incoming::default();
    // The router refuses the only registration, so that both sides never agree.
    let digest = Digest {
        sequence: 9,
        registrations: 1,
        sum: 1,
    };
    let mut asked = 0;
    for ms in (0..60_000).step_by(10) {
        let now = start + Duration::from_millis(ms);
        incoming.compare("e", digest, now);
        for ask in incoming.ask(now) {
            asked += 1;
            incoming.applied("e", ask.after, digest.sequence, now);
        }
    }
    assert!((5..30).contains(&asked), "{asked} questions in a minute");
}

#[test]
fn questions_stay_quick_while_some_are_answered() {
    let start = origin();
    let (mut outgoing, mut router) = (Outgoing::default(), Router::default());
    let (mut asked, mut answered) = (0, start + Duration::from_secs(2));
    for step in 1..=3_000 {
        let now = start + Duration::from_millis(10 * step);
        // Each change is lost, and two of three answers.
        publish(&mut outgoing, &registered("a.x", step));
        if step % 10 == 0 {
            router.incoming.compare("e", outgoing.digest(), now);
        }
        for ask in router.incoming.ask(now) {
            asked += 1;
            if asked % 3 == 0 {
                let difference = outgoing.after(ask.after, 2);
                for message in &difference.changes {
                    router.receive(message, now);
                }
                router
                    .incoming
                    .applied("e", ask.after, difference.upto, now);
                answered = now;
            }
        }
        let waited = now.saturating_duration_since(answered);
        assert!(waited < Duration::from_secs(1), "after {asked} questions");
    }
    assert!(router.table["a.x"] > 2_900);
}

#[test]
fn a_digest_that_was_overtaken_requests_nothing() {
    let now = origin();
    let (mut outgoing, mut router) = (Outgoing::default(), Router::default());
    for message in publish(&mut outgoing, &registered("a.x", 1)) {
        router.receive(&message, now);
    }
    let old = outgoing.digest();
    router.incoming.compare("e", old, now);
    for message in publish(&mut outgoing, &registered("b.x", 1)) {
        router.receive(&message, now);
    }
    router.incoming.compare("e", old, now);
    assert_eq!(router.incoming.ask_at(), None, "it is older than the table");
    // A newer digest shows a loss, and an older one does not hide it.
    publish(&mut outgoing, &registered("c.x", 1));
    router.incoming.compare("e", outgoing.digest(), now);
    router.incoming.compare("e", old, now);
    assert!(router.incoming.ask_at().is_some());
}

/// The seeds of the runs in which messages are lost, repeated and reordered.
#[test]
fn routers_agree_whatever_the_bus_does() {
    use rand::{Rng as _, SeedableRng as _};
    for seed in 0..200 {
        let mut rng = rand::rngs::StdRng::seed_from_u64(seed);
        let (mut outgoing, mut router) = (Outgoing::default(), Router::default());
        let mut wanted = BTreeMap::new();
        let mut flying: Vec<Message> = Vec::new();
        let mut now = origin();
        for step in 1..=200 {
            now += Duration::from_millis(10);
            let uri = format!("{}.x", rng.random_range(0..8));
            let changes = if wanted.contains_key(&uri) && rng.random_bool(0.4) {
                wanted.remove(&uri);
                removed(&uri)
            } else {
                wanted.insert(uri.clone(), step);
                registered(&uri, step)
            };
            flying.extend(publish(&mut outgoing, &changes));
            while !flying.is_empty() && rng.random_bool(0.7) {
                let message = flying.swap_remove(rng.random_range(0..flying.len()));
                if rng.random_bool(0.8) {
                    router.receive(&message, now);
                }
                if rng.random_bool(0.1) {
                    flying.push(message);
                }
            }
            if rng.random_bool(0.5) {
                router.incoming.compare("e", outgoing.digest(), now);
            }
            if rng.random_bool(0.5) {
                router.catch_up(&outgoing, now);
            }
        }
        // The changes end, and what is still under way arrives.
        for message in &flying {
            router.receive(message, now);
        }
        for _ in 0..100 {
            now += Duration::from_millis(100);
            router.incoming.compare("e", outgoing.digest(), now);
            router.catch_up(&outgoing, now);
        }
        assert_eq!(router.table, wanted, "seed {seed}");
    }
}
