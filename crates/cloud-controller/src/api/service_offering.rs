//! The endpoints `/v3/service_offerings`: what brokers offer. Callers without a token see what everybody may use.

use super::lookup::market;
use super::prelude::*;
use crate::actions::{audit, service_offering as verbs};
use crate::db::organization::Organization;
use crate::db::service_broker::ServiceBroker;
use crate::db::service_offering::{self, ServiceOffering};
use crate::db::space::Space;
use crate::flags::Flag;
use serde_json::Map;

const PATH: &str = "/v3/service_offerings";

/// The parameter that includes fields of the brokers.
const BROKER: &str = "fields[service_broker]";

pub(super) fn routes() -> Endpoints {
    let one = "/v3/service_offerings/{guid}";
    let hidden = Flag::HideMarketplaceFromUnauthenticatedUsers;
    Endpoints::default()
        .get(PATH, list)
        .lists(&[
            "names",
            "available",
            "broker_catalog_ids",
            "service_broker_guids",
            "service_broker_names",
            "space_guids",
            "organization_guids",
            BROKER,
        ])
        .open_unless(hidden)
        .get(one, show)
        .takes(&[BROKER])
        .open_unless(hidden)
        .patch(one, update)
        .body(&["metadata"])
        .delete(one, remove)
        .takes(&["purge"])
}

pub(super) fn present(cc: &Cc, offering: &ServiceOffering) -> Value {
    let guid = &offering.guid;
    let broker = &offering.service_broker_guid;
    let none = Value::Object(Map::new());
    let extra = offering.extra.as_ref().map_or(&none, |extra| &extra.0);
    let links = cc.links(
        &format!("{PATH}/{guid}"),
        &[
            (
                "service_plans",
                format!("/v3/service_plans?service_offering_guids={guid}"),
            ),
            ("service_broker", format!("/v3/service_brokers/{broker}")),
        ],
    );
    resource(
        guid,
        offering.created_at,
        offering.updated_at,
        json!({
            "name": offering.name,
            "description": offering.description,
            "available": offering.active,
            "tags": offering.tags.0,
            "requires": offering.requires.0,
            "shareable": offering.is_shareable(),
            "documentation_url": extra.get("documentationUrl").unwrap_or(&json!("")),
            "broker_catalog": {
                "id": offering.unique_id,
                "metadata": extra,
                "features": {
                    "plan_updateable": offering.plan_updateable,
                    "bindable": offering.bindable,
                    "instances_retrievable": offering.instances_retrievable,
                    "bindings_retrievable": offering.bindings_retrievable,
                    "allow_context_updates": offering.allow_context_updates,
                },
            },
            "relationships": { "service_broker": to_one(Some(broker)) },
            "metadata": offering.metadata.0.present(),
            "links": links,
        }),
    )
}

/// The fields of brokers that a request wants beside offerings or plans.
pub(super) struct BrokerFields(Option<Vec<String>>);

impl BrokerFields {
    pub(super) fn of(query: &Query, name: &'static str) -> ApiResult<Self> {
        let wanted = query.values(name);
        let is_known = |field: &String| ["guid", "name"].contains(&field.as_str());
        if wanted.iter().flatten().all(is_known) {
            return Ok(Self(wanted));
        }
        let resource = name.trim_start_matches("fields[").trim_end_matches(']');
        Err(ApiError::bad_query(format!(
            "Fields valid keys for '{resource}' are: 'guid', 'name'"
        )))
    }

    /// Returns the brokers of some offerings, or `None` if the request wants none.
    pub(super) async fn included(
        &self,
        conn: &mut Connection,
        offerings: &[ServiceOffering],
    ) -> ApiResult<Option<Value>> {
        let Some(fields) = &self.0 else {
            return Ok(None);
        };
        let brokers = service_offering::brokers(conn, offerings).await?;
        let shown = |broker: &ServiceBroker| {
            let values = [("guid", &broker.guid), ("name", &broker.name)];
            let chosen = values
                .into_iter()
                .filter(|(key, _)| fields.iter().any(|field| field == key));
            let map: Map<String, Value> = chosen
                .map(|(key, value)| (key.to_owned(), json!(value)))
                .collect();
            Value::Object(map)
        };
        Ok(Some(brokers.iter().map(shown).collect()))
    }
}

