use super::*;
use route_table::registry::Balancing;
use router::{
    ClientCertValidation, ForwardedClientCert, LogField, Metron, Sharding, Subject, Syslog,
    XfccFormat,
};
use std::time::Duration;
use testkit::certs::{Ca, self_signed};

fn pem() -> (String, String) {
    let identity = self_signed(&["*.apps.test"]);
    (identity.cert_pem, identity.key_pem)
}

/// Returns the PEM text as one YAML scalar.
fn scalar(pem: &str) -> String {
    format!("\"{}\"", pem.replace('\n', "\\n"))
}

#[test]
fn an_empty_file_has_gorouters_defaults() {
    let read = read("").unwrap();
    assert_eq!((read.http_port, read.https_port), (Some(8081), None));
    assert_eq!(read.nats.servers, ["localhost:4222"]);
    assert_eq!(read.settings.start_delay, Duration::from_secs(5));
    assert_eq!(read.settings.max_attempts, 1);
    assert_eq!(read.settings.max_idle_per_endpoint, 0);
    assert_eq!(read.settings.drain_timeout, Duration::from_secs(60));
    assert_eq!(read.settings.read_header_timeout, Duration::from_secs(30));
    assert!(read.settings.compat_gorouter);
    assert!(read.settings.keep_silent_tls_endpoints);
    // No client learns an instance's address unless the operator has named a key.
    assert_eq!(read.settings.trace_key, "");
    assert!(read.warnings.is_empty(), "{:?}", read.warnings);
}

#[test]
fn what_a_deployment_writes_is_understood() {
    let (cert, key) = pem();
    let (cert, key) = (scalar(&cert), scalar(&key));
    let text = format!(
        r#"
status: {{host: 0.0.0.0, port: 8080, user: u, pass: p, routes: {{port: 8082}}, tls: {{port: 8443, certificate: {cert}, key: {key}}}}}
nats:
  hosts: [{{hostname: 10.0.0.1, port: 4224}}, {{hostname: nats.internal, port: 4224}}, {{hostname: "::1", port: 4222}}]
  user: nats
  pass: secret
  tls_enabled: true
  ca_certs: {cert}
  cert_chain: {cert}
  private_key: {key}
logging: {{level: info, extra_access_log_fields: [failed_attempts, made_up], redact_query_params: hash, disable_log_forwarded_for: true, format: {{timestamp: rfc3339}}}}
access_log: {{file: log/access.log, enable_streaming: false}}
extra_headers_to_log: [Content-Length, X-Mine]
port: 80
enable_proxy: true
ssl_port: 444
enable_ssl: true
disable_http: true
tls_pem: [{{cert_chain: {cert}, private_key: {key}}}]
ca_certs: [{cert}]
min_tls_version: TLSv1.0
max_tls_version: TLSv1.3
cipher_suites: "ECDHE-RSA-AES128-GCM-SHA256:TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384:AES128-SHA"
client_cert_validation: request
forwarded_client_cert: sanitize_set
tracing: {{enable_zipkin: true, enable_w3c: true, w3c_tenant_id: t}}
isolation_segments: [is1]
route_services_secret: s
route_services_hairpinning: true
route_services_hairpinning_allowlist: ["*.apps.test"]
route_services: {{max_attempts: 2, egress_blocklist: [10.0.0.0/8], strict_signature_validation: true}}
skip_ssl_validation: true
zone: z1
balancing_algorithm: least-connection
balancing_algorithm_az_preference: locally-optimistic
sticky_sessions_for_auth_negotiate: true
routing_table_sharding_mode: shared-and-segments
backends: {{max_conns: 500, max_attempts: 3, cert_chain: {cert}, private_key: {key}}}
disable_keep_alives: false
max_idle_conns_per_host: 100
endpoint_timeout: 900s
start_response_delay_interval: 20s
drain_wait: 20s
nats_client_ping_interval: 5s
http_rewrite: {{responses: {{remove_headers: [{{name: Server}}], add_headers_if_not_present: [{{name: X-A, value: b}}]}}}}
html_error_template_file: ""
prometheus: {{port: 7777}}
made_up: 1
status_typo: {{a: 1}}
"#
    );
    let read = read(&text).unwrap();
    assert_eq!((read.http_port, read.https_port), (None, Some(444)));
    assert_eq!(
        read.nats.servers,
        ["10.0.0.1:4224", "nats.internal:4224", "[::1]:4222"]
    );
    assert!(read.nats.tls.is_some());
    assert_eq!(read.nats.ping_interval, Duration::from_secs(5));
    assert_eq!(read.status.tls.as_ref().unwrap().0, 8443);
    assert_eq!(read.prometheus.unwrap().port, 7777);
    let settings = &read.settings;
    assert_eq!(
        settings.front_tls.terms.cipher_suites,
        [
            "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
            "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"
        ]
    );
    assert_eq!(settings.front_tls.terms.versions.len(), 2);
    // As in gorouter, its own authorities sign backends' certificates, not clients'.
    assert_eq!(settings.front_tls.client_cas, [""]);
    assert_eq!(
        settings.front_tls.client_cert_validation,
        ClientCertValidation::Request
    );
    assert_eq!(
        settings.forwarded_client_cert,
        ForwardedClientCert::SanitizeSet
    );
    assert_eq!(
        settings.sharding,
        Sharding::SharedAndSegments(vec!["is1".into()])
    );
    assert_eq!(settings.drain_timeout, Duration::from_secs(900));
    assert_eq!(settings.register_interval, Duration::from_secs(20));
    assert_eq!(settings.response_rewrite.remove, ["server"]);
    assert_eq!(settings.balancing, Balancing::LeastConnection);
    assert_eq!(settings.prefer_zone.as_deref(), Some("z1"));
    let services = settings.route_services.as_ref().unwrap();
    assert!(services.hairpinning && services.strict_signature_validation);
    assert_eq!(
        (services.max_attempts, services.egress_blocklist.len()),
        (2, 1)
    );
    assert!(settings.proxy_protocol);
    assert_eq!(settings.log_format.extra_fields.len(), 1);
    assert!(settings.sticky_for_auth_negotiate);
    assert_eq!(settings.logged_headers.len(), 2);
    assert_eq!(
        read.warnings,
        [
            "min_tls_version is below TLSv1.2, which this router does not support: raised to TLSv1.2",
            "cipher_suites has AES128-SHA, which this router does not support: dropped",
            "logging.extra_access_log_fields has made_up, which this router does not know: dropped",
            "made_up is unknown: ignored",
            "status_typo is unknown: ignored",
        ]
    );
}

