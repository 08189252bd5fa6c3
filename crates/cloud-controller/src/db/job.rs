//! Jobs: what a client asks about while a long verb runs.

use super::{Json, rows};
use serde_json::Value;

rows! {
    Job in "jobs" {
        operation: String, state: String, errors: Json<Vec<wire::cc::Error>>, warnings: Json<Vec<Value>>, resource_type: String, resource_guid: String,
    }
}
