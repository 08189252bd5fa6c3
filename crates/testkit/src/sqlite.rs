//! A file of SQLite, opened beside the component that owns it, so that a test can store what no version would store.

pub use rusqlite::Connection;

use std::path::Path;
use std::time::Duration;

/// Opens a file. A missing one is created.
pub fn open(path: &Path) -> Connection {
    let connection = Connection::open(path).unwrap();
    connection.busy_timeout(Duration::from_secs(60)).unwrap();
    connection
}

/// Returns the first value of the first row of a result.
pub fn value<T: rusqlite::types::FromSql>(connection: &Connection, sql: &str) -> T {
    connection.query_row(sql, [], |row| row.get(0)).unwrap()
}
