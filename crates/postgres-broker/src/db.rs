//! The statements. Names are made of guids ([`crate::names`]), and passwords are verifiers ([`crate::scram`]), so that no statement
//! contains a text of a request. Descriptions of instances are arguments.
//!
//! A database belongs to the administrator, so that its users can neither drop it nor lift its limits. What is in it belongs to
//! the owner's role, of which the user of each binding is a member and whose rights it has from its login on.

use crate::names::Guid;
use sqlx::{AssertSqlSafe, PgConnection, Row as _};

pub(crate) type Result<T> = sqlx::Result<T>;

/// The connections of a database beside those of its plan: a dump needs one while an app uses all of its own.
const SPARE: u32 = 2;
/// The code of PostgreSQL for a lock that was not free in time.
const LOCK_NOT_AVAILABLE: &str = "55P03";

/// A database of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Database {
    pub(crate) guid: Guid,
    /// The description of a complete instance. `None`: its creation did not come to its end.
    pub(crate) description: Option<String>,
    pub(crate) bytes: i64,
    pub(crate) is_read_only: bool,
}

async fn run(conn: &mut PgConnection, sql: String) -> Result<()> {
    sqlx::raw_sql(AssertSqlSafe(sql))
        .execute(&mut *conn)
        .await
        .map(drop)
}

/// Returns a text as a literal. Backslashes have no meaning in it.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Returns whether a statement failed because another operation holds the lock.
pub(crate) fn is_locked(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    code.as_deref() == Some(LOCK_NOT_AVAILABLE)
}

/// Waits for the lock of an instance, which the connection holds until it ends.
pub(crate) async fn lock(conn: &mut PgConnection, guid: Guid) -> Result<()> {
    sqlx::query("SELECT pg_advisory_lock(hashtextextended($1, 0))")
        .bind(guid.database())
        .execute(&mut *conn)
        .await
        .map(drop)
}

/// Takes the lock of an instance if nobody has it.
pub(crate) async fn try_lock(conn: &mut PgConnection, guid: Guid) -> Result<bool> {
    sqlx::query_scalar("SELECT pg_try_advisory_lock(hashtextextended($1, 0))")
        .bind(guid.database())
        .fetch_one(&mut *conn)
        .await
}

/// Gives the lock back.
pub(crate) async fn unlock(conn: &mut PgConnection, guid: Guid) -> Result<()> {
    sqlx::query("SELECT pg_advisory_unlock(hashtextextended($1, 0))")
        .bind(guid.database())
        .execute(&mut *conn)
        .await
        .map(drop)
}

/// Returns the statement that sets the administrator's password, for a server that runs for it alone.
pub(crate) fn password_of_administrator(name: &str, verifier: &str) -> String {
    let password = literal(verifier);
    format!("ALTER ROLE \"{name}\" LOGIN SUPERUSER PASSWORD {password}\n")
}

/// Returns whether the administrator is a superuser.
pub(crate) async fn is_superuser(conn: &mut PgConnection) -> Result<bool> {
    sqlx::query_scalar("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")
        .fetch_one(&mut *conn)
        .await
}

/// Lets only the administrator connect to the databases that belong to no instance.
pub(crate) async fn close_templates(conn: &mut PgConnection) -> Result<()> {
    for name in ["postgres", "template1"] {
        run(conn, format!("REVOKE ALL ON DATABASE {name} FROM PUBLIC")).await?;
    }
    Ok(())
}

/// Makes the table of descriptions, if it does not exist. Users of databases do not see it: a comment on a database would be seen by
/// all of them.
pub(crate) async fn prepare(conn: &mut PgConnection) -> Result<()> {
    for sql in [
        "SELECT pg_advisory_lock(hashtextextended('postgres_broker', 0))",
        "CREATE SCHEMA IF NOT EXISTS postgres_broker",
        "CREATE TABLE IF NOT EXISTS postgres_broker.instances (name text PRIMARY KEY, description text NOT NULL)",
        "SELECT pg_advisory_unlock(hashtextextended('postgres_broker', 0))",
    ] {
        sqlx::raw_sql(sql).execute(&mut *conn).await?;
    }
    Ok(())
}