#[test]
fn unsupported_keys_of_gorouter_cause_warnings() {
    let text = "publish_active_apps_interval: 30s
endpoint_keep_alive_probe_interval: 1s
";
    let warnings = read(text).unwrap().warnings;
    let keys: Vec<&str> = warnings
        .iter()
        .filter_map(|w| w.split(' ').next())
        .collect();
    assert_eq!(keys, ["publish_active_apps_interval"]);
}

#[test]
fn the_routing_api_and_its_uaa() {
    let (cert, key) = pem();
    let (cert, key) = (scalar(&cert), scalar(&key));
    let text = format!(
        "routing_api: {{uri: https://routing-api.internal, port: 3001, auth_disabled: false, ca_certs: {cert}, cert_chain: {cert}, private_key: {key}}}
oauth: {{token_endpoint: uaa.internal, port: 8443, skip_ssl_validation: false, client_name: gorouter, client_secret: hush, ca_certs: /uaa/ca.crt}}
token_fetcher_max_retries: 7
token_fetcher_retry_interval: 2s
token_fetcher_expiration_buffer_time: 31
"
    );
    let given = read(&text).unwrap();
    assert!(given.warnings.is_empty(), "{:?}", given.warnings);
    assert!(!format!("{given:?}").contains("hush"));
    let keys = given.routing_api.unwrap();
    assert_eq!(keys.oauth_ca_file, Some("/uaa/ca.crt".into()));
    assert_eq!(keys.api.url, "https://routing-api.internal:3001");
    assert!(keys.api.tls.identity.is_some());
    let oauth = keys.api.oauth.unwrap();
    assert_eq!(oauth.url, "https://uaa.internal:8443");
    assert_eq!(
        (oauth.max_retries, oauth.retry_interval),
        (7, Duration::from_secs(2))
    );
    assert_eq!(oauth.expiration_buffer, Duration::from_secs(31));

    let of = |text: &str| read(text).unwrap().routing_api;
    let plain = of("routing_api: {uri: http://x, port: 3000, auth_disabled: true}").unwrap();
    assert_eq!(
        (plain.api.url.as_str(), plain.oauth_ca_file),
        ("http://x:3000", None)
    );
    assert!(plain.api.oauth.is_none());
    // A deployment without a Routing API writes these.
    for off in [
        "oauth: {token_endpoint: uaa, client_name: gorouter, client_secret: s, port: 8443, skip_ssl_validation: false}",
        "routing_api: {uri: http://x, port: 0}",
        "routing_api: {port: 3000}",
        "routing_api: {uri: '', port: 0}\noauth: {port: 0}",
    ] {
        assert!(of(off).is_none(), "{off}");
    }
    let half = read("routing_api: {port: 3000}").unwrap().warnings;
    assert!(half[0].starts_with("routing_api.port and uri belong together"));
}

