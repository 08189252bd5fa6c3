//! The parameter `label_selector`: selects rows by their labels. `cc_rules::label_selector` has its grammar.

use super::lookup::Scope;
use crate::db::label;
use crate::db::sight::Seen;
use crate::error::ApiResult;
use cc_rules::label_selector::{Requirement, parse};

pub(crate) fn apply<R: Seen>(mut select: Scope<R>, selector: &str) -> ApiResult<Scope<R>> {
    for requirement in parse(selector)? {
        select = select.that(match requirement {
            Requirement::Exists(key) => label::exists(&key),
            Requirement::Absent(key) => label::is_absent(&key),
            Requirement::In(key, values) => label::is_among(&key, &values),
            Requirement::NotIn(key, values) => label::is_not_among(&key, &values),
        });
    }
    Ok(select)
}
