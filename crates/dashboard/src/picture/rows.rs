//! Lists: which rows a query finds, in which order, and one page of them. Search over all kinds.

use super::model::{Instance, Model};
use super::step::Micros;
use super::verdict::Route;
use serde_json::{Value, json};
use std::cmp::Reverse;
use std::collections::BTreeSet;

/// The highest number of rows of a page.
pub(crate) const MOST: usize = 200;
/// The number of rows of a page if the query names none.
const USUAL: usize = 100;
/// The number of hits of a search.
const HITS: usize = 20;

/// A query for one page of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Query {
    /// The text that a row must contain, in lower case.
    pub(crate) text: String,
    /// The state that a row must have; empty: any. `fault` stands for all states that somebody should look at.
    pub(crate) state: String,
    pub(crate) sort: String,
    pub(crate) is_descending: bool,
    pub(crate) offset: usize,
    pub(crate) limit: usize,
}

impl Query {
    /// Returns the number of rows of the page.
    fn rows(&self) -> usize {
        match self.limit {
            0 => USUAL,
            limit => limit.min(MOST),
        }
    }
}

/// A page of a list.
#[derive(Debug, PartialEq)]
pub(crate) struct Listing {
    /// The number of rows that the query found.
    pub(crate) total: usize,
    pub(crate) rows: Vec<Value>,
}

impl Listing {
    pub(crate) fn json(self, offset: usize) -> Value {
        json!({ "total": self.total, "offset": offset, "rows": self.rows })
    }
}

/// A value by which rows are sorted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Number(i64),
    Text(String),
}

