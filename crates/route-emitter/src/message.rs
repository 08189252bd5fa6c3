//! Formats registrations as the routers' JSON.

use route_table::emission::{Audience, Changes, Registration};
use std::time::{SystemTime, UNIX_EPOCH};
use wire::router::{RegistryMessage, StartingMessage, subject};

/// Returns the subject on which a registration is published.
pub(crate) fn register_subject(registration: &Registration) -> &'static str {
    match registration.route.audience {
        Audience::Routers => subject::REGISTER,
        Audience::Containers => subject::CONTAINER_REGISTER,
    }
}

/// Returns the subject on which an unregistration is published.
pub(crate) fn unregister_subject(registration: &Registration) -> &'static str {
    match registration.route.audience {
        Audience::Routers => subject::UNREGISTER,
        Audience::Containers => subject::CONTAINER_UNREGISTER,
    }
}

/// Returns the announcement that instances of these routes are starting.
pub(crate) fn starting(uris: Vec<String>) -> Vec<u8> {
    serde_json::to_vec(&StartingMessage { uris }).unwrap_or_default()
}

/// The occasion of a message.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Occasion {
    /// The route is published again without a change. Repetitions are equal byte for byte, so that routers recognise them.
    Repetition,
    /// The route or its instance just changed; routers confirm the message. `new` means that the instance became routable, from
    /// which routers measure the propagation time. `withdrawn` is meant for what the change removes.
    Change {
        new: bool,
        withdrawn: bool,
        at_ns: u64,
    },
    /// The change removed something. `withdrawn` means that the app does not want it any more ([`Changes::withdrawn`]).
    Removal { withdrawn: bool, at_ns: u64 },
}

impl Occasion {
    /// Returns the occasion of changes that are published now.
    pub(crate) fn change(changes: &Changes) -> Self {
        Self::now(changes.new_endpoint, changes.withdrawn)
    }

    /// Returns the occasion of changes that a router missed.
    pub(crate) fn missed() -> Self {
        Self::now(false, false)
    }

    fn now(new: bool, withdrawn: bool) -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
        let nanos = since_epoch.unwrap_or_default().as_nanos();
        Self::Change {
            new,
            withdrawn,
            at_ns: u64::try_from(nanos).unwrap_or_default(),
        }
    }

    /// Returns the same occasion for a message that removes something.
    pub(crate) fn of_removal(self) -> Self {
        match self {
            Self::Change {
                withdrawn, at_ns, ..
            } => Self::Removal { withdrawn, at_ns },
            Self::Removal { .. } | Self::Repetition => self,
        }
    }

    fn is_new(self) -> bool {
        matches!(self, Self::Change { new: true, .. })
    }

    fn is_withdrawal(self) -> bool {
        matches!(
            self,
            Self::Removal {
                withdrawn: true,
                ..
            }
        )
    }

    fn emitted_at_ns(self) -> Option<u64> {
        match self {
            Self::Repetition => None,
            Self::Change { at_ns, .. } | Self::Removal { at_ns, .. } => Some(at_ns),
        }
    }
}

/// The number of a registration's last change, and the emitter whose number it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stamp<'a> {
    pub(crate) emitter: &'a str,
    pub(crate) sequence: u64,
}

/// Returns the message of a registration.
pub(crate) fn payload(
    registration: &Registration,
    occasion: Occasion,
    stamp: Option<Stamp<'_>>,
) -> Vec<u8> {
    let new = occasion.is_new();
    let (route, endpoint) = (&registration.route, &registration.endpoint);
    let set = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    if route.audience == Audience::Containers {
        return container_payload(registration, new);
    }
    let message = RegistryMessage {
        host: endpoint.host.clone(),
        port: endpoint.port,
        tls_port: endpoint.tls_port,
        uris: vec![route.uri.clone()],
        protocol: set(&route.protocol),
        app: set(&endpoint.app),
        route_service_url: set(&route.route_service_url),
        private_instance_id: set(&endpoint.instance_guid),
        private_instance_index: Some(endpoint.index.to_string()),
        server_cert_domain_san: set(&endpoint.instance_guid),
        isolation_segment: set(&route.isolation_segment),
        stale_threshold_in_seconds: None,
        endpoint_updated_at_ns: new.then_some(registration.since_ns),
        tags: Some(endpoint.tags.clone()),
        availability_zone: set(&endpoint.availability_zone),
        options: route
            .options
            .as_deref()
            .and_then(|options| serde_json::from_str(options).ok()),
        generation: route.generation,
        emitter: stamp.map(|stamp| stamp.emitter.to_owned()),
        sequence: stamp.map(|stamp| stamp.sequence),
        emitted_at_ns: occasion
            .emitted_at_ns()
            .filter(|_| route.generation.is_some()),
        withdrawn: occasion.is_withdrawal(),
    };
    serde_json::to_vec(&message).unwrap_or_default()
}

