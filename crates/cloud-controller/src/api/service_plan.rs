//! The endpoints `/v3/service_plans`: the plans of offerings. Callers without a token see what everybody may use.

use super::lookup::market;
use super::prelude::*;
use super::service_offering::{self as offerings, BrokerFields};
use super::{organization, space};
use crate::actions::{audit, service_plan as verbs};
use crate::db::service_broker::ServiceBroker;
use crate::db::service_offering::{self, ServiceOffering};
use crate::db::service_plan::{self, ServicePlan};
use crate::db::service_plan_visibility;
use crate::db::{organization as organizations, space as spaces};
use crate::flags::Flag;
use serde_json::Map;
use std::collections::{BTreeMap, BTreeSet};

const PATH: &str = "/v3/service_plans";

/// The parameter that includes fields of the brokers.
const BROKER: &str = "fields[service_offering.service_broker]";

pub(super) fn routes() -> Endpoints {
    let one = "/v3/service_plans/{guid}";
    let hidden = Flag::HideMarketplaceFromUnauthenticatedUsers;
    Endpoints::default()
        .get(PATH, list)
        .lists(&[
            "names",
            "available",
            "broker_catalog_ids",
            "service_broker_guids",
            "service_broker_names",
            "service_offering_guids",
            "service_offering_names",
            "service_instance_guids",
            "space_guids",
            "organization_guids",
            "include",
            BROKER,
        ])
        .open_unless(hidden)
        .get(one, show)
        .takes(&["include", BROKER])
        .open_unless(hidden)
        .patch(one, update)
        .body(&["metadata"])
        .delete(one, remove)
}

/// The rows above some plans, and what decides who may use them.
pub(super) struct Surroundings {
    offerings: BTreeMap<String, ServiceOffering>,
    brokers: BTreeMap<String, ServiceBroker>,
    /// The plans that single organizations may use.
    restricted: BTreeSet<String>,
}

impl Surroundings {
    pub(super) async fn of(conn: &mut Connection, plans: &[ServicePlan]) -> ApiResult<Self> {
        let offerings = service_plan::offerings(conn, plans).await?;
        let brokers = service_offering::brokers(conn, &offerings).await?;
        Ok(Self {
            restricted: service_plan_visibility::restricted(conn, plans).await?,
            offerings: offerings
                .into_iter()
                .map(|row| (row.guid.clone(), row))
                .collect(),
            brokers: brokers
                .into_iter()
                .map(|row| (row.guid.clone(), row))
                .collect(),
        })
    }

    fn offering(&self, plan: &ServicePlan) -> Option<&ServiceOffering> {
        self.offerings.get(&plan.service_offering_guid)
    }

    /// Returns the space to which the plan's broker belongs.
    pub(super) fn space(&self, plan: &ServicePlan) -> Option<&str> {
        let broker = &self.offering(plan)?.service_broker_guid;
        self.brokers.get(broker)?.space_guid.as_deref()
    }

    /// Returns who may use a plan.
    pub(super) fn visibility(&self, plan: &ServicePlan) -> &'static str {
        if plan.is_public {
            "public"
        } else if self.space(plan).is_some() {
            "space"
        } else if self.restricted.contains(&plan.guid) {
            "organization"
        } else {
            "admin"
        }
    }

    fn all_offerings(&self) -> Vec<ServiceOffering> {
        let mut all: Vec<ServiceOffering> = self.offerings.values().cloned().collect();
        all.sort_by(|a, b| (a.created_at, &a.guid).cmp(&(b.created_at, &b.guid)));
        all
    }
}

