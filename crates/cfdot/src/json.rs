//! BBS messages as the original cfdot prints them, which is Go's encoding of its generated structs. Members of embedded structs
//! are flat, their order is that of the struct, some empty values are left out, and some are `null`. jq scripts depend on all of
//! this. Specs that people write have the same format.

mod action;
mod actual_lrp;
mod cell;
mod definition;
mod desired_lrp;
mod event;
mod read;
mod specs;
mod task;
#[cfg(test)]
mod tests;

pub use action::action;
pub use actual_lrp::{actual_lrp, actual_lrp_group};
pub use cell::{cell_presence, resource};
pub use desired_lrp::{desired_lrp, scheduling_info};
pub use event::{event, group_event};
pub use specs::{read_desired_lrp, read_desired_lrp_update, read_task};
pub use task::task;

use serde::ser::{Serialize, SerializeMap as _, Serializer};
use serde_json::value::{RawValue, to_raw_value};
use std::collections::BTreeMap;

/// A JSON object whose members keep the order of insertion.
#[derive(Debug, Default)]
pub struct Object(Vec<(&'static str, Box<RawValue>)>);

impl Object {
    fn new() -> Self {
        Self::default()
    }
    /// Adds a member that is always present.
    fn put(mut self, key: &'static str, value: impl Serialize) -> Self {
        if let Ok(value) = to_raw_value(&value) {
            self.0.push((key, value));
        }
        self
    }
    fn some(self, key: &'static str, value: Option<impl Serialize>) -> Self {
        match value {
            Some(value) => self.put(key, value),
            None => self,
        }
    }
    /// Adds a text, unless it is empty.
    fn text(self, key: &'static str, value: &str) -> Self {
        if value.is_empty() {
            self
        } else {
            self.put(key, value)
        }
    }
    /// Adds a number, unless it is zero.
    fn number(self, key: &'static str, value: impl Into<i128>) -> Self {
        match value.into() {
            0 => self,
            n => self.put(key, n as i64),
        }
    }
    /// Adds a list, unless it is empty.
    fn list<T: Serialize>(self, key: &'static str, values: Vec<T>) -> Self {
        if values.is_empty() {
            self
        } else {
            self.put(key, values)
        }
    }
    /// Adds a list, or `null` if it is empty.
    fn nullable<T: Serialize>(self, key: &'static str, values: Vec<T>) -> Self {
        let values = (!values.is_empty()).then_some(values);
        self.put(key, values)
    }
    fn map<V: Serialize>(self, key: &'static str, values: BTreeMap<&str, V>) -> Self {
        if values.is_empty() {
            self
        } else {
            self.put(key, values)
        }
    }
    /// Adds the members of an embedded struct.
    fn embed(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }
}

impl Serialize for Object {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, value) in &self.0 {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

fn each<'a, T: 'a>(
    values: impl IntoIterator<Item = &'a T>,
    encode: fn(&T) -> Object,
) -> Vec<Object> {
    values.into_iter().map(encode).collect()
}
