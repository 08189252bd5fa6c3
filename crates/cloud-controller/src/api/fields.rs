//! The parameters `fields[…]` of service instances: a few fields of what is above them, which are included in the answer.

use super::prelude::*;
use crate::db::service_instance::ServiceInstance;
use crate::db::service_offering::{self, ServiceOffering};
use crate::db::service_plan;
use serde_json::Map;
use std::collections::BTreeSet;

const SPACE: &str = "fields[space]";
const ORGANIZATION: &str = "fields[space.organization]";
const PLAN: &str = "fields[service_plan]";
const OFFERING: &str = "fields[service_plan.service_offering]";
const BROKER: &str = "fields[service_plan.service_offering.service_broker]";

/// The fields that a request may name, by resource.
const FIELDS: &[(&str, &[&str])] = &[
    (SPACE, &["guid", "name", "relationships.organization"]),
    (ORGANIZATION, &["guid", "name"]),
    (PLAN, &["guid", "name", "relationships.service_offering"]),
    (
        OFFERING,
        &[
            "guid",
            "name",
            "description",
            "documentation_url",
            "tags",
            "relationships.service_broker",
        ],
    ),
    (BROKER, &["guid", "name"]),
];

/// The parameters of instances.
pub(super) const OF_INSTANCES: &[&str] = &[SPACE, ORGANIZATION, PLAN, OFFERING, BROKER];

/// The parameters of the spaces with which an instance is shared.
pub(super) const OF_SPACES: &[&str] = &[SPACE, ORGANIZATION];

/// The fields that a request wants beside the instances.
#[derive(Debug)]
pub(super) struct Fields {
    space: Option<Vec<String>>,
    organization: Option<Vec<String>>,
    plan: Option<Vec<String>>,
    offering: Option<Vec<String>>,
    broker: Option<Vec<String>>,
}

/// The fields of one row, by the names in requests.
type Shown<'a> = Vec<(&'a str, Value)>;

impl Fields {
    pub(super) fn of(query: &Query) -> ApiResult<Self> {
        for (name, allowed) in FIELDS {
            let wanted = query.values(name).unwrap_or_default();
            if wanted.iter().all(|field| allowed.contains(&field.as_str())) {
                continue;
            }
            let allowed: Vec<String> = allowed.iter().map(|field| format!("'{field}'")).collect();
            let resource = name.trim_start_matches("fields[").trim_end_matches(']');
            return Err(ApiError::bad_query(format!(
                "Fields valid keys for '{resource}' are: {}",
                allowed.join(", ")
            )));
        }
        Ok(Self {
            space: query.values(SPACE),
            organization: query.values(ORGANIZATION),
            plan: query.values(PLAN),
            offering: query.values(OFFERING),
            broker: query.values(BROKER),
        })
    }

    /// Returns what is included beside some instances, or `None` if the request wants nothing. As in the original, it does not matter
    /// whether the caller sees the spaces, because an instance may be shared from a space that the caller does not see.
    pub(super) async fn included(
        &self,
        conn: &mut Connection,
        instances: &[ServiceInstance],
    ) -> ApiResult<Option<Value>> {
        let guids = instances.iter().map(|instance| instance.space_guid.clone());
        let guids: BTreeSet<String> = guids.collect();
        let guids: Vec<String> = guids.into_iter().collect();
        let mut included = self.places(conn, &guids).await?;
        self.services(conn, instances, &mut included).await?;
        Ok((!included.is_empty()).then_some(Value::Object(included)))
    }

    /// Returns what is included beside some spaces, or `None` if the request wants nothing.
    pub(super) async fn included_with(
        &self,
        conn: &mut Connection,
        spaces: &[String],
    ) -> ApiResult<Option<Value>> {
        let included = self.places(conn, spaces).await?;
        Ok((!included.is_empty()).then_some(Value::Object(included)))
    }

