//! A page has a bounded size, whatever its rows contain, and clients that follow `next` still see every row once.

use crate::fixture::*;
use reqwest::Method;
use serde_json::json;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_rows_make_smaller_pages() {
    let limits = cloud_controller::Limits {
        page_bytes: 8000,
        ..cloud_controller::Limits::default()
    };
    let f = Foundation::start_limited(Duration::from_secs(3600), limits).await;
    let related = json!({ "space": { "data": { "guid": f.space } } });
    for number in 0..13 {
        let annotations = json!({ "note": "x".repeat(number * 300) });
        let body = json!({ "name": format!("app-{number}"), "relationships": related, "metadata": { "annotations": annotations } });
        f.send(Method::POST, "/v3/apps", body).await;
    }
    for query in [
        "per_page=5000",
        "per_page=6",
        "per_page=5000&order_by=-created_at",
    ] {
        let (mut next, mut seen, mut pages) = (format!("/v3/apps?{query}"), Vec::new(), 0);
        loop {
            let page = f.get(&next).await;
            pages += 1;
            assert!(page.to_string().len() < 20_000, "{next}");
            assert_eq!(page["pagination"]["total_results"], 13);
            let apps = page["resources"].as_array().unwrap();
            assert!(!apps.is_empty(), "{next}");
            seen.extend(
                apps.iter()
                    .map(|app| app["name"].as_str().unwrap().to_owned()),
            );
            match page["pagination"]["next"]["href"].as_str() {
                None => break,
                Some(href) => next = href.strip_prefix("http://api.test").unwrap().to_owned(),
            }
        }
        assert!(pages > 3, "{query}: {pages}");
        assert_eq!(seen.len(), 13, "{query}: {seen:?}");
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), 13, "{query}: {seen:?}");
    }
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_answer_includes_is_bounded_too() {
    let limits = cloud_controller::Limits {
        page_bytes: 3000,
        ..cloud_controller::Limits::default()
    };
    let f = Foundation::start_limited(Duration::from_secs(3600), limits).await;
    for number in 0..3 {
        let space = f
            .another_space(&f.organization, &format!("s{number}"))
            .await;
        let annotations = json!({ "annotations": { "note": "x".repeat(1500) } });
        f.send(
            Method::PATCH,
            &format!("/v3/spaces/{space}"),
            json!({ "metadata": annotations }),
        )
        .await;
        let body =
            json!({ "name": "a", "relationships": { "space": { "data": { "guid": space } } } });
        f.send(Method::POST, "/v3/apps", body).await;
    }
    let (status, body) = f.call(Method::GET, "/v3/apps?include=space", None).await;
    assert_eq!(status, 503, "{body}");
    assert!(detail(&body).contains("smaller per_page"), "{body}");
    f.get("/v3/apps?include=space&per_page=1").await;
    f.finish().await;
}
