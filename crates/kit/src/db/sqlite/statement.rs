//! Runs statements of SQLite in the thread of their caller: most of them take a few microseconds, which is less than it takes to wake
//! another thread.

use crate::db::value::{self, Cell, Value};
use crate::db::{BoxDynError, Error, Index, Result};
use rusqlite::types::ValueRef;
use rusqlite::{CachedStatement, Connection, Rows};
use sqlx::error::{DatabaseError, ErrorKind};
use std::borrow::Cow;
use std::sync::Arc;
use tokio::runtime::{Handle, RuntimeFlavor};

/// Does work that may wait for the disk. Another thread continues with the other tasks of this one meanwhile.
pub(in crate::db) fn in_place<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        // A runtime of one thread, or none.
        _ => work(),
    }
}

/// Runs a text of one or more statements without arguments.
pub(super) fn run(connection: &Connection, sql: &str) -> Result<()> {
    connection.execute_batch(sql).map_err(failed)
}

/// Runs a statement and returns the number of rows that it changed.
pub(super) fn execute(connection: &Connection, sql: &str, values: &[Value]) -> Result<u64> {
    let mut statement = prepare(connection, sql, values)?;
    let mut rows = statement.raw_query();
    while rows.next().map_err(failed)?.is_some() {}
    drop(rows);
    // A statement that reads leaves SQLite's count of changed rows as an earlier statement has set it.
    Ok(match statement.readonly() {
        true => 0,
        false => connection.changes(),
    })
}

/// Reads rows for as long as `accept` returns true.
pub(super) fn read(
    connection: &Connection,
    sql: &str,
    values: &[Value],
    mut accept: impl FnMut(SqliteRow) -> bool,
) -> Result<()> {
    let mut statement = prepare(connection, sql, values)?;
    let mut rows = statement.raw_query();
    let mut columns = None;
    while let Some(row) = next(&mut rows, &mut columns)? {
        if !accept(row) {
            break;
        }
    }
    Ok(())
}

fn prepare<'c>(
    connection: &'c Connection,
    sql: &str,
    values: &[Value],
) -> Result<CachedStatement<'c>> {
    value::check(values)?;
    let mut statement = connection.prepare_cached(sql).map_err(failed)?;
    for place in 1..=statement.parameter_count() {
        // SQLite numbers the marks in the order in which they appear, and takes the number of `$2` for a name.
        let mark = statement.parameter_name(place);
        let number = mark.and_then(|mark| mark.strip_prefix('$')?.parse().ok());
        let value = number
            .and_then(|number: usize| values.get(number.checked_sub(1)?))
            .ok_or_else(|| {
                let mark = mark.unwrap_or("?");
                Error::Protocol(format!("the statement has no argument for {mark}: {sql}"))
            })?;
        bind(&mut statement, place, value)?;
    }
    Ok(statement)
}

/// Binds a value. A list is a JSON text, which the statement reads with `json_each`.
fn bind(statement: &mut CachedStatement<'_>, place: usize, value: &Value) -> Result<()> {
    match value {
        Value::Text(text) => statement.raw_bind_parameter(place, text.as_deref()),
        Value::Integer(number) => statement.raw_bind_parameter(place, number),
        Value::Real(number) => statement.raw_bind_parameter(place, number),
        Value::Bytes(bytes) => statement.raw_bind_parameter(place, bytes.as_deref()),
        Value::TextList(texts) => statement.raw_bind_parameter(place, json(texts)?),
        Value::IntegerList(numbers) => statement.raw_bind_parameter(place, json(numbers)?),
    }
    .map_err(failed)
}

fn json<T: serde::Serialize>(list: &[T]) -> Result<String> {
    serde_json::to_string(list).map_err(|error| Error::Encode(error.into()))
}

/// The names of a result's columns, which all of its rows share.
type Columns = Arc<[Box<str>]>;

fn next(rows: &mut Rows<'_>, columns: &mut Option<Columns>) -> Result<Option<SqliteRow>> {
    let Some(row) = rows.next().map_err(failed)? else {
        return Ok(None);
    };
    let columns = columns.get_or_insert_with(|| {
        let names = row.as_ref().column_names();
        names.into_iter().map(Box::from).collect()
    });
    let value = |at| row.get_ref(at).map(Stored::from).map_err(failed);
    Ok(Some(SqliteRow {
        values: (0..columns.len()).map(value).collect::<Result<_>>()?,
        columns: columns.clone(),
    }))
}

