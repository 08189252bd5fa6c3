//! The endpoint `/v3/routes/{guid}/propagation`: how far the last change of a route has come.

use super::prelude::*;
use crate::clock;
use crate::db::Connection;
use crate::db::domain::Domain;
use crate::db::route::{self, Route};
use cc_rules::propagation::{RouterVerdict, Verdict, Wish};
use std::time::{Duration, Instant};
use wire::cc::{PropagationRouter, RoutePropagation};

/// The time for which a request waits that names none: routers answer a question within it.
const ANSWERS: Duration = Duration::from_millis(100);
/// The longest time for which a request may wait.
const LONGEST: Duration = Duration::from_secs(30);
/// The time after which a request that waits reads again what users want.
const ROUND: Duration = Duration::from_millis(500);

pub(super) fn routes() -> Endpoints {
    Endpoints::default()
        .get("/v3/routes/{guid}/propagation", show)
        .takes(&["wait"])
}

async fn show(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    query: Query,
) -> ApiResult {
    let wait = query.value("wait").map(waiting_time).transpose()?;
    let deadline = Instant::now() + wait.unwrap_or(ANSWERS);
    loop {
        let (route, url, wish) = read(&cc, &who, &guid).await?;
        let round = deadline.min(Instant::now() + ROUND);
        let verdict = match &wish {
            Some(wish) => Some(cc.receipts.verdict(wish, round).await),
            None => None,
        };
        let is_over = Instant::now() >= deadline || !cc.receipts.has_bus();
        if is_over || verdict.as_ref().is_none_or(|v| v.state.is_final()) {
            let verdict = wish.as_ref().zip(verdict.as_ref());
            return Ok(ok(present(&cc, &route, &url, verdict)));
        }
    }
}

/// Returns the route with its URL and what users want of it; `None`: routers do not serve its domain.
async fn read(cc: &Cc, who: &Principal, guid: &str) -> ApiResult<(Route, String, Option<Wish>)> {
    let mut conn = cc.db.read().await?;
    let found = who.find::<Route>(&mut conn, guid, Right::Read).await?;
    let route = found.row;
    let domains = db::domain::of_routes(&mut conn, std::slice::from_ref(&route)).await?;
    let domain = domains.into_iter().next();
    let domain: Domain = domain.ok_or_else(|| ApiError::not_found("Domain"))?;
    let url = cc_rules::route_rules::url(&route.host, &domain.name, &route.path, route.port);
    let wish = wish(&mut conn, &route, &domain).await?;
    Ok((route, url, wish))
}

/// Returns what users want of a route; `None`: routers do not serve its domain.
pub(super) async fn wish(
    conn: &mut Connection,
    route: &Route,
    domain: &Domain,
) -> sqlx::Result<Option<Wish>> {
    let wanted = route::wanted(conn, &route.guid).await?;
    let url = cc_rules::route_rules::url(&route.host, &domain.name, &route.path, route.port);
    Ok((!domain.internal).then(|| Wish {
        route_guid: route.guid.clone(),
        uri: normal(&url),
        generation: wanted.generation,
        processes: wanted.processes,
    }))
}

/// Returns how far the last change of a route has come, for [`why`](super::why); `None`: there is no bus. Routers that have not
/// confirmed it have a moment to do so.
pub(super) async fn known(cc: &Cc, wish: &Wish) -> Option<RoutePropagation> {
    if !cc.receipts.has_bus() {
        return None;
    }
    let until = Instant::now() + ANSWERS;
    let verdict = cc.receipts.verdict(wish, until).await;
    let router = |router: RouterVerdict| {
        let applied = router.applied.as_ref();
        PropagationRouter {
            state: router.state.as_str().to_owned(),
            emitted_at_ns: applied.map(|applied| applied.emitted_at_ns),
            applied_at_ns: applied.map(|applied| applied.applied_at_ns),
            confirmed_at_ns: router.confirmed_at_ns,
            id: router.id,
            hosts: router.hosts,
        }
    };
    let change = verdict.change.as_ref();
    Some(RoutePropagation {
        generation: wish.generation,
        stored_at_ns: change.map(|change| change.stored_at_ns),
        desired_at_ns: change.and_then(|change| change.desired_at_ns),
        routers: verdict.routers.into_iter().map(router).collect(),
    })
}

/// Returns the form in which routers name a route: in lower case, without outer slashes.
fn normal(url: &str) -> String {
    url.trim_matches('/').to_lowercase()
}

