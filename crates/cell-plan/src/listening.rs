//! Advises an app that listens at an address or port where it cannot be reached.

use std::net::{Ipv4Addr, SocketAddr};

/// The sockets on which the app listens, and the ports on which it should.
#[derive(Clone, Copy, Debug)]
pub struct Sockets<'a> {
    /// All listening sockets of the container.
    pub listening: &'a [SocketAddr],
    /// The ports on which the platform itself listens there.
    pub own: &'a [u16],
    /// The container's address.
    pub address: Ipv4Addr,
    /// The ports to which requests come.
    pub wanted: &'a [u16],
}

impl Sockets<'_> {
    /// Returns the advice for the first of the wanted ports that cannot be reached, or `None` if all can be reached.
    pub fn advice(&self) -> Option<String> {
        let port = self
            .wanted
            .iter()
            .copied()
            .find(|port| !self.reached(*port))?;
        let listen = format!("listen on 0.0.0.0:{port}");
        let here: Vec<String> = self
            .apps()
            .filter(|a| a.port() == port)
            .map(shown)
            .collect();
        if !here.is_empty() {
            return Some(format!(
                "The app listens on {} only; {listen}",
                here.join(" and ")
            ));
        }
        let elsewhere: Vec<String> = self
            .apps()
            .filter(|a| !self.wanted.contains(&a.port()))
            .map(shown)
            .collect();
        Some(match elsewhere.is_empty() {
            true => format!(
                "The app does not listen on port {port}; {listen} (environment variable PORT)"
            ),
            false => format!(
                "The app listens on {}, not on port {port}; {listen} (environment variable PORT)",
                elsewhere.join(" and ")
            ),
        })
    }

    /// Returns whether the app listens anywhere.
    pub fn listens(&self) -> bool {
        self.apps().next().is_some()
    }

    fn apps(&self) -> impl Iterator<Item = &SocketAddr> {
        self.listening
            .iter()
            .filter(|a| !self.own.contains(&a.port()))
    }

    fn reached(&self, port: u16) -> bool {
        self.apps()
            .any(|a| a.port() == port && (a.ip().is_unspecified() || a.ip() == self.address))
    }
}

fn shown(address: &SocketAddr) -> String {
    address.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn advice(listening: &[&str], wanted: &[u16]) -> Option<String> {
        let listening: Vec<SocketAddr> = listening.iter().map(|a| a.parse().unwrap()).collect();
        let sockets = Sockets {
            listening: &listening,
            own: &[61001, 61002],
            address: Ipv4Addr::new(10, 255, 0, 5),
            wanted,
        };
        sockets.advice()
    }

    #[test]
    fn a_reachable_app_needs_no_advice() {
        for good in ["0.0.0.0:8080", "[::]:8080", "10.255.0.5:8080"] {
            assert_eq!(
                advice(&["127.0.0.1:9", good, "0.0.0.0:61001"], &[8080]),
                None
            );
        }
        assert_eq!(advice(&[], &[]), None);
    }

    #[test]
    fn each_mistake_is_named_with_its_remedy() {
        let is = |listening: &[&str], wanted: &[u16], text: &str| {
            assert_eq!(advice(listening, wanted).as_deref(), Some(text));
        };
        is(
            &["127.0.0.1:8080", "0.0.0.0:61001"],
            &[8080],
            "The app listens on 127.0.0.1:8080 only; listen on 0.0.0.0:8080",
        );
        is(
            &["127.0.0.1:8080", "[::1]:8080"],
            &[8080],
            "The app listens on 127.0.0.1:8080 and [::1]:8080 only; listen on 0.0.0.0:8080",
        );
        is(
            &["0.0.0.0:3000"],
            &[8080],
            "The app listens on 0.0.0.0:3000, not on port 8080; listen on 0.0.0.0:8080 (environment variable PORT)",
        );
        is(
            &["0.0.0.0:61001"],
            &[8080],
            "The app does not listen on port 8080; listen on 0.0.0.0:8080 (environment variable PORT)",
        );
        is(
            &["0.0.0.0:8080", "127.0.0.1:9090"],
            &[8080, 9090],
            "The app listens on 127.0.0.1:9090 only; listen on 0.0.0.0:9090",
        );
    }
}
