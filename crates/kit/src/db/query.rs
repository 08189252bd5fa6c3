//! Statements with their arguments, and the calls that run them.

use super::row::{FromRow, Row};
use super::sqlite::SqliteConnection;
use super::value::{FromCell, Value};
use super::{Connection, Error, Result, spelling, value};
use futures::stream::TryStreamExt as _;
use sqlx::{AssertSqlSafe, Postgres, SqlSafeStr, SqlStr};
use std::marker::PhantomData;
use std::time::Duration;

/// The longest time that a statement may take on a server. A server that is cut off by the network never answers.
const PATIENCE: Duration = Duration::from_secs(60);

/// Creates a statement. Its arguments are written `$1`, `$2` and so on, and a list is written `IN LIST($1)` or
/// `NOT IN LIST($1)`.
pub fn query(sql: impl SqlSafeStr) -> Query {
    Query {
        sql: sql.into_sql_str(),
        values: Vec::new(),
    }
}

/// Creates a statement whose rows are read as `T`.
pub fn query_as<T: FromRow>(sql: impl SqlSafeStr) -> QueryAs<T> {
    query(sql).read_as()
}

/// Creates a statement of whose rows the first value is read as `T`.
pub fn query_scalar<T: for<'r> FromCell<'r>>(sql: impl SqlSafeStr) -> QueryScalar<T> {
    query(sql).scalar()
}

/// A statement with its arguments.
#[derive(Clone, Debug)]
pub struct Query {
    sql: SqlStr,
    values: Vec<Value>,
}

impl Query {
    /// Binds the next argument.
    #[must_use]
    pub fn bind(mut self, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        self
    }

    /// Binds the next arguments.
    #[must_use]
    pub fn bind_all<V: Into<Value>>(mut self, values: impl IntoIterator<Item = V>) -> Self {
        self.values.extend(values.into_iter().map(Into::into));
        self
    }

    /// Reads the rows as `T`.
    pub fn read_as<T: FromRow>(self) -> QueryAs<T> {
        QueryAs(self, PhantomData)
    }

    /// Reads the first value of the rows as `T`.
    pub fn scalar<T: for<'r> FromCell<'r>>(self) -> QueryScalar<T> {
        QueryScalar(self, PhantomData)
    }

    /// Runs the statement and returns the number of rows that it changed.
    pub async fn execute(self, connection: &mut Connection) -> Result<u64> {
        match connection {
            Connection::Sqlite(connection) => {
                let (sql, values) = self.sqlite().await;
                connection.execute(sql.as_str(), &values)
            }
            Connection::Postgres(connection) => {
                let query = self.postgres()?;
                let done = in_time(query.execute(&mut **connection)).await?;
                Ok(done.rows_affected())
            }
        }
    }

    /// Returns all rows.
    pub async fn fetch_all(self, connection: &mut Connection) -> Result<Vec<Row>> {
        match connection {
            Connection::Sqlite(connection) => {
                let mut rows = Vec::new();
                let all = |row| {
                    rows.push(row);
                    true
                };
                self.read(connection, all).await?;
                Ok(rows)
            }
            Connection::Postgres(connection) => {
                let query = self.postgres()?;
                let rows = in_time(query.fetch_all(&mut **connection)).await?;
                Ok(rows.into_iter().map(Row::Postgres).collect())
            }
        }
    }

    /// Returns the first row, if there is one.
    pub async fn fetch_optional(self, connection: &mut Connection) -> Result<Option<Row>> {
        match connection {
            Connection::Sqlite(connection) => {
                let mut first = None;
                let one = |row| {
                    first = Some(row);
                    false
                };
                self.read(connection, one).await?;
                Ok(first)
            }
            Connection::Postgres(connection) => {
                let query = self.postgres()?;
                let row = in_time(query.fetch_optional(&mut **connection)).await?;
                Ok(row.map(Row::Postgres))
            }
        }
    }

    /// Returns the first row.
    ///
    /// # Errors
    /// It fails with [`Error::RowNotFound`] if there is none.
    pub async fn fetch_one(self, connection: &mut Connection) -> Result<Row> {
        let row = self.fetch_optional(connection).await?;
        row.ok_or(Error::RowNotFound)
    }

    /// Reads the rows one by one for as long as `accept` returns true, for lists that are read only until enough is known.
    pub async fn fetch_while(
        self,
        connection: &mut Connection,
        mut accept: impl FnMut(Row) -> bool,
    ) -> Result<()> {
        match connection {
            Connection::Sqlite(connection) => self.read(connection, accept).await,
            Connection::Postgres(connection) => {
                let mut rows = self.postgres()?.fetch(&mut **connection);
                while let Some(row) = in_time(rows.try_next()).await? {
                    if !accept(Row::Postgres(row)) {
                        break;
                    }
                }
                Ok(())
            }
        }
    }

    async fn read(
        self,
        connection: &mut SqliteConnection,
        mut accept: impl FnMut(Row) -> bool,
    ) -> Result<()> {
        let (sql, values) = self.sqlite().await;
        connection.read(sql.as_str(), &values, |row| accept(Row::Sqlite(row)))
    }