/// A row that SQLite returned.
pub struct SqliteRow {
    values: Box<[Stored]>,
    columns: Columns,
}

/// Prints the number of values only, because they may be secret.
impl std::fmt::Debug for SqliteRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteRow")
            .field("values", &self.len())
            .finish_non_exhaustive()
    }
}

impl SqliteRow {
    /// Returns the number of values.
    pub(in crate::db) fn len(&self) -> usize {
        self.values.len()
    }

    /// Returns a value. The inner result is an error if it cannot be read.
    pub(in crate::db) fn cell(&self, index: impl Index) -> Result<Result<Cell<'_>, BoxDynError>> {
        Ok(self.values[index.position(&self.columns)?].cell())
    }
}

/// A value of a row. A text of a damaged file need not be UTF-8.
enum Stored {
    Null,
    Integer(i64),
    Real(f64),
    Text(Box<[u8]>),
    Bytes(Box<[u8]>),
}

impl From<ValueRef<'_>> for Stored {
    fn from(value: ValueRef<'_>) -> Self {
        match value {
            ValueRef::Null => Self::Null,
            ValueRef::Integer(number) => Self::Integer(number),
            ValueRef::Real(number) => Self::Real(number),
            ValueRef::Text(text) => Self::Text(text.into()),
            ValueRef::Blob(bytes) => Self::Bytes(bytes.into()),
        }
    }
}

impl Stored {
    fn cell(&self) -> Result<Cell<'_>, BoxDynError> {
        Ok(match self {
            Self::Null => Cell::Null,
            Self::Integer(number) => Cell::Integer(*number),
            Self::Real(number) => Cell::Real(*number),
            Self::Text(text) => Cell::Text(std::str::from_utf8(text)?),
            Self::Bytes(bytes) => Cell::Bytes(bytes),
        })
    }
}

/// An error of SQLite, with its extended result code.
#[derive(Debug)]
struct SqliteError {
    code: i32,
    message: String,
}

/// Returns the error of a statement. The text of the statement is left out.
pub(super) fn failed(error: rusqlite::Error) -> Error {
    let (code, message) = match error {
        rusqlite::Error::SqliteFailure(failure, message) => (
            failure.extended_code,
            message.unwrap_or_else(|| failure.to_string()),
        ),
        rusqlite::Error::SqlInputError { error, msg, .. } => (error.extended_code, msg),
        other => return Error::Protocol(other.to_string()),
    };
    Error::Database(Box::new(SqliteError { code, message }))
}

impl std::fmt::Display for SqliteError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "(code: {}) {}", self.code, self.message)
    }
}

impl std::error::Error for SqliteError {}

impl DatabaseError for SqliteError {
    fn message(&self) -> &str {
        &self.message
    }

    fn code(&self) -> Option<Cow<'_, str>> {
        Some(self.code.to_string().into())
    }

    fn as_error(&self) -> &(dyn std::error::Error + Send + Sync + 'static) {
        self
    }

    fn as_error_mut(&mut self) -> &mut (dyn std::error::Error + Send + Sync + 'static) {
        self
    }

    fn into_error(self: Box<Self>) -> Box<dyn std::error::Error + Send + Sync + 'static> {
        self
    }

    fn kind(&self) -> ErrorKind {
        use rusqlite::ffi;
        match self.code {
            ffi::SQLITE_CONSTRAINT_UNIQUE | ffi::SQLITE_CONSTRAINT_PRIMARYKEY => {
                ErrorKind::UniqueViolation
            }
            ffi::SQLITE_CONSTRAINT_FOREIGNKEY => ErrorKind::ForeignKeyViolation,
            ffi::SQLITE_CONSTRAINT_NOTNULL => ErrorKind::NotNullViolation,
            ffi::SQLITE_CONSTRAINT_CHECK => ErrorKind::CheckViolation,
            _ => ErrorKind::Other,
        }
    }
}
