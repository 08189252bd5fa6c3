//! The part of a recipe that may change while the instances run.

use super::routes::{Routes, routes_json};
use super::{AppIdentity, dynamic, egress, fixed, identity_tags, lrp_guid, ssh};
use std::collections::BTreeMap;
use wire::bbs::{DesiredLrpUpdate, EgressUpdate, MetricTagDynamic, MetricTagValue};

/// The part of a process that may change while its instances run: they follow it without a restart.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LiveState {
    pub identity: AppIdentity,
    /// The Cloud Controller's guid of the process. For the web process it is the guid of the app.
    pub process_guid: String,
    /// The version, which changes whenever running instances must be replaced.
    pub version: String,
    /// The process type: `web`, `worker`, …
    pub process_type: String,
    pub instances: u32,
    pub routes: Routes,
    /// The rules of all security groups that apply, in the API's form.
    pub egress_rules: Vec<serde_json::Value>,
    /// The name of the isolation segment.
    pub isolation_segment: Option<String>,
    /// The time `updated_at` as seconds with a fraction, which the sync compares byte by byte.
    pub annotation: String,
}

impl LiveState {
    /// Returns `<process guid>-<version>`, which Diego calls the process guid.
    pub fn lrp_guid(&self) -> String {
        lrp_guid(&self.process_guid, &self.version)
    }
}

/// Returns the update of a running version. `ssh` is the entry that the LRP has; it is sent back unchanged.
pub fn update(live: &LiveState, ssh: Option<&ssh::Entry>) -> DesiredLrpUpdate {
    let mut routes = routes_json(&live.routes, live.isolation_segment.as_deref());
    if let Some(ssh) = ssh {
        ssh.add_to(&mut routes);
    }
    DesiredLrpUpdate {
        instances: Some(live.instances as i32),
        routes: Some(routes),
        annotation: Some(live.annotation.clone()),
        metric_tags: metric_tags(live),
        // Rules that cannot be read were refused by the API; the instances keep the rules that they have.
        egress: egress::rules(&live.egress_rules)
            .ok()
            .map(|rules| EgressUpdate { rules }),
        ..Default::default()
    }
}

pub(super) fn metric_tags(live: &LiveState) -> BTreeMap<String, MetricTagValue> {
    let mut tags = identity_tags(&live.identity);
    tags.insert("process_id".into(), fixed(&live.process_guid));
    tags.insert("process_type".into(), fixed(&live.process_type));
    tags.insert(
        "process_instance_id".into(),
        dynamic(MetricTagDynamic::InstanceGuid),
    );
    tags.insert("instance_id".into(), dynamic(MetricTagDynamic::Index));
    tags
}
