use super::*;
use crate::testing::World;

async fn admit(world: &World, guid: Guid, is_allowed: bool) {
    let mut session = world.broker.session().await.unwrap();
    let database = guid.database();
    let done = db::allow_connections(&mut session.conn, &database, is_allowed);
    done.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_night_has_one_dump_of_each_instance() {
    let world = World::start();
    let guid = world.instance().await;
    let programs = Programs::find(None).unwrap().for_this_user();
    let dumper = Dumper::new(world.broker.clone(), programs).unwrap();
    let metrics = world.broker.metrics();
    let counts = || (metrics.dumps.value(), metrics.dump_failures.value());
    let mut failed = HashMap::new();
    // A dump that fails is not tried again at once, and leaves no file.
    admit(&world, guid, false).await;
    for _ in 0..2 {
        dumper.pass(&mut failed).await.unwrap();
        assert_eq!(counts(), (0, 1));
    }
    let folder = world.folder.path().join("dumps");
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
    let age = metrics.dump_age.value().unwrap();
    assert!(age > 1e9, "it counts from the creation: {age}");

    admit(&world, guid, true).await;
    failed.clear();
    for _ in 0..2 {
        dumper.pass(&mut failed).await.unwrap();
        assert_eq!(counts(), (1, 1));
    }
    assert!(failed.is_empty());
    assert!(metrics.dump_age.value().unwrap() < 600.0);
    let dumps = dumper.place().list().await.unwrap();
    assert_eq!((dumps.len(), dumps[0].instance), (1, guid));

    // A dump that is too old is removed. The last one of an instance is not.
    let own = folder.join(guid.to_string());
    let newest = own.join(format!("{}.dump", dumps[0].name()));
    let old = own.join("2020-01-01T03-00-00Z.dump");
    std::fs::copy(&newest, &old).unwrap();
    dumper.pass(&mut failed).await.unwrap();
    assert_eq!(dumper.place().list().await.unwrap(), dumps);
    // The old one alone does not make up for the last night.
    std::fs::rename(&newest, &old).unwrap();
    dumper.pass(&mut failed).await.unwrap();
    assert_eq!(counts(), (2, 1));
    assert!(!old.exists());
}