#[test]
fn problems_with_the_routing_api_are_reported() {
    let problems = |text: &str| read(text).unwrap_err();
    assert_eq!(
        problems("routing_api: {uri: http://x, port: 3000}"),
        [
            "oauth is missing, but routing_api.port is 3000 and routing_api.auth_disabled is not true: give token_endpoint, port, client_name and client_secret of the UAA, or set routing_api.auth_disabled to true"
        ]
    );
    let text = "routing_api: {uri: https://x, port: 3001, cert_chain: x, private_key: y}
oauth: {token_endpoint: 'https://uaa:8443', skip_ssl_validation: 3}
token_fetcher_retry_interval: 5
";
    let list = problems(text);
    for wanted in [
        "routing_api.cert_chain and private_key are not a PEM certificate and its key",
        "routing_api.ca_certs is missing, but uri begins with https://",
        "oauth.token_endpoint \"https://uaa:8443\" is no host name",
        "oauth.port is missing: routing_api.port is 3001",
        "oauth.client_name is missing",
        "oauth.client_secret is missing",
        "oauth.skip_ssl_validation \"3\" is not true or false",
        "token_fetcher_retry_interval \"5\" is not a duration",
    ] {
        assert!(
            list.iter().any(|problem| problem.starts_with(wanted)),
            "{wanted} in {list:#?}"
        );
    }
    let list = problems("routing_api: {uri: x, port: 70000, ca_certs: y}");
    assert!(
        list.iter()
            .any(|p| p.starts_with("routing_api.port \"70000\" is not a whole number"))
    );
    assert!(
        list.iter()
            .any(|p| p.starts_with("routing_api.ca_certs is not PEM text"))
    );
    let list = problems("routing_api: {uri: x.internal, port: 1, auth_disabled: true}");
    assert!(list[0].starts_with("routing_api.uri \"x.internal\" begins with neither"));
}

#[test]
fn what_goes_to_metron() {
    let metron = |text: &str| read(text).map(|read| (read.settings.metron, read.warnings));
    let address = "localhost:3457".to_owned();
    let (default, _) = metron("").unwrap();
    let all = Metron {
        address,
        logs: true,
        server_events: true,
        client_events: true,
        metrics: true,
    };
    let logs = false;
    assert_eq!(default, Metron { logs, ..all });
    let text = "logging: {loggregator_enabled: true, metron_address: '10.0.0.1:1'}
enable_envelope_v1_metrics: false
send_http_start_stop_server_event: false
send_http_start_stop_client_event: false
";
    let address = "10.0.0.1:1".to_owned();
    let wanted = Metron {
        address,
        logs: true,
        ..Metron::default()
    };
    assert_eq!(metron(text).unwrap(), (wanted, Vec::new()));
    let problems = metron("logging: {metron_address: localhost}").unwrap_err();
    assert_eq!(
        problems,
        [
            "logging.metron_address \"localhost\" is not a host with a port: write e.g. localhost:3457"
        ]
    );
}

