//! This module reads requests. A request that asks for something that the broker does not have is refused, and never half done.

use super::Answer;
use crate::catalog;
use crate::config::{Plan, Settings};
use crate::instance::Place;
use crate::names::Guid;
use axum::body::Bytes;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::Value;

/// The body of a request to create, change or bind. The API has more keys, which do not matter here.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Body {
    service_id: Option<String>,
    plan_id: Option<String>,
    context: Context,
    parameters: Option<Value>,
    maintenance_info: Option<Value>,
    organization_guid: Option<String>,
    space_guid: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Context {
    organization_guid: Option<String>,
    organization_name: Option<String>,
    space_guid: Option<String>,
    space_name: Option<String>,
    instance_name: Option<String>,
}

/// The query of a request to remove something.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Ids {
    service_id: Option<String>,
    plan_id: Option<String>,
}

impl Ids {
    /// Checks that the query has both ids. What is removed need not be in the catalog any more.
    pub(super) fn check(&self) -> Result<(), Answer> {
        for (key, value) in [("service_id", &self.service_id), ("plan_id", &self.plan_id)] {
            if value.as_deref().unwrap_or_default().is_empty() {
                return Err(Answer::bad(format!("the query has no {key}")));
            }
        }
        Ok(())
    }
}

impl Body {
    pub(super) fn read(bytes: &Bytes) -> Result<Self, Answer> {
        serde_json::from_slice(bytes)
            .map_err(|error| Answer::bad(format!("the body is not valid: {error}")))
    }

    /// Checks the offering, and refuses parameters and versions, which no plan has.
    pub(super) fn check(&self, settings: &Settings) -> Result<(), Answer> {
        match self.service_id.as_deref() {
            Some(id) if id == catalog::offering_id(settings) => {}
            Some(id) => {
                return Err(Answer::bad(format!(
                    "service_id {id:?} is not in the catalog"
                )));
            }
            None => return Err(Answer::bad("the body has no service_id")),
        }
        let is_empty = |value: &Value| match value {
            Value::Null => true,
            Value::Object(object) => object.is_empty(),
            _ => false,
        };
        if let Some(parameters) = self.parameters.as_ref().filter(|value| !is_empty(value)) {
            let names = parameters.as_object().map(|object| {
                let names: Vec<&str> = object.keys().map(String::as_str).collect();
                names.join(", ")
            });
            return Err(Answer::bad(format!(
                "there are no parameters, but these were sent: {}",
                names.unwrap_or_else(|| "no object".to_owned())
            )));
        }
        if self
            .maintenance_info
            .as_ref()
            .is_some_and(|info| !info.is_null())
        {
            return Err(Answer::error(
                StatusCode::UNPROCESSABLE_ENTITY,
                "MaintenanceInfoConflict",
                "the plans have no maintenance_info: fetch the catalog again",
            ));
        }
        Ok(())
    }

    /// Returns the plan that must be named.
    pub(super) fn required_plan<'a>(
        &self,
        settings: &'a Settings,
    ) -> Result<(String, &'a Plan), Answer> {
        let plan = self.plan(settings)?;
        plan.ok_or_else(|| Answer::bad("the body has no plan_id"))
    }

    /// Returns the plan that may be named.
    pub(super) fn plan<'a>(
        &self,
        settings: &'a Settings,
    ) -> Result<Option<(String, &'a Plan)>, Answer> {
        let Some(id) = &self.plan_id else {
            return Ok(None);
        };
        match catalog::plan(settings, id) {
            Some(plan) => Ok(Some((id.clone(), plan))),
            None => Err(Answer::bad(format!("plan_id {id:?} is not in the catalog"))),
        }
    }

    pub(super) fn names_plan(&self, id: &str) -> bool {
        self.plan_id.as_deref() == Some(id)
    }

    pub(super) fn place(&self) -> Place {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let either = |one: &Option<String>, other: &Option<String>| match one {
            Some(one) => one.clone(),
            None => text(other),
        };
        let context = &self.context;
        Place {
            organization: text(&context.organization_name),
            space: text(&context.space_name),
            name: text(&context.instance_name),
            organization_guid: either(&context.organization_guid, &self.organization_guid),
            space_guid: either(&context.space_guid, &self.space_guid),
        }
    }
}

/// Reads a guid of the path.
pub(super) fn guid(what: &str, text: &str) -> Result<Guid, Answer> {
    Guid::parse(text).ok_or_else(|| Answer::bad(format!("the {what} {text:?} is not a guid")))
}