fn present(cc: &Cc, plan: &ServicePlan, around: &Surroundings) -> Value {
    let guid = &plan.guid;
    let offering = &plan.service_offering_guid;
    let path = format!("{PATH}/{guid}");
    let mut links = cc.links(
        &path,
        &[
            (
                "service_offering",
                format!("/v3/service_offerings/{offering}"),
            ),
            ("visibility", format!("{path}/visibility")),
        ],
    );
    let mut relationships = json!({ "service_offering": to_one(Some(offering)) });
    if let Some(space) = around.space(plan) {
        links.insert("space".to_owned(), cc.link(&format!("/v3/spaces/{space}")));
        relationships["space"] = to_one(Some(space));
    }
    let none = Value::Object(Map::new());
    let or_none = |json: &Option<db::Json<Value>>| {
        json.as_ref()
            .map_or_else(|| none.clone(), |json| json.0.clone())
    };
    let extra = or_none(&plan.extra);
    let info = plan.maintenance_info.as_ref().map(|info| json!(info.0));
    let owner = around.offering(plan);
    let bindable = owner.map(|owner| plan.is_bindable(owner));
    let updateable = owner.map(|owner| plan.is_updateable(owner));
    resource(
        guid,
        plan.created_at,
        plan.updated_at,
        json!({
            "name": plan.name,
            "visibility_type": around.visibility(plan),
            "available": plan.active,
            "free": plan.free,
            "costs": costs(&extra),
            "description": plan.description,
            "maintenance_info": info.unwrap_or_else(|| none.clone()),
            "broker_catalog": {
                "id": plan.unique_id,
                "metadata": extra,
                "maximum_polling_duration": plan.maximum_polling_duration,
                "features": { "bindable": bindable, "plan_updateable": updateable },
            },
            "schemas": {
                "service_instance": {
                    "create": { "parameters": or_none(&plan.create_instance_schema) },
                    "update": { "parameters": or_none(&plan.update_instance_schema) },
                },
                "service_binding": { "create": { "parameters": or_none(&plan.create_binding_schema) } },
            },
            "relationships": relationships,
            "metadata": plan.metadata.0.present(),
            "links": links,
        }),
    )
}

/// Returns the costs of a plan's catalog metadata, one for each currency. If any cost is malformed, there are none.
fn costs(extra: &Value) -> Vec<Value> {
    let read = || -> Option<Vec<Value>> {
        let mut costs = Vec::new();
        for cost in extra.get("costs")?.as_array()? {
            let unit = cost.get("unit")?.as_str().filter(|unit| !unit.is_empty())?;
            let amounts = cost.get("amount")?.as_object()?;
            if amounts.is_empty() {
                return None;
            }
            for (currency, amount) in amounts {
                if currency.is_empty() {
                    return None;
                }
                costs.push(json!({
                    "currency": currency.to_uppercase(),
                    "amount": amount.as_f64()?,
                    "unit": unit,
                }));
            }
        }
        Some(costs)
    };
    read().unwrap_or_default()
}

/// Returns what `include` and `fields` want beside some plans, or `None` if they want nothing.
async fn included(
    cc: &Cc,
    conn: &mut Connection,
    wanted: &[String],
    fields: &BrokerFields,
    plans: &[ServicePlan],
    around: &Surroundings,
) -> ApiResult<Option<Value>> {
    let mut included = Map::new();
    let wants = |name: &str| wanted.iter().any(|other| other == name);
    if wants("space.organization") {
        let guids: BTreeSet<&str> = plans.iter().filter_map(|plan| around.space(plan)).collect();
        let guids: Vec<String> = guids.into_iter().map(str::to_owned).collect();
        let found = spaces::all_of(conn, &guids).await?;
        let guids: BTreeSet<&str> = found
            .iter()
            .map(|space| space.organization_guid.as_str())
            .collect();
        let guids: Vec<String> = guids.into_iter().map(str::to_owned).collect();
        let rows = organizations::all_of(conn, &guids).await?;
        let shown = found.iter().map(|row| space::present(cc, row));
        included.insert("spaces".to_owned(), shown.collect());
        let shown = rows.iter().map(|row| organization::present(cc, row));
        included.insert("organizations".to_owned(), shown.collect());
    }
    let all = around.all_offerings();
    if wants("service_offering") {
        let shown = all.iter().map(|row| offerings::present(cc, row));
        included.insert("service_offerings".to_owned(), shown.collect());
    }
    if let Some(brokers) = fields.included(conn, &all).await? {
        included.insert("service_brokers".to_owned(), brokers);
    }
    Ok((!included.is_empty()).then_some(Value::Object(included)))
}

const INCLUDES: &[&str] = &["space.organization", "service_offering"];