#[test]
fn our_own_keys() {
    let text = "compat: none
register_interval: 10s
start_response_delay_interval: 2s
read_header_timeout: 0
pid_file: /run/router.pid
access_log: {format: json, enable_streaming: true}
logging: {syslog: vcap.gorouter, syslog_addr: 10.0.0.1:1514, syslog_network: tcp, syslog_truncate: 1024, enable_attempts_details: true}
prometheus: {port: 1, meters: {gorouter_time_histogram_buckets: [1, 2.5]}}
debug_addr: ''
";
    let read = read(text).unwrap();
    let settings = &read.settings;
    assert!(!settings.compat_gorouter && settings.log_format.json);
    assert_eq!(settings.register_interval, Duration::from_secs(10));
    assert_eq!(settings.start_delay, Duration::from_secs(2));
    assert!(settings.read_header_timeout.is_zero());
    assert_eq!(read.pid_file, Some("/run/router.pid".into()));
    assert_eq!(
        settings.syslog,
        Some(Syslog {
            address: "10.0.0.1:1514".into(),
            tcp: true,
            tag: "vcap.gorouter".into(),
            truncate: 1024
        })
    );
    assert_eq!(settings.log_format.extra_fields.len(), 6);
    assert_eq!(
        settings.log_format.extra_fields[0],
        LogField::FailedAttempts
    );
    assert_eq!(settings.buckets.gorouter_time, [1.0, 2.5]);
    assert!(read.warnings.is_empty(), "{:?}", read.warnings);
}

#[test]
fn identity_aware_domains_and_rules_for_certificates() {
    let ca = scalar(&Ca::named("client CA", Some("Ours")).pem);
    let (cert, key) = pem();
    let (cert, key) = (scalar(&cert), scalar(&key));
    let text = |issuer: &str| {
        format!(
            "enable_ssl: true
client_cert_validation: request
tls_pem: [{{cert_chain: {cert}, private_key: {key}}}]
client_ca_certs: {ca}
enable_verify_client_certificate_metadata: true
verify_client_certificate_metadata:
- issuer_in_chain: {{common_name: {issuer}, organization: [Ours]}}
  valid_cert_subjects: [{{common_name: a, organizational_unit: [y, x]}}]
domains:
- {{name: '*.Apps.Identity', ca_certs: {ca}, xfcc_format: envoy}}
"
        )
    };
    let read_text = read(&text("client CA")).unwrap();
    let tls = &read_text.settings.front_tls;
    let rule = &tls.certificate_rules[0];
    assert_eq!(
        rule.valid_subjects,
        [Subject {
            common_name: "a".into(),
            organisation_unit: vec!["x".into(), "y".into()],
            ..Subject::default()
        }]
    );
    let domain = &tls.domains[0];
    assert_eq!(domain.name, "*.apps.identity");
    assert_eq!(
        (domain.forwarded_client_cert, domain.xfcc_format),
        (ForwardedClientCert::SanitizeSet, XfccFormat::Envoy)
    );
    let problems = read(&text("typo")).unwrap_err();
    assert!(
        problems[0]
            .starts_with("verify_client_certificate_metadata[0].issuer_in_chain is no subject"),
        "{problems:?}"
    );
    let problems = read("domains: [{name: 'a.*.b'}]").unwrap_err();
    for wanted in [
        "domains[0].name is missing or is no host",
        "domains[0].ca_certs is missing",
        "domains is given, but enable_ssl",
    ] {
        assert!(
            problems.iter().any(|p| p.starts_with(wanted)),
            "{wanted} in {problems:#?}"
        );
    }
}

