//! Table rows as structs. Every table has guid, created_at and updated_at (microseconds since the epoch) in addition to its own
//! columns. The four plain statements on one row are written once, here.

use super::Connection;
use crate::sealing::Sealed;
use kit::db::{AssertSqlSafe, BoxDynError, Cell, FromCell, FromRow, Query, Value, query, query_as};
use std::borrow::Cow;

/// A row of a table, implemented by [`rows!`].
pub(crate) trait Row: FromRow + Send + Unpin + 'static {
    const TABLE: &'static str;
    const COLUMNS: &'static [&'static str];
    /// The columns whose texts are compared and ordered without regard to the case of ASCII letters.
    const FOLDED: &'static [&'static str];
    fn guid(&self) -> &str;
    /// Binds all of `COLUMNS` in their order.
    fn bind(&self, query: Query) -> Query;
    /// Reads `COLUMNS` in their order from a result. The first of them stands at the position `first`.
    fn read(row: &kit::db::Row, first: usize) -> sqlx::Result<Self>;
}

/// Reads the columns of a [`Row`] one after the other.
#[derive(Debug)]
pub(crate) struct Cells<'r> {
    row: &'r kit::db::Row,
    first: usize,
    columns: std::slice::Iter<'static, &'static str>,
    at: usize,
}

impl<'r> Cells<'r> {
    pub(crate) fn new<R: Row>(row: &'r kit::db::Row, first: usize) -> Self {
        Self {
            row,
            first,
            columns: R::COLUMNS.iter(),
            at: 0,
        }
    }

    /// Returns the next value. The error names its column.
    pub(crate) fn take<T: FromCell<'r>>(&mut self) -> sqlx::Result<T> {
        let column = self.columns.next().copied().unwrap_or_default();
        let value = self.row.try_get(self.first + self.at);
        self.at += 1;
        value.map_err(|error| match error {
            sqlx::Error::ColumnDecode { source, .. } => sqlx::Error::ColumnDecode {
                index: format!("{column:?}"),
                source,
            },
            other => other,
        })
    }
}

/// Returns the column of a field: `r#type` is `type`.
pub(crate) const fn column(field: &'static str) -> &'static str {
    match field.as_bytes() {
        [b'r', b'#', ..] => field.split_at(2).1,
        _ => field,
    }
}

/// Returns a column as SQL must spell it.
pub(super) fn quoted(column: &str) -> Cow<'_, str> {
    match column {
        // These are words of SQL.
        "user" => format!("\"{column}\"").into(),
        _ => column.into(),
    }
}

/// Returns the expression by which a column is compared, if the case of its letters does not count. There is an index on each of
/// these expressions.
pub(super) fn folded<R: Row>(column: &str) -> Option<String> {
    R::FOLDED
        .contains(&column)
        .then(|| format!("lower({column})"))
}

/// Returns all columns of a table, separated by commas.
pub(super) fn columns<R: Row>() -> String {
    let columns: Vec<Cow<'_, str>> = R::COLUMNS.iter().map(|column| quoted(column)).collect();
    columns.join(", ")
}

/// Returns all columns of a table that a statement calls `alias`.
fn columns_of<R: Row>(alias: &str) -> String {
    let of_alias = |column: &&str| format!("{alias}.{}", quoted(column));
    let columns: Vec<String> = R::COLUMNS.iter().map(of_alias).collect();
    columns.join(", ")
}

