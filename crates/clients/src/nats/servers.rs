//! Decides which server of the bus is tried next, and when (pure).

use super::Config;
use anyhow::{Context as _, Result};
use rand::seq::SliceRandom as _;
use std::time::Duration;

const SHORTEST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// The shortest stay that counts as a connection. A server that ends connections at once is therefore not retried without pause.
const SHORTEST_STAY: Duration = Duration::from_secs(10);

/// Returns the pause before the next attempt, when there have been `before` pauses.
pub(super) fn pause(before: usize) -> Duration {
    (SHORTEST_WAIT * (1 << before.min(8))).min(LONGEST_WAIT)
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Server {
    /// The address, as `host:port`.
    pub(super) address: String,
    /// The name for which the server's certificate must be valid.
    pub(super) name: String,
}

impl Server {
    fn parse(address: &str) -> Result<Self> {
        let parts = address.rsplit_once(':').filter(|(host, port)| {
            !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)
        });
        let (host, _) = parts
            .with_context(|| format!("NATS server address {address:?}: expected host:port"))?;
        let name = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        Ok(Self {
            address: address.to_owned(),
            name: name.unwrap_or(host).to_owned(),
        })
    }
}

/// The servers of the configuration, in an order of our own so that not all clients try the same one first, and the servers that
/// a server listed.
#[derive(Debug)]
pub(super) struct Servers {
    known: Vec<Server>,
    listed: Vec<Server>,
    next: usize,
    /// The number of attempts since a connection last lasted long enough.
    attempts: usize,
}

impl Servers {
    pub(super) fn new(config: &Config) -> Result<Self> {
        anyhow::ensure!(
            !config.servers.is_empty(),
            "no NATS server is configured: list at least one as host:port"
        );
        let servers = config.servers.iter().map(|address| Server::parse(address));
        let mut known = servers.collect::<Result<Vec<_>>>()?;
        known.shuffle(&mut rand::rng());
        Ok(Self {
            known,
            listed: Vec::new(),
            next: 0,
            attempts: 0,
        })
    }

    /// Returns the next server and the pause before the attempt. Each server is tried in turn without a pause; when all have been
    /// tried, the pauses grow.
    pub(super) fn next(&mut self) -> (Server, Duration) {
        let count = self.known.len() + self.listed.len();
        let mut all = self.known.iter().chain(&self.listed);
        let server = all.nth(self.next % count).expect("one of them").clone();
        let rounds = self.attempts / count;
        let wait = match rounds.checked_sub(1) {
            None => Duration::ZERO,
            Some(waits) => pause(waits),
        };
        self.next = (self.next + 1) % count;
        self.attempts += 1;
        (server, wait)
    }

    /// Records that a connection to a server lasted for this time.
    pub(super) fn stayed(&mut self, time: Duration) {
        if time >= SHORTEST_STAY {
            self.attempts = 0;
        }
    }

    /// Records the servers that `by` listed. When they are listed as IP addresses, they get the name of `by`, because
    /// certificates contain names.
    pub(super) fn record_listed(&mut self, by: &Server, addresses: &[String]) {
        let named = |mut server: Server| {
            let is_address = |name: &str| name.parse::<std::net::IpAddr>().is_ok();
            if is_address(&server.name) && !is_address(&by.name) {
                server.name.clone_from(&by.name);
            }
            server
        };
        let servers = addresses.iter().filter_map(|a| Server::parse(a).ok());
        let new = servers.filter(|s| self.known.iter().all(|k| k.address != s.address));
        self.listed = new.map(named).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(addresses: &[&str]) -> Result<Servers> {
        Servers::new(&Config {
            servers: addresses.iter().map(ToString::to_string).collect(),
            ..Config::default()
        })
    }

    #[test]
    fn all_are_tried_at_once_and_then_more_and_more_slowly() {
        let mut servers = servers(&["a:1", "b:2"]).unwrap();
        let mut waits = Vec::new();
        for _ in 0..9 {
            let ((one, first), (other, second)) = (servers.next(), servers.next());
            assert_ne!(one, other);
            assert_eq!(first, second);
            waits.push(first.as_millis());
        }
        assert_eq!(waits, [0, 50, 100, 200, 400, 800, 1000, 1000, 1000]);
        servers.stayed(Duration::from_millis(10));
        assert_eq!(servers.next().1, LONGEST_WAIT, "it threw us out");
        servers.stayed(Duration::from_secs(10));
        assert_eq!(servers.next().1, Duration::ZERO);
    }

    #[test]
    fn listed_servers_are_tried_as_well() {
        let mut servers = servers(&["nats.internal:4222"]).unwrap();
        let (by, _) = servers.next();
        let listed = [
            "10.0.0.1:4222",
            "nats.internal:4222",
            "other.internal:1",
            "junk",
        ];
        servers.record_listed(&by, &listed.map(ToOwned::to_owned));
        let mut seen: Vec<_> = (0..3).map(|_| servers.next().0).collect();
        seen.sort_by(|a, b| a.address.cmp(&b.address));
        let pairs: Vec<_> = seen.iter().map(|s| (&*s.address, &*s.name)).collect();
        assert_eq!(
            pairs,
            [
                ("10.0.0.1:4222", "nats.internal"),
                ("nats.internal:4222", "nats.internal"),
                ("other.internal:1", "other.internal"),
            ]
        );
        servers.record_listed(&by, &[]);
        assert_eq!(servers.next().0, servers.next().0);
    }

    #[test]
    fn an_address_is_a_host_and_a_port() {
        for bad in ["", "a", ":1", "a:", "a:0", "a:70000", "a:x"] {
            let error = servers(&[bad]).unwrap_err().to_string();
            assert!(
                error.contains(&format!("{bad:?}: expected host:port")),
                "{error}"
            );
        }
        let (server, _) = servers(&["[::1]:4222"]).unwrap().next();
        assert_eq!((&*server.address, &*server.name), ("[::1]:4222", "::1"));
    }
}