#[test]
fn all_problems_are_reported_together() {
    let problems = read(
        "port: http\nendpoint_timeout: 30\nenable_ssl: true\ncipher_suites: RC4-SHA\nforwarded_client_cert: maybe\nrouting_table_sharding_mode: segments\nnats: {tls_enabled: true}\nstatus: {pass: [1]}\nbackends: {cert_chain: x}\nclient_cert_validation: sometimes",
    )
    .unwrap_err();
    for wanted in [
        "port \"http\" is not a port: write a number from 1 to 65535",
        "endpoint_timeout \"30\" is not a duration",
        "tls_pem has no certificate",
        "cipher_suites has no suite that this router supports",
        "forwarded_client_cert \"maybe\" is not one of always_forward, forward, sanitize_set",
        "routing_table_sharding_mode is \"segments\", but",
        "nats.tls_enabled is true, but",
        "status.pass (hidden) is not a text",
        "client_cert_validation \"sometimes\" is not one of none, request, require",
    ] {
        assert!(
            problems.iter().any(|p| p.starts_with(wanted)),
            "{wanted} in {problems:#?}"
        );
    }
    assert!(read("a: [").unwrap_err()[0].starts_with("the file is not YAML"));
}

#[test]
fn an_unknown_key_is_reported_beside_the_problem_it_may_have_caused() {
    let problems = read("enable_ssl: true\ntls_pems: []").unwrap_err();
    assert!(
        problems[0].starts_with("tls_pem has no certificate"),
        "{problems:?}"
    );
    assert_eq!(
        problems.last().unwrap(),
        "warning: tls_pems is unknown: ignored"
    );
}

#[test]
fn a_certificate_in_place_of_a_path_is_not_opened_as_a_file() {
    let (cert, _) = pem();
    let problems = read(&format!("pid_file: {}", scalar(&cert))).unwrap_err();
    assert_eq!(
        problems,
        ["pid_file is a text of several lines: write the path of a file that holds it"]
    );
}

#[test]
fn pings_to_nats_cannot_be_switched_off() {
    let read = read("nats_client_ping_interval: 0s").unwrap();
    assert_eq!(read.nats.ping_interval, Duration::from_secs(20));
    assert!(read.warnings[0].starts_with("nats_client_ping_interval is 0"));
}

