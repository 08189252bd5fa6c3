//! One page of a list, numbered as in SCIM: `startIndex` begins with 1, `count` limits the page.

use super::Params;
use crate::error::{self, Answer};
use serde_json::{Value, json};

const USUAL: usize = 100;
const MOST: usize = 500;

#[derive(Clone, Copy, Debug)]
pub(super) struct Page {
    start: usize,
    count: usize,
}

impl Page {
    pub(super) fn of(query: &Params) -> Answer<Self> {
        let number = |name: &str, default: usize| {
            query.get(name).map_or(Ok(default), |n| {
                n.parse().map_err(|_| {
                    error::bad_request("invalid_filter", format!("{name} {n:?}: expected a number"))
                })
            })
        };
        Ok(Self {
            start: number("startIndex", 1)?.max(1),
            count: number("count", USUAL)?.min(MOST),
        })
    }

    pub(super) fn show<T>(self, all: &[T], show: impl Fn(&T) -> Value, schema: &str) -> Value {
        let on_it = all.iter().skip(self.start - 1).take(self.count);
        let resources: Vec<Value> = on_it.map(show).collect();
        json!({
            "itemsPerPage": resources.len(), "resources": resources, "startIndex": self.start,
            "totalResults": all.len(), "schemas": [schema],
        })
    }
}
