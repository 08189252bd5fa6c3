//! Values for the unit tests.

use crate::address::Address;
use crate::broker::Broker;
use crate::config::{DumpPlace, Dumps, OwnServer, Plan, Server, Settings};
use crate::metrics::Metrics;
use crate::secrets::Secrets;
use kit::metrics::Registry;
use kit::readiness::Readiness;
use kit::tls::Identity;
use std::time::Duration;

pub(crate) fn plan(name: &str, connections: u32) -> Plan {
    Plan {
        name: name.to_owned(),
        connections,
        storage_mb: 1024,
    }
}

pub(crate) fn settings() -> Settings {
    Settings {
        name: "postgres".to_owned(),
        data_dir: "/nowhere".into(),
        server: Server::Own(OwnServer {
            folder: "/nowhere/postgres".into(),
            listen: "10.255.3.1:5432".parse().unwrap(),
            host: "10.255.3.1".to_owned(),
            port: 5432,
            identity: Identity {
                cert_pem: "a certificate".to_owned(),
                key_pem: "a key".to_owned(),
                ca_pem: "the authority".to_owned(),
            },
            connections: 200,
            memory_mb: 128,
        }),
        seed: "a foundation".to_owned(),
        plans: vec![plan("small", 10), plan("large", 50)],
        instances: 100,
        dumps: Dumps {
            place: DumpPlace::Folder("/nowhere/dumps".into()),
            at: None,
            keep_days: 14,
        },
    }
}

/// Returns a broker whose server does not exist.
pub(crate) fn broker() -> Broker {
    let folder = tempfile::tempdir().unwrap();
    let secrets = Secrets::open(folder.path()).unwrap();
    let admin = Address::parse("postgres://admin:secret@127.0.0.1:1", None).unwrap();
    let metrics = Metrics::new(&mut Registry::default(), &Readiness::default());
    Broker::new(settings(), admin, secrets, metrics, Duration::ZERO)
}
