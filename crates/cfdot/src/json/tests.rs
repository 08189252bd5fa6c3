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
    let update = read_desired_lrp_update(r#"{"instances":3,"routes":{"cf-router":[{"port":8080}]},"metric_tags":{"a":{"dynamic":"INDEX"}}}"#).unwrap().unwrap();
    assert_eq!((update.instances, update.annotation), (Some(3), None));
    assert_eq!(
        update.routes.unwrap().routes["cf-router"],
        br#"[{"port":8080}]"#
    );
    assert_eq!(update.metric_tags["a"].dynamic, 1);
    assert!(read_desired_lrp_update("{").is_err());
}

#[test]
fn printed_objects_can_be_read() {
    let lrp = r#"{"process_guid":"P","domain":"d","rootfs":"r","instances":2,"env":[{"name":"A","value":"b"}],"action":{"serial":{"actions":[{"timeout":{"action":{"run":{"path":"/a","args":["x"],"resource_limits":{"nofile":5},"user":"vcap","suppress_log_output":false,"volume_mounted_files":null}},"timeout_ms":5}},{"try":{"action":{"download":{"from":"f","to":"t","cache_key":"","user":"u"}}}}]}},"start_timeout_ms":7,"disk_mb":1,"memory_mb":2,"cpu_weight":3,"privileged":true,"ports":[8080],"routes":{"cf-router":[{"port":8080,"hostnames":["a"]}]},"log_source":"l","log_guid":"g","metrics_guid":"m","annotation":"a","egress_rules":[{"protocol":"icmp","destinations":["0.0.0.0/0"],"icmp_info":{"type":8,"code":0},"log":true}],"network":{"properties":{"k":"v"}},"placement_tags":["p"],"max_pids":4,"certificate_properties":{"organizational_unit":["o"]},"check_definition":{"checks":[{"http_check":{"port":1,"path":"/"}}],"log_source":""},"image_layers":[{"url":"u","destination_path":"d","layer_type":"SHARED","media_type":"TGZ","digest_algorithm":"SHA256","digest_value":"x"}],"metric_tags":{"i":{"dynamic":"INDEX"},"s":{"static":"1"}},"sidecars":[{"disk_mb":1,"memory_mb":2}],"log_rate_limit":{"bytes_per_second":-1},"volume_mounted_files":[{"path":"p","content":"c"}],"update_strategy":1}"#;
    let read = read_desired_lrp(lrp).unwrap().unwrap();
    check(&desired_lrp(&read), lrp);
    let spec = r#"{"rootfs":"r","action":{"run":{"path":"/a","user":"u","suppress_log_output":false,"volume_mounted_files":null}},"disk_mb":1,"memory_mb":2,"cpu_weight":0,"privileged":false,"log_source":"","log_guid":"","metrics_guid":"","result_file":"/r","completion_callback_url":"http://x","max_pids":0,"image_username":"","image_password":"","volume_mounted_files":null,"task_guid":"T","domain":"d","created_at":0,"updated_at":0,"first_completed_at":0,"state":"Invalid","cell_id":"","result":"","failed":false,"failure_reason":"","rejection_count":0,"rejection_reason":""}"#;
    check(&task(&read_task(spec).unwrap().unwrap()), spec);
}

#[test]
fn mistakes_in_specs_are_named_as_in_go() {
    for (spec, message) in [
        ("{", "unexpected end of JSON input"),
        ("x", "invalid character 'x' looking for beginning of value"),
        (
            r#"{"a":}"#,
            "invalid character '}' looking for beginning of value",
        ),
        (
            r#"{"a":1 2}"#,
            "invalid character '2' after object key:value pair",
        ),
        ("{} x", "invalid character 'x' after top-level value"),
        (
            "{5:1}",
            "invalid character '5' looking for beginning of object key string",
        ),
        (
            "[]",
            "json: cannot unmarshal array into Go value of type models.DesiredLRP",
        ),
        (
            r#"{"ports":"x"}"#,
            "json: cannot unmarshal string into Go struct field DesiredLRP.ports of type []uint32",
        ),
        (
            r#"{"routes":5}"#,
            "json: cannot unmarshal number into Go struct field DesiredLRP.routes of type models.Routes",
        ),
        (
            r#"{"instances":1.5}"#,
            "json: cannot unmarshal number 1.5 into Go struct field DesiredLRP.instances of type int32",
        ),
        (
            r#"{"image_layers":[{"layer_type":"x"}]}"#,
            "invalid type: x",
        ),
    ] {
        assert_eq!(read_desired_lrp(spec).unwrap_err(), message, "{spec}");
    }
    assert_eq!(read_desired_lrp("null").unwrap(), None);
    let case = read_desired_lrp(r#"{"Process_GUID":"P","unknown":1,"env":null}"#);
    assert_eq!(case.unwrap().unwrap().process_guid, "P");
}
