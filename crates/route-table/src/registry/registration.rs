//! Describes what a registration did to the table.

use super::{Endpoint, Place, Registered};
use std::sync::Arc;

/// A registration that the table has applied.
#[derive(Clone, Debug)]
pub struct Registration {
    pub outcome: Registered,
    /// The place of the endpoint in the table, if it has one.
    pub place: Option<Place>,
    /// The endpoint that the table held at this address before, if the registration replaced it.
    pub replaced: Option<Arc<Endpoint>>,
}

impl Registration {
    pub(super) fn new(outcome: Registered, place: Option<Place>) -> Self {
        Self {
            outcome,
            place,
            replaced: None,
        }
    }

    pub(super) fn replacing(self, replaced: Option<Arc<Endpoint>>) -> Self {
        Self { replaced, ..self }
    }
}
