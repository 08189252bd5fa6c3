//! `router.register` messages as emitters send them: with one tag, and with the full set of a Cloud Controller's app.

use serde_json::json;
use wire::router::RegistryMessage;

/// Returns the guid with number `n` of a kind, in the usual form.
pub(crate) fn guid(kind: u16, n: usize) -> String {
    format!("{:08x}-{kind:04x}-4c1d-9b7e-{:012x}", n ^ 0x5bd1_e995, n)
}

/// Returns a name below the benchmark's domain.
pub(crate) fn host(n: usize) -> String {
    format!("app-{n:06}.apps.cupola.test")
}

/// Returns the registration of one instance on a plain port, with one tag.
pub(crate) fn small(host: &str, port: u16) -> RegistryMessage {
    RegistryMessage {
        host: "127.0.0.1".into(),
        port,
        uris: vec![host.to_owned()],
        tags: Some([("component".into(), "route-emitter".into())].into()),
        ..RegistryMessage::default()
    }
}

/// Returns the registration that route-emitter sends for app number `n` of a Cloud Controller: a TLS port, the instance's name,
/// twelve tags; 800 bytes, give or take ten.
pub(crate) fn full(n: usize, port: u16) -> RegistryMessage {
    let (app, instance) = (guid(1, n), guid(2, n));
    let tags = json!({
        "component": "route-emitter",
        "app_id": app,
        "app_name": format!("app-name-{n:06}"),
        "instance_id": "0",
        "organization_id": guid(3, n / 100),
        "organization_name": format!("organization-{:05}", n / 100),
        "process_id": app,
        "process_instance_id": instance,
        "process_type": "web",
        "source_id": app,
        "space_id": guid(4, n / 10),
        "space_name": format!("space-{:05}", n / 10),
    });
    let tags = tags.as_object().into_iter().flatten();
    RegistryMessage {
        tls_port: Some(port),
        app: Some(app),
        private_instance_id: Some(instance.clone()),
        private_instance_index: Some("0".into()),
        server_cert_domain_san: Some(instance),
        availability_zone: Some("z1".into()),
        tags: Some(
            tags.map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned()))
                .collect(),
        ),
        ..small(&host(n), 0)
    }
}

pub(crate) fn text(message: &RegistryMessage) -> Vec<u8> {
    serde_json::to_vec(message).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_message_has_800_bytes() {
        for n in [0, 7, 399_999] {
            let length = text(&full(n, 61001)).len();
            assert!((790..=810).contains(&length), "{length}");
        }
        assert_ne!(guid(1, 1), guid(1, 2));
        assert_eq!(full(5, 1).tags.unwrap().len(), 12);
    }
}
