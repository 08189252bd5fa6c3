//! Values for the unit tests.

use crate::address::Address;
use crate::broker::Broker;
use crate::config::{DumpPlace, Dumps, OwnServer, Plan, Server, Settings};
use crate::db;
use crate::instance::Place;
use crate::metrics::Metrics;
use crate::names::Guid;
use crate::secrets::Secrets;
use kit::metrics::Registry;
use kit::readiness::Readiness;
use kit::tls::Identity;
use std::time::Duration;
use testkit::postgres::Postgres;
use time::OffsetDateTime;

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

/// A broker with a real server, and with dumps that have been due for an hour.
pub(crate) struct World {
    pub(crate) broker: Broker,
    pub(crate) folder: tempfile::TempDir,
    _server: Postgres,
}

impl World {
    pub(crate) fn start() -> Self {
        let server = Postgres::start();
        let folder = tempfile::tempdir().unwrap();
        let admin = Address::parse(&server.url("postgres"), None).unwrap();
        let due = OffsetDateTime::now_utc() - time::Duration::HOUR;
        let settings = Settings {
            data_dir: folder.path().to_owned(),
            server: Server::Given(admin.clone()),
            dumps: Dumps {
                place: DumpPlace::Folder(folder.path().join("dumps")),
                at: Some(due.time()),
                keep_days: 14,
            },
            ..settings()
        };
        let secrets = Secrets::open(folder.path()).unwrap();
        let metrics = Metrics::new(&mut Registry::default(), &Readiness::default());
        let patience = Duration::from_secs(15);
        Self {
            broker: Broker::new(settings, admin, secrets, metrics, patience),
            folder,
            _server: server,
        }
    }

    /// Creates an instance that is as old as the epoch.
    pub(crate) async fn instance(&self) -> Guid {
        let guid = Guid::random();
        let (plan, place) = (plan("small", 5), Place::default());
        let created = self.broker.create(guid, "id", &plan, place).await;
        created.unwrap();
        self.set_storage(guid, 1024).await;
        guid
    }

    /// Sets the size that an instance may have.
    pub(crate) async fn set_storage(&self, guid: Guid, mb: u64) {
        let mut session = self.broker.session().await.unwrap();
        let conn = &mut session.conn;
        let mut instance = self.broker.find(conn, guid).await.unwrap();
        instance.created = 0;
        instance.plan.storage_mb = mb;
        db::describe(conn, guid, &instance.text()).await.unwrap();
    }
}
