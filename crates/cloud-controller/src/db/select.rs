//! Builds a `SELECT` from a variable number of conditions: list filters, visibility, label selectors.

use super::{Condition, Connection, ListCondition, Order, Row};
use futures::TryStreamExt as _;
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{QueryBuilder, Row as _, Sqlite};

/// A value that is bound to a statement.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Arg {
    Text(String),
    Int(i64),
}

impl Arg {
    /// Combines many values into one for `json_each`.
    pub(crate) fn list<A: Into<Self>>(values: impl IntoIterator<Item = A>) -> Self {
        let values: Vec<serde_json::Value> = values
            .into_iter()
            .map(|value| match value.into() {
                Self::Text(text) => text.into(),
                Self::Int(number) => number.into(),
            })
            .collect();
        Self::Text(serde_json::Value::Array(values).to_string())
    }
}

impl From<&str> for Arg {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}
impl From<&String> for Arg {
    fn from(value: &String) -> Self {
        Self::Text(value.clone())
    }
}
impl From<String> for Arg {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}
impl From<i64> for Arg {
    fn from(value: i64) -> Self {
        Self::Int(value)
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
    conditions: Vec<Condition>,
    order: Option<String>,
}

impl Select {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn that(mut self, condition: Condition) -> Self {
        debug_assert_eq!(
            condition.args.len(),
            condition.sql.matches('?').count(),
            "as many arguments as question marks"
        );
        self.conditions.push(condition);
        self
    }

    pub(super) fn and(self, condition: &str, args: impl IntoIterator<Item = Arg>) -> Self {
        let args: Vec<Arg> = args.into_iter().collect();
        self.that(Condition::new(condition.to_owned(), args))
    }

    pub(crate) fn is(self, column: &str, value: impl Into<Arg>) -> Self {
        self.and(&format!("{column} = ?"), [value.into()])
    }

    /// Adds a condition on a list. The list is one argument, so that the statement is the same for any number of values.
    pub(crate) fn list<A: Into<Arg>>(
        self,
        condition: ListCondition,
        values: impl IntoIterator<Item = A>,
    ) -> Self {
        self.among(condition.0, values)
    }

    fn among<A: Into<Arg>>(self, condition: &str, values: impl IntoIterator<Item = A>) -> Self {
        self.and(
            &condition.replace("(?)", "(SELECT value FROM json_each(?))"),
            [Arg::list(values)],
        )
    }

    pub(crate) fn any<A: Into<Arg>>(
        self,
        column: &str,
        values: impl IntoIterator<Item = A>,
    ) -> Self {
        self.among(&format!("{column} IN (?)"), values)
    }

    pub(crate) fn ordered(self, order: &Order) -> Self {
        self.order(&order.0)
    }

    pub(super) fn order(mut self, order: &str) -> Self {
        self.order = Some(order.to_owned());
        self
    }

    /// Builds the statement that selects `what` from the rows, in no order.
    fn query<R: Row>(&self, what: &str) -> QueryBuilder<Sqlite> {
        let mut query: QueryBuilder<Sqlite> =
            QueryBuilder::new(format!("SELECT {what} FROM {}", R::TABLE));
        for (at, condition) in self.conditions.iter().enumerate() {
            query.push(if at == 0 { " WHERE " } else { " AND " });
            let mut parts = condition.sql.split('?');
            query.push(parts.next().unwrap_or_default());
            for (arg, part) in condition.args.iter().zip(parts) {
                match arg {
                    Arg::Text(text) => query.push_bind(text.clone()),
                    Arg::Int(int) => query.push_bind(*int),
                };
                query.push(part);
            }
        }
        query
    }

    /// Builds the statement that selects whole rows, in their order.
    fn rows<R: Row>(&self) -> QueryBuilder<Sqlite> {
        let mut query = self.query::<R>(&R::COLUMNS.join(", "));
        query.push(" ORDER BY ");
        query.push(self.order.as_deref().unwrap_or("id"));
        query
    }

    pub(crate) async fn all<R: Row>(&self, conn: &mut Connection) -> sqlx::Result<Vec<R>> {
        let mut query = self.rows::<R>();
        query.build_query_as().fetch_all(conn).await
    }

    /// Reads all rows like `all`, but separates those that cannot be decoded. Loops over the rows of many tenants use it.
    pub(crate) async fn readable<R: Row>(
        &self,
        conn: &mut Connection,
    ) -> sqlx::Result<Readable<R>> {
        let found = self.rows::<R>().build().fetch_all(conn).await?;
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

    /// Reads at most `limit` rows from `offset` on. It stops before a row with which the rows would have more than `most` bytes
    /// together, but returns at least one row. Rows that cannot be decoded are logged.
    pub(crate) async fn portion<R: Row>(
        &self,
        conn: &mut Connection,
        limit: i64,
        offset: i64,
        most: usize,
    ) -> sqlx::Result<Portion<R>> {
        let mut query = self.rows::<R>();
        query.push(format_args!(" LIMIT {limit} OFFSET {offset}"));
        let mut found = query.build().fetch(conn);
        let (mut rows, mut bytes) = (Vec::new(), 0);
        while let Some(row) = found.try_next().await? {
            bytes += size(&row);
            if bytes > most && !rows.is_empty() {
                return Ok(Portion { rows, is_cut: true });
            }
            rows.push(decoded(&row).inspect_err(Broken::log).ok());
        }
        Ok(Portion {
            rows,
            is_cut: false,
        })
    }

    pub(crate) async fn first<R: Row>(&self, conn: &mut Connection) -> sqlx::Result<Option<R>> {
        let mut query = self.rows::<R>();
        query.push(" LIMIT 1");
        query.build_query_as().fetch_optional(conn).await
    }

    pub(crate) async fn count<R: Row>(&self, conn: &mut Connection) -> sqlx::Result<i64> {
        let mut query = self.query::<R>("COUNT(*)");
        query.build_query_scalar().fetch_one(conn).await
    }

    pub(crate) async fn exists<R: Row>(&self, conn: &mut Connection) -> sqlx::Result<bool> {
        Ok(self.count::<R>(conn).await? > 0)
    }
}

fn decoded<R: Row>(row: &SqliteRow) -> Result<R, Broken> {
    R::from_row(row).map_err(|error| Broken {
        guid: row.try_get("guid").ok(),
        problem: format!("a row of table {} cannot be read: {error}", R::TABLE),
    })
}

/// Returns the number of bytes of all texts in a row. Other values are small, and reading them as bytes would convert them to
/// texts.
fn size(row: &SqliteRow) -> usize {
    (0..row.len())
        .filter_map(|at| row.try_get::<Option<&str>, _>(at).ok().flatten())
        .map(str::len)
        .sum()
}

impl Broken {
    fn log(&self) {
        tracing::warn!(guid = self.guid, problem = self.problem, "row-damaged");
    }
}

fn arguments(args: &[Arg]) -> Result<SqliteArguments, sqlx::Error> {
    use sqlx::Arguments as _;
    let mut bound = SqliteArguments::default();
    for arg in args {
        match arg {
            Arg::Text(text) => bound.add(text.clone()),
            Arg::Int(int) => bound.add(*int),
        }
        .map_err(sqlx::Error::Encode)?;
    }
    Ok(bound)
}

/// Runs one statement with `$1`-style marks, and returns the number of rows that changed.
pub(crate) async fn execute(
    conn: &mut Connection,
    sql: &'static str,
    args: &[Arg],
) -> sqlx::Result<u64> {
    Ok(sqlx::query_with::<Sqlite, _>(sql, arguments(args)?)
        .execute(conn)
        .await?
        .rows_affected())
}
