//! Conditions on rows. Only `db` can write one, so that SQL stands in `db` alone: the other layers name what they mean.

use super::Arg;
use std::borrow::Cow;

/// A condition with its arguments; each `?` stands for the next one.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Condition {
    pub(super) sql: Cow<'static, str>,
    pub(super) args: Vec<Arg>,
}

impl Condition {
    pub(super) fn new(sql: impl Into<Cow<'static, str>>, args: impl Into<Vec<Arg>>) -> Self {
        Self {
            sql: sql.into(),
            args: args.into(),
        }
    }

    /// Holds for no row.
    pub(crate) fn never() -> Self {
        Self::new("1 = 0", [])
    }

    /// Holds for rows whose time in a column, cut to whole seconds as the API shows it, stands so to `times`.
    pub(crate) fn at(column: &str, when: When, times: &[i64]) -> Self {
        let seconds = format!("({column} / 1000000 * 1000000)");
        let first = times.first().copied().unwrap_or(0);
        let compared =
            |operator: &str| Self::new(format!("{seconds} {operator} ?"), [Arg::Int(first)]);
        match when {
            When::Among => Self::new(
                format!("{seconds} IN (SELECT value FROM json_each(?))"),
                [Arg::list(times.iter().copied())],
            ),
            When::After => compared(">"),
            When::NotBefore => compared(">="),
            When::Before => compared("<"),
            When::NotAfter => compared("<="),
        }
    }
}

/// How a row's time stands to the times of a filter; all but `Among` look at the first one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    Among,
    After,
    NotBefore,
    Before,
    NotAfter,
}

/// A condition that holds one `(?)`, which becomes a list of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ListCondition(pub(super) &'static str);

/// In which order rows come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Order(pub(super) Cow<'static, str>);

impl Order {
    /// By a column; rows that are alike there come in the order of their creation, or the newest first.
    pub(crate) fn by(column: &str, descending: bool) -> Self {
        let direction = if descending { "DESC" } else { "ASC" };
        Self(format!("{column} {direction}, id {direction}").into())
    }
}