/// These are values that gorouter starts with, decided key by key by its own reading: `""`, 0, a number below 0, null and Go's
/// older flags.
#[test]
fn values_that_mean_not_set_are_accepted() {
    let (cert, key) = pem();
    let (cert, key) = (scalar(&cert), scalar(&key));
    let ssl = format!(
        "{{enable_ssl: true, client_cert_validation: none, tls_pem: [{{cert_chain: {cert}, private_key: {key}}}], "
    );
    let texts = [
        "status: {host: %}",
        "status: {user: %, pass: %}",
        "status: {tls: {certificate: %, key: %}}",
        "nats: {hosts: [{hostname: %, port: 4222}]}",
        "nats: {user: %, pass: %, ca_certs: %, cert_chain: %, private_key: %}",
        "logging: {level: %}",
        "logging: {syslog: %, syslog_addr: %, syslog_network: %}",
        "logging: {format: {timestamp: %}}",
        "access_log: {file: %}",
        "prometheus: {cert_path: %, key_path: %, ca_path: %}",
        "client_cert_validation: %",
        "min_tls_version: %",
        "max_tls_version: %",
        "cipher_suites: %",
        "client_ca_certs: %",
        "trace_key: %",
        "tracing: {w3c_tenant_id: %, otlp_endpoint: %}",
        "zone: %",
        "debug_addr: %",
        "pid_file: %",
        "html_error_template_file: %",
        "route_services_secret: %",
        "route_services_secret_decrypt_only: %",
        "route_services: {cert_chain: %, private_key: %}",
        "backends: {cert_chain: %, private_key: %}",
        "healthcheck_user_agent: %",
        "extra_headers_to_log: [%]",
        "isolation_segments: [%]",
        "hop_by_hop_headers_to_filter: [%]",
        "route_services_hairpinning_allowlist: [%]",
        "sticky_session_cookie_names: [%]",
        "http_rewrite: {responses: {remove_headers: [{name: %}]}}",
        "http_rewrite: {responses: {add_headers_if_not_present: [{name: %, value: %}]}}",
        "routing_api: {uri: %, ca_certs: %, cert_chain: %, private_key: %}",
        "oauth: {token_endpoint: %, client_name: %, client_secret: %, ca_certs: %}",
    ];
    let durations = [
        "load_balancer_healthy_threshold",
        "publish_start_message_interval",
        "prune_stale_droplets_interval",
        "droplet_stale_threshold",
        "publish_active_apps_interval",
        "start_response_delay_interval",
        "endpoint_timeout",
        "http_1_endpoint_timeout",
        "http_2_endpoint_timeout",
        "endpoint_dial_timeout",
        "websocket_dial_timeout",
        "endpoint_keep_alive_probe_interval",
        "route_services_timeout",
        "frontend_idle_timeout",
        "read_header_timeout",
        "route_latency_metric_muzzle_duration",
        "drain_wait",
        "drain_timeout",
        "nats_client_ping_interval",
        "token_fetcher_retry_interval",
        "tls_handshake_timeout",
        "empty_pool_timeout",
        "healthcheck_poll_interval",
        "healthcheck_timeout",
    ];
    let signed = [
        "go_max_procs: %",
        "backends: {max_conns: %, max_attempts: %}",
        "route_services: {max_attempts: %}",
        "logging: {syslog_truncate: %}",
        "max_idle_conns: %",
        "max_idle_conns_per_host: %",
        "max_request_header_bytes: %",
        "max_response_header_bytes: %",
        "max_request_headers: %",
        "max_response_headers: %",
        "token_fetcher_expiration_buffer_time: %",
        "routing_api: {port: %}",
    ];
    let flags = [
        "enable_proxy: %",
        "secure_cookies: %",
        "status: {enable_nontls_health_checks: %}",
    ];
    let filled = |templates: &[&str], values: &[&str]| -> Vec<String> {
        let each = templates
            .iter()
            .flat_map(|template| values.iter().map(move |v| template.replace('%', v)));
        each.collect()
    };
    let durations: Vec<String> = durations.iter().map(|key| format!("{key}: %")).collect();
    let durations: Vec<&str> = durations.iter().map(String::as_str).collect();
    let mut cases = filled(&texts, &["''", "null", ""]);
    cases.extend(filled(&durations, &["0s", "-1s", "null"]));
    cases.extend(filled(&signed, &["0", "-1", "null", "3.0"]));
    cases.extend(filled(&flags, &["yes", "On", "null"]));
    let ports = [
        "port: %",
        "ssl_port: %",
        "status: {port: %}",
        "status: {routes: {port: %}}",
        "prometheus: {port: %}",
        "route_services_internal_server_port: %",
        "oauth: {port: %}",
        "index: %",
        "token_fetcher_max_retries: %",
    ];
    cases.extend(filled(&ports, &["0", "null"]));
    let sections = [
        "status",
        "nats",
        "logging",
        "prometheus",
        "tracing",
        "access_log",
        "backends",
        "route_services",
        "routing_api",
        "oauth",
        "http_rewrite",
        "tls_pem",
        "ca_certs",
        "domains",
        "nats: {hosts",
        "sticky_session_cookie_names",
    ];
    cases.extend(
        sections
            .iter()
            .map(|key| format!("{key}: null{}", if key.contains('{') { "}" } else { "" })),
    );
    for level in ["DEBUG", "Info", "WARN", "eRRor", "fatal"] {
        cases.push(format!("logging: {{level: {level}}}"));
    }
    for address in ["localhost:17002", ":17002", "127.0.0.1:0"] {
        cases.push(format!("debug_addr: '{address}'"));
    }
    for half in ["backends", "route_services"] {
        cases.push(format!("{half}: {{cert_chain: {cert}, private_key: ''}}"));
    }
    for text in [
        "min_tls_version: ''",
        "max_tls_version: ''",
        "cipher_suites: ''",
        "ca_certs: []",
        "client_ca_certs: ''",
    ] {
        cases.push(format!("{ssl}{text}}}"));
    }
    for case in cases {
        let given = read(&case);
        assert!(given.is_ok(), "{case}: {:#?}", given.unwrap_err());
    }
}

