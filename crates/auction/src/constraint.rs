//! Checks whether a cell fulfils the requirements of a job.

use crate::cell::Cell;
use std::collections::BTreeSet;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Constraint {
    /// The root file system as a URL: `preloaded:cflinuxfs4`, `docker:///library/redis`.
    pub root_fs: String,
    pub volume_drivers: Vec<String>,
    pub placement_tags: Vec<String>,
}

/// The root file systems of one scheme that a cell offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RootFsProvider {
    Arbitrary,
    FixedSet(BTreeSet<String>),
}

/// The requirement at which a cell failed. The user sees the furthest one of all cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Mismatch {
    RootFs,
    VolumeDrivers,
    PlacementTags,
}

impl Constraint {
    pub(crate) fn check(&self, cell: &Cell) -> Result<(), Mismatch> {
        if !self.root_fs_matches(cell) {
            return Err(Mismatch::RootFs);
        }
        if !self
            .volume_drivers
            .iter()
            .all(|driver| cell.volume_drivers.contains(driver))
        {
            return Err(Mismatch::VolumeDrivers);
        }
        // A cell of an isolation segment accepts only jobs that require the segment, and such jobs run nowhere else.
        let wanted = |tag: &String| self.placement_tags.contains(tag);
        let offered = |tag: &String| {
            cell.placement_tags.contains(tag) || cell.optional_placement_tags.contains(tag)
        };
        if !(cell.placement_tags.iter().all(wanted) && self.placement_tags.iter().all(offered)) {
            return Err(Mismatch::PlacementTags);
        }
        Ok(())
    }

    fn root_fs_matches(&self, cell: &Cell) -> bool {
        let Some((scheme, rest)) = self.root_fs.split_once(':') else {
            return false;
        };
        match cell.root_fs_providers.get(scheme) {
            None => false,
            Some(RootFsProvider::Arbitrary) => true,
            Some(RootFsProvider::FixedSet(names)) => {
                names.contains(rest.split('?').next().unwrap_or_default())
            }
        }
    }
}
