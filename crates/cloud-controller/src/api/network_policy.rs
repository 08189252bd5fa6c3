//! The endpoints `/networking/v1/external/policies`: which app's containers may connect to which other app's, like the policy
//! server of cf-networking. Without a policy, containers reach each other only through the router.
//!
//! Administrators may do everything; others see and change policies between apps of spaces that they develop. Cells fetch all
//! policies from the internal listener, and apply a change within a second or two.

use super::prelude::*;
use crate::db::Unrecorded;
use crate::db::app::App;
use crate::db::network_policy::{self, NetworkPolicy};
use axum::Json;
use axum::response::IntoResponse as _;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use wire::cc::{
    InternalPolicies, InternalPolicy, NetworkPolicyDestination, NetworkPolicySource, PolicyPorts,
};

/// The maximum number of policies whose source is one app.
const MOST_PER_SOURCE: i64 = 150;
/// The maximum number of policies in one request.
const MOST_AT_ONCE: usize = 500;

const BODY: &[&str] = &[
    "policies[].source.id",
    "policies[].destination.id",
    "policies[].destination.protocol",
    "policies[].destination.ports.start",
    "policies[].destination.ports.end",
];

pub(super) fn routes() -> Endpoints {
    Endpoints::default()
        .get("/networking/v1/external/policies", list)
        .takes(&["id"])
        .post("/networking/v1/external/policies", create)
        .body(BODY)
        .post("/networking/v1/external/policies/delete", remove)
        .body(BODY)
}

#[derive(Debug, Deserialize, Serialize)]
struct External {
    source: Source,
    destination: Destination,
}

#[derive(Debug, Deserialize, Serialize)]
struct Source {
    id: String,
}

#[derive(Debug, Deserialize, Serialize)]
struct Destination {
    id: String,
    protocol: String,
    ports: Ports,
}

#[derive(Debug, Deserialize, Serialize)]
struct Ports {
    start: u32,
    end: u32,
}

fn checked(external: &External) -> Result<NetworkPolicy, String> {
    let (destination, ports) = (&external.destination, &external.destination.ports);
    if external.source.id.is_empty() {
        return Err("missing source id".to_owned());
    }
    if destination.id.is_empty() {
        return Err("missing destination id".to_owned());
    }
    if !matches!(destination.protocol.as_str(), "tcp" | "udp") {
        return Err("invalid destination protocol, specify either udp or tcp".to_owned());
    }
    let port = |port: u32, which: &str| {
        u16::try_from(port)
            .ok()
            .filter(|port| *port != 0)
            .ok_or_else(|| format!("invalid {which} port value {port}, must be 1-65535"))
    };
    let (first_port, last_port) = (port(ports.start, "start")?, port(ports.end, "end")?);
    if first_port > last_port {
        return Err(format!(
            "invalid port range {first_port}-{last_port}, start must be less than or equal to end"
        ));
    }
    Ok(NetworkPolicy {
        source_guid: external.source.id.clone(),
        destination_guid: destination.id.clone(),
        protocol: destination.protocol.clone(),
        first_port,
        last_port,
    })
}

fn presented(policy: &NetworkPolicy) -> External {
    External {
        source: Source {
            id: policy.source_guid.clone(),
        },
        destination: Destination {
            id: policy.destination_guid.clone(),
            protocol: policy.protocol.clone(),
            ports: Ports {
                start: policy.first_port.into(),
                end: policy.last_port.into(),
            },
        },
    }
}

/// Returns the policies of a request, if the caller may write all of them.
async fn requested(
    conn: &mut Connection,
    who: &Principal,
    body: Body,
) -> ApiResult<Vec<NetworkPolicy>> {
    let wrong = |problem: String| ApiError::bad_request(format!("policies: {problem}"));
    let sent = body.finish()?.remove("policies").unwrap_or_default();
    let sent: Vec<External> =
        serde_json::from_value(sent).map_err(|error| wrong(error.to_string()))?;
    if sent.is_empty() {
        return Err(wrong("missing policies".to_owned()));
    }
    if sent.len() > MOST_AT_ONCE {
        return Err(wrong(format!(
            "{} policies at once; at most {MOST_AT_ONCE}",
            sent.len()
        )));
    }
    let policies = sent
        .iter()
        .map(checked)
        .collect::<Result<Vec<_>, _>>()
        .map_err(wrong)?;
    let apps: BTreeSet<&str> = policies
        .iter()
        .flat_map(|policy| {
            [
                policy.source_guid.as_str(),
                policy.destination_guid.as_str(),
            ]
        })
        .collect();
    for app in apps {
        // The response is the same for an app that does not exist and for one that belongs to somebody else.
        match who.find::<App>(conn, app, Right::Develop).await {
            Err(error) if error.status == StatusCode::NOT_FOUND => {
                return Err(ApiError::not_authorized());
            }
            found => drop(found?),
        }
    }
    Ok(policies)
}

