//! Builds a `SELECT` from a variable number of conditions: list filters, visibility, label selectors.

use super::row::{columns, folded, quoted};
use super::{Condition, Connection, ListCondition, Order, Row};
use kit::db::{Builder, query};
use std::borrow::Cow;

/// A value that is bound to a statement.
pub(crate) use kit::db::Value as Arg;

/// Combines many values into one argument of `IN LIST(?)`.
fn list(values: impl IntoIterator<Item = Arg>) -> Arg {
    let (mut texts, mut numbers) = (Vec::new(), Vec::new());
    for value in values {
        match value {
            Arg::Text(Some(text)) => texts.push(text),
            Arg::Integer(Some(number)) => numbers.push(number),
            // No value is equal to NULL, and lists have no other types.
            _ => {}
        }
    }
    match numbers.is_empty() {
        true => texts.into(),
        false => numbers.into(),
    }
}

/// Returns the text in the form in which texts are compared without regard to case ([`Row::FOLDED`]).
fn folded_arg(arg: Arg) -> Arg {
    match arg {
        Arg::Text(Some(text)) => text.to_ascii_lowercase().into(),
        other => other,
    }
}

/// The rows that could be decoded, and those that could not.
#[derive(Clone, Debug)]
pub(crate) struct Readable<R> {
    pub rows: Vec<R>,
    pub broken: Vec<Broken>,
}

impl<R> Readable<R> {
    /// Returns the first row, or its replacement if it cannot be read.
    pub(crate) fn only_or(self, unreadable: impl FnOnce(Option<String>) -> R) -> Option<R> {
        if let Some(broken) = self.broken.into_iter().next() {
            broken.log();
            return Some(unreadable(broken.guid));
        }
        self.rows.into_iter().next()
    }
}

/// A part of a longer list.
#[derive(Clone, Debug)]
pub(crate) struct Portion<R> {
    /// The rows; `None` is a row that cannot be decoded.
    pub rows: Vec<Option<R>>,
    /// Whether reading stopped before a row that would have made the portion too large.
    pub is_cut: bool,
}

/// A row that cannot be decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Broken {
    /// The guid of the row. `None`: it cannot be read either.
    pub guid: Option<String>,
    pub problem: String,
}

/// A query whose conditions are joined with AND. A `?` in a condition is replaced by the next argument.
#[derive(Clone, Debug, Default)]
pub(crate) struct Select {
    conditions: Vec<Part>,
    order: Option<Order>,
}

/// One of the conditions.
#[derive(Clone, Debug)]
enum Part {
    /// A column has a value.
    Is(String, Arg),
    /// A column has one of these values. They are one argument, so that the statement is the same for any number of values.
    Any(String, Vec<Arg>),
    That(Condition),
}

impl Select {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    fn part(mut self, part: Part) -> Self {
        self.conditions.push(part);
        self
    }

    pub(crate) fn that(self, condition: Condition) -> Self {
        debug_assert!(condition.is_complete(), "{condition:?}");
        self.part(Part::That(condition))
    }

    pub(super) fn and(self, condition: &str, args: impl IntoIterator<Item = Arg>) -> Self {
        let args: Vec<Arg> = args.into_iter().collect();
        self.that(Condition::new(condition.to_owned(), args))
    }

    pub(crate) fn is(self, column: &str, value: impl Into<Arg>) -> Self {
        self.part(Part::Is(column.to_owned(), value.into()))
    }

    /// Adds a condition on a list. The list is one argument, so that the statement is the same for any number of values.
    pub(crate) fn list<A: Into<Arg>>(
        self,
        condition: ListCondition,
        values: impl IntoIterator<Item = A>,
    ) -> Self {
        self.and(condition.0, [list(values.into_iter().map(Into::into))])
    }

    pub(crate) fn any<A: Into<Arg>>(
        self,
        column: &str,
        values: impl IntoIterator<Item = A>,
    ) -> Self {
        let values = values.into_iter().map(Into::into).collect();
        self.part(Part::Any(column.to_owned(), values))
    }

    pub(crate) fn ordered(mut self, order: &Order) -> Self {
        self.order = Some(order.clone());
        self
    }

    pub(super) fn order(self, order: &'static str) -> Self {
        self.ordered(&Order::terms(order))
    }

    /// Builds the statement that selects `what` from the rows, in no order.
    fn query<R: Row>(&self, conn: &Connection, what: &str) -> Builder {
        let mut query = Builder::new(format!("SELECT {what} FROM {}", R::TABLE));
        for (at, part) in self.conditions.iter().enumerate() {
            query.push(if at == 0 { " WHERE " } else { " AND " });
            push_condition(&mut query, conn, &part.condition::<R>());
        }
        query
    }

    /// Builds the statement that selects whole rows, in their order.
    fn rows<R: Row>(&self, conn: &Connection) -> Builder {
        let mut query = self.query::<R>(conn, &columns::<R>());
        query.push(" ORDER BY ");
        query.push(self.order.as_ref().map_or("id".into(), order_terms::<R>));
        query
    }

    pub(crate) async fn all<R: Row>(&self, conn: &mut Connection) -> sqlx::Result<Vec<R>> {
        self.rows::<R>(conn).build().read_as().fetch_all(conn).await
    }

