//! Conditions on rows. Only `db` can create them, so that SQL is in `db` alone; the other layers use their names.

use super::Arg;
use std::borrow::Cow;

/// A condition with its arguments. Each `?` is replaced by the next argument.
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

    /// Selects no row.
    pub(crate) fn never() -> Self {
        Self::new("1 = 0", [])
    }

    /// Selects rows by comparing the time in a column with `times`. The time is cut to whole seconds, as the API shows it.
    pub(crate) fn at(column: &str, when: When, times: &[i64]) -> Self {
        let seconds = format!("({column} / 1000000 * 1000000)");
        let first = times.first().copied().unwrap_or(0);
        let compared =
            |operator: &str| Self::new(format!("{seconds} {operator} ?"), [Arg::Int(first)]);
        match when {
            When::Among => Self::new(
                format!("{seconds} IN LIST(?)"),
                [Arg::list(times.iter().copied())],
            ),
            When::After => compared(">"),
            When::NotBefore => compared(">="),
            When::Before => compared("<"),
            When::NotAfter => compared("<="),
        }
    }
}

/// The comparison of a row's time with the times of a filter. All but `Among` use only the first one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    Among,
    After,
    NotBefore,
    Before,
    NotAfter,
}

/// A condition that contains one `IN LIST(?)`, whose argument is a list of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ListCondition(pub(super) &'static str);

/// The order of rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// The order of a column. Rows with equal values are in the order of their creation, or in the reverse order if `descending`.
    By { column: String, descending: bool },
    /// The terms of an `ORDER BY`.
    Terms(Cow<'static, str>),
}

impl Order {
    pub(crate) fn by(column: &str, descending: bool) -> Self {
        Self::By {
            column: column.to_owned(),
            descending,
        }
    }

    pub(super) const fn terms(terms: &'static str) -> Self {
        Self::Terms(Cow::Borrowed(terms))
    }
}
