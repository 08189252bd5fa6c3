//! Jobs: clients poll them while a long verb runs.

use super::{Json, rows, spelled};
use serde_json::Value;

spelled! {
    JobState { Complete = "COMPLETE", Failed = "FAILED" }
}

rows! {
    Job in "jobs" {
        operation: String, state: JobState, errors: Json<Vec<wire::cc::Error>>, warnings: Json<Vec<Value>>, resource_type: String, resource_guid: String,
    }
}
