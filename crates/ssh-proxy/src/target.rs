//! Finds an instance's sshd, and the way to log in there, from what the BBS has. It is pure.

use std::collections::BTreeMap;
use wire::bbs::{ActualLrp, DesiredLrp, PreferredAddress, Presence};
use wire::lrp_routes::DIEGO_SSH;
use wire::ssh::SshRoute;

/// The sshd of one instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// The name in the instance's certificate. `None`: the cell offers the port without TLS alone.
    pub(crate) tls_name: Option<String>,
    pub(crate) instance_guid: String,
    pub(crate) cell_id: String,
    pub(crate) route: SshRoute,
    /// The app whose log gets the lines about sessions, and the tags of the lines.
    pub(crate) source_id: String,
    pub(crate) tags: BTreeMap<String, String>,
}

/// Returns the sshd of the instance, or the reason why there is none, in words for the user.
pub(crate) fn find(desired: &DesiredLrp, actual: &[ActualLrp]) -> Result<Target, String> {
    let routes = desired.routes.as_ref().map(|routes| &routes.routes);
    let entry = routes.and_then(|routes| routes.get(DIEGO_SSH));
    let entry = entry.ok_or("the app was started without SSH: restart it")?;
    let route: SshRoute =
        serde_json::from_slice(entry).map_err(|error| format!("the ssh route: {error}"))?;
    let lrp = running(actual).ok_or("the instance does not run")?;
    let net = lrp.net_info.clone().unwrap_or_default();
    let key = lrp.instance_key.clone().unwrap_or_default();
    let mapping = net
        .ports
        .iter()
        .find(|mapping| mapping.container_port == route.container_port)
        .ok_or("the instance has no port for SSH: restart the app")?;
    let is_direct = net.preferred_address == PreferredAddress::Instance as i32;
    let (host, plain, tls) = match is_direct {
        true => (
            net.instance_address.clone(),
            mapping.container_port,
            mapping.container_tls_proxy_port,
        ),
        false => (
            net.address.clone(),
            mapping.host_port,
            mapping.host_tls_proxy_port,
        ),
    };
    let (port, tls_name) = match (tls, plain) {
        (0, 0) => return Err("the instance's port for SSH is not open".into()),
        (0, plain) => (plain, None),
        (tls, _) => (tls, Some(key.instance_guid.clone())),
    };
    Ok(Target {
        host,
        port: u16::try_from(port).map_err(|_| format!("the port {port} is none"))?,
        tls_name,
        instance_guid: key.instance_guid,
        cell_id: key.cell_id,
        route,
        source_id: desired.log_guid.clone(),
        tags: lrp.metric_tags.clone(),
    })
}

/// Returns the running instance. While its cell is being emptied there may be two; the one that stays is preferred.
fn running(actual: &[ActualLrp]) -> Option<&ActualLrp> {
    actual
        .iter()
        .filter(|lrp| lrp.state == "RUNNING")
        .min_by_key(|lrp| lrp.presence != Presence::Ordinary as i32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::bbs::{ActualLrpInstanceKey, ActualLrpNetInfo, PortMapping, ProtoRoutes};

    fn desired(route: &str) -> DesiredLrp {
        let routes = [(DIEGO_SSH.to_owned(), route.as_bytes().to_vec())].into();
        DesiredLrp {
            routes: Some(ProtoRoutes { routes }),
            log_guid: "app".into(),
            ..DesiredLrp::default()
        }
    }

    fn actual(guid: &str, state: &str, presence: Presence) -> ActualLrp {
        ActualLrp {
            instance_key: Some(ActualLrpInstanceKey {
                instance_guid: guid.into(),
                cell_id: "cell".into(),
            }),
            net_info: Some(ActualLrpNetInfo {
                address: "10.0.0.5".into(),
                instance_address: "10.255.0.3".into(),
                ports: vec![PortMapping {
                    container_port: 2222,
                    host_port: 61000,
                    container_tls_proxy_port: 61002,
                    host_tls_proxy_port: 61005,
                }],
                ..ActualLrpNetInfo::default()
            }),
            state: state.into(),
            presence: presence as i32,
            ..ActualLrp::default()
        }
    }

    const ROUTE: &str = r#"{"container_port":2222,"host_fingerprint":"x","private_key":"y"}"#;

    #[test]
    fn the_port_of_the_proxy_is_used_with_the_instances_name() {
        let found = find(
            &desired(ROUTE),
            &[actual("i", "RUNNING", Presence::Ordinary)],
        )
        .unwrap();
        assert_eq!((found.host.as_str(), found.port), ("10.0.0.5", 61005));
        assert_eq!(found.tls_name.as_deref(), Some("i"));
        assert_eq!(
            (found.source_id.as_str(), found.cell_id.as_str()),
            ("app", "cell")
        );
    }

    #[test]
    fn other_ports_and_addresses() {
        let mut lrp = actual("i", "RUNNING", Presence::Ordinary);
        let net = lrp.net_info.as_mut().unwrap();
        net.preferred_address = PreferredAddress::Instance as i32;
        let found = find(&desired(ROUTE), std::slice::from_ref(&lrp)).unwrap();
        assert_eq!((found.host.as_str(), found.port), ("10.255.0.3", 61002));
        let net = lrp.net_info.as_mut().unwrap();
        net.preferred_address = 0;
        net.ports[0].host_tls_proxy_port = 0;
        let found = find(&desired(ROUTE), std::slice::from_ref(&lrp)).unwrap();
        assert_eq!((found.port, found.tls_name), (61000, None));
        lrp.net_info.as_mut().unwrap().ports[0].host_port = 0;
        assert!(
            find(&desired(ROUTE), &[lrp])
                .unwrap_err()
                .contains("not open")
        );
    }

    #[test]
    fn the_instance_that_stays_is_preferred() {
        let both = [
            actual("leaves", "RUNNING", Presence::Evacuating),
            actual("claimed", "CLAIMED", Presence::Ordinary),
            actual("stays", "RUNNING", Presence::Ordinary),
        ];
        let guid =
            |lrps: &[ActualLrp]| find(&desired(ROUTE), lrps).map(|found| found.instance_guid);
        assert_eq!(guid(&both).unwrap(), "stays");
        assert_eq!(guid(&both[..2]).unwrap(), "leaves");
        assert!(guid(&both[1..2]).unwrap_err().contains("does not run"));
        assert!(guid(&[]).unwrap_err().contains("does not run"));
    }

    #[test]
    fn an_app_without_ssh_says_so() {
        let without = DesiredLrp::default();
        let lrp = actual("i", "RUNNING", Presence::Ordinary);
        assert!(
            find(&without, &[lrp.clone()])
                .unwrap_err()
                .contains("restart")
        );
        let other = desired(r#"{"container_port":9999}"#);
        assert!(
            find(&other, &[lrp.clone()])
                .unwrap_err()
                .contains("no port")
        );
        assert!(find(&desired("x"), &[lrp]).is_err());
    }
}