async fn list(State(cc): State<Cc>, who: Option<Principal>, query: Query) -> ApiResult {
    let fields = BrokerFields::of(&query, BROKER)?;
    let wanted = query.include(INCLUDES)?;
    let mut select = market::<ServicePlan>(who.as_ref(), cc.settings.limits.page_bytes);
    for (name, column) in [
        ("names", "name"),
        ("broker_catalog_ids", "unique_id"),
        ("service_offering_guids", "service_offering_guid"),
    ] {
        select = query.filter(select, name, column);
    }
    for (name, condition) in [
        ("service_broker_guids", service_plan::OF_BROKERS),
        ("service_broker_names", service_plan::OF_BROKER_NAMES),
        ("service_offering_names", service_plan::OF_OFFERING_NAMES),
        ("service_instance_guids", service_plan::OF_INSTANCES),
    ] {
        select = query.filter_by(select, name, condition);
    }
    if let Some(available) = query.flag("available")? {
        select = select.is("active", available);
    }
    let mut conn = cc.db.read().await?;
    let (in_spaces, in_organizations) = offerings::places(&mut conn, who.as_ref(), &query).await?;
    if let Some(guids) = in_spaces {
        select = select.that(service_plan::usable_in_spaces(&guids));
    }
    if let Some(guids) = in_organizations {
        select = select.that(service_plan::usable_in_organizations(&guids));
    }
    let found = query.fetch(&mut conn, select).await?;
    let around = Surroundings::of(&mut conn, &found.rows).await?;
    let resources = found
        .rows
        .iter()
        .map(|row| present(&cc, row, &around))
        .collect();
    let included = included(&cc, &mut conn, &wanted, &fields, &found.rows, &around).await?;
    let mut answer = cc.page(&query, found.page, resources);
    if let Some(included) = included {
        answer["included"] = included;
    }
    Ok(ok(answer))
}

async fn show(
    State(cc): State<Cc>,
    who: Option<Principal>,
    Path(guid): Path<String>,
    query: Query,
) -> ApiResult {
    let fields = BrokerFields::of(&query, BROKER)?;
    let wanted = query.include(INCLUDES)?;
    let mut conn = cc.db.read().await?;
    let market = market::<ServicePlan>(who.as_ref(), cc.settings.limits.page_bytes);
    let plan = market.is("guid", &guid).first(&mut conn).await?;
    let plans = [plan.ok_or_else(|| ApiError::not_found("Service plan"))?];
    let around = Surroundings::of(&mut conn, &plans).await?;
    let mut answer = present(&cc, &plans[0], &around);
    let included = included(&cc, &mut conn, &wanted, &fields, &plans, &around).await?;
    if let Some(included) = included {
        answer["included"] = included;
    }
    Ok(ok(answer))
}

/// Returns a plan that the caller may change: an administrator, or a developer in the space of its broker. A suspension does not
/// matter.
pub(super) async fn find_to_change(
    conn: &mut Connection,
    who: &Principal,
    guid: &str,
) -> ApiResult<ServicePlan> {
    let found = who.find::<ServicePlan>(conn, guid, Right::Read).await?;
    found.access.must_hold(Right::Develop)?;
    Ok(found.row)
}

async fn update(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    body: Body,
) -> ApiResult {
    let mut tx = cc.change().await?;
    let mut plan = find_to_change(&mut tx, &who, &guid).await?;
    body.merge_metadata(&mut plan.metadata)?;
    body.finish()?;
    plan.touch();
    db::update(&mut tx, &plan).await?;
    let plans = [plan];
    let around = Surroundings::of(&mut tx, &plans).await?;
    tx.commit(Unrecorded::NoSuchEvent).await?;
    Ok(ok(present(&cc, &plans[0], &around)))
}

async fn remove(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    let mut tx = cc.change().await?;
    let plan = find_to_change(&mut tx, &who, &guid).await?;
    let trail = verbs::delete(&mut tx, audit::actor(&who), &plan).await?;
    tx.commit(trail).await?;
    Ok(no_content())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_are_shown_by_currency_if_all_are_right() {
        let right = json!({ "costs": [{ "amount": { "usd": 9.5, "eur": 9 }, "unit": "MONTHLY" }] });
        let wanted = [
            json!({ "currency": "EUR", "amount": 9.0, "unit": "MONTHLY" }),
            json!({ "currency": "USD", "amount": 9.5, "unit": "MONTHLY" }),
        ];
        assert_eq!(costs(&right), wanted);
        for wrong in [
            json!({}),
            json!({ "costs": {} }),
            json!({ "costs": [{ "amount": {}, "unit": "x" }] }),
            json!({ "costs": [{ "amount": { "usd": "9" }, "unit": "x" }] }),
            json!({ "costs": [{ "amount": { "usd": 9 } }] }),
        ] {
            assert_eq!(costs(&wrong), Vec::<Value>::new(), "{wrong}");
        }
    }
}
