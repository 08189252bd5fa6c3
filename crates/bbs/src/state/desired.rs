//! Desired LRPs: the transitions desire, update and remove.

use super::{Desired, State, moment, now};
use crate::failure::Failure;
use crate::journal::{Effect, Journal, Publication, Write};
use crate::{convert, validate};
use ids::ProcessGuid;
use lrp::{CellState, InstanceKey};
use std::sync::Arc;
use wire::bbs as m;

impl State {
    pub(crate) fn desire_lrp(
        &mut self,
        journal: &mut Journal,
        mut wire: m::DesiredLrp,
    ) -> Result<(), Failure> {
        validate::desired_lrp(&wire)?;
        let guid = ProcessGuid::from(wire.process_guid.as_str());
        if self.desired.contains_key(&guid) {
            return Err(Failure::exists());
        }
        wire.modification_tag = Some(m::ModificationTag {
            epoch: moment().epoch.to_string(),
            index: 0,
        });
        let desired = Desired::new(wire);
        journal
            .writes
            .push(Write::Desired(guid.clone(), Some(desired.wire.clone())));
        journal
            .publications
            .push(Publication::DesiredCreated(desired.wire.clone()));
        let instances = desired.core.instances;
        self.damaged.remove(&guid);
        self.desired.insert(guid.clone(), desired);
        for index in 0..instances {
            self.ensure_row(journal, &guid, index);
        }
        Ok(())
    }

    pub(crate) fn update_desired_lrp(
        &mut self,
        journal: &mut Journal,
        process_guid: &str,
        update: m::DesiredLrpUpdate,
    ) -> Result<(), Failure> {
        validate::update(&update)?;
        let (guid, known) = self
            .desired
            .get_key_value(process_guid)
            .ok_or_else(Failure::not_found)?;
        let (guid, before, core_before) = (guid.clone(), known.wire.clone(), known.core.clone());
        let mut after = m::DesiredLrp::clone(&before);
        merge(&mut after, update);
        let egress_changed = after.egress_rules != before.egress_rules;
        let desired = Desired::new(after);
        journal
            .writes
            .push(Write::Desired(guid.clone(), Some(desired.wire.clone())));
        journal.publications.push(Publication::DesiredChanged {
            before,
            after: desired.wire.clone(),
        });
        let core = desired.core.clone();
        self.desired.insert(guid.clone(), desired);

        for index in core_before.instances..core.instances {
            self.ensure_row(journal, &guid, index);
        }
        let surplus: Vec<i32> = self
            .actual
            .get(&guid)
            .map(|slots| slots.keys().copied().filter(|&i| !core.wants(i)).collect())
            .unwrap_or_default();
        for index in surplus {
            self.retire(journal, &guid, index);
        }
        if core.internal_routes != core_before.internal_routes
            || core.metric_tags != core_before.metric_tags
            || egress_changed
        {
            self.update_instances(journal, &guid);
        }
        Ok(())
    }

    pub(crate) fn remove_desired_lrp(
        &mut self,
        journal: &mut Journal,
        process_guid: &str,
    ) -> Result<(), Failure> {
        let (guid, desired) = self
            .desired
            .remove_entry(process_guid)
            .ok_or_else(Failure::not_found)?;
        journal.writes.push(Write::Desired(guid.clone(), None));
        journal
            .publications
            .push(Publication::DesiredRemoved(desired.wire));
        let indexes: Vec<i32> = self
            .actual
            .get(&guid)
            .map(|slots| slots.keys().copied().collect())
            .unwrap_or_default();
        for index in indexes {
            self.retire(journal, &guid, index);
        }
        Ok(())
    }

    /// Requests an update of all running instances. The call carries internal routes and metric tags; the cells read any other
    /// change themselves.
    fn update_instances(&self, journal: &mut Journal, process_guid: &ProcessGuid) {
        let running = self
            .actual
            .get(process_guid)
            .into_iter()
            .flat_map(|slots| slots.iter());
        for (&index, slot) in running {
            if let Some(row) = slot.ordinary.as_ref().filter(|row| row.running().is_some()) {
                row.instance().inspect(|instance| {
                    self.request_update(journal, process_guid, index, instance)
                });
            }
        }
    }