impl From<usize> for Key {
    fn from(number: usize) -> Self {
        Self::Number(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<&str> for Key {
    fn from(text: &str) -> Self {
        Self::Text(text.to_lowercase())
    }
}

/// Returns the page of these rows, each with the key by which it is sorted and the URI or id that decides between equal keys.
fn page<T>(
    query: &Query,
    mut found: Vec<T>,
    key: impl Fn(&T) -> (Key, String),
    show: impl Fn(&T) -> Value,
) -> Listing {
    match query.is_descending {
        true => found.sort_by_cached_key(|row| {
            let (key, name) = key(row);
            (Reverse(key), name)
        }),
        false => found.sort_by_cached_key(&key),
    }
    let total = found.len();
    let rows = found.iter().skip(query.offset).take(query.rows());
    Listing {
        total,
        rows: rows.map(show).collect(),
    }
}

fn has(text: &str, part: &str) -> bool {
    part.is_empty() || text.to_lowercase().contains(part)
}

/// Returns a page of routes.
pub(crate) fn routes(routes: &[&Route], query: &Query) -> Listing {
    let found = routes.iter().copied().filter(|route| {
        let state = serde_json::to_value(route.state).unwrap_or_default();
        let of_state = query.state.is_empty()
            || query.state == "fault" && route.state.is_fault()
            || state == query.state;
        of_state && route_has(route, &query.text)
    });
    let key = |route: &&Route| {
        let key = match query.sort.as_str() {
            "state" => Key::from(route.state as usize),
            "app" => route.apps.first().map_or("", |app| &app.name).into(),
            "running" => route.running.into(),
            "routers" => route.routers.into(),
            "generation" => Key::Number(i64::try_from(route.generation).unwrap_or(i64::MAX)),
            _ => route.uri.as_str().into(),
        };
        (key, route.uri.clone())
    };
    page(query, found.collect(), key, |route| json!(route))
}

fn route_has(route: &Route, text: &str) -> bool {
    has(&route.uri, text)
        || route
            .apps
            .iter()
            .any(|app| has(&app.name, text) || has(&app.guid, text))
        || route
            .endpoints
            .iter()
            .any(|e| has(&e.address, text) || has(&e.instance_guid, text))
}

/// Returns a page of the instances of the apps that `sees` permits.
pub(crate) fn instances(model: &Model, sees: impl Fn(&str) -> bool, query: &Query) -> Listing {
    let found = model.instances.values().filter(|instance| {
        let app = model.app_of(&instance.process_guid);
        let app = app.map_or("", |app| app.app_guid.as_str());
        let of_state = query.state.is_empty()
            || query.state == "fault" && is_faulty(instance)
            || instance.state.eq_ignore_ascii_case(&query.state);
        sees(app) && of_state && instance_has(model, instance, &query.text)
    });
    let key = |instance: &&Instance| {
        let key = match query.sort.as_str() {
            "state" => instance.state.as_str().into(),
            "cell" => instance.cell_id.as_str().into(),
            "container" => instance.container.as_str().into(),
            "since" => Key::Number(i64::try_from(instance.since).unwrap_or(i64::MAX)),
            "crashes" => Key::Number(instance.crash_count.into()),
            _ => app_name(model, instance).into(),
        };
        (
            key,
            format!("{}/{:09}", instance.process_guid, instance.index),
        )
    };
    page(query, found.collect(), key, |instance| {
        instance_json(model, instance)
    })
}

fn is_faulty(instance: &Instance) -> bool {
    instance.crash_count > 0 || !instance.placement_error.is_empty()
}

fn app_name<'a>(model: &'a Model, instance: &'a Instance) -> &'a str {
    let app = model.app_of(&instance.process_guid);
    app.map_or(&instance.process_guid, |app| &app.app_name)
}

fn instance_has(model: &Model, instance: &Instance, text: &str) -> bool {
    let texts = [
        app_name(model, instance),
        &instance.process_guid,
        &instance.instance_guid,
        &instance.cell_id,
        &instance.container,
    ];
    let translated = || {
        let ports = instance.ports.iter();
        let mut addresses = ports.filter_map(|m| instance.endpoint(m.container_port));
        addresses.any(|address| has(&address, text))
    };
    texts.into_iter().any(|own| has(own, text)) || translated()
}

fn instance_json(model: &Model, instance: &Instance) -> Value {
    let app = model.app_of(&instance.process_guid);
    let port = app
        .and_then(|app| app.routes.first())
        .map_or(8080, |route| route.port);
    json!({
        "app": app.map_or("", |app| &app.app_name),
        "app_guid": app.map_or("", |app| &app.app_guid),
        "space": app.map_or("", |app| &app.space),
        "organization": app.map_or("", |app| &app.organization),
        "process_guid": instance.process_guid,
        "index": instance.index,
        "instance_guid": instance.instance_guid,
        "state": instance.state,
        "routable": instance.is_routable,
        "presence": match instance.presence { 0 => "ordinary", 1 => "evacuating", _ => "suspect" },
        "cell": instance.cell_id,
        "container": instance.container,
        "endpoint": instance.endpoint(port),
        "translation": instance.translation(port),
        "since": instance.since as f64 / 1000.0,
        "crashes": instance.crash_count,
        "reason": match instance.placement_error.is_empty() {
            true => &instance.crash_reason,
            false => &instance.placement_error,
        },
    })
}

/// Returns a page of cells.
pub(crate) fn cells(model: &Model, query: &Query) -> Listing {
    let count = |cell: &str| {
        model
            .instances
            .values()
            .filter(|i| i.cell_id == cell)
            .count()
    };
    let found = model.cells.values();
    let found = found.filter(|c| has(&c.id, &query.text) || has(&c.rep_url, &query.text));
    let key = |cell: &&super::model::Cell| {
        let key = match query.sort.as_str() {
            "instances" => count(&cell.id).into(),
            "memory" => Key::Number(cell.memory_mb.into()),
            "zone" => cell.zone.as_str().into(),
            _ => cell.id.as_str().into(),
        };
        (key, cell.id.clone())
    };
    page(query, found.collect(), key, |cell| {
        json!({
            "id": cell.id, "zone": cell.zone, "rep": cell.rep_url, "instances": count(&cell.id),
            "memory_mb": cell.memory_mb, "disk_mb": cell.disk_mb, "containers": cell.containers,
        })
    })
}

/// Returns a page of routers: those whose pages are read, and those that only announced themselves on the bus.
pub(crate) fn routers(model: &Model, now: Micros, query: &Query) -> Listing {
    let mut rows = Vec::new();
    let ids: BTreeSet<&str> = model.routers.values().map(|r| r.id.as_str()).collect();
    for (name, router) in &model.routers {
        let announced = model.announced.get(&router.id);
        let source = model.sources.get(&format!("router {name}"));
        rows.push(json!({
            "name": name, "id": router.id, "routes": router.table.len(),
            "endpoints": router.table.values().map(std::collections::BTreeMap::len).sum::<usize>(),
            "changes": router.changes, "last_change": router.last_change.map(|at| at as f64 / 1000.0),
            "confirms": announced.is_some_and(|a| a.confirmed.is_some()),
            "hosts": announced.map(|a| &a.hosts), "since": router.since,
            "problem": source.and_then(|source| source.problem.as_ref()),
        }));
    }
    for (id, announced) in &model.announced {
        if ids.contains(id.as_str()) {
            continue;
        }
        let age = now.saturating_sub(announced.seen) as f64 / 1e6;
        rows.push(json!({
            "name": announced.hosts.first(), "id": id, "routes": null, "endpoints": null, "changes": null,
            "last_change": null, "confirms": announced.confirmed.is_some(), "hosts": announced.hosts,
            "seen_age": age, "problem": null,
        }));
    }
    rows.retain(|row| has(&row.to_string(), &query.text));
    let key = |row: &Value| {
        let name = row["name"].as_str().unwrap_or_default();
        let key = match row[query.sort.as_str()].as_u64() {
            Some(number) => Key::from(usize::try_from(number).unwrap_or(usize::MAX)),
            None => name.into(),
        };
        (key, row["id"].as_str().unwrap_or_default().to_owned())
    };
    page(query, rows, key, Value::clone)
}

/// Returns what a text finds among routes, apps, instances and cells, each with its kind, its name and a detail.
pub(crate) fn search(
    model: &Model,
    routes: &[&Route],
    sees: impl Fn(&str) -> bool,
    is_operator: bool,
    text: &str,
) -> Vec<Value> {
    let hit = |kind: &str, name: &str, detail: &str, key: &str| json!({ "kind": kind, "name": name, "detail": detail, "key": key });
    if text.is_empty() {
        return Vec::new();
    }
    let mut hits = Vec::new();
    for route in routes
        .iter()
        .filter(|route| route_has(route, text))
        .take(HITS)
    {
        let app = route
            .apps
            .first()
            .map_or(&*route.component, |app| &app.name);
        hits.push(hit("route", &route.uri, app, &route.uri));
    }
    let apps = model.desired.values().filter(|lrp| sees(&lrp.app_guid));
    let apps = apps.filter(|lrp| has(&lrp.app_name, text) || has(&lrp.app_guid, text));
    for lrp in apps.take(HITS) {
        let place = format!("{} / {}", lrp.organization, lrp.space);
        hits.push(hit("app", &lrp.app_name, &place, &lrp.app_guid));
    }
    let instances = model.instances.values().filter(|instance| {
        let app = model.app_of(&instance.process_guid);
        sees(app.map_or("", |app| &app.app_guid)) && instance_has(model, instance, text)
    });
    for instance in instances.take(HITS) {
        let name = format!("{}/{}", app_name(model, instance), instance.index);
        hits.push(hit(
            "instance",
            &name,
            &instance.instance_guid,
            &instance.instance_guid,
        ));
    }
    if is_operator {
        for cell in model
            .cells
            .values()
            .filter(|c| has(&c.id, text) || has(&c.rep_url, text))
        {
            hits.push(hit("cell", &cell.id, &cell.rep_url, &cell.id));
        }
    }
    hits.truncate(HITS);
    hits
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::example::{NOW, picture};
    use crate::picture::verdict;

    fn query(text: &str, sort: &str) -> Query {
        Query {
            text: text.to_owned(),
            sort: sort.to_owned(),
            ..Query::default()
        }
    }

    fn names(listing: &Listing, key: &str) -> Vec<String> {
        let rows = listing.rows.iter();
        rows.map(|row| row[key].as_str().unwrap_or_default().to_owned())
            .collect()
    }

    #[test]
    fn routes_are_found_by_uri_app_address_and_state() {
        let picture = picture();
        let all = verdict::routes(&picture.model, NOW);
        let all: Vec<&Route> = all.iter().collect();
        for (text, found) in [
            ("", &["a.test", "api.test", "b.test"][..]),
            ("b-name", &["b.test"]),
            ("61002", &["a.test"]),
            ("b-0", &["b.test"]),
            ("nothing", &[]),
        ] {
            assert_eq!(
                names(&routes(&all, &query(text, "uri")), "uri"),
                found,
                "{text}"
            );
        }
        let state = |state: &str| Query {
            state: state.to_owned(),
            ..Query::default()
        };
        assert_eq!(routes(&all, &state("live")).total, 2);
        assert_eq!(routes(&all, &state("fault")).total, 0);
        let mut descending = query("", "running");
        descending.is_descending = true;
        assert_eq!(
            names(&routes(&all, &descending), "uri"),
            ["a.test", "b.test", "api.test"]
        );
    }

    #[test]
    fn a_page_is_bounded_and_knows_the_number_of_all() {
        let picture = picture();
        let query = |offset, limit| Query {
            offset,
            limit,
            ..Query::default()
        };
        let listing = instances(&picture.model, |_| true, &query(1, 1));
        assert_eq!((listing.total, listing.rows.len()), (3, 1));
        assert_eq!(listing.rows[0]["instance_guid"], "a-1");
        assert_eq!(listing.rows[0]["endpoint"], "10.0.0.1:61002");
        assert_eq!(
            instances(&picture.model, |_| true, &query(9, 1)).rows.len(),
            0
        );
        assert_eq!(query(0, 100_000).rows(), MOST);
    }

    #[test]
    fn who_sees_one_app_sees_its_rows_alone() {
        let picture = picture();
        let sees = |app: &str| app == "b";
        let listing = instances(&picture.model, sees, &Query::default());
        assert_eq!(names(&listing, "instance_guid"), ["b-0"]);
        let all = verdict::routes(&picture.model, NOW);
        let all: Vec<&Route> = all
            .iter()
            .filter(|r| r.apps.iter().any(|a| sees(&a.guid)))
            .collect();
        let hits = search(&picture.model, &all, sees, false, "a");
        assert!(hits.iter().all(|hit| hit["kind"] != "cell"), "{hits:?}");
        assert!(!hits.iter().any(|hit| hit["key"] == "a-0"), "{hits:?}");
        let hits = search(&picture.model, &all, sees, false, "b-0");
        assert_eq!(hits.len(), 2, "the route and the instance");
    }

    #[test]
    fn routers_have_their_tables_or_only_their_name() {
        let mut picture = picture();
        let announced = picture
            .model
            .announced
            .entry("1-other".to_owned())
            .or_default();
        announced.hosts = vec!["10.0.0.9".to_owned()];
        let listing = routers(&picture.model, NOW, &Query::default());
        assert_eq!(names(&listing, "name"), ["10.0.0.9", "r1"]);
        assert_eq!(listing.rows[1]["routes"], 3);
        assert_eq!(listing.rows[1]["endpoints"], 4);
    }
}
