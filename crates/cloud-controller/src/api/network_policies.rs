//! `/networking/v1/external/policies`: which app's containers may connect to which other app's (as cf-networking's policy
//! server). Without a policy, containers reach each other through the router alone.
//!
//! Admins may do everything; others see and change policies between apps of spaces that they develop. Cells read all
//! policies from the internal listener, and obey a change within a second or two.

use super::prelude::*;
use crate::db::network_policy::{self, NetworkPolicy};
use axum::Json;
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use wire::cc::{InternalPolicies, InternalPolicy, PolicyDestination, PolicyPorts, PolicySource};

/// Policies that one app may be the source of.
const MOST_PER_SOURCE: i64 = 150;
/// Policies in one request.
const MOST_AT_ONCE: usize = 500;

pub(super) fn routes() -> Router<Cc> {
    Router::new()
        .route("/networking/v1/external/policies", get(list).post(create))
        .route("/networking/v1/external/policies/delete", post(remove))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    policies: Vec<External>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct External {
    source: Source,
    destination: Destination,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Source {
    id: String,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Destination {
    id: String,
    protocol: String,
    ports: Ports,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Ports {
    start: u32,
    end: u32,
}

/// The policy server's error body, which is not the Cloud Controller's.
#[derive(Debug)]
struct Refusal(StatusCode, String);

impl Refusal {
    fn bad(text: impl Into<String>) -> Self {
        Self(StatusCode::BAD_REQUEST, text.into())
    }
    fn forbidden(text: impl Into<String>) -> Self {
        Self(StatusCode::FORBIDDEN, text.into())
    }
}

impl axum::response::IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, Json(json!({ "error": self.1 }))).into_response()
    }
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        Self(error.status, error.to_string())
    }
}

impl From<sqlx::Error> for Refusal {
    fn from(error: sqlx::Error) -> Self {
        ApiError::from(error).into()
    }
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

/// The policies of a request, if the caller may write all of them.
async fn requested(
    conn: &mut Connection,
    who: &Principal,
    body: &[u8],
) -> Result<Vec<NetworkPolicy>, Refusal> {
    let request: Request = serde_json::from_slice(body).map_err(|error| {
        Refusal::bad(format!("policies: invalid values passed to API: {error}"))
    })?;
    if request.policies.is_empty() {
        return Err(Refusal::bad("policies: missing policies"));
    }
    if request.policies.len() > MOST_AT_ONCE {
        return Err(Refusal::bad(format!(
            "policies: {} policies at once; at most {MOST_AT_ONCE}",
            request.policies.len()
        )));
    }
    let policies = request
        .policies
        .iter()
        .map(checked)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|problem| Refusal::bad(format!("policies: {problem}")))?;
    let mut apps: Vec<&str> = policies
        .iter()
        .flat_map(|policy| {
            [
                policy.source_guid.as_str(),
                policy.destination_guid.as_str(),
            ]
        })
        .collect();
    apps.sort_unstable();
    apps.dedup();
    for app in apps {
        // The same answer for an app that does not exist and for one that is somebody else's.
        let permitted = match lookup::app(conn, who, app).await {
            Ok((_, _, access)) => access.develops(),
            Err(error) if error.status == StatusCode::NOT_FOUND => false,
            Err(error) => return Err(error.into()),
        };
        if !permitted {
            return Err(Refusal::forbidden(
                "one or more applications cannot be found or accessed",
            ));
        }
    }
    Ok(policies)
}

async fn list(
    State(cc): State<Cc>,
    who: Principal,
    axum::extract::Query(query): axum::extract::Query<ListQuery>,
) -> Result<Response, Refusal> {
    let mut conn = cc.db.read().await?;
    let wanted: Option<Vec<&str>> = query.id.as_deref().map(|ids| ids.split(',').collect());
    let mut seen = std::collections::HashMap::new();
    let mut policies = Vec::new();
    for (policy, _) in network_policy::all(&mut conn).await? {
        let apps = [
            policy.source_guid.as_str(),
            policy.destination_guid.as_str(),
        ];
        if wanted
            .as_ref()
            .is_some_and(|ids| !apps.iter().any(|app| ids.contains(app)))
        {
            continue;
        }
        let mut visible = true;
        for app in apps {
            if !seen.contains_key(app) {
                let sees = who.reads_all() || lookup::app(&mut conn, &who, app).await.is_ok();
                seen.insert(app.to_owned(), sees);
            }
            visible &= seen[app];
        }
        if visible {
            policies.push(presented(&policy));
        }
    }
    Ok(Json(json!({ "total_policies": policies.len(), "policies": policies })).into_response())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    /// App guids, separated by commas.
    id: Option<String>,
}

async fn create(
    State(cc): State<Cc>,
    who: Principal,
    body: axum::body::Bytes,
) -> Result<Response, Refusal> {
    let mut tx = cc.db.write().await?;
    let policies = requested(&mut tx, &who, &body).await?;
    for policy in &policies {
        network_policy::insert(&mut tx, policy).await?;
        let count = network_policy::count_of_source(&mut tx, &policy.source_guid).await?;
        if count > MOST_PER_SOURCE && !who.is_admin() {
            return Err(Refusal::forbidden(format!(
                "policy quota exceeded: an app may be the source of {MOST_PER_SOURCE} policies"
            )));
        }
    }
    tx.commit().await?;
    Ok(Json(json!({})).into_response())
}

async fn remove(
    State(cc): State<Cc>,
    who: Principal,
    body: axum::body::Bytes,
) -> Result<Response, Refusal> {
    let mut tx = cc.db.write().await?;
    for policy in requested(&mut tx, &who, &body).await? {
        network_policy::delete(&mut tx, &policy).await?;
    }
    tx.commit().await?;
    Ok(Json(json!({})).into_response())
}

/// All policies, for cells; the internal listener serves it.
pub(crate) async fn internal(State(cc): State<Cc>) -> ApiResult {
    let all = network_policy::all(&mut *cc.db.read().await?).await?;
    let policies = all.into_iter().map(|(policy, number)| InternalPolicy {
        source: PolicySource {
            id: policy.source_guid,
            tag: format!("{number:04X}"),
        },
        destination: PolicyDestination {
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
