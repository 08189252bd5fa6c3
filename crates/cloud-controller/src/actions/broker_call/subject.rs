//! The instance that a call is about, with everything that the call names.

use super::question::{Fetch, Question};
use crate::db::organization::Organization;
use crate::db::service_broker::ServiceBroker;
use crate::db::service_credential_binding::ServiceCredentialBinding;
use crate::db::service_instance::ServiceInstance;
use crate::db::service_offering::ServiceOffering;
use crate::db::service_plan::ServicePlan;
use crate::db::space::Space;
use crate::db::{self, Connection};
use crate::error::{ApiError, ApiResult};

/// A managed instance with everything that a call about it names.
pub(crate) struct Subject {
    pub instance: ServiceInstance,
    pub plan: ServicePlan,
    pub offering: ServiceOffering,
    pub broker: ServiceBroker,
    pub space: Space,
    pub organization: Organization,
}

impl Subject {
    pub(crate) async fn of(conn: &mut Connection, instance: ServiceInstance) -> ApiResult<Self> {
        let name = instance.name.clone();
        let lacks = |what: &str| {
            ApiError::unprocessable(format!(
                "The service instance '{name}' has no {what} any more"
            ))
        };
        let plan = instance.service_plan_guid.clone().unwrap_or_default();
        let plan: ServicePlan = db::by_guid(conn, &plan)
            .await?
            .ok_or_else(|| lacks("plan"))?;
        let (offering, broker) = above_plan(conn, &plan)
            .await?
            .ok_or_else(|| lacks("broker"))?;
        let space: Space = db::by_guid(conn, &instance.space_guid)
            .await?
            .ok_or_else(|| lacks("space"))?;
        let organization: Organization = db::by_guid(conn, &space.organization_guid)
            .await?
            .ok_or_else(|| lacks("organization"))?;
        Ok(Self {
            instance,
            plan,
            offering,
            broker,
            space,
            organization,
        })
    }

    /// Returns the instance of a binding, if it is a managed one.
    pub(crate) async fn of_binding(
        conn: &mut Connection,
        binding: &ServiceCredentialBinding,
    ) -> ApiResult<Option<Self>> {
        let guid = &binding.service_instance_guid;
        let instance = db::by_guid::<ServiceInstance>(conn, guid).await?;
        match instance.filter(ServiceInstance::is_managed) {
            Some(instance) => Ok(Some(Self::of(conn, instance).await?)),
            None => Ok(None),
        }
    }

    pub(crate) fn ids(&self) -> osb::Ids {
        ids(&self.offering, &self.plan)
    }

    fn place(&self) -> osb::Place {
        let (organization, space) = (&self.organization, &self.space);
        osb::Place {
            organization_guid: organization.guid.clone(),
            organization_name: organization.name.clone(),
            organization_annotations: organization.metadata.0.public_annotations(),
            space_guid: space.guid.clone(),
            space_name: space.name.clone(),
            space_annotations: space.metadata.0.public_annotations(),
        }
    }

    /// Returns the context of a request about a binding.
    pub(in crate::actions) fn context(&self) -> osb::Context {
        osb::Context {
            place: self.place(),
            ..osb::Context::default()
        }
    }

    /// Returns the context of a request about the instance under a name.
    pub(in crate::actions) fn context_of(&self, name: &str) -> osb::Context {
        osb::Context {
            instance_name: Some(name.to_owned()),
            ..self.context()
        }
    }

    /// Returns the question how far an operation has come.
    pub(in crate::actions) fn poll(
        &self,
        operation: Option<String>,
        binding_guid: Option<String>,
        fetch: Fetch,
    ) -> Question {
        let poll = osb::Poll {
            instance_guid: self.instance.guid.clone(),
            binding_guid,
            ids: self.ids(),
            operation,
        };
        Question::Poll { poll, fetch }
    }
}

pub(crate) fn ids(offering: &ServiceOffering, plan: &ServicePlan) -> osb::Ids {
    osb::Ids {
        offering: offering.unique_id.clone(),
        plan: plan.unique_id.clone(),
    }
}

/// Returns the offering and the broker of a plan.
async fn above_plan(
    conn: &mut Connection,
    plan: &ServicePlan,
) -> sqlx::Result<Option<(ServiceOffering, ServiceBroker)>> {
    let Some(offering) = db::by_guid::<ServiceOffering>(conn, &plan.service_offering_guid).await?
    else {
        return Ok(None);
    };
    let broker = db::by_guid::<ServiceBroker>(conn, &offering.service_broker_guid).await?;
    Ok(broker.map(|broker| (offering, broker)))
}
