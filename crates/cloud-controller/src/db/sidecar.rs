//! Sidecars: programs that run beside an app's processes, in the same container.

use super::{Condition, Connection, Json, Select, execute, rows, spelled};

spelled! {
    /// The place where a sidecar was declared: a request or manifest, or the buildpack of the app's droplet.
    Origin { User = "user", Buildpack = "buildpack" }
}

rows! {
    /// A sidecar. One without a memory of its own shares that of the process.
    Sidecar in "sidecars" {
        app_guid: String, name: String, command: String, memory_in_mb: Option<i64>, origin: Origin, process_types: Json<Vec<String>>,
    }
}

pub(crate) async fn of_app(conn: &mut Connection, app: &str) -> sqlx::Result<Vec<Sidecar>> {
    Select::new()
        .is("app_guid", app)
        .order("name")
        .all(conn)
        .await
}

/// Selects the sidecars that run beside processes of a type.
pub(crate) fn has_type(process_type: &str) -> Condition {
    Condition::each(
        "EXISTS (SELECT 1 FROM json_each(CASE WHEN json_valid(process_types) THEN process_types ELSE '[]' END) WHERE value = ?)",
        "has_item(process_types, ?)",
        [process_type.into()],
    )
}

/// Selects the sidecars that run beside an app's processes of a type.
pub(crate) fn beside(app: &str, process_type: &str) -> Select {
    Select::new()
        .is("app_guid", app)
        .that(has_type(process_type))
}

/// Selects every other sidecar.
pub(crate) fn is_other_than(sidecar: &Sidecar) -> Condition {
    Condition::new("guid <> ?", [(&sidecar.guid).into()])
}

pub(crate) async fn by_name(
    conn: &mut Connection,
    app: &str,
    name: &str,
) -> sqlx::Result<Option<Sidecar>> {
    Select::new()
        .is("app_guid", app)
        .is("name", name)
        .first(conn)
        .await
}

/// Removes the sidecars that the buildpack of the previous droplet defined.
pub(crate) async fn delete_of_buildpack(conn: &mut Connection, app: &str) -> sqlx::Result<()> {
    execute(
        conn,
        "DELETE FROM sidecars WHERE app_guid = $1 AND origin = 'buildpack'",
        &[app.into()],
    )
    .await
    .map(drop)
}