/// Returns the message of a name for containers. Each instance also has a name of its own: its index in front of the name.
fn container_payload(registration: &Registration, new: bool) -> Vec<u8> {
    let (route, endpoint) = (&registration.route, &registration.endpoint);
    let set = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let message = RegistryMessage {
        host: endpoint.host.clone(),
        uris: vec![
            route.uri.clone(),
            format!("{}.{}", endpoint.index, route.uri),
        ],
        app: set(&endpoint.app),
        private_instance_index: Some(endpoint.index.to_string()),
        endpoint_updated_at_ns: new.then_some(registration.since_ns),
        tags: Some(endpoint.tags.clone()),
        availability_zone: set(&endpoint.availability_zone),
        ..RegistryMessage::default()
    };
    serde_json::to_vec(&message).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use route_table::emission::{EmittedEndpoint, Route};
    use serde_json::json;
    use std::sync::Arc;

    #[test]
    fn a_message_carries_every_field() {
        let registration = Registration {
            route: Arc::new(Route {
                audience: Audience::Routers,
                uri: "a.x/p".into(),
                container_port: 8080,
                route_service_url: "https://rs".into(),
                isolation_segment: "seg".into(),
                protocol: "http2".into(),
                options: Some("{\"loadbalancing\":\"least-connection\"}".into()),
                generation: Some(17),
            }),
            endpoint: Arc::new(EmittedEndpoint {
                host: "10.0.0.1".into(),
                port: 61001,
                tls_port: Some(61002),
                app: "app".into(),
                instance_guid: "ig".into(),
                index: 3,
                tags: [("component".to_owned(), "route-emitter".to_owned())].into(),
                availability_zone: "z1".into(),
            }),
            since_ns: 7,
        };
        let stamp = Stamp {
            emitter: "cell-1:7",
            sequence: 5,
        };
        let value = |occasion| {
            serde_json::from_slice::<serde_json::Value>(&payload(
                &registration,
                occasion,
                Some(stamp),
            ))
            .unwrap()
        };
        let change = |new| Occasion::Change {
            new,
            withdrawn: false,
            at_ns: 99,
        };
        let mut expected = json!({
            "host": "10.0.0.1", "port": 61001, "tls_port": 61002, "uris": ["a.x/p"], "protocol": "http2", "app": "app",
            "route_service_url": "https://rs", "private_instance_id": "ig", "private_instance_index": "3",
            "server_cert_domain_san": "ig", "isolation_segment": "seg", "tags": {"component": "route-emitter"},
            "availability_zone": "z1", "options": {"loadbalancing": "least-connection"},
            "generation": 17, "emitter": "cell-1:7", "sequence": 5,
        });
        assert_eq!(value(Occasion::Repetition), expected);
        expected["emitted_at_ns"] = json!(99);
        assert_eq!(value(change(false)), expected);
        let withdrawn = Occasion::Change {
            new: false,
            withdrawn: true,
            at_ns: 99,
        };
        assert_eq!(value(withdrawn), expected);
        let mut removal = expected.clone();
        removal["withdrawn"] = json!(true);
        assert_eq!(value(withdrawn.of_removal()), removal);
        expected["endpoint_updated_at_ns"] = json!(7);
        assert_eq!(value(change(true)), expected);
    }

    #[test]
    fn a_name_for_containers_is_published_for_containers_only() {
        let registration = Registration {
            route: Arc::new(Route {
                audience: Audience::Containers,
                uri: "a.apps.internal".into(),
                ..Route::default()
            }),
            endpoint: Arc::new(EmittedEndpoint {
                host: "10.255.0.7".into(),
                port: 0,
                tls_port: None,
                app: "app".into(),
                instance_guid: "ig".into(),
                index: 2,
                tags: [("component".to_owned(), "route-emitter".to_owned())].into(),
                availability_zone: "z1".into(),
            }),
            since_ns: 7,
        };
        assert_eq!(
            (
                register_subject(&registration),
                unregister_subject(&registration)
            ),
            ("service-discovery.register", "service-discovery.unregister")
        );
        assert_eq!(
            serde_json::from_slice::<serde_json::Value>(&payload(
                &registration,
                Occasion::Repetition,
                None
            ))
            .unwrap(),
            json!({"host": "10.255.0.7", "port": 0, "uris": ["a.apps.internal", "2.a.apps.internal"], "app": "app",
                "private_instance_index": "2", "tags": {"component": "route-emitter"}, "availability_zone": "z1"})
        );
    }
}