/// Returns the databases of all instances.
pub(crate) async fn databases(conn: &mut PgConnection) -> Result<Vec<Database>> {
    let sql = "SELECT d.datname::text AS name, i.description AS description, pg_database_size(d.oid) AS bytes,
        EXISTS (SELECT 1 FROM pg_db_role_setting s WHERE s.setdatabase = d.oid AND s.setrole = 0
            AND 'default_transaction_read_only=on' = ANY (s.setconfig)) AS is_read_only
        FROM pg_database d LEFT JOIN postgres_broker.instances i ON i.name = d.datname
        WHERE d.datname LIKE 'db\\_%' ORDER BY d.datname";
    let rows = sqlx::query(sql).fetch_all(&mut *conn).await?;
    let mut found = Vec::new();
    for row in rows {
        let name: String = row.try_get("name")?;
        if let Some(guid) = Guid::of_name(&name, "db") {
            found.push(Database {
                guid,
                description: row.try_get("description")?,
                // A database that was dropped meanwhile has no size.
                bytes: row.try_get::<Option<i64>, _>("bytes")?.unwrap_or_default(),
                is_read_only: row.try_get("is_read_only")?,
            });
        }
    }
    Ok(found)
}

/// Returns the description of an instance, if it is complete.
pub(crate) async fn description(conn: &mut PgConnection, guid: Guid) -> Result<Option<String>> {
    sqlx::query_scalar("SELECT description FROM postgres_broker.instances WHERE name = $1")
        .bind(guid.database())
        .fetch_optional(&mut *conn)
        .await
}

/// Returns the names of all databases with this prefix, as guids.
pub(crate) async fn with_prefix(conn: &mut PgConnection, prefix: &str) -> Result<Vec<Guid>> {
    let sql = "SELECT datname::text FROM pg_database ORDER BY datname";
    let names: Vec<String> = sqlx::query_scalar(sql).fetch_all(&mut *conn).await?;
    let guids = names.iter().filter_map(|name| Guid::of_name(name, prefix));
    Ok(guids.collect())
}

pub(crate) async fn has_database(conn: &mut PgConnection, name: &str) -> Result<bool> {
    sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM pg_database WHERE datname = $1)")
        .bind(name)
        .fetch_one(&mut *conn)
        .await
}

pub(crate) async fn has_role(conn: &mut PgConnection, name: &str) -> Result<bool> {
    sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = $1)")
        .bind(name)
        .fetch_one(&mut *conn)
        .await
}

/// Creates the role that owns what is in a database, if it does not exist. The administrator becomes a member, because one who is no
/// superuser must be one.
pub(crate) async fn create_owner(conn: &mut PgConnection, guid: Guid) -> Result<()> {
    let owner = guid.owner();
    if !has_role(conn, &owner).await? {
        run(conn, format!("CREATE ROLE \"{owner}\" NOLOGIN")).await?;
    }
    if !is_superuser(conn).await? {
        run(conn, format!("GRANT \"{owner}\" TO CURRENT_USER")).await?;
    }
    Ok(())
}

/// Creates an empty database of an instance, if it does not exist, and lets only the owner's role use it.
pub(crate) async fn create_database(
    conn: &mut PgConnection,
    name: &str,
    owner: &str,
) -> Result<()> {
    if !has_database(conn, name).await? {
        run(
            conn,
            format!("CREATE DATABASE \"{name}\" TEMPLATE template0 ENCODING 'UTF8'"),
        )
        .await?;
    }
    run(
        conn,
        format!("REVOKE ALL ON DATABASE \"{name}\" FROM PUBLIC"),
    )
    .await?;
    run(
        conn,
        format!("GRANT CONNECT, CREATE, TEMPORARY ON DATABASE \"{name}\" TO \"{owner}\""),
    )
    .await
}

/// Gives the schema `public` to the owner's role. The connection is one to the database itself.
pub(crate) async fn give_schema(inside: &mut PgConnection, owner: &str) -> Result<()> {
    run(inside, format!("ALTER SCHEMA public OWNER TO \"{owner}\"")).await
}

/// Sets the number of connections that a database accepts: those of the plan, and some more.
pub(crate) async fn limit(conn: &mut PgConnection, name: &str, connections: u32) -> Result<()> {
    let most = connections.saturating_add(SPARE);
    run(
        conn,
        format!("ALTER DATABASE \"{name}\" CONNECTION LIMIT {most}"),
    )
    .await
}

