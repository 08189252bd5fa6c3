//! Roles that are assigned by the name of a user.

use super::*;

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
    // One of the users is known here by now; the name is as ambiguous as before.
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
    // A caller who may not assign roles learns nothing about names.
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
    // A user outside the organization gets no role in a space, whoever assigns it, and neither does an unknown name.
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
    // The flag stops names but not guids. Removing a role by its guid works without its own flag.
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