    /// Reads all rows like `all`, but separates those that cannot be decoded. Loops over the rows of many tenants use it.
    pub(crate) async fn readable<R: Row>(
        &self,
        conn: &mut Connection,
    ) -> sqlx::Result<Readable<R>> {
        let found = self.rows::<R>(conn).build().fetch_all(conn).await?;
        let (mut rows, mut broken) = (Vec::with_capacity(found.len()), Vec::new());
        for row in &found {
            match decoded(row) {
                Ok(row) => rows.push(row),
                Err(problem) => broken.push(problem),
            }
        }
        Ok(Readable { rows, broken })
    }

    /// Reads all rows like `all`, but logs and leaves out those that cannot be decoded. It is used for rows that all tenants
    /// share.
    pub(crate) async fn all_readable<R: Row>(&self, conn: &mut Connection) -> sqlx::Result<Vec<R>> {
        let found = self.readable(conn).await?;
        found.broken.iter().for_each(Broken::log);
        Ok(found.rows)
    }

    /// Reads at most `limit` rows from `offset` on, or all of them without a limit. It stops before a row with which the rows would have more than `most` bytes
    /// together, but returns at least one row. Rows that cannot be decoded are logged.
    pub(crate) async fn portion<R: Row>(
        &self,
        conn: &mut Connection,
        limit: Option<i64>,
        offset: i64,
        most: usize,
    ) -> sqlx::Result<Portion<R>> {
        let mut query = self.rows::<R>(conn);
        if let Some(limit) = limit {
            query.push(format_args!(" LIMIT {limit} OFFSET {offset}"));
        }
        let (mut rows, mut bytes, mut is_cut) = (Vec::new(), 0, false);
        let accept = |row| {
            bytes += size(&row);
            is_cut = bytes > most && !rows.is_empty();
            if !is_cut {
                rows.push(decoded(&row).inspect_err(Broken::log).ok());
            }
            !is_cut
        };
        query.build().fetch_while(conn, accept).await?;
        Ok(Portion { rows, is_cut })
    }

    pub(crate) async fn first<R: Row>(&self, conn: &mut Connection) -> sqlx::Result<Option<R>> {
        let mut query = self.rows::<R>(conn);
        query.push(" LIMIT 1");
        query.build().read_as().fetch_optional(conn).await
    }

    pub(crate) async fn count<R: Row>(&self, conn: &mut Connection) -> sqlx::Result<i64> {
        let count = self.query::<R>(conn, "COUNT(*)").build();
        count.scalar().fetch_one(conn).await
    }

    pub(crate) async fn exists<R: Row>(&self, conn: &mut Connection) -> sqlx::Result<bool> {
        Ok(self.count::<R>(conn).await? > 0)
    }
}

impl Part {
    fn condition<R: Row>(&self) -> Condition {
        match self {
            Self::Is(column, arg) => match folded::<R>(column) {
                Some(folded) => Condition::new(format!("{folded} = ?"), [folded_arg(arg.clone())]),
                None => Condition::new(format!("{} = ?", quoted(column)), [arg.clone()]),
            },
            Self::Any(_, args) if args.is_empty() => Condition::never(),
            Self::Any(column, args) => {
                let args = args.iter().cloned();
                match folded::<R>(column) {
                    Some(folded) => {
                        let args = list(args.map(folded_arg));
                        Condition::new(format!("{folded} IN LIST(?)"), [args])
                    }
                    None => Condition::new(format!("{} IN LIST(?)", quoted(column)), [list(args)]),
                }
            }
            Self::That(condition) => condition.clone(),
        }
    }
}

fn order_terms<R: Row>(order: &Order) -> Cow<'static, str> {
    match order {
        Order::Terms(terms) => terms.clone(),
        Order::By { column, descending } => {
            let direction = if *descending { "DESC" } else { "ASC" };
            let term = folded::<R>(column).unwrap_or_else(|| quoted(column).into_owned());
            format!("{term} {direction}, id {direction}").into()
        }
    }
}

/// Adds a condition to a statement, and binds its arguments.
pub(super) fn push_condition(query: &mut Builder, conn: &Connection, condition: &Condition) {
    let mut parts = condition.sql(conn).split('?');
    query.push(parts.next().unwrap_or_default());
    for (arg, part) in condition.args.iter().zip(parts) {
        query.push_bind(arg.clone());
        query.push(part);
    }
}

fn decoded<R: Row>(row: &kit::db::Row) -> Result<R, Broken> {
    R::from_row(row).map_err(|error| Broken {
        guid: row.try_get("guid").ok(),
        problem: format!("a row of table {} cannot be read: {error}", R::TABLE),
    })
}

/// Returns the number of bytes of all texts in a row. Other values are small, and reading them as bytes would convert them to
/// texts.
fn size(row: &kit::db::Row) -> usize {
    (0..row.len())
        .filter_map(|at| row.try_get::<Option<&str>, usize>(at).ok().flatten())
        .map(str::len)
        .sum()
}

impl Broken {
    fn log(&self) {
        tracing::warn!(guid = self.guid, problem = self.problem, "row-damaged");
    }
}

/// Runs one statement with `$1`-style marks, and returns the number of rows that changed.
pub(crate) async fn execute(
    conn: &mut Connection,
    sql: &'static str,
    args: &[Arg],
) -> sqlx::Result<u64> {
    query(sql)
        .bind_all(args.iter().cloned())
        .execute(conn)
        .await
}