/// Parses `5s`, `1.5s`, `300ms` or `5`.
fn waiting_time(text: &str) -> ApiResult<Duration> {
    let (number, unit) = match (text.strip_suffix("ms"), text.strip_suffix('s')) {
        (Some(number), _) => (number, 0.001),
        (None, Some(number)) => (number, 1.0),
        (None, None) => (text, 1.0),
    };
    let seconds = number.parse::<f64>().ok().map(|number| number * unit);
    seconds
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .filter(|wait| *wait <= LONGEST)
        .ok_or_else(|| {
            ApiError::bad_query(format!(
                "'wait' must be a time of at most {} s, such as 5s or 300ms, not '{text}'",
                LONGEST.as_secs()
            ))
        })
}

fn present(cc: &Cc, route: &Route, url: &str, verdict: Option<(&Wish, &Verdict)>) -> Value {
    let path = format!("/v3/routes/{}", route.guid);
    let links = cc.links(&format!("{path}/propagation"), &[("route", path)]);
    let route = json!({ "guid": route.guid, "url": url });
    let Some((wish, verdict)) = verdict else {
        return json!({
            "route": route,
            "generation": null,
            "state": "internal",
            "summary": "an internal route: routers do not serve it",
            "after_ms": null,
            "processes": [],
            "hops": [],
            "routers": [],
            "links": links,
        });
    };
    let processes = wish.processes.iter();
    json!({
        "route": route,
        "generation": (wish.generation > 0).then_some(wish.generation),
        "state": verdict.state.as_str(),
        "summary": verdict.summary(),
        "after_ms": verdict.after_ns().map(milliseconds),
        "processes": processes
            .map(|(guid, generation)| json!({ "guid": guid, "generation": generation }))
            .collect::<Vec<_>>(),
        "hops": hops(verdict),
        "routers": verdict.routers.iter().map(router).collect::<Vec<_>>(),
        "links": links,
    })
}

/// Returns the hops of the change that are known, in their order: each with its time, and how long after the commit that was. The
/// emitters and the routers report times of their own clocks.
fn hops(verdict: &Verdict) -> Vec<Value> {
    let Some(change) = &verdict.change else {
        return Vec::new();
    };
    let stored = change.stored_at_ns;
    let applied = verdict.routers.iter().filter_map(|r| r.applied.as_ref());
    let applied: Vec<_> = applied.filter(|a| a.applied_at_ns >= stored).collect();
    let confirmed = verdict.routers.iter().filter_map(|r| r.confirmed_at_ns);
    let confirmed = confirmed.max().filter(|_| verdict.after_ns().is_some());
    [
        ("stored", Some(stored)),
        ("desired", change.desired_at_ns),
        ("emitted", applied.iter().map(|a| a.emitted_at_ns).min()),
        ("applied", applied.iter().map(|a| a.applied_at_ns).max()),
        ("confirmed", confirmed),
    ]
    .into_iter()
    .filter_map(|(name, at)| {
        let at = at?;
        let after = at.checked_sub(stored).map(milliseconds);
        Some(json!({ "hop": name, "at": precise(at), "after_ms": after }))
    })
    .collect()
}

fn router(router: &RouterVerdict) -> Value {
    let processes = router.processes.iter();
    json!({
        "id": router.id,
        "hosts": router.hosts,
        "state": router.state.as_str(),
        "after_ms": router.after_ns.map(milliseconds),
        "confirmed_at": router.confirmed_at_ns.map(precise),
        "processes": processes
            .map(|p| json!({ "guid": p.process, "generation": p.generation, "endpoints": p.endpoints }))
            .collect::<Vec<_>>(),
        "missing": router.missing,
    })
}

/// Returns milliseconds with three digits behind the point.
fn milliseconds(ns: u64) -> f64 {
    (ns / 1000) as f64 / 1000.0
}

fn precise(ns: u64) -> String {
    clock::rfc3339_precise(ns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_times() {
        for (text, ms) in [
            ("5s", 5000),
            ("300ms", 300),
            ("1.5s", 1500),
            ("2", 2000),
            ("0", 0),
        ] {
            let wait = waiting_time(text).unwrap();
            assert_eq!(wait, Duration::from_millis(ms), "{text}");
        }
        for text in ["", "s", "31s", "-1s", "NaN", "inf", "5m", "1e99"] {
            assert!(waiting_time(text).is_err(), "{text}");
        }
    }

    #[test]
    fn urls_are_compared_as_routers_name_them() {
        assert_eq!(normal("App.Example/Path/"), "app.example/path");
    }
}
