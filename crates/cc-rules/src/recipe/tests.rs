//! Tests of the whole LRP: what the cell, the emitter and log-cache rely on.

use super::routes::{HttpRoute, Routes};
use super::*;
use serde_json::json;
use wire::lrp_routes::{CF_ROUTER, DIEGO_SSH};
use wire::ssh::Ed25519Key;

fn spec() -> AppSpec {
    let live = LiveState {
        identity: AppIdentity {
            app_guid: "app".into(),
            app_name: "dora".into(),
            space_guid: "space".into(),
            space_name: "dev".into(),
            organization_guid: "org".into(),
            organization_name: "acme".into(),
        },
        process_guid: "11111111-1111-1111-1111-111111111111".into(),
        version: "22222222-2222-2222-2222-222222222222".into(),
        process_type: "web".into(),
        instances: 2,
        routes: Routes {
            http: vec![HttpRoute {
                uri: "dora.example".into(),
                port: 8080,
                ..Default::default()
            }],
            ..Default::default()
        },
        annotation: "1764000000.25".into(),
        ..Default::default()
    };
    AppSpec {
        live,
        command: "./dora".into(),
        memory_mb: 256,
        disk_mb: 1024,
        log_rate_limit: -1,
        environment: BTreeMap::from([("COLOR".into(), "blue".into()), ("PORT".into(), "1".into())]),
        droplet: Artifact {
            url: "https://cc/droplet".into(),
            sha256: "aa".into(),
        },
        lifecycle: Artifact {
            url: "https://cc/lifecycle.tgz".into(),
            sha256: "bb".into(),
        },
        ssh_allowed: true,
        stack: "cflinuxfs4".into(),
        api_url: "https://api.example".into(),
        ..Default::default()
    }
}

fn env(lrp: &DesiredLrp) -> BTreeMap<String, String> {
    let run = lrp
        .action
        .as_ref()
        .unwrap()
        .codependent
        .as_ref()
        .unwrap()
        .actions[0]
        .run
        .as_ref()
        .unwrap();
    run.env
        .iter()
        .map(|variable| (variable.name.clone(), variable.value.clone()))
        .collect()
}

#[test]
fn the_whole_lrp() {
    let lrp = desired_lrp(&spec()).unwrap();
    assert_eq!(
        lrp.process_guid,
        "11111111-1111-1111-1111-111111111111-22222222-2222-2222-2222-222222222222"
    );
    assert_eq!(
        process_guid_of(&lrp.process_guid),
        "11111111-1111-1111-1111-111111111111"
    );
    assert_eq!(
        (
            lrp.domain.as_str(),
            lrp.root_fs.as_str(),
            lrp.annotation.as_str()
        ),
        ("cf-apps", "preloaded:cflinuxfs4", "1764000000.25")
    );
    assert_eq!(lrp.ports, [8080, 2222]);
    assert_eq!(
        (
            lrp.instances,
            lrp.memory_mb,
            lrp.disk_mb,
            lrp.cpu_weight,
            lrp.start_timeout_ms
        ),
        (2, 256, 1024, 3, 60_000)
    );
    let setup = lrp.setup.as_ref().unwrap().download.as_ref().unwrap();
    assert_eq!(
        (
            setup.to.as_str(),
            setup.checksum_algorithm.as_str(),
            setup.checksum_value.as_str()
        ),
        ("/home/vcap", "sha256", "aa")
    );
    assert_eq!(lrp.cached_dependencies[0].to, "/tmp/lifecycle");
    let run = lrp
        .action
        .as_ref()
        .unwrap()
        .codependent
        .as_ref()
        .unwrap()
        .actions[0]
        .run
        .as_ref()
        .unwrap();
    assert_eq!(
        (
            run.path.as_str(),
            run.args.as_slice(),
            run.log_source.as_str()
        ),
        (
            "/tmp/lifecycle/launcher",
            ["app".to_owned(), "./dora".into(), String::new()].as_slice(),
            "APP/PROC/WEB"
        )
    );
    assert_eq!(
        lrp.certificate_properties
            .as_ref()
            .unwrap()
            .organizational_unit,
        ["organization:org", "space:space", "app:app"]
    );
    let network = &lrp.network.as_ref().unwrap().properties;
    assert_eq!(
        (
            network["policy_group_id"].as_str(),
            network["ports"].as_str(),
            network["container_workload"].as_str()
        ),
        ("app", "8080", "app")
    );
    let tags = &lrp.metric_tags;
    assert_eq!(
        (
            tags["source_id"].static_value.as_str(),
            tags["app_name"].static_value.as_str(),
            tags["process_type"].static_value.as_str()
        ),
        ("app", "dora", "web")
    );
    assert_eq!(tags["instance_id"].dynamic, MetricTagDynamic::Index as i32);
    assert_eq!(
        tags["process_instance_id"].dynamic,
        MetricTagDynamic::InstanceGuid as i32
    );
}