async fn list(State(cc): State<Cc>, who: Principal, query: Query) -> ApiResult {
    let mut conn = cc.db.read().await?;
    let wanted = query.values("id");
    let mut policies: Vec<_> = network_policy::all(&mut conn).await?;
    if let Some(ids) = wanted {
        policies.retain(|(policy, _)| {
            ids.contains(&policy.source_guid) || ids.contains(&policy.destination_guid)
        });
    }
    let apps: BTreeSet<String> = policies
        .iter()
        .flat_map(|(policy, _)| [policy.source_guid.clone(), policy.destination_guid.clone()])
        .collect();
    let seen = who
        .visible::<App>()
        .any("guid", apps)
        .all(&mut conn)
        .await?;
    let sees = |guid: &String| seen.iter().any(|app| app.guid == *guid);
    policies.retain(|(policy, _)| sees(&policy.source_guid) && sees(&policy.destination_guid));
    let policies: Vec<_> = policies
        .iter()
        .map(|(policy, _)| presented(policy))
        .collect();
    Ok(Json(json!({ "total_policies": policies.len(), "policies": policies })).into_response())
}

async fn create(State(cc): State<Cc>, who: Principal, body: Body) -> ApiResult {
    let mut tx = cc.change().await?;
    for policy in requested(&mut tx, &who, body).await? {
        network_policy::insert(&mut tx, &policy).await?;
        let count = network_policy::count_of_source(&mut tx, &policy.source_guid).await?;
        if count > MOST_PER_SOURCE && !who.is_admin() {
            return Err(ApiError::unprocessable(format!(
                "policy quota exceeded: an app may be the source of {MOST_PER_SOURCE} policies"
            )));
        }
    }
    tx.commit(Unrecorded::NoSuchEvent).await?;
    Ok(Json(json!({})).into_response())
}

async fn remove(State(cc): State<Cc>, who: Principal, body: Body) -> ApiResult {
    let mut tx = cc.change().await?;
    for policy in requested(&mut tx, &who, body).await? {
        network_policy::delete(&mut tx, &policy).await?;
    }
    tx.commit(Unrecorded::NoSuchEvent).await?;
    Ok(Json(json!({})).into_response())
}

/// Returns all policies to the cells. The internal listener serves it.
pub(crate) async fn internal(State(cc): State<Cc>) -> ApiResult {
    let all = network_policy::all(&mut *cc.db.read().await?).await?;
    let policies = all.into_iter().map(|(policy, number)| InternalPolicy {
        source: NetworkPolicySource {
            id: policy.source_guid,
            tag: format!("{number:04X}"),
        },
        destination: NetworkPolicyDestination {
            id: policy.destination_guid,
            protocol: policy.protocol,
            ports: PolicyPorts {
                start: policy.first_port,
                end: policy.last_port,
            },
        },
    });
    let policies: Vec<_> = policies.collect();
    Ok(Json(InternalPolicies {
        total_policies: policies.len(),
        policies,
    })
    .into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_checked() {
        let check = |source: &str, protocol: &str, start, end| {
            checked(&External {
                source: Source { id: source.into() },
                destination: Destination {
                    id: "d".into(),
                    protocol: protocol.into(),
                    ports: Ports { start, end },
                },
            })
        };
        assert_eq!(check("s", "tcp", 8080, 8090).unwrap().last_port, 8090);
        assert!(check("", "tcp", 1, 1).unwrap_err().contains("source id"));
        assert!(check("s", "icmp", 1, 1).unwrap_err().contains("udp or tcp"));
        assert!(
            check("s", "udp", 0, 1)
                .unwrap_err()
                .contains("start port value 0")
        );
        assert!(
            check("s", "udp", 1, 65536)
                .unwrap_err()
                .contains("end port value 65536")
        );
        assert!(
            check("s", "udp", 9, 8)
                .unwrap_err()
                .contains("port range 9-8")
        );
    }
}
