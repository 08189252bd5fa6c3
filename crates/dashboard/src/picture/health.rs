//! The sentence above the picture, and the values of the stations while no route is chosen.

use super::model::Model;
use super::step::Micros;
use super::verdict::{Route, State};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The state of the whole in one sentence, and the counts behind it.
pub(crate) fn health(
    model: &Model,
    routes: &[&Route],
    sees: impl Fn(&str) -> bool,
    now: Micros,
) -> Value {
    let mut states: BTreeMap<State, usize> = BTreeMap::new();
    for route in routes {
        *states.entry(route.state).or_default() += 1;
    }
    let count = |state| states.get(&state).copied().unwrap_or_default();
    let crashing = model.instances.values().filter(|instance| {
        let app = model.app_of(&instance.process_guid);
        instance.state == wire::bbs::state::CRASHED && sees(app.map_or("", |app| &app.app_guid))
    });
    let crashing = crashing.count();
    let routers = model.routers.len().max(model.confirming(now).len());
    let mut parts = Vec::new();
    for (state, one, many) in [
        (
            State::Misrouted,
            "route is misrouted",
            "routes are misrouted",
        ),
        (State::Stale, "route is stale", "routes are stale"),
        (
            State::Missing,
            "route lacks an endpoint",
            "routes lack endpoints",
        ),
        (State::Failing, "route fails", "routes fail"),
        (
            State::Crashing,
            "route has no running instance",
            "routes have no running instance",
        ),
        (State::Changing, "route is changing", "routes are changing"),
    ] {
        match count(state) {
            0 => {}
            1 => parts.push(format!("1 {one}")),
            n => parts.push(format!("{n} {many}")),
        }
    }
    match crashing {
        0 => {}
        1 => parts.push("1 instance is crashing".to_owned()),
        n => parts.push(format!("{n} instances are crashing")),
    }
    let problems: Vec<Value> = model
        .sources
        .iter()
        .filter_map(|(name, source)| {
            let problem = source.problem.as_ref()?;
            Some(json!({ "name": name, "problem": problem, "since": source.since as f64 / 1000.0 }))
        })
        .collect();
    // The routes of the components are always there.
    let total = routes.len() - count(State::External);
    let has_fault = routes.iter().any(|route| route.state.is_fault()) || crashing > 0;
    let state = match (problems.is_empty(), has_fault) {
        (false, _) => "blind",
        (true, true) => "fault",
        (true, false) => "right",
    };
    if parts.is_empty() && total > 0 {
        parts.push("all as they should be".to_owned());
    }
    let sentence = match total {
        0 => "No route yet. Push an app, and watch its route travel.".to_owned(),
        _ => format!(
            "{} on {}: {}.",
            plural(total, "route"),
            plural(routers, "router"),
            parts.join("; ")
        ),
    };
    let states: BTreeMap<String, usize> = states
        .into_iter()
        .filter_map(|(state, n)| Some((serde_json::to_value(state).ok()?.as_str()?.to_owned(), n)))
        .collect();
    json!({ "state": state, "sentence": sentence, "routes": total, "states": states, "crashing": crashing, "sources": problems })
}

fn plural(count: usize, noun: &str) -> String {
    match count {
        1 => format!("1 {noun}"),
        n => format!("{n} {noun}s"),
    }
}

/// The values of each station, for operators.
pub(crate) fn stations(model: &Model, now: Micros) -> Value {
    let age = |at: Option<Micros>| at.map(|at| now.saturating_sub(at) as f64 / 1e6);
    let running = model
        .instances
        .values()
        .filter(|i| i.state == wire::bbs::state::RUNNING);
    let waiting = model
        .instances
        .values()
        .filter(|i| i.state == wire::bbs::state::UNCLAIMED);
    let proxied = running
        .clone()
        .flat_map(|i| &i.ports)
        .filter(|m| m.host_tls_proxy_port != 0);
    let routes: usize = model
        .routers
        .values()
        .map(|router| router.table.len())
        .sum();
    let registrations: u64 = model.live_emitters(now).map(|e| e.registrations).sum();
    let value = |name: &str, value: Value| json!({ "name": name, "value": value });
    let digest = model.emitters.values().map(|emitter| emitter.seen).max();
    json!({
        "bbs": [
            value("desired LRPs", json!(model.desired.len())),
            value("actual LRPs", json!(model.instances.len())),
        ],
        "auctioneer": [value("waiting", json!(waiting.count()))],
        "cell": [value("cells", json!(model.cells.len()))],
        "container": [value("running", json!(running.count()))],
        "envoy": [value("listeners", json!(proxied.clone().count()))],
        "dnat": [value("translations", json!(proxied.count()))],
        "route-emitter": [
            value("emitters", json!(model.live_emitters(now).count())),
            value("registrations", json!(registrations)),
            json!({ "name": "digest", "age": age(digest) }),
        ],
        "nats": [
            value("messages", json!(model.bus.messages)),
            json!({ "name": "last one", "age": age(model.bus.last) }),
        ],
        "router": [
            value("routers", json!(model.routers.len().max(model.announced.len()))),
            value("routes", json!(routes)),
            value("confirming", json!(model.confirming(now).len())),
        ],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::Picture;
    use crate::picture::example::{NOW, actual, desired, picture};
    use crate::picture::verdict;

    fn of(picture: &Picture) -> Value {
        let all = verdict::routes(&picture.model, NOW);
        let all: Vec<&Route> = all.iter().collect();
        health(&picture.model, &all, |_| true, NOW)
    }

    #[test]
    fn the_sentence_names_what_is_wrong() {
        let mut picture = picture();
        let shown = of(&picture);
        assert_eq!(
            shown["sentence"],
            "2 routes on 1 router: all as they should be."
        );
        assert_eq!(shown["state"], "right");
        picture.model.replace(
            &[desired("a", 2, &["a.test"])],
            &[
                actual("a", 0, "RUNNING", 61001),
                actual("a", 1, "CRASHED", 0),
            ],
        );
        let shown = of(&picture);
        assert_eq!(
            shown["sentence"],
            "2 routes on 1 router: 2 routes are stale; 1 instance is crashing."
        );
        assert_eq!(shown["state"], "fault");
        picture
            .model
            .set_source("BBS", Some("no answer".to_owned()), NOW);
        let shown = of(&picture);
        assert_eq!(shown["state"], "blind");
        assert_eq!(shown["sources"][0]["problem"], "no answer");
    }

    #[test]
    fn an_empty_foundation_names_the_next_step() {
        let shown = of(&Picture::default());
        assert!(
            shown["sentence"]
                .as_str()
                .unwrap()
                .starts_with("No route yet")
        );
    }

    #[test]
    fn stations_have_values_and_ages() {
        let mut picture = picture();
        picture.message("router.greet", b"", NOW - 2_000_000);
        let shown = stations(&picture.model, NOW);
        assert_eq!(shown["bbs"][1]["value"], 3);
        assert_eq!(shown["nats"][1]["age"], 2.0);
        assert_eq!(shown["router"][1]["value"], 3);
    }
}
