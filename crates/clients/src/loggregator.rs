//! Sending log lines and metrics to log-cache as loggregator v2 envelopes over gRPC (default port 3458).
//!
//! Never blocks a caller: a full queue drops the oldest and counts it.

use std::collections::BTreeMap;
use std::sync::Arc;
use wire::loggregator::Envelope;

/// Where envelopes go; cheap to clone. `Emitter::discard()` swallows everything.
#[derive(Clone, Debug)]
pub struct Emitter {
    queue: Option<tokio::sync::mpsc::Sender<Envelope>>,
}

/// Which output stream a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    Out,
    Err,
}

/// What all lines of one source share.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// App guid.
    pub source_id: String,
    /// Instance index.
    pub instance_id: String,
    /// `APP/PROC/WEB`, `STG`, `RTR`, `CELL`, `API`, …; becomes tag `source_type`.
    pub source_type: String,
    /// Further tags (`process_id`, `organization_name`, …).
    pub tags: Arc<BTreeMap<String, String>>,
}

impl Emitter {
    pub fn discard() -> Self {
        Self { queue: None }
    }
}
