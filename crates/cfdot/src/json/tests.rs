use super::*;
use wire::bbs as m;

fn check(object: &Object, expected: &str) {
    assert_eq!(serde_json::to_string(object).unwrap(), expected);
}

fn instance() -> m::ActualLrp {
    m::ActualLrp {
        key: Some(m::ActualLrpKey {
            process_guid: "P".into(),
            index: 0,
            domain: "cf-apps".into(),
        }),
        instance_key: Some(m::ActualLrpInstanceKey {
            instance_guid: "I".into(),
            cell_id: "cell-0".into(),
        }),
        net_info: Some(m::ActualLrpNetInfo {
            address: "10.0.1.5".into(),
            ports: vec![m::PortMapping {
                container_port: 8080,
                host_port: 61012,
                container_tls_proxy_port: 61001,
                host_tls_proxy_port: 61014,
            }],
            instance_address: "10.255.7.3".into(),
            preferred_address: m::PreferredAddress::Host as i32,
            ..Default::default()
        }),
        state: "RUNNING".into(),
        since: 1,
        modification_tag: Some(m::ModificationTag {
            epoch: "E".into(),
            index: 2,
        }),
        routable: Some(true),
        availability_zone: "z1".into(),
        ..Default::default()
    }
}

#[test]
fn a_running_instance() {
    check(
        &actual_lrp(&instance()),
        r#"{"process_guid":"P","index":0,"domain":"cf-apps","instance_guid":"I","cell_id":"cell-0","address":"10.0.1.5","ports":[{"container_port":8080,"host_port":61012,"container_tls_proxy_port":61001,"host_tls_proxy_port":61014}],"instance_address":"10.255.7.3","preferred_address":"HOST","crash_count":0,"state":"RUNNING","since":1,"modification_tag":{"epoch":"E","index":2},"presence":"ORDINARY","OptionalRoutable":{"routable":true},"availability_zone":"z1"}"#,
    );
}

#[test]
fn an_unclaimed_instance_has_null_ports() {
    let lrp = m::ActualLrp {
        state: "UNCLAIMED".into(),
        placement_error: "no room".into(),
        ..Default::default()
    };
    check(
        &actual_lrp(&lrp),
        r#"{"process_guid":"","index":0,"domain":"","instance_guid":"","cell_id":"","address":"","ports":null,"preferred_address":"UNKNOWN","crash_count":0,"state":"UNCLAIMED","placement_error":"no room","since":0,"modification_tag":{"epoch":"","index":0},"presence":"ORDINARY","OptionalRoutable":null,"availability_zone":""}"#,
    );
}

