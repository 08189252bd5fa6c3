//! Rights that the role table does not show: things named in bodies, flags, what is hidden in answers, names of users.

use crate::fixture::*;
use crate::role_table::World;
use reqwest::Method;
use serde_json::{Value, json};

fn code(answer: &(u16, Value)) -> (u16, i64) {
    (
        answer.0,
        answer.1["errors"][0]["code"].as_i64().unwrap_or_default(),
    )
}

fn to(guid: &str) -> Value {
    json!({ "data": { "guid": guid } })
}

/// An organization and a space that nobody of the table has a role in.
async fn foreign(f: &Foundation) -> (String, String) {
    let organization = f
        .send(
            Method::POST,
            "/v3/organizations",
            json!({ "name": "foreign" }),
        )
        .await["guid"]
        .as_str()
        .unwrap()
        .to_owned();
    let body = json!({ "name": "foreign", "relationships": { "organization": to(&organization) } });
    let space = f.send(Method::POST, "/v3/spaces", body).await["guid"]
        .as_str()
        .unwrap()
        .to_owned();
    (organization, space)
}

async fn role(
    world: &World,
    column: char,
    kind: &str,
    user: Value,
    place: &str,
    guid: &str,
) -> (u16, Value) {
    let body =
        json!({ "type": kind, "relationships": { "user": { "data": user }, place: to(guid) } });
    world
        .as_(column, Method::POST, "/v3/roles", Some(body))
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_runs_its_own_apps_droplet_and_command() {
    let world = World::start().await;
    let f = &world.f;
    let (mine, other) = (f.started_app("mine").await, f.started_app("other").await);
    let droplet = f.get(&format!("/v3/apps/{other}/droplets/current")).await["guid"].clone();
    let tasks = format!("/v3/apps/{mine}/tasks");
    for (body, detail_wanted) in [
        (
            json!({ "command": "id", "droplet_guid": droplet }),
            "Droplet not found",
        ),
        (
            json!({ "command": "id", "droplet_guid": "invented" }),
            "Droplet not found",
        ),
        (
            json!({ "template": { "process": { "guid": other } } }),
            "Process not found",
        ),
    ] {
        let (status, answer) = world.as_('D', Method::POST, &tasks, Some(body)).await;
        assert_eq!((status, detail(&answer)), (404, detail_wanted));
    }
    assert_eq!(f.get(&tasks).await["pagination"]["total_results"], 0);
    for user in [json!("root"), json!(5)] {
        let body = json!({ "command": "id", "user": user });
        assert_eq!(
            world.as_('D', Method::POST, &tasks, Some(body)).await.0,
            422
        );
    }
    // An app without a droplet, and a droplet without bits.
    let bare = f.create_app("bare").await;
    let awaiting = json!({ "relationships": { "app": to(&bare) } });
    let awaiting = f.send(Method::POST, "/v3/droplets", awaiting).await;
    let tasks = format!("/v3/apps/{bare}/tasks");
    for body in [
        json!({ "command": "id" }),
        json!({ "command": "id", "droplet_guid": awaiting["guid"] }),
    ] {
        assert_eq!(
            world.as_('D', Method::POST, &tasks, Some(body)).await.0,
            422
        );
    }
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_package_is_copied_by_developers_of_both_spaces_only() {
    let world = World::start().await;
    let f = &world.f;
    let (_, space) = foreign(f).await;
    let app = json!({ "name": "secret", "relationships": { "space": to(&space) } });
    let secret = f.send(Method::POST, "/v3/apps", app).await;
    let package =
        json!({ "type": "bits", "relationships": { "app": to(secret["guid"].as_str().unwrap()) } });
    let package = f.send(Method::POST, "/v3/packages", package).await["guid"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(f.upload(&package, zip("a", "b")).await.0, 200);
    let mine = f.create_app("mine").await;
    let copy = format!("/v3/packages?source_guid={package}");
    let body = json!({ "relationships": { "app": to(&mine) } });
    let try_copy = async || {
        world
            .as_('D', Method::POST, &copy, Some(body.clone()))
            .await
    };
    let answer = try_copy().await;
    assert_eq!(
        (answer.0, detail(&answer.1)),
        (
            422,
            "Source package is invalid. Ensure it exists and you have access to it."
        )
    );
    let organization = secret["relationships"]["space"]["data"]["guid"]
        .as_str()
        .unwrap();
    assert_eq!(organization, space);
    let foreign = f.get(&format!("/v3/spaces/{space}")).await["relationships"]["organization"]["data"]["guid"].as_str().unwrap().to_owned();
    world
        .give("organization_user", "D-guid", "organization", &foreign)
        .await;
    world.give("space_auditor", "D-guid", "space", &space).await;
    assert_eq!(code(&try_copy().await), (403, 10003));
    world
        .give("space_developer", "D-guid", "space", &space)
        .await;
    assert_eq!(try_copy().await.0, 201);
    // Not to the app that it came from, and not before it has bits.
    let same = json!({ "relationships": { "app": secret["guid"].as_str().map(to) } });
    assert_eq!(world.as_('D', Method::POST, &copy, Some(same)).await.0, 422);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guid_that_is_hidden_or_of_another_parent_is_refused_in_every_body() {
    let world = World::start().await;
    let f = &world.f;
    let (organization, space) = foreign(f).await;
    let theirs = json!({ "name": "theirs", "relationships": { "space": to(&space) } });
    let theirs = f.send(Method::POST, "/v3/apps", theirs).await["guid"]
        .as_str()
        .unwrap()
        .to_owned();
    let their_droplet = json!({ "relationships": { "app": to(&theirs) } });
    let their_droplet = f.send(Method::POST, "/v3/droplets", their_droplet).await["guid"]
        .as_str()
        .unwrap()
        .to_owned();
    let private =
        json!({ "name": "private.test", "relationships": { "organization": to(&organization) } });
    let private = f.send(Method::POST, "/v3/domains", private).await["guid"]
        .as_str()
        .unwrap()
        .to_owned();
    let group = f
        .send(
            Method::POST,
            "/v3/security_groups",
            json!({ "name": "hidden" }),
        )
        .await["guid"]
        .as_str()
        .unwrap()
        .to_owned();
    let (app, route) = (
        f.started_app("mine").await,
        f.create_route("mine", "").await,
    );
    let domain =
        json!({ "name": "mine.test", "relationships": { "organization": to(&f.organization) } });
    let domain = f.send(Method::POST, "/v3/domains", domain).await["guid"]
        .as_str()
        .unwrap()
        .to_owned();
    world.set_flag("route_sharing", true).await;
    let in_space = |host: &str, space: &str, domain: &str| json!({ "host": host, "relationships": { "space": to(space), "domain": to(domain) } });
    let many = |guid: &str| json!({ "data": [{ "guid": guid }] });
    let cases = [
        (
            'D',
            "POST /v3/apps".to_owned(),
            json!({ "name": "x", "relationships": { "space": to(&space) } }),
            422,
        ),
        (
            'D',
            "POST /v3/packages".to_owned(),
            json!({ "type": "bits", "relationships": { "app": to(&theirs) } }),
            422,
        ),
        (
            'D',
            "POST /v3/droplets".to_owned(),
            json!({ "relationships": { "app": to(&theirs) } }),
            422,
        ),
        (
            'D',
            "POST /v3/deployments".to_owned(),
            json!({ "relationships": { "app": to(&theirs) } }),
            422,
        ),
        (
            'D',
            "POST /v3/deployments".to_owned(),
            json!({ "relationships": { "app": to(&app) }, "droplet": { "guid": their_droplet } }),
            422,
        ),
        (
            'D',
            format!("PATCH /v3/apps/{app}/relationships/current_droplet"),
            to(&their_droplet),
            422,
        ),
        (
            'D',
            "POST /v3/routes".to_owned(),
            in_space("x", &f.space, &private),
            422,
        ),
        // The parent exists and is hidden: forbidden, as in the original.
        (
            'D',
            "POST /v3/routes".to_owned(),
            in_space("x", &space, &f.domain),
            403,
        ),
        (
            'D',
            "POST /v3/routes".to_owned(),
            in_space("x", "none", &f.domain),
            422,
        ),
        (
            'D',
            format!("POST /v3/routes/{route}/destinations"),
            json!({ "destinations": [{ "app": { "guid": theirs } }] }),
            422,
        ),
        (
            'D',
            format!("POST /v3/routes/{route}/relationships/shared_spaces"),
            many(&space),
            422,
        ),
        (
            'D',
            format!("POST /v3/routes/{route}/relationships/shared_spaces"),
            many(&f.space),
            422,
        ),
        (
            'D',
            format!("PATCH /v3/routes/{route}/relationships/space"),
            to(&space),
            422,
        ),
        (
            'M',
            "POST /v3/spaces".to_owned(),
            json!({ "name": "x", "relationships": { "organization": to(&organization) } }),
            422,
        ),
        (
            'M',
            "POST /v3/domains".to_owned(),
            json!({ "name": "x.test", "relationships": { "organization": to(&organization) } }),
            403,
        ),
        (
            'M',
            "POST /v3/domains".to_owned(),
            json!({ "name": "x.test", "relationships": { "organization": to("none") } }),
            422,
        ),
        (
            'M',
            "POST /v3/domains".to_owned(),
            json!({ "name": "x.test", "relationships": { "organization": to(&f.organization), "shared_organizations": many(&organization) } }),
            422,
        ),
        (
            'M',
            format!("POST /v3/domains/{domain}/relationships/shared_organizations"),
            many(&organization),
            422,
        ),
        (
            'M',
            format!("POST /v3/domains/{domain}/relationships/shared_organizations"),
            many(&f.organization),
            422,
        ),
        (
            'M',
            format!("POST /v3/security_groups/{group}/relationships/running_spaces"),
            many(&f.space),
            404,
        ),
        (
            'P',
            format!("POST /v3/security_groups/{group}/relationships/staging_spaces"),
            many(&f.space),
            404,
        ),
    ];
    for (column, call, body, wanted) in cases {
        let (method, path) = call.split_once(' ').unwrap();
        let (status, answer) = world
            .as_(column, method.parse().unwrap(), path, Some(body.clone()))
            .await;
        assert_eq!(status, wanted, "{call} as {column} with {body}: {answer}");
    }
    // An auditor of the target organization may not let it share a domain; its manager may.
    let share = format!("/v3/domains/{domain}/relationships/shared_organizations");
    world
        .give(
            "organization_auditor",
            "M-guid",
            "organization",
            &organization,
        )
        .await;
    assert_eq!(
        world
            .as_('M', Method::POST, &share, Some(many(&organization)))
            .await
            .0,
        422
    );
    world
        .give(
            "organization_manager",
            "M-guid",
            "organization",
            &organization,
        )
        .await;
    assert_eq!(
        world
            .as_('M', Method::POST, &share, Some(many(&organization)))
            .await
            .0,
        200
    );
    // Filters never widen what is visible.
    for path in [
        format!("/v3/apps?guids={theirs}"),
        format!("/v3/apps?space_guids={space}"),
        format!("/v3/droplets?app_guids={theirs}"),
    ] {
        let (_, list) = world.as_('D', Method::GET, &path, None).await;
        assert_eq!(list["pagination"]["total_results"], 0, "{path}");
    }
    world.finish().await;
}

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
    // Organization auditors see routes, and no spaces beside them; plain members and billing managers see no private domain.
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
            domains["pagination"]["total_results"], 1,
            "{column} sees the shared domain alone"
        );
    }
    for column in ['B', 'O'] {
        let path = format!("/v3/organizations/{}/domains", f.organization);
        assert_eq!(
            world.as_(column, Method::GET, &path, None).await.1["pagination"]["total_results"],
            1
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
        // Lists hide it from everybody.
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
    for column in COLUMNS_WITH_ROLES.chars() {
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

const COLUMNS_WITH_ROLES: &str = crate::role_table::COLUMNS;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scopes_decide_before_anything_is_looked_up() {
    let world = World::start().await;
    let f = &world.f;
    let app = f.create_app("app").await;
    let none = token("D", &["openid"], 600);
    let read = token("D", &["cloud_controller.read"], 600);
    let write = token("D", &["cloud_controller.write"], 600);
    let only_reads = token("R", &["cloud_controller.admin_read_only"], 600);
    for guid in [app.as_str(), "invented"] {
        let path = format!("/v3/apps/{guid}");
        for (token, method) in [
            (&none, Method::GET),
            (&write, Method::GET),
            (&read, Method::DELETE),
            (&only_reads, Method::DELETE),
        ] {
            assert_eq!(
                code(&f.call_as(token, method.clone(), &path, None).await),
                (403, 10003),
                "{method} {path}"
            );
        }
    }
    let matches = json!({ "resources": [] });
    assert_eq!(
        code(
            &f.call_as(&read, Method::POST, "/v3/resource_matches", Some(matches))
                .await
        ),
        (403, 10003)
    );
    assert_eq!(
        f.call_as(&read, Method::GET, &format!("/v3/apps/{app}/env"), None)
            .await
            .0,
        200
    );
    // A client acts as a user whose guid is the client's name.
    let client = client_token("ci", USER);
    assert_eq!(
        f.call_as(&client, Method::GET, &format!("/v3/apps/{app}"), None)
            .await
            .0,
        404
    );
    assert_eq!(
        role(
            &world,
            'A',
            "space_developer",
            json!({ "guid": "ci" }),
            "space",
            &f.space
        )
        .await
        .0,
        422
    );
    world
        .give("organization_user", "ci", "organization", &f.organization)
        .await;
    world.give("space_developer", "ci", "space", &f.space).await;
    assert_eq!(
        f.call_as(
            &client,
            Method::PATCH,
            &format!("/v3/apps/{app}"),
            Some(json!({ "name": "renamed" }))
        )
        .await
        .0,
        200
    );
    // Without a token, and with one that is not valid.
    for path in [
        "/",
        "/v3",
        "/v3/info",
        "/v3/service_offerings",
        "/v3/service_plans",
    ] {
        assert_eq!(
            f.http
                .get(format!("{}{path}", f.url))
                .send()
                .await
                .unwrap()
                .status(),
            200,
            "{path}"
        );
    }
    world
        .set_flag("hide_marketplace_from_unauthenticated_users", true)
        .await;
    assert_eq!(
        f.http
            .get(format!("{}/v3/service_plans", f.url))
            .send()
            .await
            .unwrap()
            .status(),
        401
    );
    assert_eq!(
        f.call_as(&none, Method::GET, "/v3/service_plans", None)
            .await
            .0,
        200
    );
    // A deleted user whose token is still valid is known again, without roles.
    f.delete("/v3/users/D-guid").await;
    assert_eq!(
        world
            .as_('D', Method::GET, &format!("/v3/apps/{app}"), None)
            .await
            .0,
        404
    );
    assert_eq!(
        world
            .as_('D', Method::GET, "/v3/users/D-guid", None)
            .await
            .0,
        200
    );
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn suspending_is_for_administrators_and_for_spaces_also_for_managers() {
    let world = World::start().await;
    let f = &world.f;
    let (organization, space) = (
        format!("/v3/organizations/{}", f.organization),
        format!("/v3/spaces/{}", f.space),
    );
    let set = |value: bool| Some(json!({ "name": "renamed", "suspended": value }));
    // The CLI sends `false` with every rename.
    assert_eq!(
        world
            .as_('M', Method::PATCH, &organization, set(false))
            .await
            .0,
        200
    );
    assert_eq!(
        code(
            &world
                .as_('M', Method::PATCH, &organization, set(true))
                .await
        ),
        (403, 10003)
    );
    assert_eq!(
        world
            .as_('A', Method::PATCH, &organization, set(true))
            .await
            .0,
        200
    );
    assert_eq!(
        code(
            &world
                .as_('M', Method::PATCH, &organization, set(false))
                .await
        ),
        (403, 10017)
    );
    assert_eq!(world.as_('D', Method::GET, &space, None).await.0, 200);
    let app = json!({ "name": "x", "relationships": { "space": to(&f.space) } });
    assert_eq!(
        code(
            &world
                .as_('D', Method::POST, "/v3/apps", Some(app.clone()))
                .await
        ),
        (403, 10017)
    );
    assert_eq!(
        world
            .as_('A', Method::PATCH, &organization, set(false))
            .await
            .0,
        200
    );

    for value in [true, false] {
        assert_eq!(
            code(&world.as_('P', Method::PATCH, &space, set(value)).await),
            (403, 10003)
        );
    }
    assert_eq!(
        world.as_('M', Method::PATCH, &space, set(true)).await.0,
        200
    );
    assert_eq!(
        code(&world.as_('D', Method::POST, "/v3/apps", Some(app)).await),
        (403, 10019)
    );
    assert_eq!(
        code(
            &world
                .as_('P', Method::PATCH, &space, Some(json!({ "name": "x" })))
                .await
        ),
        (403, 10019)
    );
    assert_eq!(f.get(&space).await["suspended"], true);
    assert_eq!(
        world.as_('M', Method::PATCH, &space, set(false)).await.0,
        200
    );

    // A suspended space is no target of sharing.
    world.set_flag("route_sharing", true).await;
    let second =
        json!({ "name": "second", "relationships": { "organization": to(&f.organization) } });
    let second = f.send(Method::POST, "/v3/spaces", second).await["guid"]
        .as_str()
        .unwrap()
        .to_owned();
    world
        .give("space_developer", "D-guid", "space", &second)
        .await;
    f.send(
        Method::PATCH,
        &format!("/v3/spaces/{second}"),
        json!({ "suspended": true }),
    )
    .await;
    let route = f.create_route("r", "").await;
    let share = format!("/v3/routes/{route}/relationships/shared_spaces");
    let body = json!({ "data": [{ "guid": second }] });
    assert_eq!(
        world
            .as_('D', Method::POST, &share, Some(body.clone()))
            .await
            .0,
        422
    );
    f.send(
        Method::PATCH,
        &format!("/v3/spaces/{second}"),
        json!({ "suspended": false }),
    )
    .await;
    assert_eq!(
        world.as_('D', Method::POST, &share, Some(body)).await.0,
        200
    );
    // Whoever reads only the space that a route is shared into finds it in the list, and not by its guid.
    world
        .give(
            "organization_user",
            "X-guid",
            "organization",
            &f.organization,
        )
        .await;
    world
        .give("space_developer", "X-guid", "space", &second)
        .await;
    let x = token("X", USER, 600);
    assert_eq!(
        f.call_as(&x, Method::GET, "/v3/routes", None).await.1["pagination"]["total_results"],
        1
    );
    assert_eq!(
        f.call_as(&x, Method::GET, &format!("/v3/routes/{route}"), None)
            .await
            .0,
        404
    );
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flags_stop_what_they_name() {
    let world = World::start().await;
    let f = &world.f;
    assert_eq!(
        f.get("/v3/feature_flags").await["pagination"]["total_results"],
        19
    );
    let app = f.started_app("app").await;
    let package = json!({ "type": "bits", "relationships": { "app": to(&app) } });
    let package = f.send(Method::POST, "/v3/packages", package).await["guid"]
        .as_str()
        .unwrap()
        .to_owned();
    let route = f.create_route("shared", "").await;
    let none = || None;
    let scale = || Some(json!({ "instances": 1 }));
    let domain = || {
        Some(
            json!({ "name": format!("{}.test", world.name()), "relationships": { "organization": to(&f.organization) } }),
        )
    };
    let new_route = || Some(f.route_body(&world.name(), ""));
    let matches = || Some(json!({ "resources": [] }));
    let task = || Some(json!({ "command": "true" }));
    let to_space = || Some(to(&f.space));
    let many = || Some(json!({ "data": [{ "guid": f.space }] }));
    // Flag, call, body, callers that it stops, callers that pass.
    let cases: Vec<(&str, String, &dyn Fn() -> Option<Value>, &str, &str)> = vec![
        (
            "app_scaling",
            format!("POST /v3/processes/{app}/actions/scale"),
            &scale,
            "DS",
            "A",
        ),
        (
            "task_creation",
            format!("POST /v3/apps/{app}/tasks"),
            &task,
            "D",
            "A",
        ),
        (
            "task_creation",
            "POST /v3/apps/hidden/tasks".to_owned(),
            &task,
            "DN",
            "",
        ),
        (
            "route_creation",
            "POST /v3/routes".to_owned(),
            &new_route,
            "DSN",
            "A",
        ),
        (
            "private_domain_creation",
            "POST /v3/domains".to_owned(),
            &domain,
            "M",
            "A",
        ),
        (
            "app_bits_upload",
            "POST /v3/resource_matches".to_owned(),
            &matches,
            "DN",
            "A",
        ),
        (
            "env_var_visibility",
            format!("GET /v3/apps/{app}/env"),
            &none,
            "ARDSN",
            "",
        ),
        (
            "env_var_visibility",
            format!("GET /v3/apps/{app}/environment_variables"),
            &none,
            "ARDSN",
            "",
        ),
        (
            "env_var_visibility",
            "GET /v3/apps/hidden/env".to_owned(),
            &none,
            "AN",
            "",
        ),
        (
            "space_developer_env_var_visibility",
            format!("GET /v3/apps/{app}/env"),
            &none,
            "DS",
            "AR",
        ),
        (
            "space_developer_env_var_visibility",
            format!("GET /v3/apps/{app}/environment_variables"),
            &none,
            "DS",
            "AR",
        ),
        (
            "route_sharing",
            format!("GET /v3/routes/{route}/relationships/shared_spaces"),
            &none,
            "ADU",
            "",
        ),
        (
            "route_sharing",
            format!("POST /v3/routes/{route}/relationships/shared_spaces"),
            &many,
            "AD",
            "",
        ),
        (
            "route_sharing",
            format!(
                "DELETE /v3/routes/{route}/relationships/shared_spaces/{}",
                f.space
            ),
            &none,
            "AD",
            "",
        ),
        (
            "route_sharing",
            format!("PATCH /v3/routes/{route}/relationships/space"),
            &to_space,
            "AD",
            "",
        ),
    ];
    for (flag, call, body, stopped, free) in cases {
        world.set_flag(flag, false).await;
        let (method, path) = call.split_once(' ').unwrap();
        for column in stopped.chars() {
            let answer = world
                .as_(column, method.parse().unwrap(), path, body())
                .await;
            assert_eq!(
                code(&answer),
                (403, 330_002),
                "{call} as {column} without {flag}: {}",
                answer.1
            );
        }
        for column in free.chars() {
            let answer = world
                .as_(column, method.parse().unwrap(), path, body())
                .await;
            assert!(
                answer.0 < 300,
                "{call} as {column} without {flag}: {}",
                answer.1
            );
        }
        world.set_flag(flag, flag != "route_sharing").await;
    }
    // The upload, whose body is no JSON, and a message of the operator's own.
    f.send(
        Method::PATCH,
        "/v3/feature_flags/app_bits_upload",
        json!({ "enabled": false, "custom_error_message": "closed today" }),
    )
    .await;
    let form = reqwest::multipart::Form::new().part(
        "bits",
        reqwest::multipart::Part::bytes(zip("a", "b")).file_name("x.zip"),
    );
    let request = f
        .http
        .post(format!("{}/v3/packages/{package}/upload", f.url))
        .header("authorization", format!("bearer {}", world.token('D')));
    let refused = answer(request.multipart(form).send().await.unwrap()).await;
    assert_eq!(
        (code(&refused).1, detail(&refused.1)),
        (330_002, "Feature Disabled: closed today")
    );
    assert_eq!(f.upload(&package, zip("a", "b")).await.0, 200);
    // Making organizations: a plain refusal, not a feature that is disabled.
    let body = Some(json!({ "name": "own" }));
    assert_eq!(
        code(
            &world
                .as_('N', Method::POST, "/v3/organizations", body.clone())
                .await
        ),
        (403, 10003)
    );
    world.set_flag("user_org_creation", true).await;
    let suspended = Some(json!({ "name": "own", "suspended": true }));
    assert_eq!(
        code(
            &world
                .as_('N', Method::POST, "/v3/organizations", suspended)
                .await
        ),
        (403, 10003)
    );
    let (status, made) = world
        .as_('N', Method::POST, "/v3/organizations", body)
        .await;
    assert_eq!(status, 201);
    let path = format!("/v3/organizations/{}", made["guid"].as_str().unwrap());
    assert_eq!(
        world
            .as_(
                'N',
                Method::PATCH,
                &path,
                Some(json!({ "name": "still own" }))
            )
            .await
            .0,
        200
    );
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manifest_makes_no_route_while_the_flag_is_off_and_scales_all_the_same() {
    let world = World::start().await;
    let f = &world.f;
    world.set_flag("route_creation", false).await;
    world.set_flag("app_scaling", false).await;
    let (_, job) = f
        .apply_manifest("applications:\n- name: a\n  routes: [{route: new.apps.test}]\n")
        .await;
    assert_eq!(
        (job["state"].as_str(), job["errors"][0]["code"].as_i64()),
        (Some("FAILED"), Some(330_002)),
        "{job}"
    );
    let (_, job) = f
        .apply_manifest("applications:\n- name: a\n  instances: 3\n  memory: 64M\n")
        .await;
    assert_eq!(job["state"], "COMPLETE", "{job}");
    f.create_route("there", "").await;
    let (_, job) = f
        .apply_manifest("applications:\n- name: a\n  routes: [{route: there.apps.test}]\n")
        .await;
    assert_eq!(
        job["state"], "COMPLETE",
        "an existing route is mapped: {job}"
    );
    world.set_flag("route_creation", true).await;
    let (_, job) = f
        .apply_manifest("applications:\n- name: a\n  routes: [{route: '*.apps.test'}]\n")
        .await;
    assert_eq!(
        job["state"], "FAILED",
        "nobody takes a whole shared domain by a manifest: {job}"
    );
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn roles_by_name_go_to_the_person_who_is_meant() {
    let world = World::start().await;
    let f = &world.f;
    let user = |id: &str, name: &str, origin: &str| json!({ "id": id, "userName": name, "origin": origin });
    *f.users.lock().unwrap() = Some(vec![
        user("ann-uaa", "ann", "uaa"),
        user("ann-ldap", "ann", "ldap"),
        user("bob-guid", "bob", "uaa"),
    ]);
    let organization = f.organization.clone();
    let give = async |column: char, user: Value| {
        role(
            &world,
            column,
            "organization_user",
            user,
            "organization",
            &organization,
        )
        .await
    };
    let (status, answer) = give('M', json!({ "username": "ann" })).await;
    assert_eq!(
        (status, detail(&answer)),
        (
            422,
            "Ambiguous user. User with username 'ann' exists in the following origins: uaa, ldap. Specify an origin to disambiguate."
        )
    );
    let (status, answer) = give('M', json!({ "username": "ann", "origin": "ldap" })).await;
    assert_eq!(
        (
            status,
            answer["relationships"]["user"]["data"]["guid"].as_str()
        ),
        (201, Some("ann-ldap")),
        "{answer}"
    );
    // One of them is known here by now; the name is as ambiguous as before.
    assert_eq!(give('M', json!({ "username": "ann" })).await.0, 422);
    for name in ["a\"nn", "ann\" or userName eq \"bob", "nobody", "bo"] {
        let (status, answer) = give('M', json!({ "username": name })).await;
        assert_eq!(
            (status, detail(&answer)),
            (
                422,
                format!("No user exists with the username '{name}'.").as_str()
            )
        );
    }
    for odd in [
        json!({ "guid": "x", "username": "bob" }),
        json!({ "guid": "x", "origin": "uaa" }),
        json!({}),
        json!({ "username": 5 }),
        json!({ "username": "" }),
    ] {
        assert_eq!(give('M', odd).await.0, 422);
    }
    // Whoever may not give roles learns nothing about names.
    for name in ["bob", "nobody", "ann"] {
        for column in ['N', 'O', 'D'] {
            assert_eq!(
                code(&give(column, json!({ "username": name })).await),
                (403, 10003)
            );
        }
    }
    let (_, hidden) = foreign(f).await;
    assert_eq!(
        code(
            &role(
                &world,
                'N',
                "space_developer",
                json!({ "username": "nobody" }),
                "space",
                &hidden
            )
            .await
        ),
        (403, 10003)
    );
    assert_eq!(
        role(
            &world,
            'N',
            "space_developer",
            json!({ "username": "nobody" }),
            "space",
            "none"
        )
        .await
        .0,
        422
    );
    // A user outside the organization gets no role in a space, whoever gives it, and neither does an unknown name.
    for column in ['M', 'P', 'A'] {
        for user in [
            json!({ "username": "bob" }),
            json!({ "username": "nobody" }),
            json!({ "guid": "N-guid" }),
            json!({ "guid": "invented" }),
        ] {
            let (status, answer) =
                role(&world, column, "space_developer", user, "space", &f.space).await;
            assert_eq!(
                (status, detail(&answer)),
                (
                    422,
                    "Users cannot be assigned roles in a space if they do not have a role in that space's organization."
                )
            );
        }
    }
    // The flag stops names and not guids; taking a role by its guid goes on without its own flag.
    world.set_flag("set_roles_by_username", false).await;
    world.set_flag("unset_roles_by_username", false).await;
    assert_eq!(
        code(&give('M', json!({ "username": "bob" })).await),
        (403, 330_002)
    );
    assert_eq!(give('A', json!({ "username": "bob" })).await.0, 201);
    let (status, given) = give('M', json!({ "guid": "somebody-new" })).await;
    assert_eq!(status, 201);
    let path = format!("/v3/roles/{}", given["guid"].as_str().unwrap());
    assert_eq!(world.as_('M', Method::DELETE, &path, None).await.0, 202);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_that_cannot_start_says_so_to_every_reader() {
    let world = World::start().await;
    let app = world.f.create_app("bare").await;
    let path = format!("/v3/apps/{app}/actions/start");
    for column in ['A', 'D', 'S', 'I', 'M'] {
        let (status, answer) = world.as_(column, Method::POST, &path, None).await;
        assert_eq!(
            (status, detail(&answer)),
            (422, "Assign a droplet before starting this app.")
        );
    }
    assert_eq!(world.as_('N', Method::POST, &path, None).await.0, 404);
    world.finish().await;
}
