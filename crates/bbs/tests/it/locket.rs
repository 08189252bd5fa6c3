//! Tests of Locket over gRPC.

use crate::fixture::Foundation;
use clients::locket::{Lock, LocketError, TTL};
use kit::CancellationToken;
use wire::locket::{Resource, TypeCode};

fn lock(owner: &str) -> Resource {
    Resource {
        key: "auctioneer".into(),
        owner: owner.into(),
        type_name: "lock".into(),
        ..Resource::default()
    }
}

#[tokio::test]
async fn one_owner_at_a_time_also_after_a_restart() {
    let f = Foundation::start().await;
    f.locket.lock(lock("a"), TTL).await.unwrap();
    f.locket.lock(lock("a"), TTL).await.unwrap();
    assert!(matches!(
        f.locket.lock(lock("b"), TTL).await,
        Err(LocketError::Collision { .. })
    ));
    assert!(matches!(
        f.locket.release(lock("b")).await,
        Err(LocketError::Collision { .. })
    ));
    assert!(matches!(
        f.locket.fetch("nothing").await,
        Err(LocketError::NotFound { .. })
    ));
    let f = f.restart().await;
    assert!(matches!(
        f.locket.lock(lock("b"), TTL).await,
        Err(LocketError::Collision { .. })
    ));
    let fetched = f.locket.fetch("auctioneer").await.unwrap();
    assert_eq!(
        (fetched.owner.as_str(), fetched.type_code),
        ("a", TypeCode::Lock as i32)
    );
    let keys: Vec<String> = f
        .locket
        .fetch_all(TypeCode::Lock)
        .await
        .unwrap()
        .into_iter()
        .map(|r| r.key)
        .collect();
    assert_eq!(keys, ["auctioneer", "bbs"], "the BBS holds its own");
    f.locket.release(lock("a")).await.unwrap();
    f.locket.lock(lock("b"), TTL).await.unwrap();
    f.finish().await;
}

#[tokio::test]
async fn a_lock_is_awaited_held_and_released() {
    let f = Foundation::start().await;
    f.locket.lock(lock("other"), TTL).await.unwrap();
    let keeper = Lock::new(f.locket.clone(), "auctioneer", "me");
    let (locket, stop) = (f.locket.clone(), CancellationToken::new());
    let released = async { locket.release(lock("other")).await.unwrap() };
    tokio::join!(keeper.acquire(), released);
    assert_eq!(f.locket.fetch("auctioneer").await.unwrap().owner, "me");
    stop.cancel();
    keeper.renew(stop).await.unwrap();
    assert!(matches!(
        f.locket.fetch("auctioneer").await,
        Err(LocketError::NotFound { .. })
    ));
    f.finish().await;
}