#[test]
fn the_environment() {
    let env = env(&desired_lrp(&spec()).unwrap());
    assert_eq!(
        (
            env["COLOR"].as_str(),
            env["PORT"].as_str(),
            env["MEMORY_LIMIT"].as_str(),
            env["VCAP_SERVICES"].as_str()
        ),
        ("blue", "8080", "256m", "{}")
    );
    let application: serde_json::Value = serde_json::from_str(&env["VCAP_APPLICATION"]).unwrap();
    assert_eq!(application["application_name"], "dora");
    assert_eq!(application["application_uris"], json!(["dora.example"]));
    assert_eq!(
        application["limits"],
        json!({"fds": 16384, "mem": 256, "disk": 1024})
    );
    assert_eq!(
        application["application_version"],
        "22222222-2222-2222-2222-222222222222"
    );
}

#[test]
fn bindings_are_a_variable_or_files() {
    let mut spec = spec();
    let variable = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    spec.services.variable = variable("VCAP_SERVICES", r#"{"user-provided":[]}"#);
    let lrp = desired_lrp(&spec).unwrap();
    assert_eq!(env(&lrp)["VCAP_SERVICES"], r#"{"user-provided":[]}"#);
    assert!(lrp.volume_mounted_files.is_empty());
    spec.services = crate::services::Delivered {
        variable: variable("SERVICE_BINDING_ROOT", "/etc/cf-service-bindings"),
        files: vec![crate::services::BindingFile {
            path: "db/uri".into(),
            content: "u".into(),
        }],
    };
    let lrp = desired_lrp(&spec).unwrap();
    let env = env(&lrp);
    assert_eq!(env["SERVICE_BINDING_ROOT"], "/etc/cf-service-bindings");
    assert!(!env.contains_key("VCAP_SERVICES"));
    assert_eq!(lrp.volume_mounted_files[0].path, "db/uri");
    assert_eq!(lrp.volume_mounted_files[0].content, "u");
}

#[test]
fn health_checks_by_kind() {
    let port = desired_lrp(&spec()).unwrap();
    let checks = &port.check_definition.as_ref().unwrap().checks;
    assert_eq!(checks.len(), 1, "ssh is not checked");
    assert_eq!(checks[0].tcp_check.as_ref().unwrap().port, 8080);
    assert!(port.monitor.is_some());

    let kind = CheckKind::Http {
        endpoint: "/health".into(),
    };
    let health_check = HealthCheck {
        kind: kind.clone(),
        timeout: Some(90),
        invocation_timeout: Some(5),
        interval: Some(7),
    };
    let readiness = ReadinessCheck {
        kind,
        invocation_timeout: Some(2),
        interval: None,
    };
    let http = desired_lrp(&AppSpec {
        health_check,
        readiness,
        ports: vec![9000, 9001],
        ..spec()
    })
    .unwrap();
    let definition = http.check_definition.as_ref().unwrap();
    let first = definition.checks[0].http_check.as_ref().unwrap();
    assert_eq!(
        (
            first.path.as_str(),
            first.port,
            first.request_timeout_ms,
            first.interval_ms
        ),
        ("/health", 9000, 5000, 7000)
    );
    assert_eq!(definition.checks[1].tcp_check.as_ref().unwrap().port, 9001);
    assert_eq!(
        definition.readiness_checks[0]
            .http_check
            .as_ref()
            .unwrap()
            .request_timeout_ms,
        2000
    );
    assert_eq!(http.start_timeout_ms, 90_000);
    let monitor = http
        .monitor
        .as_ref()
        .unwrap()
        .timeout
        .as_ref()
        .unwrap()
        .action
        .as_ref()
        .unwrap()
        .parallel
        .as_ref()
        .unwrap();
    assert_eq!(
        monitor.actions[0].run.as_ref().unwrap().args,
        ["-port=9000", "-uri=/health", "-timeout=5s"]
    );
    assert_eq!(env(&http)["PORT"], "9000");

    let process = desired_lrp(&AppSpec {
        health_check: HealthCheck {
            kind: CheckKind::Process,
            ..Default::default()
        },
        ..spec()
    })
    .unwrap();
    assert_eq!((process.check_definition, process.monitor), (None, None));
}

fn keys() -> ssh::Keys {
    ssh::Keys {
        host: Ed25519Key::new([1; 32], [2; 32]),
        user: Ed25519Key::new([3; 32], [4; 32]),
    }
}

fn with_sshd(spec: &AppSpec) -> DesiredLrp {
    let mut lrp = desired_lrp(spec).unwrap();
    ssh::add(&mut lrp, spec, &keys());
    lrp
}

#[test]
fn the_sshd_has_its_keys_and_the_environment_of_the_process() {
    let lrp = with_sshd(&spec());
    let actions = &lrp
        .action
        .as_ref()
        .unwrap()
        .codependent
        .as_ref()
        .unwrap()
        .actions;
    let [process, sshd] = [0, 1].map(|at| actions[at].run.as_ref().unwrap());
    assert_eq!(actions.len(), 2);
    assert_eq!(sshd.path, "/tmp/lifecycle/diego-sshd");
    assert_eq!(sshd.args[0], "-address=0.0.0.0:2222");
    assert_eq!(
        sshd.args[1],
        format!("-hostKey={}", keys().host.private_pem())
    );
    assert_eq!(
        sshd.args[2],
        format!("-authorizedKey={}", keys().user.authorized_key())
    );
    assert_eq!(
        (sshd.user.as_str(), sshd.log_source.as_str()),
        ("vcap", "CELL/SSHD")
    );
    assert_eq!(sshd.env, process.env);
    let route: wire::ssh::SshRoute =
        serde_json::from_slice(&lrp.routes.unwrap().routes[DIEGO_SSH]).unwrap();
    assert_eq!(route.container_port, 2222);
    assert_eq!(route.private_key, keys().user.private_pem());
    let host = keys().host.public_blob();
    for fingerprint in [route.host_fingerprint, route.host_256_fingerprint] {
        assert!(wire::ssh::matches_fingerprint(&fingerprint, &host));
    }
}

#[test]
fn no_sshd_where_ssh_is_off_or_the_app_has_the_port() {
    let off = AppSpec {
        ssh_allowed: false,
        ..spec()
    };
    let own = AppSpec {
        ports: vec![2222],
        ..spec()
    };
    for (spec, ports) in [(off, [8080]), (own, [2222])] {
        let lrp = with_sshd(&spec);
        assert_eq!(lrp.ports, ports);
        let actions = lrp.action.as_ref().unwrap().codependent.as_ref().unwrap();
        assert_eq!(actions.actions.len(), 1);
        assert_eq!(ssh::Entry::of(&lrp), None);
    }
}

#[test]
fn an_update_keeps_the_ssh_entry() {
    let lrp = with_sshd(&spec());
    let entry = ssh::Entry::of(&lrp);
    let change = update(
        &LiveState {
            instances: 5,
            routes: Routes::default(),
            ..spec().live
        },
        entry.as_ref(),
    );
    assert_eq!(change.instances, Some(5));
    let routes = change.routes.unwrap().routes;
    assert_eq!(routes[DIEGO_SSH], lrp.routes.unwrap().routes[DIEGO_SSH]);
    assert_eq!(routes[CF_ROUTER].as_slice(), b"[]".as_slice());
    let without = update(&spec().live, None).routes.unwrap().routes;
    assert!(!without.contains_key(DIEGO_SSH));
}

#[test]
fn cpu_weight_follows_memory_within_bounds() {
    for (memory, weight) in [
        (1, 1),
        (128, 1),
        (256, 3),
        (1024, 12),
        (8192, 100),
        (65536, 100),
    ] {
        assert_eq!(cpu_weight(memory), weight, "{memory} MB");
    }
}

#[test]
fn a_wrong_security_group_rule_is_named() {
    let mut wrong = spec();
    wrong.live.egress_rules = vec![
        json!({"protocol": "all", "destination": "0.0.0.0/0"}),
        json!({"protocol": "tcp"}),
    ];
    assert!(
        desired_lrp(&wrong)
            .unwrap_err()
            .to_string()
            .starts_with("security group rule 2: ")
    );
}