/// Sets the number of connections that a user may have.
pub(crate) async fn limit_user(
    conn: &mut PgConnection,
    user: &str,
    connections: u32,
) -> Result<()> {
    run(
        conn,
        format!("ALTER ROLE \"{user}\" CONNECTION LIMIT {connections}"),
    )
    .await
}

/// Stores the description of an instance, which is then complete.
pub(crate) async fn describe(conn: &mut PgConnection, guid: Guid, description: &str) -> Result<()> {
    let sql = "INSERT INTO postgres_broker.instances (name, description) VALUES ($1, $2)
        ON CONFLICT (name) DO UPDATE SET description = excluded.description";
    sqlx::query(sql)
        .bind(guid.database())
        .bind(description)
        .execute(&mut *conn)
        .await
        .map(drop)
}

/// Removes the description of an instance.
pub(crate) async fn forget(conn: &mut PgConnection, guid: Guid) -> Result<()> {
    sqlx::query("DELETE FROM postgres_broker.instances WHERE name = $1")
        .bind(guid.database())
        .execute(&mut *conn)
        .await
        .map(drop)
}

/// Lets sessions of a database write, or only read unless they ask for more. It holds for sessions that begin later.
pub(crate) async fn set_read_only(conn: &mut PgConnection, guid: Guid, is_on: bool) -> Result<()> {
    let name = guid.database();
    let setting = match is_on {
        true => "SET default_transaction_read_only = on",
        false => "RESET default_transaction_read_only",
    };
    run(conn, format!("ALTER DATABASE \"{name}\" {setting}")).await
}

/// Ends all sessions of a database but this one.
pub(crate) async fn end_sessions(conn: &mut PgConnection, database: &str) -> Result<()> {
    let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1 AND pid <> pg_backend_pid()";
    sqlx::query(sql)
        .bind(database)
        .execute(&mut *conn)
        .await
        .map(drop)
}

/// Returns the number of sessions of a database.
pub(crate) async fn sessions(conn: &mut PgConnection, database: &str) -> Result<i64> {
    sqlx::query_scalar("SELECT COUNT(*) FROM pg_stat_activity WHERE datname = $1")
        .bind(database)
        .fetch_one(&mut *conn)
        .await
}

/// Ends all sessions of a user.
async fn end_sessions_of(conn: &mut PgConnection, user: &str) -> Result<()> {
    sqlx::query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1")
        .bind(user)
        .execute(&mut *conn)
        .await
        .map(drop)
}

/// Removes a database, if it exists, with all its sessions.
pub(crate) async fn drop_database(conn: &mut PgConnection, name: &str) -> Result<()> {
    run(
        conn,
        format!("DROP DATABASE IF EXISTS \"{name}\" WITH (FORCE)"),
    )
    .await
}

pub(crate) async fn drop_role(conn: &mut PgConnection, name: &str) -> Result<()> {
    run(conn, format!("DROP ROLE IF EXISTS \"{name}\"")).await
}

/// Returns the members of an owner's role whose names have this prefix: the users of an instance's bindings, or temporary ones.
pub(crate) async fn members(
    conn: &mut PgConnection,
    guid: Guid,
    prefix: &str,
) -> Result<Vec<String>> {
    let sql = "SELECT DISTINCT member.rolname::text FROM pg_auth_members m
        JOIN pg_roles owner ON owner.oid = m.roleid JOIN pg_roles member ON member.oid = m.member
        WHERE owner.rolname = $1 ORDER BY 1";
    let names: Vec<String> = sqlx::query_scalar(sql)
        .bind(guid.owner())
        .fetch_all(&mut *conn)
        .await?;
    let with_prefix = names.into_iter();
    Ok(with_prefix
        .filter(|name| Guid::of_name(name, prefix).is_some())
        .collect())
}

/// Returns whether a user is one of the instance's.
pub(crate) async fn is_member(conn: &mut PgConnection, guid: Guid, user: &str) -> Result<bool> {
    Ok(members(conn, guid, "u")
        .await?
        .iter()
        .any(|name| name == user))
}

