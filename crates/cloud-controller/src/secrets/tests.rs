use super::*;
use crate::db::organization::Organization;
use crate::db::space::Space;
use crate::db::{Select, insert};
use kit::db::Location;
use std::collections::BTreeMap;

#[tokio::test]
async fn variables_in_clear_are_sealed_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cc.db");
    let location = Location::File(path.clone());
    let (db, _writer) = Db::open(&location, Duration::from_secs(1)).await.unwrap();
    let keys = Keyring::load(&folder.path().join(KEY_FILE)).unwrap();
    let (organization, space) = (Organization::fresh(), Space::fresh());
    let mut upkeep = db.upkeep().await.unwrap();
    insert(&mut upkeep, &organization).await.unwrap();
    let space = Space {
        organization_guid: organization.guid,
        ..space
    };
    insert(&mut upkeep, &space).await.unwrap();
    let apps = ["one", "two", "bad"].map(|name| App {
        name: name.to_owned(),
        space_guid: space.guid.clone(),
        ..App::fresh()
    });
    for app in &apps {
        insert(&mut upkeep, app).await.unwrap();
    }
    upkeep.commit().await.unwrap();
    let file = rusqlite::Connection::open(&path).unwrap();
    for statement in [
        r#"UPDATE apps SET environment = '{"A":"1"}' WHERE name = 'one'"#,
        "UPDATE apps SET environment = '{}' WHERE name = 'two'",
        "UPDATE apps SET environment = '{' WHERE name = 'bad'",
    ] {
        file.execute(statement, []).unwrap();
    }
    for _ in 0..2 {
        seal_clear(&db, &keys).await.unwrap();
    }
    let mut conn = db.read().await.unwrap();
    let found = Select::new().readable::<App>(&mut conn).await.unwrap();
    assert_eq!(found.broken.len(), 1, "the damaged one stays");
    let variables = found.rows.iter().map(|app| {
        let opened = keys.open_as::<BTreeMap<String, String>>(&app.guid, &app.environment);
        (app.name.as_str(), opened.unwrap().len())
    });
    assert_eq!(variables.collect::<Vec<_>>(), [("one", 1), ("two", 0)]);
    assert!(found.rows[1].environment.is_nothing());
    drop(conn);
    db.close().await;
}

#[tokio::test]
async fn after_a_rotation_every_secret_is_sealed_with_the_new_key() {
    let folder = tempfile::tempdir().unwrap();
    let location = Location::File(folder.path().join("cc.db"));
    let (db, _writer) = Db::open(&location, Duration::from_secs(1)).await.unwrap();
    let file = folder.path().join(KEY_FILE);
    let keys = Keyring::load(&file).unwrap();
    let old = keys.labels().remove(0);
    assert_eq!(pass(&db, &keys).await.unwrap(), 0);
    let (organization, space) = (Organization::fresh(), Space::fresh());
    let space = Space {
        organization_guid: organization.guid.clone(),
        ..space
    };
    let mut upkeep = db.upkeep().await.unwrap();
    insert(&mut upkeep, &organization).await.unwrap();
    insert(&mut upkeep, &space).await.unwrap();
    for number in 0..BATCH + 2 {
        let mut instance = ServiceInstance {
            name: format!("i{number}"),
            space_guid: space.guid.clone(),
            ..ServiceInstance::fresh()
        };
        let secret = keys.seal(&instance.guid, &instance.name).unwrap();
        instance.credentials = (number > 0).then_some(secret);
        insert(&mut upkeep, &instance).await.unwrap();
    }
    let job = Job {
        resource_guid: space.guid.clone(),
        input: Some(keys.seal(&space.guid, "manifest").unwrap()),
        ..Job::fresh()
    };
    insert(&mut upkeep, &job).await.unwrap();
    upkeep.commit().await.unwrap();

    let (new, _) = rotate_key(&file).unwrap();
    keys.reload().unwrap();
    let sealed = u64::try_from(BATCH + 2).unwrap();
    assert_eq!(pass(&db, &keys).await.unwrap(), sealed);
    assert_eq!(pass(&db, &keys).await.unwrap(), 0);
    let mut conn = db.read().await.unwrap();
    let instances: Vec<ServiceInstance> = Select::new().all(&mut conn).await.unwrap();
    for instance in &instances {
        let Some(sealed) = &instance.credentials else {
            assert_eq!(instance.name, "i0");
            continue;
        };
        assert!(sealed.stored().starts_with(&format!("v1.{new}.")));
        assert_eq!(keys.open(&instance.guid, sealed).unwrap(), instance.name);
    }
    let jobs: Vec<Job> = Select::new().all(&mut conn).await.unwrap();
    let input = jobs[0].input.as_ref().unwrap();
    assert!(input.stored().starts_with(&format!("v1.{new}.")));
    assert_eq!(keys.open(&space.guid, input).unwrap(), "manifest");
    assert_eq!(sealed::labels(&mut conn).await.unwrap(), [new]);
    drop(conn);

    // The file of another foundation, or an old copy, is refused.
    let other = Keyring::load(&folder.path().join("other")).unwrap();
    let error = format!("{:#}", check(&db, &other).await.unwrap_err());
    assert!(error.contains("restore the file"), "{error}");
    assert!(!error.contains(&old), "{error}");
    check(&db, &keys).await.unwrap();
    db.close().await;
}
