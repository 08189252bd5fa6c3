use super::*;

fn json(text: &str) -> OrderedJson {
    serde_json::from_str(text).unwrap()
}

fn binding() -> Binding {
    Binding {
        label: USER_PROVIDED.to_owned(),
        plan: None,
        tags: vec!["sql".to_owned()],
        instance_guid: "i-guid".to_owned(),
        instance_name: "db".to_owned(),
        binding_guid: "b-guid".to_owned(),
        binding_name: None,
        credentials: json(r#"{"uri":"postgres://u:p@h/d","port":5432,"deep":{"z":1,"a":[]}}"#),
        syslog_drain_url: None,
    }
}

#[test]
fn vcap_services_has_the_originals_order() {
    assert_eq!(vcap_services(&[]), "{}");
    let named = Binding {
        label: "pg".to_owned(),
        binding_name: Some("main".to_owned()),
        tags: Vec::new(),
        credentials: OrderedJson::Null,
        syslog_drain_url: Some("syslog://h:1".to_owned()),
        ..binding()
    };
    assert_eq!(
        vcap_services(&[binding(), named, binding()]),
        concat!(
            r#"{"user-provided":["#,
            r#"{"label":"user-provided","name":"db","tags":["sql"],"instance_guid":"i-guid","instance_name":"db","binding_guid":"b-guid","binding_name":null,"credentials":{"uri":"postgres://u:p@h/d","port":5432,"deep":{"z":1,"a":[]}},"syslog_drain_url":null,"volume_mounts":[]},"#,
            r#"{"label":"user-provided","name":"db","tags":["sql"],"instance_guid":"i-guid","instance_name":"db","binding_guid":"b-guid","binding_name":null,"credentials":{"uri":"postgres://u:p@h/d","port":5432,"deep":{"z":1,"a":[]}},"syslog_drain_url":null,"volume_mounts":[]}],"#,
            r#""pg":[{"label":"pg","name":"main","tags":[],"instance_guid":"i-guid","instance_name":"db","binding_guid":"b-guid","binding_name":"main","credentials":null,"syslog_drain_url":"syslog://h:1","volume_mounts":[]}]}"#,
        )
    );
}

#[test]
fn the_variable_and_the_file_have_the_same_text() {
    let bindings = [binding()];
    let variable = deliver(&bindings, Delivery::Variable).unwrap();
    assert!(variable.files.is_empty());
    assert_eq!(variable.variable.0, "VCAP_SERVICES");
    let file = deliver(&bindings, Delivery::VcapFile).unwrap();
    let (name, path) = (
        "VCAP_SERVICES_FILE_PATH",
        "/etc/cf-service-bindings/vcap_services",
    );
    assert_eq!(file.variable, (name.to_owned(), path.to_owned()));
    assert_eq!(file.files[0].path, "vcap_services");
    assert_eq!(file.files[0].content, variable.variable.1);
    assert!(!format!("{variable:?}").contains("postgres://"));
    assert_eq!(
        Delivered::default(),
        deliver(&[], Delivery::Variable).unwrap()
    );
}

#[test]
fn folders_have_a_file_for_each_value() {
    let mut one = binding();
    one.credentials =
        json(r#"{"type":"mysql","uri":"u","port":1,"none":null,"empty":{},"list":[1]}"#);
    let delivered = deliver(&[one], Delivery::Folders).unwrap();
    let root = "/etc/cf-service-bindings".to_owned();
    assert_eq!(
        delivered.variable,
        ("SERVICE_BINDING_ROOT".to_owned(), root)
    );
    let files: Vec<(&str, &str)> = delivered
        .files
        .iter()
        .map(|file| (file.path.as_str(), file.content.as_str()))
        .collect();
    // The binding's own type replaces a credential of the same name.
    assert_eq!(
        files,
        [
            ("db/type", "user-provided"),
            ("db/uri", "u"),
            ("db/port", "1"),
            ("db/list", "[1]"),
            ("db/label", "user-provided"),
            ("db/name", "db"),
            ("db/tags", r#"["sql"]"#),
            ("db/instance_guid", "i-guid"),
            ("db/instance_name", "db"),
            ("db/binding_guid", "b-guid"),
            ("db/provider", "user-provided"),
        ]
    );
    assert!(!format!("{delivered:?}").contains("mysql"));
}

#[test]
fn folders_are_refused_when_names_do_not_fit() {
    let refused = |bindings: &[Binding]| deliver(bindings, Delivery::Folders).unwrap_err();
    let named = |name: &str| Binding {
        binding_name: Some(name.to_owned()),
        ..binding()
    };
    let error = refused(&[named("My_DB")]);
    assert!(
        error
            .to_string()
            .starts_with("Invalid binding name: 'My_DB'. Name must match /^[a-z0-9\\-.]{1,253}$/"),
        "{error}"
    );
    let error = refused(&[named("a"), named("a")]);
    assert_eq!(error.to_string(), "Duplicate binding name: a");
    let mut slashed = binding();
    slashed.credentials = json(r#"{"../x":"1"}"#);
    assert_eq!(refused(&[slashed]).to_string(), "Invalid file name: ../x");
    let mut large = binding();
    large.credentials = OrderedJson::Object(vec![(
        "k".to_owned(),
        OrderedJson::Text("x".repeat(MOST_FILE_BYTES)),
    )]);
    for delivery in [Delivery::Folders, Delivery::VcapFile] {
        let error = deliver(std::slice::from_ref(&large), delivery).unwrap_err();
        assert!(matches!(error, DeliveryError::Size { .. }), "{error}");
    }
    let error = deliver(&[large], Delivery::Variable).unwrap_err();
    assert!(error.to_string().contains("enable the feature"), "{error}");
}

#[test]
fn addresses_and_names_are_checked() {
    for good in [
        "syslog://h:1",
        "syslog-tls://h:1?a=%2c",
        "https://u:p@h/x",
        "x:y",
    ] {
        assert!(is_uri(good), "{good}");
        assert_eq!(syslog_drain_url_problem(good), None);
    }
    for bad in [
        "",
        "host",
        "://h",
        "1x://h",
        "https:",
        "https://a b",
        "https://h/%zz",
        "https://h/%2",
        "https://é",
    ] {
        assert!(!is_uri(bad), "{bad}");
    }
    for (url, problem) in [
        ("", None),
        ("https://h", None),
        ("https://u:p@h:8443/a?b#c", None),
        ("http://h", Some("Route service url must be https")),
        ("https:h", Some("Route service url must have a host")),
        ("https://.h", Some("Route service url must have a host")),
        ("h", Some("Route service url must be a valid URI")),
    ] {
        assert_eq!(route_service_url_problem(url), problem, "{url}");
    }
    assert_eq!(stored_drain_url("https://h/a,b"), "https://h/a%2cb");
    assert_eq!(binding_name_problem("a-B_1"), None);
    assert!(
        binding_name_problem("a b")
            .unwrap()
            .contains("Valid characters")
    );
    assert!(
        binding_name_problem(&"x".repeat(256))
            .unwrap()
            .contains("256")
    );
    assert_eq!(tags_problem(&["x".repeat(2048)]), None);
    assert!(tags_problem(&["x".repeat(2048), "y".to_owned()]).is_some());
}

#[test]
fn a_managed_binding_has_the_plan_and_a_provider_without_a_value() {
    let managed = Binding {
        label: "postgres".to_owned(),
        plan: Some("small".to_owned()),
        credentials: OrderedJson::Object(Vec::new()),
        ..binding()
    };
    assert_eq!(
        vcap_services(std::slice::from_ref(&managed)),
        concat!(
            r#"{"postgres":[{"label":"postgres","provider":null,"plan":"small","name":"db","tags":["sql"],"#,
            r#""instance_guid":"i-guid","instance_name":"db","binding_guid":"b-guid","binding_name":null,"credentials":{},"syslog_drain_url":null,"volume_mounts":[]}]}"#
        )
    );
    let files = deliver(&[managed], Delivery::Folders).unwrap().files;
    let content = |path: &str| {
        let file = files.iter().find(|file| file.path == path);
        file.map(|file| file.content.as_str())
    };
    assert_eq!(content("db/plan"), Some("small"));
    assert_eq!(content("db/type"), Some("postgres"));
    assert_eq!(content("db/provider"), Some("postgres"));
}
