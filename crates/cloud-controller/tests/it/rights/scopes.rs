//! Tokens, scopes, suspension, and what is checked before a right.

use super::*;

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
    // The paths are requested without a token, and with an invalid one.
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
    // A deleted user whose token is still valid is stored again, without roles.
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

    // The API refuses to share a route with a suspended space.
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
    // A caller who reads only the space with which a route is shared finds it in the list, but not by its guid.
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
async fn every_reader_gets_the_error_of_an_app_that_cannot_start() {
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
