//! Tests of plans: those of earlier versions, and the addresses of machines that joined.

use super::*;
use std::collections::BTreeSet;

#[test]
fn a_plan_of_an_earlier_version_gets_ports_for_metrics_and_new_services() {
    let text = r#"{"tag": "a", "domain": "a.test", "cell_ip": "10.0.0.1", "http_port": 80, "https_port": 443,
        "ports": {"nats": 1, "bbs": 2, "locket": 3, "auctioneer": 4, "rep": 5, "cloud_controller": 6,
            "cloud_controller_internal": 7, "uaa": 8, "log_cache": 9, "log_ingress": 10, "router_status": 11},
        "nats_password": "", "status_password": "", "client_secret": "", "admin_user": "admin"}"#;
    let mut plan: Plan = serde_json::from_str(text).unwrap();
    assert!(plan.metrics_ports.is_empty());
    assert_eq!(plan.ports.dashboard, 0);
    plan.add_ports(Path::new("/somewhere")).unwrap();
    for service in [
        Service::Dashboard,
        Service::PostgresBroker,
        Service::Postgres,
    ] {
        assert_ne!(plan.ports.get(service), 0, "{service:?}");
    }
    let postgres = plan.postgres(None);
    assert_eq!(
        postgres.advertise,
        format!("10.0.0.1:{}", plan.ports.postgres)
    );
    plan.add_metrics_ports(Path::new("/somewhere")).unwrap();
    let ports: BTreeSet<&u16> = plan.metrics_ports.values().collect();
    assert_eq!(ports.len(), Role::ALL.len());
    let kept = plan.clone();
    plan.add_metrics_ports(Path::new("/somewhere")).unwrap();
    assert_eq!(plan, kept);

    let address = |roles: &[Role]| plan.metrics_address(None, roles);
    assert_eq!(address(Role::ALL).port(), plan.metrics_ports["nats"]);
    assert_eq!(
        address(&[Role::Dns, Role::Cell]).port(),
        plan.metrics_ports["cell"],
        "the order of the command line does not count"
    );
    let configured = SocketAddr::from(([127, 0, 0, 1], 9600));
    assert_eq!(
        plan.metrics_address(Some(configured), Role::ALL),
        configured
    );
}

fn config(data: &Path, text: &str) -> Config {
    let file = data.join("cupola.yml");
    std::fs::create_dir_all(data).unwrap();
    std::fs::write(&file, text).unwrap();
    crate::config::load(crate::config::Overrides {
        file: Some(file),
        data: Some(data.to_owned()),
        ..crate::config::Overrides::default()
    })
    .unwrap()
}

#[test]
fn a_plan_of_an_earlier_version_gets_an_ssh_proxy_and_a_secret_of_route_services() {
    let text = r#"{"tag": "a", "domain": "a.test", "cell_ip": "10.0.0.1", "http_port": 80, "https_port": 443,
        "ports": {"nats": 1, "bbs": 2, "locket": 3, "auctioneer": 4, "rep": 5, "cloud_controller": 6,
            "cloud_controller_internal": 7, "uaa": 8, "log_cache": 9, "log_ingress": 10, "router_status": 11},
        "nats_password": "", "status_password": "", "client_secret": "", "admin_user": "admin"}"#;
    let mut plan: Plan = serde_json::from_str(text).unwrap();
    plan.add_ssh(Path::new("/somewhere")).unwrap();
    assert!(plan.ports.ssh_proxy > 0);
    let fingerprint = ssh_proxy::host_key::fingerprint(&plan.ssh_host_key).unwrap();
    assert_eq!(fingerprint.len(), 43);
    let port = plan.ports.ssh_proxy;
    assert_eq!(plan.ssh_endpoint(None), format!("ssh.a.test:{port}"));
    assert_eq!(plan.ssh_endpoint(Some("paas:22")), "paas:22");
    plan.add_route_services_secret();
    assert_eq!(plan.route_services_secret.len(), 64);
    let kept = plan.clone();
    plan.add_ssh(Path::new("/somewhere")).unwrap();
    plan.add_route_services_secret();
    assert_eq!(plan, kept);
}

/// The cell's address is set, so that no test depends on the networks of this machine.
const CELL: &str = "cell: {ip: 10.255.3.1}\n";

