use super::*;
use std::time::Duration;

fn of(text: &str) -> Result<Config, Vec<String>> {
    let folder = tempfile::tempdir().unwrap();
    let job = folder.path().join("job");
    std::fs::create_dir(&job).unwrap();
    std::fs::write(
        job.join("r.yml"),
        "routes:\n- {name: y, port: 81, uris: [y.test], registration_interval: 10s}\n",
    )
    .unwrap();
    let path = folder.path().join("config.json");
    let globs = format!("{}/*/r.yml", folder.path().display());
    std::fs::write(&path, text.replace("GLOB", &globs)).unwrap();
    load(&path)
}

fn check_problems(problems: &[String], wanted: &[&str]) {
    for wanted in wanted {
        assert!(
            problems.iter().any(|p| p.starts_with(wanted)),
            "{wanted} in {problems:#?}"
        );
    }
}

#[test]
fn json_and_the_jobs_yaml() {
    let config = of(r#"{"message_bus_servers": [{"host": "10.0.0.1:4222", "user": "u", "password": "p"}], "host": "10.0.0.9", "availability_zone": "z1",
        "dynamic_config_globs": ["GLOB"],
        "routes": [{"name": "x", "tls_port": 443, "server_cert_domain_san": "x.internal", "uris": ["x.test"], "registration_interval": "20s",
                    "tags": {"component": "x"}, "options": {"loadbalancing": "least-connection"}, "health_check": {"name": "hc", "script_path": "/bin/true"}},
                   {"port": 2, "uris": ["z.test"], "registration_interval": "1s", "prepend_instance_index": true}], "index": 3}"#)
    .unwrap();
    assert_eq!(config.unregistration_limit, 5);
    assert_eq!(config.registrations.len(), 3);
    assert_eq!(config.files.len(), 2);
    let route = |n: usize| match &config.registrations[n].route {
        AnyRoute::Http(route) => route,
        AnyRoute::Tcp(route) => panic!("{route:?}"),
    };
    assert_eq!(route(0).host, "10.0.0.9");
    assert_eq!(route(0).availability_zone, "z1");
    let check = config.registrations[0].health_check.as_ref();
    assert_eq!(check.unwrap().timeout, Duration::from_secs(10));
    assert_eq!(route(1).uris, ["3-z.test"]);
    assert_eq!(config.registrations[2].name, "y");
    assert!(config.warnings.is_empty());
    assert!(config.tcp_routes().unwrap().is_none());
}

#[test]
fn tcp_routes_need_no_bus() {
    let config = of(r#"{"host": "10.0.0.9",
        "routing_api": {"api_url": "http://127.0.0.1:3000", "oauth_url": "https://127.0.0.1:8443", "client_id": "c", "client_secret": "hush", "skip_ssl_validation": true, "max_ttl": "2m"},
        "routes": [{"type": "tcp", "port": 6263, "router_group": "default-tcp", "external_port": 1234, "registration_interval": "10s"},
                   {"type": "sni", "sni_port": 443, "sni_routable_san": "a.test", "router_group": "g", "external_port": 1235, "registration_interval": "10s", "host": "h"},
                   {"type": "sni", "sni_port": 444, "router_group": "g", "external_port": 1236, "registration_interval": "10s"}]}"#)
    .unwrap();
    assert!(config.nats().unwrap().is_none());
    assert!(config.tcp_routes().unwrap().is_some());
    let route = |n: usize| match &config.registrations[n].route {
        AnyRoute::Tcp(route) => route.clone(),
        AnyRoute::Http(route) => panic!("{route:?}"),
    };
    assert_eq!((route(0).port, route(0).external_port), (6263, 1234));
    assert_eq!(
        (route(0).host, route(0).sni_hostname),
        ("10.0.0.9".into(), String::new())
    );
    assert_eq!(
        (route(1).host, route(1).sni_hostname),
        ("h".into(), "a.test".into())
    );
    assert_eq!(config.warnings.len(), 1, "{:?}", config.warnings);
    assert!(config.warnings[0].starts_with("routes[2].sni_routable_san is missing"));
    assert!(!format!("{config:?}").contains("hush"));
}

#[test]
fn every_problem_is_reported_at_once() {
    let problems = of(r#"{"nats_mtls_config": {"enabled": true}, "dynamic_config_globs": ["/x/a**b"], "routing_api": {"api_url": "https://x", "oauth_url": "uaa", "max_ttl": "2"},
        "routes": [{"registration_interval": "20", "tls_port": 1, "prepend_instance_index": true, "health_check": {"script_path": "x", "timeout": "1h"}},
                   {"type": "tcp", "registration_interval": "20s"}, {"type": "sni", "port": 1, "registration_interval": "20s"}, {"type": "udp"}]}"#)
        .unwrap_err();
    check_problems(
        &problems,
        &[
            "routes[0].registration_interval \"20\"",
            "routes[0].server_cert_domain_san",
            "routes[0].uris",
            "routes[0].prepend_instance_index is true, but",
            "routes[0].health_check.timeout \"1h\"",
            "routes[1].port is missing or 0: routes of type tcp need it",
            "routes[1].external_port",
            "routes[1].router_group",
            "routes[2].sni_port is missing or 0: routes of type sni need it",
            "routes[3].type \"udp\" is unknown",
            "host is missing",
            "message_bus_servers is empty",
            "nats_mtls_config.enabled",
            "dynamic_config_globs has \"/x/a**b\", which is not a pattern",
            "routing_api.client_id is missing",
            "routing_api.client_secret is missing",
            "routing_api.oauth_url \"uaa\" begins with neither",
            "routing_api.client_cert_path is missing",
            "routing_api.client_private_key_path is missing",
            "routing_api.server_ca_cert_path is missing",
            "routing_api.max_ttl \"2\"",
        ],
    );
    let problems = of(r#"{"host": "h", "routes": [{"type": "tcp", "port": 1, "router_group": "g", "external_port": 2, "registration_interval": "20s"}]}"#)
        .unwrap_err();
    check_problems(&problems, &["routing_api.api_url is missing"]);
    assert_eq!(problems.len(), 4, "{problems:#?}");
}

#[test]
fn globs_find_files_in_their_order() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    for job in ["b", "a", "cc"] {
        std::fs::create_dir(root.join(job)).unwrap();
        std::fs::write(root.join(job).join("r.yml"), "").unwrap();
    }
    std::fs::create_dir_all(root.join("d/r.yml")).unwrap();
    let file = |job: &str| root.join(job).join("r.yml");
    let found = |pattern: &str| matching(&format!("{}/{pattern}", root.display())).unwrap();
    assert_eq!(found("?/r.yml"), [file("a"), file("b")]);
    assert_eq!(found("[bc]*/*.yml"), [file("b"), file("cc")]);
    assert!(found("none/*.yml").is_empty());
}

#[test]
fn a_certificate_that_cannot_be_read_is_named() {
    let config = of(r#"{"host": "h", "routing_api": {"api_url": "http://x", "oauth_url": "https://x", "client_id": "c", "client_secret": "s", "ca_certs": "/nowhere/ca.crt"},
        "routes": [{"type": "tcp", "port": 1, "router_group": "g", "external_port": 2, "registration_interval": "20s"}]}"#)
    .unwrap();
    let error = config.tcp_routes().unwrap_err().to_string();
    assert!(
        error.starts_with("routing_api.ca_certs /nowhere/ca.crt: "),
        "{error}"
    );
}
