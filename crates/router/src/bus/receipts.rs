//! Writes receipts: what this router serves of the routes that changed or that somebody asks about. Each is looked up in the table
//! when it is written.

use crate::worker::Shared;
use route_table::receipts::Applied;
use wire::router::receipts::{
    AppliedChange, MOST_ROUTES, Question, Receipt, Receipts, ServedProcess,
};

/// The source of log lines about questions that cannot be read.
const READING: &str = "router::bus::message";

/// Returns the messages that confirm these changes.
pub(super) fn of_changes(shared: &Shared, changes: &[(String, Applied)]) -> Vec<Vec<u8>> {
    let receipt = |(uri, applied): &(String, Applied)| Receipt {
        change: Some(AppliedChange {
            generation: applied.generation,
            emitted_at_ns: applied.emitted_at_ns,
            applied_at_ns: applied.applied_at_ns,
        }),
        ..look_up(shared, uri)
    };
    if !takes_shared_routes(shared) {
        return Vec::new();
    }
    let batches = changes.chunks(MOST_ROUTES);
    batches
        .map(|batch| message(shared, batch.iter().map(receipt).collect()))
        .collect()
}

/// Returns the answer to a question.
pub(super) fn answer(shared: &Shared, question: &[u8]) -> Option<Vec<u8>> {
    if !takes_shared_routes(shared) {
        return None;
    }
    match serde_json::from_slice::<Question>(question) {
        Ok(question) => {
            let uris = question.uris.iter().take(MOST_ROUTES);
            let routes = uris.map(|uri| look_up(shared, uri)).collect();
            Some(message(shared, routes))
        }
        Err(error) => {
            tracing::warn!(target: READING, %error, "receipt-question-not-understood");
            None
        }
    }
}

/// Returns whether this router takes the routes of no isolation segment. One that does not would seem to lack them, so it confirms
/// nothing.
fn takes_shared_routes(shared: &Shared) -> bool {
    shared.lasting.sharding.takes("")
}

fn look_up(shared: &Shared, uri: &str) -> Receipt {
    let served = shared.registry.served(uri).into_iter();
    Receipt {
        uri: route_table::registry::RouteKey::new(uri).uri().to_owned(),
        processes: served
            .map(|served| ServedProcess {
                process: served.process,
                generation: served.generation,
                endpoints: served.endpoints,
            })
            .collect(),
        change: None,
    }
}

fn message(shared: &Shared, routes: Vec<Receipt>) -> Vec<u8> {
    let receipts = Receipts {
        router: shared.id.clone(),
        routes,
    };
    serde_json::to_vec(&receipts).unwrap_or_default()
}