macro_rules! rows {
    ($(#[$meta:meta])* $name:ident in $table:literal $(folding [$($folded:literal),+])? { $($(#[$fmeta:meta])* $field:ident : $ty:ty),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, Default)]
        pub(crate) struct $name {
            pub guid: String,
            pub created_at: i64,
            pub updated_at: i64,
            $($(#[$fmeta])* pub $field: $ty,)*
        }

        impl kit::db::FromRow for $name {
            fn from_row(row: &kit::db::Row) -> kit::db::Result<Self> {
                <Self as $crate::db::Row>::read(row, 0)
            }
        }

        impl $crate::db::Row for $name {
            const TABLE: &'static str = $table;
            const COLUMNS: &'static [&'static str] = &["guid", "created_at", "updated_at", $($crate::db::column(stringify!($field))),*];
            const FOLDED: &'static [&'static str] = &[$($($folded),+)?];
            fn guid(&self) -> &str {
                &self.guid
            }
            fn bind(&self, query: kit::db::Query) -> kit::db::Query {
                use $crate::db::row::Field as _;
                query.bind(&self.guid).bind(self.created_at).bind(self.updated_at)$(.bind(self.$field.value()))*
            }
            fn read(row: &kit::db::Row, first: usize) -> kit::db::Result<Self> {
                let mut cells = $crate::db::row::Cells::new::<Self>(row, first);
                Ok(Self {
                    guid: cells.take()?,
                    created_at: cells.take()?,
                    updated_at: cells.take()?,
                    $($field: cells.take()?,)*
                })
            }
        }

        #[allow(dead_code)]
        impl $name {
            /// Returns a row that is created now, with a new guid and default columns.
            pub(crate) fn fresh() -> Self {
                let now = $crate::clock::now();
                Self { guid: $crate::clock::guid(), created_at: now, updated_at: now, ..Self::default() }
            }
            /// Marks the row as changed. `updated_at` always increases.
            pub(crate) fn touch(&mut self) {
                self.updated_at = $crate::clock::now().max(self.updated_at + 1);
            }
        }
    };
}
pub(crate) use rows;

pub(crate) async fn insert<R: Row>(conn: &mut Connection, row: &R) -> sqlx::Result<()> {
    let marks: Vec<String> = (1..=R::COLUMNS.len()).map(|n| format!("${n}")).collect();
    let sql = format!(
        "INSERT INTO {} ({}) VALUES ({})",
        R::TABLE,
        columns::<R>(),
        marks.join(", ")
    );
    row.bind(query(AssertSqlSafe(sql)))
        .execute(conn)
        .await
        .map(drop)
}

pub(crate) async fn update<R: Row>(conn: &mut Connection, row: &R) -> sqlx::Result<()> {
    let sets: Vec<String> = R::COLUMNS
        .iter()
        .enumerate()
        .map(|(at, column)| format!("{} = ${}", quoted(column), at + 1))
        .collect();
    let sql = format!(
        "UPDATE {} SET {} WHERE guid = $1",
        R::TABLE,
        sets.join(", ")
    );
    row.bind(query(AssertSqlSafe(sql)))
        .execute(conn)
        .await
        .map(drop)
}

/// Deletes a row and returns whether it existed.
pub(crate) async fn delete<R: Row>(conn: &mut Connection, guid: &str) -> sqlx::Result<bool> {
    let sql = format!("DELETE FROM {} WHERE guid = $1", R::TABLE);
    let deleted = query(AssertSqlSafe(sql)).bind(guid).execute(conn).await?;
    Ok(deleted > 0)
}

pub(crate) async fn by_guid<R: Row>(conn: &mut Connection, guid: &str) -> sqlx::Result<Option<R>> {
    let sql = format!(
        "SELECT {} FROM {} WHERE guid = $1",
        columns::<R>(),
        R::TABLE
    );
    query_as(AssertSqlSafe(sql))
        .bind(guid)
        .fetch_optional(conn)
        .await
}

/// Returns a row and the row above it, whose guid is in the column `link`, by one statement. It returns `None` if one of them does not
/// exist.
pub(crate) async fn with_parent<R: Row, P: Row>(
    conn: &mut Connection,
    guid: &str,
    link: &'static str,
) -> sqlx::Result<Option<(R, P)>> {
    let sql = format!(
        "SELECT {}, {} FROM {} r JOIN {} p ON p.guid = r.{link} WHERE r.guid = $1",
        columns_of::<R>("r"),
        columns_of::<P>("p"),
        R::TABLE,
        P::TABLE
    );
    let found = query(AssertSqlSafe(sql))
        .bind(guid)
        .fetch_optional(conn)
        .await?;
    let read = |row: kit::db::Row| Ok((R::read(&row, 0)?, P::read(&row, R::COLUMNS.len())?));
    found.map(read).transpose()
}

/// Returns the rows of a query over several tenants. A row that cannot be read is logged and left out.
pub(crate) fn readable_rows<T>(
    rows: &[kit::db::Row],
    read: impl Fn(&kit::db::Row) -> sqlx::Result<T>,
) -> Vec<T> {
    rows.iter()
        .filter_map(|row| {
            read(row)
                .inspect_err(|error| tracing::warn!(%error, "row-damaged"))
                .ok()
        })
        .collect()
}

/// A column that contains JSON text.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Json<T>(pub T);

impl<'r, T: serde::de::DeserializeOwned> FromCell<'r> for Json<T> {
    fn from_cell(cell: Cell<'r>) -> Result<Self, BoxDynError> {
        Ok(Self(serde_json::from_str(<&str>::from_cell(cell)?)?))
    }
}

/// A type of columns in [`rows!`].
pub(crate) trait Field {
    /// The NULL of the type.
    const NULL: Value = Value::Text(None);
    fn value(&self) -> Value;
}

impl Field for String {
    fn value(&self) -> Value {
        self.into()
    }
}

impl Field for i64 {
    const NULL: Value = Value::Integer(None);
    fn value(&self) -> Value {
        (*self).into()
    }
}

impl Field for bool {
    const NULL: Value = Value::Integer(None);
    fn value(&self) -> Value {
        (*self).into()
    }
}

impl<T: Field> Field for Option<T> {
    const NULL: Value = T::NULL;
    fn value(&self) -> Value {
        self.as_ref().map_or(Self::NULL, T::value)
    }
}

impl Field for Sealed {
    fn value(&self) -> Value {
        self.stored().into()
    }
}

impl<T: serde::Serialize> Field for Json<T> {
    fn value(&self) -> Value {
        let text = serde_json::to_string(&self.0);
        text.expect("the keys of the objects are texts").into()
    }
}
