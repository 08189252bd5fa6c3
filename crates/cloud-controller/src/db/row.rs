//! Table rows as structs. Every table has guid, created_at and updated_at (microseconds since the epoch) in addition to its own
//! columns. The four plain statements on one row are written once, here.

use super::Connection;
use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::query::Query;
use sqlx::sqlite::{
    SqliteArguments, SqliteArgumentsBuffer, SqliteRow, SqliteTypeInfo, SqliteValueRef,
};
use sqlx::{AssertSqlSafe, Decode, Encode, FromRow, Sqlite, Type};
use std::borrow::Cow;

pub(crate) type BoundQuery<'q> = Query<'q, Sqlite, SqliteArguments>;

/// A row of a table, implemented by [`rows!`].
pub(crate) trait Row: for<'r> FromRow<'r, SqliteRow> + Send + Unpin + 'static {
    const TABLE: &'static str;
    const COLUMNS: &'static [&'static str];
    /// The columns whose texts are compared and ordered without regard to the case of ASCII letters.
    const FOLDED: &'static [&'static str];
    fn guid(&self) -> &str;
    /// Binds all of `COLUMNS` in their order.
    fn bind<'q>(&self, query: BoundQuery<'q>) -> BoundQuery<'q>;
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

        impl sqlx::FromRow<'_, sqlx::sqlite::SqliteRow> for $name {
            fn from_row(row: &sqlx::sqlite::SqliteRow) -> sqlx::Result<Self> {
                use sqlx::Row as _;
                Ok(Self {
                    guid: row.try_get("guid")?,
                    created_at: row.try_get("created_at")?,
                    updated_at: row.try_get("updated_at")?,
                    $($field: row.try_get($crate::db::column(stringify!($field)))?,)*
                })
            }
        }

        impl $crate::db::Row for $name {
            const TABLE: &'static str = $table;
            const COLUMNS: &'static [&'static str] = &["guid", "created_at", "updated_at", $($crate::db::column(stringify!($field))),*];
            const FOLDED: &'static [&'static str] = &[$($($folded),+)?];
            fn guid(&self) -> &str {
                &self.guid
            }
            fn bind<'q>(&self, query: $crate::db::row::BoundQuery<'q>) -> $crate::db::row::BoundQuery<'q> {
                query.bind(self.guid.clone()).bind(self.created_at).bind(self.updated_at)$(.bind(self.$field.clone()))*
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
    row.bind(sqlx::query(AssertSqlSafe(sql)))
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
    row.bind(sqlx::query(AssertSqlSafe(sql)))
        .execute(conn)
        .await
        .map(drop)
}

/// Deletes a row and returns whether it existed.
pub(crate) async fn delete<R: Row>(conn: &mut Connection, guid: &str) -> sqlx::Result<bool> {
    let sql = format!("DELETE FROM {} WHERE guid = $1", R::TABLE);
    let done = sqlx::query(AssertSqlSafe(sql))
        .bind(guid.to_owned())
        .execute(conn)
        .await?;
    Ok(done.rows_affected() > 0)
}

pub(crate) async fn by_guid<R: Row>(conn: &mut Connection, guid: &str) -> sqlx::Result<Option<R>> {
    let sql = format!(
        "SELECT {} FROM {} WHERE guid = $1",
        columns::<R>(),
        R::TABLE
    );
    sqlx::query_as(AssertSqlSafe(sql))
        .bind(guid.to_owned())
        .fetch_optional(conn)
        .await
}

/// Returns the rows of a query over several tenants. A row that cannot be read is logged and left out.
pub(crate) fn readable_rows<T>(
    rows: &[SqliteRow],
    read: impl Fn(&SqliteRow) -> sqlx::Result<T>,
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

impl<T> Type<Sqlite> for Json<T> {
    fn type_info() -> SqliteTypeInfo {
        <String as Type<Sqlite>>::type_info()
    }
    fn compatible(info: &SqliteTypeInfo) -> bool {
        <String as Type<Sqlite>>::compatible(info)
    }
}

impl<T: serde::Serialize> Encode<'_, Sqlite> for Json<T> {
    fn encode_by_ref(&self, buffer: &mut SqliteArgumentsBuffer) -> Result<IsNull, BoxDynError> {
        <String as Encode<'_, Sqlite>>::encode(serde_json::to_string(&self.0)?, buffer)
    }
}

impl<'r, T: serde::de::DeserializeOwned> Decode<'r, Sqlite> for Json<T> {
    fn decode(value: SqliteValueRef<'r>) -> Result<Self, BoxDynError> {
        Ok(Self(serde_json::from_str(
            <&str as Decode<'r, Sqlite>>::decode(value)?,
        )?))
    }
}
