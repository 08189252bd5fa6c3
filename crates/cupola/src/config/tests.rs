//! Tests of the configuration file: what is read, what is refused, and by which words.

use super::file::ConfigFile;
use super::*;

#[test]
fn every_problem_is_named_at_once() {
    let file: ConfigFile = yaml_serde::from_str(
        "domain: nodots\nmetrics: here\nrouter: {http: eighty}\ncell: {route_integrity: maybe, host_services: ['tcp:10.0.0.5']}\nlog_cache: {dropsonde: ':3457'}\nlimits: {query_bytes: 0}\nreserved_private_domains: [co_uk]\ncloud_controller: {keep_droplets: 0, keep_days: 7}\nidentity_domains: {nodot: any, apps.internal: any, cupola.test: world}",
    )
    .unwrap();
    let error = check(file, Overrides::default()).unwrap_err().to_string();
    for key in [
        "domain \"nodots\"",
        "router.http \"eighty\"",
        "metrics \"here\"",
        "cell.route_integrity \"maybe\"",
        "cell.host_services has \"tcp:10.0.0.5\": expected tcp: or udp:",
        "log_cache.dropsonde 0.0.0.0:3457 is not on loopback",
        "limits.query_bytes must be at least 1",
        "reserved_private_domains has \"co_uk\"",
        "cloud_controller.keep_droplets must be at least 1",
        "identity_domains has \"nodot\"",
        "identity_domains has \"apps.internal\", whose routes bypass",
        "identity_domains.cupola.test \"world\" is unknown: use any, org or space",
    ] {
        assert!(error.contains(key), "{error}");
    }
}

#[test]
fn limits_and_the_default_quota_can_be_set() {
    let file: ConfigFile = yaml_serde::from_str(
        "limits: {instances_per_process: 5}\ndefault_quota: {total_memory_in_mb: 2048, total_routes: null}",
    )
    .unwrap();
    let config = check(file, Overrides::default()).unwrap();
    assert_eq!(config.limits.instances_per_process, 5);
    assert_eq!(config.limits.filter_values, 500);
    let quota = config.default_quota;
    assert_eq!(
        (quota.total_memory_in_mb, quota.total_routes),
        (Some(2048), None)
    );
    assert!(yaml_serde::from_str::<ConfigFile>("limits: {instances: 5}").is_err());
}

#[test]
fn identity_domains_can_be_chosen_and_left_out() {
    let load = |text: &str| -> Result<String, String> {
        let file: ConfigFile = yaml_serde::from_str(text).unwrap();
        let config = check(file, Overrides::default()).map_err(|error| error.to_string())?;
        let domains = config.identity_domains.iter();
        Ok(domains
            .map(|domain| format!("{} {}", domain.name, domain.scope))
            .collect::<Vec<_>>()
            .join(", "))
    };
    assert_eq!(load("domain: a.test"), Ok("apps.identity any".to_owned()));
    assert_eq!(load("identity_domains: {}"), Ok(String::new()));
    assert_eq!(
        load("identity_domains: {Pay.Identity: space, b.identity: org}"),
        Ok("pay.identity space, b.identity org".to_owned())
    );
    let error = load("domain: a.test\nidentity_domains: {A.test: any}").unwrap_err();
    assert!(
        error.contains("\"a.test\", the foundation's own domain"),
        "{error}"
    );
}

#[test]
fn unknown_keys_are_refused_by_name() {
    let error = yaml_serde::from_str::<ConfigFile>("cell: {memroy_mb: 3}")
        .unwrap_err()
        .to_string();
    assert!(error.contains("memroy_mb"), "{error}");
}

#[test]
fn command_line_beats_file() {
    let file: ConfigFile = yaml_serde::from_str("domain: a.example.com").unwrap();
    let config = check(
        file,
        Overrides {
            domain: Some("b.example.com".into()),
            http: Some(":8080".into()),
            ..Overrides::default()
        },
    )
    .unwrap();
    assert_eq!(config.domain.unwrap(), "b.example.com");
    assert_eq!(config.http.unwrap().to_string(), "0.0.0.0:8080");
}

fn checked(text: &str) -> Result<Config> {
    check(yaml_serde::from_str(text)?, Overrides::default())
}