    /// Returns the text for SQLite and the arguments, when it is this task's turn: a statement does not wait for anything, so a task
    /// with many of them would leave no time for others.
    async fn sqlite(self) -> (SqlStr, Vec<Value>) {
        tokio::task::coop::consume_budget().await;
        (spelled(self.sql, spelling::sqlite_lists), self.values)
    }

    fn postgres(
        self,
    ) -> Result<sqlx::query::Query<'static, Postgres, sqlx::postgres::PgArguments>> {
        let sql = spelled(self.sql, spelling::postgres_lists);
        Ok(sqlx::query_with(sql, value::postgres(self.values)?))
    }
}

fn spelled(sql: SqlStr, lists: fn(&str) -> Option<String>) -> SqlStr {
    match lists(sql.as_str()) {
        Some(spelled) => AssertSqlSafe(spelled).into_sql_str(),
        None => sql,
    }
}

/// Waits for a server's response.
pub(super) async fn in_time<T>(response: impl Future<Output = Result<T>>) -> Result<T> {
    let response = tokio::time::timeout(PATIENCE, response).await;
    response.unwrap_or_else(|_| {
        let text = format!("the database server did not answer within {PATIENCE:?}");
        Err(Error::Io(std::io::Error::new(
            std::io::ErrorKind::TimedOut,
            text,
        )))
    })
}

/// A statement whose rows are read as `T`.
#[derive(Clone, Debug)]
pub struct QueryAs<T>(Query, PhantomData<fn() -> T>);

impl<T: FromRow> QueryAs<T> {
    /// Binds the next argument.
    #[must_use]
    pub fn bind(self, value: impl Into<Value>) -> Self {
        Self(self.0.bind(value), PhantomData)
    }

    /// Returns all rows.
    pub async fn fetch_all(self, connection: &mut Connection) -> Result<Vec<T>> {
        let rows = self.0.fetch_all(connection).await?;
        rows.iter().map(T::from_row).collect()
    }

    /// Returns the first row, if there is one.
    pub async fn fetch_optional(self, connection: &mut Connection) -> Result<Option<T>> {
        let row = self.0.fetch_optional(connection).await?;
        row.as_ref().map(T::from_row).transpose()
    }

    /// Returns the first row.
    ///
    /// # Errors
    /// It fails with [`Error::RowNotFound`] if there is none.
    pub async fn fetch_one(self, connection: &mut Connection) -> Result<T> {
        T::from_row(&self.0.fetch_one(connection).await?)
    }
}

/// A statement of whose rows the first value is read as `T`.
#[derive(Clone, Debug)]
pub struct QueryScalar<T>(Query, PhantomData<fn() -> T>);

impl<T: for<'r> FromCell<'r>> QueryScalar<T> {
    /// Binds the next argument.
    #[must_use]
    pub fn bind(self, value: impl Into<Value>) -> Self {
        Self(self.0.bind(value), PhantomData)
    }

    /// Returns the first value of all rows.
    pub async fn fetch_all(self, connection: &mut Connection) -> Result<Vec<T>> {
        let rows = self.0.fetch_all(connection).await?;
        rows.iter().map(|row| row.try_get(0)).collect()
    }

    /// Returns the first value of the first row, if there is one.
    pub async fn fetch_optional(self, connection: &mut Connection) -> Result<Option<T>> {
        let row = self.0.fetch_optional(connection).await?;
        row.as_ref().map(|row| row.try_get(0)).transpose()
    }

    /// Returns the first value of the first row.
    ///
    /// # Errors
    /// It fails with [`Error::RowNotFound`] if there is none.
    pub async fn fetch_one(self, connection: &mut Connection) -> Result<T> {
        self.0.fetch_one(connection).await?.try_get(0)
    }
}

/// A statement that is put together from parts. The numbers of its marks follow from the order of the arguments.
#[derive(Clone, Debug, Default)]
pub struct Builder {
    sql: String,
    values: Vec<Value>,
}

impl Builder {
    /// Begins with this text.
    pub fn new(sql: impl Into<String>) -> Self {
        Self {
            sql: sql.into(),
            values: Vec::new(),
        }
    }

    /// Appends a text. It must not come from a user.
    pub fn push(&mut self, sql: impl std::fmt::Display) -> &mut Self {
        use std::fmt::Write as _;
        let _ = write!(self.sql, "{sql}");
        self
    }

    /// Appends a mark and binds its argument.
    pub fn push_bind(&mut self, value: impl Into<Value>) -> &mut Self {
        self.values.push(value.into());
        let number = self.values.len();
        self.push(format_args!("${number}"))
    }

    /// Returns the text so far.
    pub fn sql(&self) -> &str {
        &self.sql
    }

    /// Returns the statement.
    pub fn build(self) -> Query {
        query(AssertSqlSafe(self.sql)).bind_all(self.values)
    }
}
