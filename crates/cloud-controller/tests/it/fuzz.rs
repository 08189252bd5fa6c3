//! Sends hostile requests to every endpoint: no response is a 5xx, none takes long, and each refusal has Cloud Foundry's form.
//!
//! `CUPOLA_FUZZ_CALLS` (2000) bounds the run; `CUPOLA_FUZZ_SEED` repeats one.

use crate::fixture::*;
use crate::role_table::World;
use cloud_controller::ApiEndpoint;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// A small generator of random numbers (xorshift), so that a seed identifies a run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % sides.max(1) as u64).unwrap()
    }
    fn one<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.roll(list.len())]
    }
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

/// Percent-encoded path segments that are no guid.
const SEGMENTS: &[&str] = &[
    "none",
    "%00",
    "%FF%FE",
    "..%2f..",
    "%2e",
    "0",
    "-1",
    "99999999999999999999",
    "%F0%9D%95%8F",
    "%27%20OR%201%3D1--",
    "%E2%80%AE",
    "a%0Ab",
    "web",
    "ssh",
    "running",
];

type Things = [(&'static str, String)];

/// Returns the kind of thing that a collection or a relationship contains.
fn kind(name: &str) -> &str {
    match name {
        "processes" | "process" => "running_app",
        "organizations" | "organization" => "org",
        "roles" => "space_role",
        "users" | "user" => "member",
        "organization_quotas" => "quota",
        "security_groups" => "group",
        "audit_events" => "event",
        "route_policies" => "route_policy",
        "managed_instance" | "managed_route_service" | "route_service" => "service_instance",
        "managed_route_binding" => "service_route_binding",
        "managed_binding" | "service_key" => "service_credential_binding",
        other => other.trim_end_matches('s'),
    }
}

fn any(dice: &mut Dice, things: &Things) -> String {
    dice.one(things).1.clone()
}

/// Returns, in most cases, a thing of the kind that `name` means.
fn fitting(dice: &mut Dice, name: &str, things: &Things) -> String {
    let fits: Vec<&String> = things
        .iter()
        .filter(|(other, _)| kind(other) == kind(name))
        .map(|(_, guid)| guid)
        .collect();
    if fits.is_empty() || dice.roll(5) == 0 {
        any(dice, things)
    } else {
        (*dice.one(&fits)).clone()
    }
}

fn segment(dice: &mut Dice, before: &str, things: &Things) -> String {
    match dice.roll(10) {
        0..=6 => fitting(dice, before, things),
        7 => "x".repeat(4000),
        _ => (*dice.one(SEGMENTS)).to_owned(),
    }
}

fn path(dice: &mut Dice, endpoint: &ApiEndpoint, things: &Things) -> String {
    let mut filled: Vec<String> = Vec::new();
    let mut before = "";
    for part in endpoint.path.split('/') {
        filled.push(match part {
            "{guid}" | "{space}" | "{organization}" | "{destination}" => {
                let name = if part == "{guid}" {
                    before
                } else {
                    part.trim_matches(['{', '}'])
                };
                segment(dice, name, things)
            }
            part if part.starts_with('{') => (*dice.one(SEGMENTS)).to_owned(),
            part => part.to_owned(),
        });
        before = part;
    }
    let mut text = filled.join("/");
    let mut separator = '?';
    let parameters = match (dice.roll(3), endpoint.parameters.is_empty()) {
        (0, false) => 1 + dice.roll(3),
        (1, true) => dice.roll(2) * dice.roll(2),
        _ => 0,
    };
    for _ in 0..parameters {
        let name = if endpoint.parameters.is_empty() || dice.roll(8) == 0 {
            (*dice.one(&[
                "x",
                "page",
                "guids[]",
                "%00",
                "created_ats[foo]",
                "order_by",
            ]))
            .to_owned()
        } else {
            dice.one(&endpoint.parameters).clone()
        };
        let value = match dice.roll(4) {
            0 => any(dice, things),
            1 => vec!["a"; 500].join(","),
            _ => (*dice.one(&[
                "",
                "0",
                "-1",
                "1",
                "5000",
                "5001",
                "true",
                "99999999999999999999",
                "%00",
                "%FF",
                ",,,",
                "a=b,!c,d in (e,f)",
                "(((",
                "in ()",
                "2020-01-01T00:00:00Z",
                "name",
                "-name",
                "+id",
                "process_instances",
                "source,route",
                "route_policies",
                "cf:any",
                "space.organization",
                "%252C",
                "''\"\\",
            ]))
            .replace(' ', "%20"),
        };
        let name = name.replace('[', "%5B").replace(']', "%5D");
        text.push_str(&format!("{separator}{name}={value}"));
        separator = '&';
    }
    text
}

fn value(dice: &mut Dice, things: &Things) -> Value {
    match dice.roll(24) {
        0..=4 => json!(any(dice, things)),
        5 => Value::Null,
        6 => json!(true),
        7 => json!(-1),
        8 => json!(0),
        9 => json!(i64::MAX),
        10 => json!(u64::MAX),
        11 => json!(1e308),
        12 => json!(0.5),
        13 => json!(""),
        14 => json!("a\0b"),
        15 => json!("𝕏\u{202e}\u{fffe}"),
        16 => json!("x".repeat(20_000)),
        17 => json!([]),
        18 => json!({}),
        19 => json!([[[[null]]]]),
        20 => json!({ "a": { "guid": [1, { "b": {} }] } }),
        21 => json!("256"),
        22 => json!(vec!["x"; 300]),
        _ => (0..60).fold(json!("deep"), |inner, _| json!({ "data": inner })),
    }
}

/// Sets a dotted key; `[]` creates a list.
pub(crate) fn set(map: &mut Map<String, Value>, key: &str, value: Value) {
    let Some((part, rest)) = key.split_once('.') else {
        map.insert(key.replace("[]", ""), value);
        return;
    };
    let inner = if rest == "*" { "ANY" } else { rest };
    let is_list = part.ends_with("[]");
    let slot = map.entry(part.replace("[]", "")).or_insert(Value::Null);
    let target = if is_list {
        if !slot.get(0).is_some_and(Value::is_object) {
            *slot = json!([{}]);
        }
        slot.get_mut(0)
    } else {
        if !slot.is_object() {
            *slot = json!({});
        }
        Some(slot)
    };
    if let Some(Value::Object(object)) = target {
        set(object, inner, value);
    }
}

/// Returns a value with which a request gets further, or `None` where the key should be left out.
fn plausible(dice: &mut Dice, key: &str, things: &Things) -> Option<Value> {
    let unsupported = [
        "router_group",
        "revision",
        "data.image",
        "data.username",
        "data.password",
        "options.*",
    ];
    if unsupported.iter().any(|start| key.starts_with(start)) {
        return None;
    }
    let parts: Vec<&str> = key.trim_end_matches("[]").split('.').collect();
    Some(match parts[parts.len() - 1] {
        "guid" => {
            let holder = parts
                .iter()
                .rev()
                .find(|part| !part.starts_with("data") && **part != "guid");
            json!(fitting(dice, holder.unwrap_or(&"app"), things))
        }
        "droplet_guid" => json!(fitting(dice, "droplet", things)),
        "type" if key.starts_with("lifecycle") => json!("buildpack"),
        "buildpacks" => json!([]),
        "stack" | "weight" | "port" | "origin" => Value::Null,
        "type" if key.contains("check") => json!("http"),
        "type" if key.starts_with("authentication") => json!("basic"),
        // No server listens at this address, so that the jobs of brokers fail at once.
        "url" => json!("http://127.0.0.1:9"),
        "type" => json!(*dice.one(&[
            "bits",
            "buildpack",
            "web",
            "space_auditor",
            "organization_user",
            "user-provided",
            "managed",
            "app",
            "key",
            "public",
            "organization"
        ])),
        "name" | "host" | "username" => json!(format!("f{}", dice.roll(1_000_000))),
        "path" => json!("/p"),
        "tags" => json!(["a"]),
        "syslog_drain_url" | "route_service_url" => json!("https://drain.test/x"),
        "enabled" | "suspended" | "running" | "staging" => json!(false),
        "metadata" => json!({ "labels": { "a": "b" }, "annotations": { "c": null } }),
        "source" => json!(*dice.one(&["cf:any", "cf:app:d76446a1-f429-4444-8797-be2f78b75b08"])),
        "route_policies_scope" => json!(*dice.one(&["any", "org", "space"])),
        "enforce_route_policies" => json!(true),
        "protocol" => json!(*dice.one(&["http2", "tcp"])),
        "strategy" => json!(*dice.one(&["rolling", "single", "multiple"])),
        "version" => json!("1.0.0"),
        "command" | "user" => json!("vcap"),
        last if last.contains("_in_") || last.ends_with("instances") || last == "max_in_flight" => {
            json!(1 + dice.roll(64))
        }
        _ => json!("x"),
    })
}

/// Returns whether a key belongs to the other kind of service instances.
fn is_foreign(key: &str, is_managed: bool) -> bool {
    let keys: &[&str] = match is_managed {
        true => &["credentials", "syslog_drain_url", "route_service_url"],
        false => &[
            "parameters",
            "maintenance_info",
            "relationships.service_plan",
        ],
    };
    keys.iter().any(|start| key.starts_with(start))
}

fn body(dice: &mut Dice, endpoint: &ApiEndpoint, things: &Things) -> Vec<u8> {
    match dice.roll(32) {
        0 => b"{".to_vec(),
        1 => b"[]".to_vec(),
        2 => b"null".to_vec(),
        3 => b"\"text\"".to_vec(),
        4 => vec![b'['; 20_000],
        5 => vec![0xff, 0xfe, b'{', b'}'],
        6 => b"a: &a [x, *a]\nb: [*a, *a]".to_vec(),
        7 => br#"{"unknown":{"deep":[1]}}"#.to_vec(),
        _ => {
            let (mut map, daring) = (Map::new(), dice.roll(3) == 0);
            let is_managed = dice.roll(2) == 0;
            for key in &endpoint.keys {
                if !daring && (dice.roll(6) == 0 || is_foreign(key, is_managed)) {
                    continue;
                }
                match dice.roll(if daring { 4 } else { 40 }) {
                    0 => {}
                    1 => set(&mut map, key, value(dice, things)),
                    _ => {
                        if let Some(value) = plausible(dice, key, things) {
                            set(&mut map, key, value);
                        }
                    }
                }
            }
            serde_json::to_vec(&map).unwrap()
        }
    }
}

/// The results of a run.
#[derive(Default)]
struct Seen {
    statuses: BTreeMap<u16, u32>,
    wrong: Vec<String>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_requests_get_answers_in_form() {
    let (calls, seed) = (
        setting("CUPOLA_FUZZ_CALLS", 2000),
        setting("CUPOLA_FUZZ_SEED", 20_260_820),
    );
    let mut dice = Dice(seed | 1);
    let mut seen = Seen::default();
    let mut done = 0;
    while done < calls {
        let some = (calls - done).min(1000);
        round(&mut dice, usize::try_from(done).unwrap(), some, &mut seen).await;
        done += some;
    }
    println!("{calls} hostile calls, seed {seed}: {:?}", seen.statuses);
    assert!(
        seen.wrong.is_empty(),
        "{} of {calls}, seed {seed}:\n{}",
        seen.wrong.len(),
        seen.wrong.join("\n")
    );
}

/// Sends some calls to a foundation of their own. What they delete exists again in the next round.
async fn round(dice: &mut Dice, first: usize, calls: u64, seen: &mut Seen) {
    let world = World::start().await;
    let endpoints = cloud_controller::endpoints();
    let things = world.inventory().await;
    let client = client_token("ci", USER);
    for call in first..first + usize::try_from(calls).unwrap() {
        let endpoint = &endpoints[call % endpoints.len()];
        let who = *dice.one(&['A', 'A', 'D', 'D', 'M', 'S', 'N', 'R', '-', 'c']);
        // The deletions of an administrator would leave nothing for the other calls.
        let known = if endpoint.method == "DELETE" && who == 'A' && dice.roll(10) > 0 {
            vec![("app", "none".to_owned())]
        } else {
            things.clone()
        };
        let path = path(dice, endpoint, &known);
        let body = body(dice, endpoint, &known);
        let kind = *dice.one(&[
            "application/json",
            "application/json",
            "application/x-yaml",
            "multipart/form-data; boundary=b",
            "text/plain",
        ]);
        let mut request = world
            .f
            .http
            .request(
                endpoint.method.parse().unwrap(),
                format!("{}{path}", world.f.url),
            )
            .timeout(Duration::from_secs(30))
            .header("content-type", kind);
        match who {
            '-' => {}
            'c' => request = request.header("authorization", format!("bearer {client}")),
            who => {
                request = request.header("authorization", format!("bearer {}", world.token(who)))
            }
        }
        if endpoint.method != "GET" {
            request = request.body(body.clone());
        }
        let shown = || {
            format!(
                "{} {path} as {who} ({kind}): {}",
                endpoint.method,
                String::from_utf8_lossy(&body[..body.len().min(400)])
            )
        };
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) => panic!("no answer to {}: {error}", shown()),
        };
        let (status, answer) = answer(response).await;
        *seen.statuses.entry(status).or_default() += 1;
        if status >= 500 || (status >= 400 && !in_form(&answer)) {
            seen.wrong.push(format!("{status} {answer} to {}", shown()));
        }
    }
    world.finish().await;
}

fn in_form(answer: &Value) -> bool {
    let v3 = answer["errors"].as_array().is_some_and(|errors| {
        !errors.is_empty()
            && errors.iter().all(|error| {
                error["code"].is_i64() && error["title"].is_string() && error["detail"].is_string()
            })
    });
    v3 || (answer["code"].is_i64() && answer["error_code"].is_string())
}
