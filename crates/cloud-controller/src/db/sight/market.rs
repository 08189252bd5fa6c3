//! The sight of the marketplace: brokers, offerings and plans.

use super::{Above as _, OfAny, OfSpace, OnMarket, Parent, Seen};
use crate::db::Connection;
use crate::db::service_broker::ServiceBroker;
use crate::db::service_offering::ServiceOffering;
use crate::db::service_plan::ServicePlan;

impl OfAny {
    pub(super) const PLATFORM: Self = Self {
        space: None,
        organization: None,
    };

    /// Returns the rows above what a broker provides: those of the broker's space, or none.
    pub(super) async fn of_broker(
        conn: &mut Connection,
        broker: Option<ServiceBroker>,
    ) -> sqlx::Result<Option<Self>> {
        match broker {
            None => Ok(None),
            Some(ServiceBroker {
                space_guid: None, ..
            }) => Ok(Some(Self::PLATFORM)),
            Some(ServiceBroker {
                space_guid: Some(space),
                ..
            }) => {
                let above = OfSpace::load(conn, Parent::Space(&space)).await?;
                Ok(above.map(|above| Self {
                    space: Some(above.space),
                    organization: Some(above.organization),
                }))
            }
        }
    }
}

/// A broker of a space is seen by those who may use or support its services there. Others are seen by callers who read everything.
impl Seen for ServiceBroker {
    const NOUN: &'static str = "Service broker";
    const SEEN: &'static str = "space_guid IN (SELECT space_guid FROM roles WHERE user_guid = ? AND type IN ('space_developer', 'space_supporter'))";
    type Of = OfAny;
    fn parent(&self) -> Parent<'_> {
        self.space_guid
            .as_deref()
            .map_or(Parent::Platform, Parent::Space)
    }
}

/// The spaces in which a user has a role of the space itself.
macro_rules! own_spaces {
    () => {
        "SELECT space_guid FROM roles WHERE user_guid = ? AND space_guid IS NOT NULL"
    };
}

/// An offering is seen by those who see one of its plans.
impl Seen for ServiceOffering {
    const NOUN: &'static str = "Service offering";
    const SEEN: &'static str = concat!(
        "(guid IN (SELECT service_offering_guid FROM service_plans WHERE is_public = 1
            OR guid IN (SELECT service_plan_guid FROM service_plan_visibilities WHERE organization_guid IN (",
        readable_organizations!(),
        "))) OR service_broker_guid IN (SELECT guid FROM service_brokers WHERE space_guid IN (",
        own_spaces!(),
        ")))"
    );
    type Of = OfAny;
    fn parent(&self) -> Parent<'_> {
        Parent::ServiceBroker(&self.service_broker_guid)
    }
}

impl OnMarket for ServiceOffering {
    const PUBLIC: &'static str =
        "guid IN (SELECT service_offering_guid FROM service_plans WHERE is_public = 1)";
}

/// A plan is seen by everybody, by the members of the organizations that may use it, or in the space of its broker.
impl Seen for ServicePlan {
    const NOUN: &'static str = "Service plan";
    const SEEN: &'static str = concat!(
        "(is_public = 1 OR guid IN (SELECT service_plan_guid FROM service_plan_visibilities WHERE organization_guid IN (",
        readable_organizations!(),
        ")) OR service_offering_guid IN (SELECT o.guid FROM service_offerings o JOIN service_brokers b ON b.guid = o.service_broker_guid WHERE b.space_guid IN (",
        own_spaces!(),
        ")))"
    );
    type Of = OfAny;
    fn parent(&self) -> Parent<'_> {
        Parent::ServiceOffering(&self.service_offering_guid)
    }
}

impl OnMarket for ServicePlan {
    const PUBLIC: &'static str = "is_public = 1";
}
