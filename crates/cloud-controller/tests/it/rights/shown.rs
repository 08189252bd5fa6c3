//! The parts of responses that each caller sees.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_and_guids_of_others_are_left_out() {
    let world = World::start().await;
    let f = &world.f;
    let (organization, space) = foreign(f).await;
    let body = json!({ "name": "both", "globally_enabled": { "running": true }, "relationships": { "running_spaces": { "data": [{ "guid": space }, { "guid": f.space }] } } });
    let group = f.send(Method::POST, "/v3/security_groups", body).await["guid"]
        .as_str()
        .unwrap()
        .to_owned();
    let domain = json!({ "name": "lent.test", "relationships": { "organization": to(&f.organization), "shared_organizations": { "data": [{ "guid": organization }] } } });
    let domain = f.send(Method::POST, "/v3/domains", domain).await["guid"]
        .as_str()
        .unwrap()
        .to_owned();
    let quota = f.get("/v3/organization_quotas").await["resources"][0]["guid"]
        .as_str()
        .unwrap()
        .to_owned();
    for (column, path) in [
        ('D', format!("/v3/security_groups/{group}")),
        ('D', "/v3/security_groups".to_owned()),
        ('N', format!("/v3/security_groups/{group}")),
        ('M', format!("/v3/domains/{domain}")),
        ('M', "/v3/domains".to_owned()),
        ('D', format!("/v3/organization_quotas/{quota}")),
        ('N', "/v3/organization_quotas".to_owned()),
    ] {
        let (status, answer) = world.as_(column, Method::GET, &path, None).await;
        assert_eq!(status, 200);
        let text = answer.to_string();
        assert!(
            !text.contains(&organization) && !text.contains(&space),
            "{path} as {column}: {text}"
        );
    }
    let shown = f.get(&format!("/v3/security_groups/{group}")).await;
    assert_eq!(
        shown["relationships"]["running_spaces"]["data"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    // Organization auditors see routes, but no spaces beside them; plain members and billing managers see no private domain.
    f.create_route("audited", "").await;
    let (_, routes) = world
        .as_(
            'U',
            Method::GET,
            "/v3/routes?include=space,space.organization",
            None,
        )
        .await;
    assert_eq!(routes["pagination"]["total_results"], 1);
    assert_eq!(routes["included"]["spaces"], json!([]));
    for column in ['B', 'O', 'N'] {
        let (_, domains) = world.as_(column, Method::GET, "/v3/domains", None).await;
        assert_eq!(
            domains["pagination"]["total_results"], 2,
            "{column} sees the shared domains alone"
        );
    }
    for column in ['B', 'O'] {
        let path = format!("/v3/organizations/{}/domains", f.organization);
        assert_eq!(
            world.as_(column, Method::GET, &path, None).await.1["pagination"]["total_results"],
            2
        );
    }
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_are_shown_to_those_who_may_read_them() {
    let world = World::start().await;
    let f = &world.f;
    let app = f.started_app("app").await;
    f.send(
        Method::PATCH,
        &format!("/v3/processes/{app}"),
        json!({ "command": "./secret" }),
    )
    .await;
    f.send(
        Method::PATCH,
        &format!("/v3/apps/{app}/environment_variables"),
        json!({ "var": { "A": "1" } }),
    )
    .await;
    let task = f
        .send(
            Method::POST,
            &format!("/v3/apps/{app}/tasks"),
            json!({ "command": "./secret" }),
        )
        .await["guid"]
        .as_str()
        .unwrap()
        .to_owned();
    let droplet = f.get(&format!("/v3/apps/{app}/droplets/current")).await["guid"]
        .as_str()
        .unwrap()
        .to_owned();
    let get = async |column: char, path: &str| {
        let (status, answer) = world.as_(column, Method::GET, path, None).await;
        assert_eq!(status, 200, "{path} as {column}");
        answer
    };
    for column in "ARDGMPIS".chars() {
        let sees = "ARD".contains(column);
        for path in [
            format!("/v3/processes/{app}"),
            format!("/v3/apps/{app}/processes/web"),
        ] {
            let wanted = if sees {
                "./secret"
            } else {
                "[PRIVATE DATA HIDDEN]"
            };
            assert_eq!(
                get(column, &path).await["command"],
                wanted,
                "{path} as {column}"
            );
        }
        let shown = get(column, &format!("/v3/droplets/{droplet}")).await;
        assert_eq!(
            shown["process_types"] == json!({ "web": "./run" }),
            sees,
            "{column}: {shown}"
        );
        for path in [format!("/v3/tasks/{task}"), format!("/v3/apps/{app}/tasks")] {
            let text = get(column, &path).await.to_string();
            assert_eq!(text.contains("\"command\""), sees, "{path} as {column}");
        }
        let permissions = get(column, &format!("/v3/apps/{app}/permissions")).await;
        assert_eq!(permissions["read_sensitive_data"], sees);
        // Lists hide the command from everybody.
        assert_eq!(
            get(column, "/v3/processes").await["resources"][0]["command"],
            "[PRIVATE DATA HIDDEN IN LISTS]"
        );
        assert!(
            !get(column, "/v3/droplets")
                .await
                .to_string()
                .contains("./run")
        );
        assert!(
            !get(column, "/v3/tasks")
                .await
                .to_string()
                .contains("\"command\"")
        );
        assert_eq!(
            get(column, &format!("/v3/apps/{app}/droplets/current")).await["process_types"]["web"],
            "./run"
        );
    }
    let shown = get('S', &format!("/v3/apps/{app}/env")).await;
    assert_eq!(shown["environment_variables"], json!({ "A": "1" }));
    assert_eq!(
        shown["system_env_json"],
        json!({ "redacted_message": "[PRIVATE DATA HIDDEN]" })
    );
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn audit_events_are_for_auditors_developers_and_supporters() {
    let world = World::start().await;
    let f = &world.f;
    let (_, space) = foreign(f).await;
    let app = f.create_app("mine").await;
    let theirs = json!({ "name": "theirs", "relationships": { "space": to(&space) } });
    f.send(Method::POST, "/v3/apps", theirs).await;
    for column in crate::role_table::COLUMNS.chars() {
        let (_, list) = world
            .as_(
                column,
                Method::GET,
                "/v3/audit_events?types=audit.app.create",
                None,
            )
            .await;
        let targets: Vec<_> = list["resources"]
            .as_array()
            .unwrap()
            .iter()
            .map(|event| event["target"]["guid"].clone())
            .collect();
        match column {
            'A' | 'R' | 'G' => assert_eq!(targets.len(), 2),
            'U' | 'D' | 'I' | 'S' => assert_eq!(targets, [json!(app)], "{column}"),
            _ => assert!(targets.is_empty(), "{column}"),
        }
    }
    world.finish().await;
}
