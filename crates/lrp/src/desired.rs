//! Holds the part of a desired LRP that decisions need. Everything else (actions, environment, volumes, …) is passed on as it
//! came.

use crate::actual::{ActualLrpKey, InstanceKey};
use ids::{Domain, ProcessGuid};
use std::collections::BTreeMap;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredLrp {
    pub process_guid: ProcessGuid,
    pub domain: Domain,
    /// The number of instances; the indexes 0..instances are wanted.
    pub instances: i32,
    pub update_strategy: UpdateStrategy,
    /// The host names for other containers (`internal-router` routes).
    pub internal_routes: Vec<String>,
    pub metric_tags: BTreeMap<String, MetricTag>,
}

impl DesiredLrp {
    pub fn wants(&self, index: i32) -> bool {
        (0..self.instances).contains(&index)
    }

    /// Returns the metric tags of one instance.
    pub fn metric_tags_of(
        &self,
        key: &ActualLrpKey,
        instance: &InstanceKey,
    ) -> BTreeMap<String, String> {
        let resolve = |tag: &MetricTag| match tag {
            MetricTag::Static(text) => text.clone(),
            MetricTag::Index => key.index.to_string(),
            MetricTag::InstanceGuid => instance.instance_guid.to_string(),
        };
        self.metric_tags
            .iter()
            .map(|(name, tag)| (name.clone(), resolve(tag)))
            .collect()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetricTag {
    Static(String),
    Index,
    InstanceGuid,
}

/// The way in which an evacuating cell treats instances: it keeps them until they are replaced, or stops them first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UpdateStrategy {
    #[default]
    Rolling,
    Recreate,
}