    async fn places(
        &self,
        conn: &mut Connection,
        spaces: &[String],
    ) -> ApiResult<Map<String, Value>> {
        let mut included = Map::new();
        if self.space.is_none() && self.organization.is_none() {
            return Ok(included);
        }
        let spaces = db::space::all_of(conn, spaces).await?;
        if let Some(fields) = &self.space {
            let shown = spaces.iter().map(|space| {
                let organization = to_one(Some(&space.organization_guid));
                chosen(
                    fields,
                    vec![
                        ("guid", json!(space.guid)),
                        ("name", json!(space.name)),
                        (
                            "relationships.organization",
                            json!({ "organization": organization }),
                        ),
                    ],
                )
            });
            included.insert("spaces".to_owned(), shown.collect());
        }
        if let Some(fields) = &self.organization {
            let guids: BTreeSet<&String> = spaces.iter().map(|s| &s.organization_guid).collect();
            let guids: Vec<String> = guids.into_iter().cloned().collect();
            let rows = db::organization::all_of(conn, &guids).await?;
            let shown = rows.iter().map(|row| {
                chosen(
                    fields,
                    vec![("guid", json!(row.guid)), ("name", json!(row.name))],
                )
            });
            included.insert("organizations".to_owned(), shown.collect());
        }
        Ok(included)
    }

    /// Adds the plans of managed instances, and what is above the plans.
    async fn services(
        &self,
        conn: &mut Connection,
        instances: &[ServiceInstance],
        included: &mut Map<String, Value>,
    ) -> ApiResult<()> {
        let is_wanted = self.plan.is_some() || self.offering.is_some() || self.broker.is_some();
        if !is_wanted || !instances.iter().any(ServiceInstance::is_managed) {
            return Ok(());
        }
        let plans = service_plan::of_instances(conn, instances).await?;
        if let Some(fields) = &self.plan {
            let shown = plans.iter().map(|plan| {
                let offering = to_one(Some(&plan.service_offering_guid));
                chosen(
                    fields,
                    vec![
                        ("guid", json!(plan.guid)),
                        ("name", json!(plan.name)),
                        (
                            "relationships.service_offering",
                            json!({ "service_offering": offering }),
                        ),
                    ],
                )
            });
            included.insert("service_plans".to_owned(), shown.collect());
        }
        let offerings = service_plan::offerings(conn, &plans).await?;
        if let Some(fields) = &self.offering {
            let shown = offerings.iter().map(|row| chosen(fields, of_offering(row)));
            included.insert("service_offerings".to_owned(), shown.collect());
        }
        if let Some(fields) = &self.broker {
            let rows = service_offering::brokers(conn, &offerings).await?;
            let shown = rows.iter().map(|row| {
                chosen(
                    fields,
                    vec![("guid", json!(row.guid)), ("name", json!(row.name))],
                )
            });
            included.insert("service_brokers".to_owned(), shown.collect());
        }
        Ok(())
    }
}

fn of_offering(offering: &ServiceOffering) -> Shown<'static> {
    let extra = offering.extra.as_ref().map(|extra| &extra.0);
    let documentation = extra.and_then(|extra| extra.get("documentationUrl"));
    let broker = to_one(Some(&offering.service_broker_guid));
    vec![
        ("guid", json!(offering.guid)),
        ("name", json!(offering.name)),
        ("description", json!(offering.description)),
        ("documentation_url", json!(documentation)),
        ("tags", json!(offering.tags.0)),
        (
            "relationships.service_broker",
            json!({ "service_broker": broker }),
        ),
    ]
}

/// Returns the chosen fields of a row. All relationships have the same key.
fn chosen(fields: &[String], values: Shown<'_>) -> Value {
    let is_chosen = |(name, _): &(&str, Value)| fields.iter().any(|field| field == name);
    let chosen = values.into_iter().filter(is_chosen);
    let shown: Map<String, Value> = chosen
        .map(|(name, value)| match name.starts_with("relationships.") {
            true => ("relationships".to_owned(), value),
            false => (name.to_owned(), value),
        })
        .collect();
    shown.into()
}
