//! Rows that a database returned.

use super::sqlite::SqliteRow;
use super::value::{Cell, FromCell};
use super::{Error, Result};
use sqlx::error::BoxDynError;
use sqlx::postgres::{PgRow, PgValueRef};
use sqlx::{Decode, Postgres, Row as _, TypeInfo as _, ValueRef as _};

/// A row of either database.
pub enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

/// Prints the number of values only, because they may be secret.
impl std::fmt::Debug for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Row")
            .field("values", &self.len())
            .finish_non_exhaustive()
    }
}

/// The position of a value in a row: a number from 0 on, or the name of a column.
pub trait Index: sqlx::ColumnIndex<PgRow> + Copy {
    /// Returns the place of the value in a row with these columns.
    ///
    /// # Errors
    /// It fails if there is no such column.
    fn position(self, columns: &[Box<str>]) -> Result<usize>;
}

impl Index for usize {
    fn position(self, columns: &[Box<str>]) -> Result<usize> {
        let len = columns.len();
        match self < len {
            true => Ok(self),
            false => Err(Error::ColumnIndexOutOfBounds { index: self, len }),
        }
    }
}

impl Index for &str {
    fn position(self, columns: &[Box<str>]) -> Result<usize> {
        let found = columns.iter().position(|name| **name == *self);
        found.ok_or_else(|| Error::ColumnNotFound(self.to_owned()))
    }
}

impl Row {
    /// Returns the number of values.
    pub fn len(&self) -> usize {
        match self {
            Self::Sqlite(row) => row.len(),
            Self::Postgres(row) => row.len(),
        }
    }

    /// Returns whether the row has no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns one value.
    ///
    /// # Errors
    /// It fails if there is no such column, or if its value cannot be read as `T`.
    pub fn try_get<'r, T: FromCell<'r>, I: Index>(&'r self, index: I) -> Result<T> {
        let cell = match self {
            Self::Sqlite(row) => row.cell(index)?,
            Self::Postgres(row) => postgres(row.try_get_raw(index)?),
        };
        cell.and_then(T::from_cell)
            .map_err(|source| Error::ColumnDecode {
                index: format!("{index:?}"),
                source,
            })
    }
}

fn postgres<'r>(value: PgValueRef<'r>) -> Result<Cell<'r>, BoxDynError> {
    if value.is_null() {
        return Ok(Cell::Null);
    }
    let kind = value.type_info().name().to_owned();
    Ok(match &*kind {
        "TEXT" | "VARCHAR" | "NAME" | "CHAR" => {
            Cell::Text(<&'r str as Decode<'r, Postgres>>::decode(value)?)
        }
        "INT8" => Cell::Integer(<i64 as Decode<Postgres>>::decode(value)?),
        "INT4" => Cell::Integer(<i32 as Decode<Postgres>>::decode(value)?.into()),
        "INT2" => Cell::Integer(<i16 as Decode<Postgres>>::decode(value)?.into()),
        "BOOL" => Cell::Integer(<bool as Decode<Postgres>>::decode(value)?.into()),
        "FLOAT8" => Cell::Real(<f64 as Decode<Postgres>>::decode(value)?),
        "FLOAT4" => Cell::Real(<f32 as Decode<Postgres>>::decode(value)?.into()),
        "BYTEA" => Cell::Bytes(<&'r [u8] as Decode<'r, Postgres>>::decode(value)?),
        other => return Err(unknown(other)),
    })
}

/// PostgreSQL returns NUMERIC for a sum of integers.
fn unknown(kind: &str) -> BoxDynError {
    format!("values of the type {kind} are not read: cast it in the statement, as in CAST(SUM(x) AS BIGINT)").into()
}

/// A type that a row can be read as.
pub trait FromRow: Sized {
    /// # Errors
    /// It fails if a column is missing or its value cannot be read.
    fn from_row(row: &Row) -> Result<Self>;
}

macro_rules! tuple {
    ($($ty:ident $at:literal),+) => {
        impl<$($ty: for<'r> FromCell<'r>),+> FromRow for ($($ty,)+) {
            fn from_row(row: &Row) -> Result<Self> {
                Ok(($(row.try_get::<$ty, usize>($at)?,)+))
            }
        }
    };
}
tuple!(A 0);
tuple!(A 0, B 1);
tuple!(A 0, B 1, C 2);
tuple!(A 0, B 1, C 2, D 3);
tuple!(A 0, B 1, C 2, D 3, E 4);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5);