    pub(super) fn request_update(
        &self,
        journal: &mut Journal,
        process_guid: &ProcessGuid,
        index: i32,
        instance: &InstanceKey,
    ) {
        if self.cells.state(&instance.cell_id, now()) == CellState::Present {
            journal.effects.push(Effect::UpdateLrp(
                process_guid.clone(),
                index,
                instance.clone(),
            ));
        }
    }

    /// Returns the update to send to the cell of a running instance, built from the current state.
    pub(crate) fn lrp_update(
        &self,
        process_guid: &ProcessGuid,
        index: i32,
        instance: &InstanceKey,
    ) -> Option<wire::rep::LrpUpdate> {
        let desired = self.desired.get(process_guid)?;
        let key = lrp::ActualLrpKey {
            process_guid: process_guid.clone(),
            index,
            domain: desired.core.domain.clone(),
        };
        let internal_routes = desired.core.internal_routes.iter();
        Some(wire::rep::LrpUpdate {
            instance_guid: instance.instance_guid.to_string(),
            process_guid: process_guid.to_string(),
            index,
            domain: desired.core.domain.to_string(),
            internal_routes: internal_routes
                .map(|hostname| wire::lrp_routes::InternalRoute {
                    hostname: hostname.clone(),
                })
                .collect(),
            metric_tags: desired.core.metric_tags_of(&key, instance),
        })
    }
}

/// Merges an update into a desired LRP: the fields in the update replace the old ones, the others stay.
fn merge(lrp: &mut m::DesiredLrp, update: m::DesiredLrpUpdate) {
    lrp.instances = update.instances.unwrap_or(lrp.instances);
    if update.routes.is_some() {
        lrp.routes = update.routes;
    }
    if let Some(annotation) = update.annotation {
        lrp.annotation = annotation;
    }
    if !update.metric_tags.is_empty() {
        lrp.metric_tags = update.metric_tags;
    }
    if let (Some(user), Some(password)) = (update.image_username, update.image_password) {
        (lrp.image_username, lrp.image_password) = (user, password);
    }
    if let Some(egress) = update.egress {
        lrp.egress_rules = egress.rules;
    }
    let tag = lrp.modification_tag.get_or_insert_default();
    tag.index = tag.index.wrapping_add(1);
}

/// Returns the auction request for instances of one process.
pub(crate) fn start_request(
    wire: &Arc<m::DesiredLrp>,
    indices: Vec<i32>,
) -> wire::rep::LrpStartRequest {
    wire::rep::LrpStartRequest {
        process_guid: wire.process_guid.clone(),
        domain: wire.domain.clone(),
        indices,
        constraint: wire::rep::PlacementConstraint {
            placement_tags: wire.placement_tags.clone(),
            volume_drivers: convert::volume_drivers(&wire.volume_mounts),
            root_fs: wire.root_fs.clone(),
        },
        resource: wire::rep::Resource {
            memory_mb: wire.memory_mb,
            disk_mb: wire.disk_mb,
            max_pids: wire.max_pids,
        },
    }
}

impl State {
    /// Returns the auction requests for those of the wanted keys that still wait for a cell.
    pub(crate) fn lrp_auctions(
        &self,
        wanted: &std::collections::BTreeSet<(ProcessGuid, i32)>,
    ) -> Vec<wire::rep::LrpStartRequest> {
        let mut indices: std::collections::BTreeMap<&ProcessGuid, Vec<i32>> =
            std::collections::BTreeMap::new();
        for (guid, index) in wanted {
            let waits = self
                .slot(guid, *index)
                .and_then(|s| s.ordinary.as_ref())
                .is_some_and(lrp::ActualLrp::is_unclaimed);
            if waits {
                indices.entry(guid).or_default().push(*index);
            }
        }
        indices
            .into_iter()
            .filter_map(|(guid, indices)| {
                Some(start_request(&self.desired.get(guid)?.wire, indices))
            })
            .collect()
    }
}