/// Returns the spaces of `space_guids` that the caller sees, and the organizations of `organization_guids`. Without a caller there
/// are none.
pub(super) async fn places(
    conn: &mut Connection,
    who: Option<&Principal>,
    query: &Query,
) -> ApiResult<(Option<Vec<String>>, Option<Vec<String>>)> {
    let (mut spaces, mut organizations) = (
        query.values("space_guids"),
        query.values("organization_guids"),
    );
    if let Some(guids) = &mut spaces {
        let seen = match who {
            Some(who) => {
                who.visible::<Space>()
                    .any("guid", &*guids)
                    .all(conn)
                    .await?
            }
            None => Vec::new(),
        };
        *guids = seen.into_iter().map(|space| space.guid).collect();
    }
    if let Some(guids) = &mut organizations {
        let seen = match who {
            Some(who) => {
                let seen = who.visible::<Organization>().any("guid", &*guids);
                seen.all(conn).await?
            }
            None => Vec::new(),
        };
        *guids = seen.into_iter().map(|row| row.guid).collect();
    }
    Ok((spaces, organizations))
}

async fn list(State(cc): State<Cc>, who: Option<Principal>, query: Query) -> ApiResult {
    let fields = BrokerFields::of(&query, BROKER)?;
    let mut select = market::<ServiceOffering>(who.as_ref(), cc.settings.limits.page_bytes);
    for (name, column) in [
        ("names", "name"),
        ("broker_catalog_ids", "unique_id"),
        ("service_broker_guids", "service_broker_guid"),
    ] {
        select = query.filter(select, name, column);
    }
    let names = service_offering::OF_BROKER_NAMES;
    select = query.filter_by(select, "service_broker_names", names);
    if let Some(available) = query.flag("available")? {
        select = select.is("active", available);
    }
    let mut conn = cc.db.read().await?;
    let (spaces, organizations) = places(&mut conn, who.as_ref(), &query).await?;
    if let Some(spaces) = spaces {
        select = select.that(service_offering::usable_in_spaces(&spaces));
    }
    if let Some(organizations) = organizations {
        select = select.that(service_offering::usable_in_organizations(&organizations));
    }
    let found = query.fetch(&mut conn, select).await?;
    let resources = found.rows.iter().map(|row| present(&cc, row)).collect();
    let mut answer = cc.page(&query, found.page, resources);
    if let Some(brokers) = fields.included(&mut conn, &found.rows).await? {
        answer["included"] = json!({ "service_brokers": brokers });
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
    let mut conn = cc.db.read().await?;
    let market = market::<ServiceOffering>(who.as_ref(), cc.settings.limits.page_bytes);
    let offering = market.is("guid", &guid).first(&mut conn).await?;
    let offering = offering.ok_or_else(|| ApiError::not_found("Service offering"))?;
    let mut answer = present(&cc, &offering);
    if let Some(brokers) = fields.included(&mut conn, &[offering]).await? {
        answer["included"] = json!({ "service_brokers": brokers });
    }
    Ok(ok(answer))
}

/// Returns an offering that the caller may change: an administrator, or a developer in the space of its broker. A suspension does not
/// matter.
async fn find_to_change(
    conn: &mut Connection,
    who: &Principal,
    guid: &str,
) -> ApiResult<ServiceOffering> {
    let found = who.find::<ServiceOffering>(conn, guid, Right::Read).await?;
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
    let mut offering = find_to_change(&mut tx, &who, &guid).await?;
    body.merge_metadata(&mut offering.metadata)?;
    body.finish()?;
    offering.touch();
    db::update(&mut tx, &offering).await?;
    tx.commit(Unrecorded::NoSuchEvent).await?;
    Ok(ok(present(&cc, &offering)))
}

async fn remove(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    query: Query,
) -> ApiResult {
    let purge = query.flag("purge")?.unwrap_or_default();
    let mut tx = cc.change().await?;
    let offering = find_to_change(&mut tx, &who, &guid).await?;
    let trail = verbs::delete(&mut tx, audit::actor(&who), &offering, purge).await?;
    tx.commit(trail).await?;
    Ok(no_content())
}
