//! The catalog of a broker: its offerings and their plans.

mod check;
mod errors;
mod inspect;
mod plan;
mod schema;

pub use errors::CatalogErrors;
pub use plan::is_semantic_version;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A catalog that obeys the rules.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Catalog {
    pub offerings: Vec<Offering>,
}

/// An offering, which the API calls a service.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Offering {
    pub id: String,
    pub name: String,
    pub description: String,
    pub bindable: bool,
    pub tags: Vec<String>,
    /// The permissions that bindings need: `syslog_drain`, `route_forwarding`, `volume_mount`.
    pub requires: Vec<String>,
    pub metadata: Option<Value>,
    pub dashboard_client: Option<DashboardClient>,
    pub plan_updateable: bool,
    pub bindings_retrievable: bool,
    pub instances_retrievable: bool,
    pub allow_context_updates: bool,
    pub plans: Vec<Plan>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    pub id: String,
    pub name: String,
    pub description: String,
    pub metadata: Option<Value>,
    pub free: bool,
    /// `None`: the offering decides.
    pub bindable: Option<bool>,
    pub plan_updateable: Option<bool>,
    /// The longest time for which an operation is polled, in seconds.
    pub maximum_polling_duration: Option<i64>,
    pub maintenance_info: Option<MaintenanceInfo>,
    /// The JSON Schemas of parameters.
    pub create_instance: Option<Value>,
    pub update_instance: Option<Value>,
    pub create_binding: Option<Value>,
}

/// The version of what a plan provides.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MaintenanceInfo {
    pub version: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// The client of the UAA that a dashboard uses to identify its users.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct DashboardClient {
    pub id: String,
    pub secret: String,
    pub redirect_uri: String,
}

/// Prints no secret.
impl std::fmt::Debug for DashboardClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DashboardClient")
            .field("id", &self.id)
            .field("redirect_uri", &self.redirect_uri)
            .finish_non_exhaustive()
    }
}

impl Catalog {
    /// Reads what a broker answered and checks all rules that need no knowledge of other catalogs.
    ///
    /// # Errors
    /// It returns everything that is wrong.
    pub fn check(answer: &Value) -> Result<Self, CatalogErrors> {
        check::catalog(answer)
    }

    /// Returns all plans, each with its offering.
    pub fn plans(&self) -> impl Iterator<Item = (&Offering, &Plan)> {
        self.offerings
            .iter()
            .flat_map(|offering| offering.plans.iter().map(move |plan| (offering, plan)))
    }

    /// Returns the clients of all dashboards.
    pub fn dashboard_clients(&self) -> Vec<&DashboardClient> {
        let clients = self.offerings.iter();
        clients
            .filter_map(|offering| offering.dashboard_client.as_ref())
            .collect()
    }
}

#[cfg(test)]
mod tests;
