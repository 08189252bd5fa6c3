//! Tests of response times. The limits are wide; run with `--nocapture` to see the figures.

use crate::fixture::{Foundation, desired, on, routes, start};
use futures::StreamExt as _;
use std::time::Instant;
use wire::bbs::{self as m, Event};

#[tokio::test(flavor = "multi_thread")]
async fn update_to_event_and_many_starts() {
    let f = Foundation::start().await;
    f.bbs.desire_lrp(desired("p", 1)).await.unwrap();
    let mut events = f.bbs.instance_events("").await.unwrap();
    let (mut answered, mut published) = (Vec::new(), Vec::new());
    for n in 0..200 {
        let sent = Instant::now();
        let update = m::DesiredLrpUpdate {
            routes: Some(routes(&format!("{n}.example"))),
            ..Default::default()
        };
        let answer = async {
            f.bbs.update_desired_lrp("p", update).await.unwrap();
            sent.elapsed()
        };
        let event = async {
            while !matches!(events.next().await.unwrap(), Event::DesiredLrpChanged(_)) {}
            sent.elapsed()
        };
        let (a, e) = tokio::join!(answer, event);
        answered.push(a);
        published.push(e);
    }
    answered.sort();
    published.sort();
    println!(
        "update → answer: p50 {:?} p99 {:?}; → event: p50 {:?} p99 {:?}",
        answered[100], answered[198], published[100], published[198]
    );

    let count = 4000;
    f.bbs.desire_lrp(desired("many", count)).await.unwrap();
    let begin = Instant::now();
    futures::stream::iter(0..count)
        .for_each_concurrent(64, |index| {
            let bbs = f.bbs.clone();
            async move {
                bbs.start(&start("many", index, &on(&format!("i{index}"), "cell-1")))
                    .await
                    .unwrap()
            }
        })
        .await;
    let rate = f64::from(count) / begin.elapsed().as_secs_f64();
    println!("starts: {rate:.0}/s");
    assert!(
        rate > 100.0 && answered[100].as_millis() < 500,
        "slow: {rate:.0} starts/s, update answered in {:?}",
        answered[100]
    );
    f.finish().await;
}