#[test]
fn addresses_follow_the_configuration_and_are_loopback_without_it() {
    let data = tempfile::tempdir().unwrap();
    let plan = Plan::open(&config(data.path(), CELL), None).unwrap();
    for service in Service::ALL {
        let address = plan.address(*service);
        assert!(address.listen.ip().is_loopback(), "{service:?}");
        assert_eq!(address.advertise, address.listen.to_string());
    }
    assert_eq!(plan.nats_servers(), [plan.reach(Service::Nats)]);
    assert!(!plan.bus_has_tls);

    let text =
        format!("{CELL}bbs: {{listen: '10.0.0.2:8889'}}\nnats: {{servers: ['a:1', 'b:2']}}\n");
    let moved = Plan::open(&config(data.path(), &text), None).unwrap();
    assert_eq!(moved.reach(Service::Bbs), "10.0.0.2:8889");
    assert_eq!(moved.ports.bbs, 8889);
    assert_eq!(moved.nats_servers(), ["a:1", "b:2"]);
    assert!(moved.bus_has_tls);
    assert_eq!(moved.reach(Service::Uaa), plan.reach(Service::Uaa));
    let stored = Plan::read(data.path()).unwrap();
    assert_eq!(stored, moved, "operator commands read the same addresses");

    let back = Plan::open(&config(data.path(), CELL), None).unwrap();
    assert_eq!(back.reach(Service::Bbs), "127.0.0.1:8889");
    assert_eq!(back.nats_servers(), plan.nats_servers());
    assert!(!back.bus_has_tls);

    // The clients of this machine use loopback, and the servers of other machines reach the bus nevertheless.
    let cluster = "nats: {cluster: {listen: '10.0.0.2:6222', peers: ['10.0.0.3:6222']}}\n";
    let member = Plan::open(&config(data.path(), &format!("{CELL}{cluster}")), None).unwrap();
    assert_eq!(member.nats_servers(), plan.nats_servers());
    assert!(member.bus_has_tls);
}

fn bundle(domain: &str) -> Bundle {
    let text = serde_json::json!({
        "version": 1, "domain": domain, "roles": ["cell"], "hosts": ["10.0.0.3"],
        "peers": {"bbs": "10.0.0.2:8889"}, "nats_servers": ["10.0.0.2:4222", "10.0.0.4:4222"],
        "nats_password": "bus", "status_password": null, "admin_user": "root",
        "components_ca": "", "instances_ca": "", "instances_ca_key": null, "edge_ca": "",
        "components": {}, "edge": null, "identity_domains": [], "identity": null,
    });
    serde_json::from_value(text).unwrap()
}

#[test]
fn a_joined_machine_takes_peers_and_secrets_from_its_bundle() {
    let data = tempfile::tempdir().unwrap();
    let joined = bundle("b.test");
    let plan = Plan::open(&config(data.path(), CELL), Some(&joined)).unwrap();
    assert_eq!(plan.domain, "b.test");
    assert_eq!(plan.reach(Service::Bbs), "10.0.0.2:8889");
    assert_eq!(plan.nats_servers(), joined.nats_servers);
    assert_eq!(plan.nats().password, "bus");
    assert!(plan.client_secret.is_empty());

    let text = format!("{CELL}bbs: {{advertise: 'bbs:1'}}\nnats: {{advertise: 'bus:2'}}\n");
    let other = Plan::open(&config(data.path(), &text), Some(&joined)).unwrap();
    assert_eq!(other.tag, plan.tag);
    assert_eq!(other.reach(Service::Bbs), "bbs:1");
    assert_eq!(other.nats_servers(), ["bus:2"]);

    let error = |text: &str, bundle: Option<&Bundle>| {
        let error = Plan::open(&config(data.path(), text), bundle).unwrap_err();
        error.to_string()
    };
    let text = error(CELL, Some(&bundle("c.test")));
    assert!(text.contains("domain c.test differs from b.test"), "{text}");
    let text = error(CELL, None);
    assert!(text.contains("name its bundle with the key join"), "{text}");
    let own = tempfile::tempdir().unwrap();
    Plan::open(&config(own.path(), CELL), None).unwrap();
    let error = Plan::open(&config(own.path(), CELL), Some(&joined)).unwrap_err();
    assert!(
        error.to_string().contains("a foundation of its own"),
        "{error}"
    );
}
