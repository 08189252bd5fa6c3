//! A DNS server with its files, and the queries of the tests.

use dns::{Config, Dns, HostsConfig, Sockets};
use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use kit::CancellationToken;
use kit::metrics::Observed;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use testkit::wait::{wait_for, within};
use tokio::net::UdpSocket;

pub(crate) const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 9, 8, 7);

pub(crate) struct Stage {
    pub(crate) addr: SocketAddr,
    pub(crate) observed: Observed,
    pub(crate) dir: tempfile::TempDir,
    pub(crate) shutdown: CancellationToken,
    pub(crate) running: Option<tokio::task::JoinHandle<anyhow::Result<()>>>,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl Stage {
    /// Starts the server. `resolvers` are the values of `nameserver` lines.
    pub(crate) async fn start(resolvers: &[String], nats: Vec<String>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (resolv_conf, hosts) = (dir.path().join("resolv.conf"), dir.path().join("hosts"));
        std::fs::write(
            &resolv_conf,
            resolvers
                .iter()
                .map(|r| format!("nameserver {r}\n"))
                .collect::<String>(),
        )
        .unwrap();
        std::fs::write(&hosts, "127.0.0.1 localhost\n").unwrap();
        let config = Config {
            sockets: vec![Sockets::bind("127.0.0.1:0".parse().unwrap()).await.unwrap()],
            domains: vec!["cupola.test".into()],
            internal_domains: vec!["apps.internal".into()],
            router_ip: ROUTER,
            nats: clients::nats::Config {
                servers: nats,
                ..clients::nats::Config::default()
            },
            learned_ttl: Duration::from_secs(120),
            resolv_conf,
            hosts: Some(HostsConfig {
                path: hosts,
                ip: "127.0.0.1".parse().unwrap(),
                names: vec!["api.cupola.test".into(), "*.cupola.test".into()],
            }),
        };
        let dns = Dns::build(config).unwrap();
        let (addr, shutdown) = (dns.addr().unwrap(), CancellationToken::new());
        let observed = dns.observed();
        let running = Some(tokio::spawn(dns.run(shutdown.clone())));
        Self {
            addr,
            observed,
            dir,
            shutdown,
            running,
        }
    }

    pub(crate) async fn query(&self, name: &str, kind: RecordType) -> Message {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.send_to(&query(name, kind), self.addr).await.unwrap();
        let mut buffer = vec![0; 4096];
        let (length, _) = within("an answer", socket.recv_from(&mut buffer))
            .await
            .unwrap();
        Message::from_vec(&buffer[..length]).unwrap()
    }

    pub(crate) fn hosts(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("hosts")).unwrap()
    }

    /// Waits until a condition holds. The panic shows the hosts file.
    pub(crate) async fn wait_for(&self, what: &str, mut is: impl AsyncFnMut(&Self) -> bool) {
        wait_for(what, async || {
            let holds = is(self).await;
            holds.then_some(()).ok_or_else(|| self.hosts())
        })
        .await;
    }
}

pub(crate) fn query(name: &str, kind: RecordType) -> Vec<u8> {
    let mut message = Message::new(4711, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message.to_vec().unwrap()
}

pub(crate) fn address(message: &Message) -> Option<Ipv4Addr> {
    message.answers.iter().find_map(|record| {
        if let RData::A(a) = &record.data {
            Some(a.0)
        } else {
            None
        }
    })
}

/// Starts a resolver that answers every query with one address.
pub(crate) async fn resolver() -> String {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let addr = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = vec![0; 4096];
        while let Ok((length, client)) = socket.recv_from(&mut buffer).await {
            let request = Message::from_vec(&buffer[..length]).unwrap();
            let mut response = Message::response(request.metadata.id, OpCode::Query);
            response.add_queries(request.queries.iter().cloned());
            response.add_answer(Record::from_rdata(
                request.queries[0].name().clone(),
                60,
                RData::A(A(Ipv4Addr::new(1, 2, 3, 4))),
            ));
            socket
                .send_to(&response.to_vec().unwrap(), client)
                .await
                .unwrap();
        }
    });
    addr.to_string()
}

pub(crate) fn addresses(message: &Message) -> Vec<Ipv4Addr> {
    let mut addresses: Vec<_> = message
        .answers
        .iter()
        .filter_map(|record| match &record.data {
            RData::A(a) => Some(a.0),
            _ => None,
        })
        .collect();
    addresses.sort();
    addresses
}
