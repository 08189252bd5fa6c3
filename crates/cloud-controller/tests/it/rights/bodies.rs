//! Resources that bodies name: hidden ones, and those of another parent.

use super::*;

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
    // These are an app without a droplet, and a droplet without bits.
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
    // A package is not copied to its own app.
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
        // The parent exists and is hidden, so that the request is forbidden, as in the original.
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
    // An auditor of the target organization may not share a domain with it; its manager may.
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
    // Filters never extend what is visible.
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
