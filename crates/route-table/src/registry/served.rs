//! Looks up what the table serves of a route, for the receipts of its changes.

use super::Registry;
use super::uri::RouteKey;

/// The maximum number of processes that a look-up returns. Few routes lead to more than one.
const MOST: usize = 100;

/// The endpoints of one process in a route's pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// The guid of the process, or of the app if the registrations name no process.
    pub process: String,
    /// The lowest generation of the endpoints; 0 if a registration has none.
    pub generation: u64,
    pub endpoints: u32,
}

impl Registry {
    /// Returns the processes with endpoints under exactly this uri, sorted by their names. A route that is not in the table has
    /// none. A wildcard that also matches the uri does not count.
    pub fn served(&self, uri: &str) -> Vec<Served> {
        let key = RouteKey::new(uri);
        let at = self.hash(key.is_wildcard(), key.host_name());
        let Some(pool) = self.read(at).pool(at, &key).cloned() else {
            return Vec::new();
        };
        let mut served: Vec<Served> = Vec::new();
        for endpoint in pool.endpoints() {
            let process = match endpoint.tag("process_id") {
                "" => endpoint.app_id(),
                process => process,
            };
            let generation = endpoint.generation();
            let has_room = served.len() < MOST;
            match served.iter_mut().find(|known| known.process == process) {
                Some(known) => {
                    known.generation = known.generation.min(generation);
                    known.endpoints += 1;
                }
                None if has_room => served.push(Served {
                    process: process.to_owned(),
                    generation,
                    endpoints: 1,
                }),
                None => {}
            }
        }
        served.sort_by(|a, b| a.process.cmp(&b.process));
        served
    }
}
