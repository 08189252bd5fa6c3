//! Compares the API with the role table: every endpoint × every kind of caller × the state of organization and space.

mod inventory;
mod market;
mod rows;
mod world;

pub(crate) use world::{COLUMNS, World};

use reqwest::Method;
use serde_json::Value;
use std::collections::BTreeSet;

/// The body that a row sends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Sent {
    Nothing,
    Json(&'static str),
    Yaml(&'static str),
    Zip,
}

#[derive(Clone, Debug)]
pub(crate) struct Row {
    method: Method,
    path: &'static str,
    cells: Vec<char>,
    sent: Sent,
    flag: Option<&'static str>,
    looks_at_state: bool,
}

fn row(call: &'static str, cells: &'static str) -> Row {
    let (method, path) = call.split_once(' ').unwrap();
    let cells: Vec<char> = cells.split(' ').map(|cell| cell.parse().unwrap()).collect();
    assert_eq!(cells.len(), COLUMNS.len(), "{call}");
    let method: Method = method.parse().unwrap();
    let looks_at_state = method != Method::GET;
    Row {
        method,
        path,
        cells,
        sent: Sent::Nothing,
        flag: None,
        looks_at_state,
    }
}

impl Row {
    fn json(self, text: &'static str) -> Self {
        Self {
            sent: Sent::Json(text),
            ..self
        }
    }
    fn yaml(self, text: &'static str) -> Self {
        Self {
            sent: Sent::Yaml(text),
            ..self
        }
    }
    fn zip(self) -> Self {
        Self {
            sent: Sent::Zip,
            ..self
        }
    }
    /// Switches this flag on for the row, because the endpoint needs it.
    fn with_flag(self, flag: &'static str) -> Self {
        Self {
            flag: Some(flag),
            ..self
        }
    }
    /// Marks an endpoint that a suspension stops although it is a GET.
    fn like_a_write(self) -> Self {
        Self {
            looks_at_state: true,
            ..self
        }
    }
    /// Marks an endpoint that a suspension does not stop.
    fn whatever_the_state(self) -> Self {
        Self {
            looks_at_state: false,
            ..self
        }
    }

    /// Returns the path as `/v3/apps/{}/env`, which is comparable with a registered path.
    fn pattern(&self) -> String {
        pattern(self.path.split('?').next().unwrap())
    }
}

fn pattern(path: &str) -> String {
    let mut text = String::new();
    let mut inside = false;
    for c in path.chars() {
        match c {
            '{' => {
                inside = true;
                text.push_str("{}");
            }
            '}' => inside = false,
            c if !inside => text.push(c),
            _ => {}
        }
    }
    text
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Active,
    OrganizationSuspended,
    SpaceSuspended,
}

/// Returns the response that a cell stands for: the status, and the code if it is an error of rights.
fn expected(row: &Row, column: char, cell: char, state: State) -> (u16, Option<i64>) {
    let stopped = match state {
        State::Active => false,
        State::OrganizationSuspended => column != 'A',
        // Managers of the organization may change a suspended space.
        State::SpaceSuspended => matches!(column, 'D' | 'P' | 'I' | 'S'),
    };
    match cell {
        'x' | 'y' | 'n' if row.looks_at_state && stopped => (
            403,
            Some(if state == State::OrganizationSuspended {
                10017
            } else {
                10019
            }),
        ),
        'x' => (200, None),
        'y' | '4' => (422, None),
        'n' => (400, None),
        'r' => (403, Some(10003)),
        '.' => (404, None),
        other => panic!("no such cell: {other}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_endpoint_has_a_row() {
    let known: BTreeSet<String> = rows::rows()
        .iter()
        .map(|row| format!("{} {}", row.method, row.pattern()))
        .collect();
    let registered: BTreeSet<String> = cloud_controller::endpoints()
        .iter()
        .map(|endpoint| format!("{} {}", endpoint.method, pattern(&endpoint.path)))
        .collect();
    let missing: Vec<&String> = registered.difference(&known).collect();
    assert!(missing.is_empty(), "endpoints without a row: {missing:#?}");
    let gone: Vec<&String> = known.difference(&registered).collect();
    assert!(gone.is_empty(), "rows without an endpoint: {gone:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_endpoint_obeys_the_role_table() {
    check(State::Active).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_suspended_organization_is_changed_by_administrators_alone() {
    check(State::OrganizationSuspended).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_suspended_space_is_changed_by_managers_of_the_organization_alone() {
    check(State::SpaceSuspended).await;
}

async fn check(state: State) {
    let world = World::start().await;
    world
        .suspend(
            state == State::OrganizationSuspended,
            state == State::SpaceSuspended,
        )
        .await;
    let (mut cells, mut wrong) = (0, Vec::new());
    for row in rows::rows() {
        if let Some(flag) = row.flag {
            world.set_flag(flag, true).await;
        }
        for (column, cell) in COLUMNS.chars().zip(&row.cells) {
            cells += 1;
            let (status, code) = expected(&row, column, *cell, state);
            let answer = call(&world, &row, column, status == 200).await;
            let fits = match status {
                200 => (200..300).contains(&answer.0),
                status => answer.0 == status,
            };
            let got = answer.1["errors"][0]["code"].as_i64();
            if !fits || (code.is_some() && code != got) {
                wrong.push(format!(
                    "{} {} as {column}: '{cell}' wants {status} {code:?}, got {} {}",
                    row.method, row.path, answer.0, answer.1
                ));
            }
        }
        if let Some(flag) = row.flag {
            world.set_flag(flag, false).await;
        }
    }
    println!("{cells} cells of the role table checked ({state:?})");
    world.finish().await;
    assert!(
        wrong.is_empty(),
        "{} of {cells} cells are wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

/// Each request is sent by an administrator and contains something that the endpoint does not know.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_endpoint_does_not_know_is_refused_by_name() {
    let world = World::start().await;
    world.set_flag("route_sharing", true).await;
    world.set_flag("service_instance_sharing", true).await;
    let endpoints = cloud_controller::endpoints();
    let (mut tried, mut wrong) = (0, Vec::new());
    for row in rows::rows() {
        let endpoint = endpoints
            .iter()
            .find(|endpoint| {
                row.method.as_str() == endpoint.method && pattern(&endpoint.path) == row.pattern()
            })
            .unwrap();
        let mut things = world.things(false, 'A');
        let path = things.fill(row.path).await;
        let mut sent = match row.sent {
            Sent::Json(text) => serde_json::from_str(&things.fill(text).await).unwrap(),
            _ => Value::Object(serde_json::Map::new()),
        };
        let sign = if path.contains('?') { '&' } else { '?' };
        let odd = format!("{path}{sign}no_such_parameter=1");
        let answer = world.as_('A', row.method.clone(), &odd, None).await;
        tried += 1;
        if answer.0 != 400 || !answer.1.to_string().contains("'no_such_parameter'") {
            wrong.push(format!("{} {odd}: {answer:?}", row.method));
        }
        if row.method == Method::GET || !(endpoint.reads_json || endpoint.reads_nothing) {
            continue;
        }
        for place in unknown_keys(endpoint) {
            let before = sent.clone();
            crate::fuzz::set(sent.as_object_mut().unwrap(), &place, 1.into());
            let answer = world.as_('A', row.method.clone(), &path, Some(sent)).await;
            tried += 1;
            let named = answer.1.to_string().contains(&format!("'{place}'"));
            if answer.0 != 422 || !named {
                wrong.push(format!("{} {path} with {place}: {answer:?}", row.method));
            }
            sent = before;
        }
    }
    println!("{tried} unknown parameters and keys tried");
    world.finish().await;
    assert!(
        wrong.is_empty(),
        "{} of {tried}:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

/// Returns a key at the top, and one beside every nested key that the endpoint knows.
fn unknown_keys(endpoint: &cloud_controller::ApiEndpoint) -> BTreeSet<String> {
    let mut places = BTreeSet::from(["no_such_key".to_owned()]);
    for key in &endpoint.keys {
        let mut below = key.as_str();
        while let Some((parent, last)) = below.rsplit_once('.') {
            if last != "*" {
                places.insert(format!("{parent}.no_such_key"));
            }
            below = parent;
        }
    }
    places
}

/// Sends the call of one cell. A call that is admitted gets resources of its own; refused ones change nothing and share theirs.
async fn call(world: &World, row: &Row, column: char, passes: bool) -> (u16, Value) {
    let fresh = passes && row.method != Method::GET;
    let mut things = world.things(fresh, column);
    let path = things.fill(row.path).await;
    let sent = match row.sent {
        Sent::Json(text) | Sent::Yaml(text) => things.fill(text).await,
        _ => String::new(),
    };
    world.send(column, row, &path, sent).await
}