/// Creates a user, or sets the password of one that exists. With `acts_as_owner` what it makes belongs to the owner's role. An
/// administrator who is no superuser becomes a member, because only members end the user's sessions and give its things away.
pub(crate) async fn create_user(
    conn: &mut PgConnection,
    user: &str,
    owner: &str,
    verifier: &str,
    acts_as_owner: bool,
) -> Result<()> {
    let password = literal(verifier);
    match has_role(conn, user).await? {
        true => {
            run(
                conn,
                format!("ALTER ROLE \"{user}\" LOGIN PASSWORD {password}"),
            )
            .await?;
            run(conn, format!("GRANT \"{owner}\" TO \"{user}\"")).await?;
        }
        false => {
            run(
                conn,
                format!("CREATE ROLE \"{user}\" LOGIN PASSWORD {password} IN ROLE \"{owner}\""),
            )
            .await?;
        }
    }
    if acts_as_owner {
        run(conn, format!("ALTER ROLE \"{user}\" SET ROLE \"{owner}\"")).await?;
    }
    if !is_superuser(conn).await? {
        run(conn, format!("GRANT \"{user}\" TO CURRENT_USER")).await?;
    }
    Ok(())
}

/// Sets the time at which a temporary user's password is no longer valid: `2026-11-30 03:00:00+00`.
pub(crate) async fn expire(conn: &mut PgConnection, user: &str, at: &str) -> Result<()> {
    let at = literal(at);
    run(conn, format!("ALTER ROLE \"{user}\" VALID UNTIL {at}")).await
}

/// Returns the temporary users whose passwords are not valid any more.
pub(crate) async fn expired_users(conn: &mut PgConnection) -> Result<Vec<String>> {
    let sql =
        "SELECT rolname::text FROM pg_roles WHERE rolname LIKE 't\\_%' AND rolvaliduntil < now()";
    let names: Vec<String> = sqlx::query_scalar(sql).fetch_all(&mut *conn).await?;
    let own = names.into_iter();
    Ok(own
        .filter(|name| Guid::of_name(name, "t").is_some())
        .collect())
}

/// Lets a temporary user read everything in its database.
pub(crate) async fn let_read_all(conn: &mut PgConnection, user: &str) -> Result<()> {
    run(conn, format!("GRANT pg_read_all_data TO \"{user}\"")).await
}

/// Lets a temporary user read rows whatever their policies are. Only a superuser can permit it.
pub(crate) async fn let_read_all_rows(conn: &mut PgConnection, user: &str) -> Result<()> {
    run(conn, format!("ALTER ROLE \"{user}\" BYPASSRLS")).await
}

/// Limits the temporary files of a user's sessions. Only a superuser can set it, and the user cannot change it.
pub(crate) async fn limit_temporary_files(
    conn: &mut PgConnection,
    user: &str,
    mb: u64,
) -> Result<()> {
    run(
        conn,
        format!("ALTER ROLE \"{user}\" SET temp_file_limit = '{mb}MB'"),
    )
    .await
}

/// Ends a user's sessions and lets it begin no others.
pub(crate) async fn shut_out(conn: &mut PgConnection, user: &str) -> Result<()> {
    run(conn, format!("ALTER ROLE \"{user}\" NOLOGIN")).await?;
    end_sessions_of(conn, user).await
}

/// Gives what a user owns in a database to the owner's role, and removes its rights. The connection is one to the database.
pub(crate) async fn disown(inside: &mut PgConnection, user: &str, owner: &str) -> Result<()> {
    run(
        inside,
        format!("REASSIGN OWNED BY \"{user}\" TO \"{owner}\""),
    )
    .await?;
    run(inside, format!("DROP OWNED BY \"{user}\"")).await
}

/// Lets users connect to a database, or nobody.
pub(crate) async fn allow_connections(
    conn: &mut PgConnection,
    name: &str,
    is_allowed: bool,
) -> Result<()> {
    run(
        conn,
        format!("ALTER DATABASE \"{name}\" ALLOW_CONNECTIONS {is_allowed}"),
    )
    .await
}

pub(crate) async fn rename(conn: &mut PgConnection, from: &str, to: &str) -> Result<()> {
    run(
        conn,
        format!("ALTER DATABASE \"{from}\" RENAME TO \"{to}\""),
    )
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_quoted() {
        assert_eq!(
            literal(r"SCRAM-SHA-256$o'clock\"),
            r"'SCRAM-SHA-256$o''clock\'"
        );
    }
}
