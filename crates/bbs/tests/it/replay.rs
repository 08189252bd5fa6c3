//! Tests of subscribers that come back: `Last-Event-ID` continues their stream, or shows that it cannot be continued.

use crate::fixture::{Foundation, desired};
use clients::bbs::Events;
use testkit::certs::shared_identity;
use wire::bbs::{Event, LAST_EVENT_ID, OLDEST_EVENT};

/// Returns the process guid of the next event, which reports a desired LRP.
async fn created(events: &mut Events) -> String {
    loop {
        if let Event::DesiredLrpCreated(created) = events.next().await.unwrap() {
            return created.desired_lrp.unwrap().process_guid;
        }
    }
}

#[tokio::test]
async fn a_subscriber_that_comes_back_receives_what_it_missed() {
    let f = Foundation::start().await;
    let mut events = f.bbs.instance_events("").await.unwrap();
    assert!(!events.is_continued());
    f.bbs.desire_lrp(desired("a", 0)).await.unwrap();
    assert_eq!(created(&mut events).await, "a");
    let last = events.last_id().to_owned();
    drop(events);
    f.bbs.desire_lrp(desired("b", 0)).await.unwrap();
    f.bbs.desire_lrp(desired("c", 0)).await.unwrap();
    let again = f.bbs.instance_events_after("", &last).await;
    let mut events = again.unwrap();
    assert!(events.is_continued());
    assert_eq!(created(&mut events).await, "b");
    assert_eq!(created(&mut events).await, "c");
    f.bbs.desire_lrp(desired("d", 0)).await.unwrap();
    assert_eq!(created(&mut events).await, "d");
    f.finish().await;
}

#[tokio::test]
async fn everything_that_is_kept_can_be_read_and_every_event_has_its_time() {
    let f = Foundation::start().await;
    let begin = std::time::SystemTime::now();
    for guid in ["a", "b"] {
        f.bbs.desire_lrp(desired(guid, 0)).await.unwrap();
    }
    let kept = f.bbs.instance_events_after("", OLDEST_EVENT).await;
    let mut events = kept.unwrap();
    assert!(events.is_continued());
    assert_eq!(created(&mut events).await, "a");
    let first = events.last_time().unwrap();
    assert_eq!(created(&mut events).await, "b");
    let second = events.last_time().unwrap();
    f.bbs.desire_lrp(desired("c", 0)).await.unwrap();
    assert_eq!(created(&mut events).await, "c");
    let third = events.last_time().unwrap();
    assert!(begin <= first && first <= second && second <= third);
    f.finish().await;
}

#[tokio::test]
async fn a_stream_without_events_can_be_continued() {
    let f = Foundation::start().await;
    let opened = f.bbs.instance_events("").await.unwrap();
    let last = opened.last_id().to_owned();
    assert_ne!(last, "");
    drop(opened);
    f.bbs.desire_lrp(desired("a", 0)).await.unwrap();
    let mut events = f.bbs.instance_events_after("", &last).await.unwrap();
    assert!(events.is_continued());
    assert_eq!(created(&mut events).await, "a");
    f.finish().await;
}

#[tokio::test]
async fn a_stream_of_another_process_is_not_continued() {
    let f = Foundation::start().await;
    f.bbs.desire_lrp(desired("a", 0)).await.unwrap();
    let events = f.bbs.instance_events("").await.unwrap();
    let last = events.last_id().to_owned();
    drop(events);
    let f = f.restart().await;
    for last in [last.as_str(), "0", "17", "x-1-0"] {
        let mut events = f.bbs.instance_events_after("", last).await.unwrap();
        assert!(!events.is_continued(), "{last}");
        // The stream works, but it begins now.
        let guid = format!("after-{last}");
        f.bbs.desire_lrp(desired(&guid, 0)).await.unwrap();
        assert_eq!(created(&mut events).await, guid);
    }
    f.finish().await;
}

#[tokio::test]
async fn a_client_of_the_original_understands_the_stream() {
    let f = Foundation::start().await;
    let url = f.bbs_url();
    let http = clients::http::client(&shared_identity(), None).unwrap();
    let mut response = http.get(format!("{url}/v1/events")).send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert!(response.headers().contains_key(LAST_EVENT_ID));
    f.bbs.desire_lrp(desired("a", 0)).await.unwrap();
    let chunk = response.chunk().await.unwrap().unwrap();
    let text = String::from_utf8(chunk.to_vec()).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let [id, time, "event: desired_lrp_created", data, ""] = lines[..] else {
        panic!("{text}");
    };
    assert!(
        id.starts_with("id: ") && data.starts_with("data: "),
        "{text}"
    );
    // The specification of such streams has clients skip fields that they do not know, and the original's library does.
    assert!(time.starts_with("time: "), "{text}");
    f.finish().await;
}
