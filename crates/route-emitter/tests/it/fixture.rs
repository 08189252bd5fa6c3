//! A route-emitter between its peers, and what they contain.

use crate::fake_bbs::FakeBbs;
use futures::StreamExt as _;
use kit::CancellationToken;
use kit::metrics::Observed;
use kit::reconcile::LastPass;
use route_emitter::{Config, RouteEmitter};
use std::time::Duration;
use testkit::certs::identity;
use testkit::nats::NatsServer;
use testkit::net::free_port;
use testkit::wait::until;
use wire::bbs as m;
use wire::router::RegistryMessage;

/// The longest wait for a message. It is shorter than the interval of 20 s at which everything is sent in any case.
pub(crate) const SOON: Duration = Duration::from_secs(15);

/// All parts of a test, with a subscription to the messages that a router receives.
pub(crate) struct Stage {
    pub(crate) bbs: FakeBbs,
    pub(crate) nats: NatsServer,
    pub(crate) observed: Observed,
    pub(crate) bus: async_nats::Client,
    pub(crate) messages: async_nats::Subscriber,
    pub(crate) last_sync: LastPass,
    pub(crate) shutdown: CancellationToken,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl Stage {
    pub(crate) async fn start(
        desired: Vec<m::DesiredLrp>,
        actuals: Vec<m::ActualLrp>,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let identity = identity();
        let (bbs, port) = (FakeBbs::start(&identity).await, free_port());
        bbs.set(desired, actuals);
        let nats = NatsServer::start(port);
        nats.ready().await;
        let bus_config = NatsServer::config(port);
        let bus = clients::nats::connect(&bus_config, "test", |_| std::future::ready(()))
            .await
            .unwrap();
        let messages = bus.subscribe("router.>").await.unwrap();
        bus.flush().await.unwrap();
        let mut config = Config::new("cell-1", bbs.url.clone(), identity, bus_config);
        change(&mut config);
        let shutdown = CancellationToken::new();
        let emitter = RouteEmitter::build(config).unwrap();
        let (last_sync, observed) = (emitter.last_sync(), emitter.observed());
        tokio::spawn(emitter.run(shutdown.clone()));
        Self {
            bbs,
            nats,
            observed,
            bus,
            messages,
            last_sync,
            shutdown,
        }
    }

    /// Returns the next register or unregister: the last part of its subject, and the message.
    pub(crate) async fn next(&mut self) -> (String, RegistryMessage) {
        let next = async {
            loop {
                let message = self.messages.next().await.expect("the bus is open");
                let kind = message
                    .subject
                    .as_str()
                    .trim_start_matches("router.")
                    .to_owned();
                if kind.ends_with("register") {
                    return (kind, serde_json::from_slice(&message.payload).unwrap());
                }
            }
        };
        tokio::time::timeout(SOON, next)
            .await
            .expect("no message came")
    }

    pub(crate) async fn expect(&mut self, kind: &str, uri: &str) -> RegistryMessage {
        let (got, message) = self.next().await;
        assert_eq!(
            (got.as_str(), message.uris.as_slice()),
            (kind, [uri.to_owned()].as_slice()),
            "{message:?}"
        );
        message
    }

    pub(crate) async fn subscribed(&self) {
        until("the emitter's subscription to the BBS", || {
            self.bbs.subscribers() > 0
        })
        .await;
    }
}

pub(crate) fn desired(hosts: &[&str], index: u32) -> m::DesiredLrp {
    let routes = serde_json::json!([{ "hostnames": hosts, "port": 8080 }])
        .to_string()
        .into_bytes();
    m::DesiredLrp {
        process_guid: "p".into(),
        domain: "cf-apps".into(),
        log_guid: "app-1".into(),
        instances: 1,
        routes: Some(m::ProtoRoutes {
            routes: [("cf-router".to_owned(), routes)].into(),
        }),
        modification_tag: Some(m::ModificationTag {
            epoch: "d".into(),
            index,
        }),
        metric_tags: [(
            "source_id".to_owned(),
            m::MetricTagValue {
                static_value: "app-1".into(),
                dynamic: 0,
            },
        )]
        .into(),
        ..m::DesiredLrp::default()
    }
}

pub(crate) fn actual(index: u32) -> m::ActualLrp {
    let mapping = |container, host, ctls, htls| m::PortMapping {
        container_port: container,
        host_port: host,
        container_tls_proxy_port: ctls,
        host_tls_proxy_port: htls,
    };
    m::ActualLrp {
        key: Some(m::ActualLrpKey {
            process_guid: "p".into(),
            index: 0,
            domain: "cf-apps".into(),
        }),
        instance_key: Some(m::ActualLrpInstanceKey {
            instance_guid: "instance-1".into(),
            cell_id: "cell-1".into(),
        }),
        net_info: Some(m::ActualLrpNetInfo {
            address: "10.9.8.7".into(),
            ports: vec![
                mapping(8080, 61000, 61001, 61002),
                mapping(8080, 0, 61443, 0),
            ],
            instance_address: "10.255.0.2".into(),
            ..m::ActualLrpNetInfo::default()
        }),
        state: m::state::RUNNING.into(),
        since: 42,
        modification_tag: Some(m::ModificationTag {
            epoch: "a".into(),
            index,
        }),
        routable: Some(true),
        availability_zone: "z1".into(),
        ..m::ActualLrp::default()
    }
}

pub(crate) fn map(before: &[&str], after: &[&str], index: u32) -> m::Event {
    m::Event::DesiredLrpChanged(m::DesiredLrpChangedEvent {
        before: Some(desired(before, index - 1)),
        after: Some(desired(after, index)),
        trace_id: String::new(),
    })
}