#[test]
fn every_role_has_a_section_with_its_addresses() {
    let config = checked(
        "nats: {listen: '10.0.0.2:4222', servers: ['10.0.0.2:4222', '10.0.0.3:4222'], cluster: {listen: '10.0.0.2:6222', peers: ['10.0.0.3:6222']}}
bbs: {listen: '0.0.0.0:8889', advertise: 'bbs.example:8889', locket: {listen: '10.0.0.2:8891'}}
auctioneer: {listen: '10.0.0.2:9016'}
uaa: {listen: '10.0.0.2:8081'}
log_cache: {listen: '10.0.0.2:8083', ingress: {advertise: 'logs:3458'}}
cloud_controller: {listen: '10.0.0.2:9022', internal: {listen: '10.0.0.2:9023'}}
cell: {id: cell-2, zone: z2, placement_tags: [gpu], host_services: ['udp:10.0.0.3:514'], ip: 10.0.0.3, overlay: 10.255.3.0/24, listen: '10.0.0.3:1801'}
dns: {router: 10.0.0.5}
router: {status: {listen: '10.0.0.5:8082'}}
dashboard: {listen: '10.0.0.2:8084', routers: ['10.0.0.6:8082']}
ssh_proxy: {listen: '10.0.0.2:2222'}
postgres: {listen: '10.0.0.2:8086', server: {listen: '10.0.0.2:5432'}}
join: /etc/cupola/cell-2.bundle",
    )
    .unwrap();
    let addresses = &config.addresses;
    let shown: Vec<String> = addresses
        .iter()
        .map(|(service, configured)| {
            let listen = configured.listen.map(|listen| listen.to_string());
            let texts = [listen, configured.advertise.clone()].map(Option::unwrap_or_default);
            format!("{} {}", service.section(), texts.join(" "))
        })
        .collect();
    assert_eq!(
        shown,
        [
            "nats 10.0.0.2:4222 ",
            "bbs 0.0.0.0:8889 bbs.example:8889",
            "bbs.locket 10.0.0.2:8891 ",
            "auctioneer 10.0.0.2:9016 ",
            "cell 10.0.0.3:1801 ",
            "cloud_controller 10.0.0.2:9022 ",
            "cloud_controller.internal 10.0.0.2:9023 ",
            "uaa 10.0.0.2:8081 ",
            "log_cache 10.0.0.2:8083 ",
            "log_cache.ingress  logs:3458",
            "router.status 10.0.0.5:8082 ",
            "dashboard 10.0.0.2:8084 ",
            "ssh_proxy 10.0.0.2:2222 ",
            "postgres 10.0.0.2:8086 ",
            "postgres.server 10.0.0.2:5432 ",
        ]
    );
    assert_eq!(addresses.len(), Service::ALL.len());
    assert_eq!(config.dashboard_routers, ["10.0.0.6:8082"]);
    let cluster = config.bus.cluster.unwrap();
    assert_eq!(cluster.listen.to_string(), "10.0.0.2:6222");
    assert_eq!(cluster.peers, ["10.0.0.3:6222"]);
    assert_eq!(config.bus.servers.len(), 2);
    let cell = config.cell;
    assert_eq!((cell.id.as_deref(), &*cell.zone), (Some("cell-2"), "z2"));
    assert_eq!(cell.placement_tags, ["gpu"]);
    assert_eq!(cell.host_services[0].to_string(), "udp:10.0.0.3:514");
    assert_eq!(cell.overlay.unwrap().to_string(), "10.255.3.0/24");
    assert_eq!(config.dns_router.unwrap().to_string(), "10.0.0.5");
    assert!(config.join.is_some());
}

#[test]
fn every_wrong_address_is_named_at_once() {
    let error = checked(
        "nats: {listen: here, servers: [no-port], cluster: {listen: '127.0.0.1:6222', peers: ['10.0.0.3:6222', x]}}
bbs: {listen: '0.0.0.0:8889', locket: {listen: '10.0.0.2:0'}, tls: {cert: /a.crt}}
uaa: {advertise: 'http://uaa'}
cell: {id: 'a b', zone: '', placement_tags: [''], overlay: 10.255.3.0/30}
dns: {router: nowhere}",
    )
    .unwrap_err()
    .to_string();
    for problem in [
        "nats.listen \"here\" is not an address with a port",
        "nats.servers has \"no-port\"",
        "nats.cluster.listen 127.0.0.1:6222 is on loopback, where 10.0.0.3:6222 cannot reach it",
        "nats.cluster.peers has \"x\"",
        "bbs.listen 0.0.0.0:8889 does not say at which address others reach it: set bbs.advertise",
        "bbs.locket.listen 10.0.0.2:0 has no fixed port",
        "bbs.tls.cert is set and bbs.tls.key is not",
        "uaa.advertise \"http://uaa\" is not a host with a port",
        "cell.id \"a b\" is no name of a cell",
        "cell.zone \"\" is no name of a zone",
        "cell.placement_tags has an empty tag",
        "cell.overlay 10.255.3.0/30 has a prefix that is not between 16 and 28",
        "cell.overlay 10.255.3.0/30 is set and cell.ip is not",
        "dns.router \"nowhere\" is not an IPv4 address",
    ] {
        assert!(error.contains(problem), "{problem}\nis not in\n{error}");
    }
    let error = checked("cell: {ip: 10.255.3.1, overlay: 10.255.3.0/24}").unwrap_err();
    assert!(error.to_string().contains("contains cell.ip"), "{error}");
    let error = checked("nats: {cluster: {}}").unwrap_err().to_string();
    for problem in [
        "nats.cluster.peers is empty",
        "nats.cluster.listen is missing",
    ] {
        assert!(error.contains(problem), "{error}");
    }
}

#[test]
fn unknown_keys_of_every_section_are_refused_by_name() {
    for text in [
        "nats: {lisen: a}",
        "nats: {cluster: {route: a}}",
        "bbs: {locket: {port: 1}}",
        "auctioneer: {peers: {}}",
        "uaa: {tls: {}}",
        "log_cache: {ingress: {tls: {}}}",
        "cloud_controller: {internal: {url: a}}",
        "dns: {listen: a}",
        "router: {status: {password: a}}",
        "joins: a",
    ] {
        let error = yaml_serde::from_str::<ConfigFile>(text).unwrap_err();
        let key = text
            .trim_matches('}')
            .rsplit(['{', ' '])
            .find(|part| part.contains(':'));
        let key = key.unwrap_or_default().trim_end_matches(':');
        assert!(error.to_string().contains(key), "{text}: {error}");
    }
}