#[test]
fn a_desired_lrp_shows_routes_and_actions_as_json() {
    let run = m::Action {
        run: Some(m::RunAction {
            path: "/tmp/lifecycle/launcher".into(),
            args: vec!["app".into()],
            user: "vcap".into(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let lrp = m::DesiredLrp {
        process_guid: "P".into(),
        domain: "cf-apps".into(),
        root_fs: "preloaded:cflinuxfs4".into(),
        instances: 2,
        environment_variables: vec![m::EnvironmentVariable {
            name: "A".into(),
            value: "b".into(),
        }],
        action: Some(m::Action {
            codependent: Some(m::CodependentAction {
                actions: vec![run],
                log_source: String::new(),
            }),
            ..Default::default()
        }),
        ports: vec![8080],
        routes: Some(m::ProtoRoutes {
            routes: [(
                "cf-router".to_owned(),
                br#"[{"hostnames":["a.b"],"port":8080}]"#.to_vec(),
            )]
            .into(),
        }),
        metric_tags: [
            (
                "instance_id".to_owned(),
                m::MetricTagValue {
                    dynamic: 1,
                    ..Default::default()
                },
            ),
            (
                "app".to_owned(),
                m::MetricTagValue {
                    static_value: "x".into(),
                    dynamic: 0,
                },
            ),
        ]
        .into(),
        log_rate_limit: Some(m::LogRateLimit {
            bytes_per_second: -1,
        }),
        ..Default::default()
    };
    check(
        &desired_lrp(&lrp),
        r#"{"process_guid":"P","domain":"cf-apps","rootfs":"preloaded:cflinuxfs4","instances":2,"env":[{"name":"A","value":"b"}],"action":{"codependent":{"actions":[{"run":{"path":"/tmp/lifecycle/launcher","args":["app"],"user":"vcap","suppress_log_output":false,"volume_mounted_files":null}}]}},"start_timeout_ms":0,"disk_mb":0,"memory_mb":0,"cpu_weight":0,"privileged":false,"ports":[8080],"routes":{"cf-router":[{"hostnames":["a.b"],"port":8080}]},"log_source":"","log_guid":"","metrics_guid":"","annotation":"","max_pids":0,"metric_tags":{"app":{"static":"x"},"instance_id":{"dynamic":"INDEX"}},"log_rate_limit":{"bytes_per_second":-1},"volume_mounted_files":null,"update_strategy":0}"#,
    );
}

#[test]
fn tasks_cells_and_events() {
    let pending = m::Task {
        task_guid: "T".into(),
        domain: "cf-tasks".into(),
        state: m::TaskState::Pending as i32,
        ..Default::default()
    };
    check(
        &task(&pending),
        r#"{"rootfs":"","disk_mb":0,"memory_mb":0,"cpu_weight":0,"privileged":false,"log_source":"","log_guid":"","metrics_guid":"","result_file":"","max_pids":0,"image_username":"","image_password":"","volume_mounted_files":null,"task_guid":"T","domain":"cf-tasks","created_at":0,"updated_at":0,"first_completed_at":0,"state":"Pending","cell_id":"","result":"","failed":false,"failure_reason":"","rejection_count":0,"rejection_reason":""}"#,
    );
    let cell = m::CellPresence {
        cell_id: "c".into(),
        zone: "z1".into(),
        rep_url: "https://c:1801".into(),
        rootfs_providers: vec![m::Provider {
            name: "preloaded".into(),
            properties: vec!["cflinuxfs4".into()],
        }],
        ..Default::default()
    };
    check(
        &cell_presence(&cell),
        r#"{"cell_id":"c","rep_address":"","zone":"z1","rootfs_provider_list":[{"name":"preloaded","properties":["cflinuxfs4"]}],"rep_url":"https://c:1801","annotations":{}}"#,
    );
    let crashed = m::ActualLrpCrashedEvent {
        key: instance().key,
        instance_key: instance().instance_key,
        crash_count: 1,
        crash_reason: "out of memory".into(),
        since: 5,
    };
    check(
        &event(&m::Event::ActualLrpCrashed(crashed)),
        r#"{"type":"actual_lrp_crashed","data":{"process_guid":"P","index":0,"domain":"cf-apps","instance_guid":"I","cell_id":"cell-0","crash_count":1,"crash_reason":"out of memory","since":5}}"#,
    );
    let info = m::ActualLrpInfo {
        state: "RUNNING".into(),
        routable: Some(true),
        ..Default::default()
    };
    let changed = m::ActualLrpInstanceChangedEvent {
        key: instance().key,
        instance_key: instance().instance_key,
        after: Some(info),
        ..Default::default()
    };
    let text = serde_json::to_string(&event(&m::Event::ActualLrpInstanceChanged(changed))).unwrap();
    assert!(text.starts_with(r#"{"type":"actual_lrp_instance_changed","data":{"process_guid":"P","index":0,"domain":"cf-apps","instance_guid":"I","cell_id":"cell-0","after":{"address":"","#), "{text}");
    assert!(text.contains(r#""OptionalRoutable":{"Routable":true}"#));
}

#[test]
fn updates_keep_routes_raw() {
    let update = desired_lrp_update(r#"{"instances":3,"routes":{"cf-router":[{"port":8080}]},"metric_tags":{"a":{"dynamic":"INDEX"}}}"#).unwrap();
    assert_eq!((update.instances, update.annotation), (Some(3), None));
    assert_eq!(
        update.routes.unwrap().routes["cf-router"],
        br#"[{"port":8080}]"#
    );
    assert_eq!(update.metric_tags["a"].dynamic, 1);
    assert!(desired_lrp_update("{").is_err());
}
