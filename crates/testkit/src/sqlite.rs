//! A file of SQLite, opened beside the component that owns it, so that a test can store what no version would store.

pub use rusqlite::Connection;

use std::path::Path;
use std::time::Duration;

/// Opens a file. A missing one is created.
pub fn open(path: &Path) -> Connection {
    let connection = Connection::open(path).expect("the file is a database");
    let patient = connection.busy_timeout(Duration::from_secs(60));
    patient.expect("a new connection can be configured");
    connection
}

/// Returns the first value of the first row of a result.
pub fn value<T: rusqlite::types::FromSql>(connection: &Connection, sql: &str) -> T {
    let value = connection.query_row(sql, [], |row| row.get(0));
    value.expect("the statement has a result")
}