#[test]
fn values_that_gorouter_refuses_are_refused() {
    for bad in [
        "port: ''",
        "port: -1",
        "port: 70000",
        "index: -1",
        "endpoint_timeout: ''",
        "endpoint_timeout: soon",
        "enable_proxy: ''",
        "enable_proxy: 2",
        "backends: {max_conns: ''}",
        "backends: {max_conns: many}",
        "logging: {level: loud}",
        "balancing_algorithm: ''",
        "routing_table_sharding_mode: ''",
        "forwarded_client_cert: ''",
        "status: {enable_nontls_health_checks: false}",
        "status: {tls: {port: 9443}}",
        "disable_http: true",
        "logging: []",
        "logging: {metron_address: ''}",
        "debug_addr: here",
    ] {
        assert!(read(bad).is_err(), "{bad}");
    }
}

#[test]
fn the_meaning_of_values_for_not_set() {
    let of = |text: &str| read(text).unwrap();
    assert_eq!(
        of("status: {host: ''}").status.host,
        IpAddr::from([0, 0, 0, 0])
    );
    assert_eq!(of("logging: {level: ''}").log_level, "info");
    assert_eq!(of("logging: {level: DEBUG}").log_level, "debug");
    assert_eq!(
        of("nats: {hosts: [{hostname: ''}]}").nats.servers,
        ["localhost:4222"]
    );
    assert_eq!(
        of("debug_addr: 'localhost:1'")
            .debug_addr
            .unwrap()
            .to_string(),
        "127.0.0.1:1"
    );
    assert!(of("enable_proxy: yes").settings.proxy_protocol);
    // This means no limit: see `patience`.
    assert!(
        of("endpoint_timeout: -1s")
            .settings
            .endpoint_timeout
            .is_zero()
    );
    assert!(
        of("prune_stale_droplets_interval: 0s")
            .settings
            .prune_interval
            > Duration::from_secs(86_400)
    );
    assert_eq!(
        of("disable_keep_alives: false\nmax_idle_conns_per_host: 0")
            .settings
            .max_idle_per_endpoint,
        2
    );
    assert_eq!(
        of("disable_keep_alives: false\nmax_idle_conns_per_host: -1")
            .settings
            .max_idle_per_endpoint,
        0
    );
    let heads = of("max_request_header_bytes: 100\nmax_response_header_bytes: 80").settings;
    assert_eq!((heads.max_request_head, heads.max_response_head), (100, 80));
    let limits = of("backends: {max_attempts: -1, max_conns: -1}");
    assert_eq!(
        (
            limits.settings.max_attempts,
            limits.settings.max_conns_per_endpoint
        ),
        (1, 0)
    );
    assert_eq!(
        limits.warnings,
        [
            "backends.max_conns is -1: 0 counts instead",
            "backends.max_attempts is -1: 0 counts instead"
        ]
    );
    assert_eq!(
        of("logging: {metron_address: ''}\nenable_envelope_v1_metrics: false")
            .settings
            .metron,
        Metron::default()
    );
    assert_eq!(
        of("logging: {metron_address: ':1'}")
            .settings
            .metron
            .address,
        "localhost:1"
    );
}

#[test]
fn suites_and_versions_apply_to_every_side() {
    let (cert, key) = pem();
    let (cert, key) = (scalar(&cert), scalar(&key));
    let text = format!(
        "enable_ssl: true
client_cert_validation: none
tls_pem: [{{cert_chain: {cert}, private_key: {key}}}]
cipher_suites: ECDHE-RSA-AES256-GCM-SHA384
max_tls_version: TLSv1.3
min_tls_version: TLSv1.3
route_services_secret: s
"
    );
    let settings = read(&text).unwrap().settings;
    let suites = ["TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"];
    assert_eq!(settings.front_tls.terms.cipher_suites, suites);
    assert_eq!(settings.backend_terms.cipher_suites, suites);
    // gorouter restricts no versions towards backends.
    assert!(settings.backend_terms.versions.is_empty());
    let status = read(&text).unwrap().status.tls_terms;
    assert_eq!(status.cipher_suites, suites);
    assert_eq!(status.versions.len(), 1);
    let services = settings.route_services.unwrap().tls_terms;
    assert_eq!(services.cipher_suites, suites);
    assert_eq!(services.versions.len(), 1);
}
