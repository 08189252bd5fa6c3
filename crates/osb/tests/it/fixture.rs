//! The clients, credentials and ids of the tests.

use kit::reach::Reach;
use osb::{Broker as Access, Caller, Client, Ids, Settings};
use std::time::Duration;
use testkit::broker::{Broker, PASSWORD, USER};

/// Returns a client that may call brokers on the loopback address of these tests.
pub(crate) fn client() -> Client {
    client_of(Settings {
        reach: Reach {
            allow: vec!["127.0.0.1".parse().unwrap()],
            deny: vec![],
        },
        ..Settings::default()
    })
}

/// Returns a client whose calls end soon and whose answers are small.
pub(crate) fn client_of(settings: Settings) -> Client {
    Client::new(Settings {
        timeout: Duration::from_secs(3),
        answer_bytes: 100_000,
        api_info_location: "api.test/".to_owned(),
        ..settings
    })
    .unwrap()
}

pub(crate) fn access(broker: &Broker) -> Access {
    access_at(&broker.url)
}

pub(crate) fn access_at(url: &str) -> Access {
    Access {
        url: url.to_owned(),
        username: USER.to_owned(),
        password: PASSWORD.to_owned(),
    }
}

pub(crate) fn alice() -> Caller {
    Caller {
        user_guid: Some("alice-guid".to_owned()),
        request_id: Some("request-1".to_owned()),
    }
}

pub(crate) fn ids() -> Ids {
    Ids {
        offering: "db-id".to_owned(),
        plan: "db-small-id".to_owned(),
    }
}
