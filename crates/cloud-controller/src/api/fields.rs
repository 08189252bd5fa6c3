//! The parameters `fields[…]` of service instances: a few fields of their spaces and organizations, which are included in the answer.

use super::prelude::*;
use crate::db::organization::Organization;
use crate::db::service_instance::ServiceInstance;
use crate::db::space::Space;
use serde_json::Map;

const SPACE: &str = "fields[space]";
const ORGANIZATION: &str = "fields[space.organization]";

/// The fields that a request may name, by resource.
const FIELDS: &[(&str, &[&str])] = &[
    (SPACE, &["guid", "name", "relationships.organization"]),
    (ORGANIZATION, &["guid", "name"]),
    (
        "fields[service_plan]",
        &["guid", "name", "relationships.service_offering"],
    ),
    (
        "fields[service_plan.service_offering]",
        &[
            "guid",
            "name",
            "description",
            "documentation_url",
            "tags",
            "relationships.service_broker",
        ],
    ),
    (
        "fields[service_plan.service_offering.service_broker]",
        &["guid", "name"],
    ),
];

/// The parameters of instances.
pub(super) const OF_INSTANCES: &[&str] = &[
    SPACE,
    ORGANIZATION,
    "fields[service_plan]",
    "fields[service_plan.service_offering]",
    "fields[service_plan.service_offering.service_broker]",
];

/// The parameters of the spaces with which an instance is shared.
pub(super) const OF_SPACES: &[&str] = &[SPACE, ORGANIZATION];

/// The fields of spaces and organizations that a request wants beside the instances.
#[derive(Debug)]
pub(super) struct Fields {
    space: Option<Vec<String>>,
    organization: Option<Vec<String>>,
}

impl Fields {
    /// Reads `fields[…]`. Those of plans are checked only, because no instance has a plan.
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
        })
    }

    /// Returns what is included, or `None` if the request wants nothing.
    pub(super) async fn included(
        &self,
        conn: &mut Connection,
        who: &Principal,
        instances: &[ServiceInstance],
    ) -> ApiResult<Option<Value>> {
        if self.space.is_none() && self.organization.is_none() {
            return Ok(None);
        }
        let mut included = Map::new();
        let guids = instances.iter().map(|instance| &instance.space_guid);
        let spaces: Vec<Space> = who.visible().any("guid", guids).all(conn).await?;
        if let Some(fields) = &self.space {
            let shown = spaces.iter().map(|space| {
                let organization = to_one(Some(&space.organization_guid));
                let relationships = json!({ "organization": organization });
                chosen(fields, &space.guid, &space.name, Some(relationships))
            });
            included.insert("spaces".to_owned(), shown.collect());
        }
        if let Some(fields) = &self.organization {
            let guids = spaces.iter().map(|space| &space.organization_guid);
            let rows: Vec<Organization> = who.visible().any("guid", guids).all(conn).await?;
            let shown = rows
                .iter()
                .map(|row| chosen(fields, &row.guid, &row.name, None));
            included.insert("organizations".to_owned(), shown.collect());
        }
        Ok(Some(included.into()))
    }
}

/// Returns the chosen fields of a space or an organization.
fn chosen(fields: &[String], guid: &str, name: &str, relationships: Option<Value>) -> Value {
    let mut shown = Map::new();
    for field in fields {
        match (field.as_str(), &relationships) {
            ("guid", _) => shown.insert("guid".to_owned(), json!(guid)),
            ("name", _) => shown.insert("name".to_owned(), json!(name)),
            (_, Some(value)) => shown.insert("relationships".to_owned(), value.clone()),
            (_, None) => None,
        };
    }
    shown.into()
}
