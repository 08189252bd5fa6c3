//! Conditions on rows. Only `db` can create them, so that SQL is in `db` alone; the other layers use their names.

use super::sight::OnMarket;
use super::{Arg, Connection};
use std::borrow::Cow;

/// A condition with its arguments. Each `?` is replaced by the mark of the next argument.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Condition {
    sql: Spelling,
    pub(super) args: Vec<Arg>,
}

/// The text of a condition.
#[derive(Clone, Debug, PartialEq)]
enum Spelling {
    Both(Cow<'static, str>),
    Each {
        sqlite: &'static str,
        postgres: &'static str,
    },
}

impl Condition {
    pub(super) fn new(sql: impl Into<Cow<'static, str>>, args: impl Into<Vec<Arg>>) -> Self {
        Self {
            sql: Spelling::Both(sql.into()),
            args: args.into(),
        }
    }

    /// Creates a condition that the databases spell differently, with the same arguments in the same order.
    pub(super) fn each(
        sqlite: &'static str,
        postgres: &'static str,
        args: impl Into<Vec<Arg>>,
    ) -> Self {
        Self {
            sql: Spelling::Each { sqlite, postgres },
            args: args.into(),
        }
    }

    /// Returns the text for the database of a connection.
    pub(super) fn sql(&self, conn: &Connection) -> &str {
        match (&self.sql, conn) {
            (Spelling::Both(sql), _) => sql,
            (Spelling::Each { sqlite, .. }, Connection::Sqlite(_)) => sqlite,
            (Spelling::Each { postgres, .. }, Connection::Postgres(_)) => postgres,
        }
    }

    /// Returns whether every text has as many question marks as there are arguments.
    pub(super) fn is_complete(&self) -> bool {
        let is_complete = |sql: &str| sql.matches('?').count() == self.args.len();
        match &self.sql {
            Spelling::Both(sql) => is_complete(sql),
            Spelling::Each { sqlite, postgres } => is_complete(sqlite) && is_complete(postgres),
        }
    }

    /// Selects the rows of the marketplace that everybody sees.
    pub(crate) fn everybodys<R: OnMarket>() -> Self {
        Self::new(R::PUBLIC, [])
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
            |operator: &str| Self::new(format!("{seconds} {operator} ?"), [first.into()]);
        match when {
            When::Among => Self::new(format!("{seconds} IN LIST(?)"), [times.to_vec().into()]),
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
