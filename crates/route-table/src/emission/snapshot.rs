//! The state of the BBS as a sync reads it.

use super::{Actual, Desired};
use std::collections::HashSet;

/// The moment at which the fetch of a snapshot began.
#[derive(Clone, Copy, Debug)]
pub struct Marker(pub(super) u64);

/// The BBS's state, read after [`Table::begin_sync`].
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The desired LRPs of at least all processes that have an instance in `actuals`.
    pub desired: Vec<Desired>,
    pub actuals: Vec<Actual>,
    /// The domains whose desired state is complete. In other domains a process that is missing keeps its routes.
    pub fresh_domains: HashSet<String>,
}
