//! Tests the kit from outside: how our HTTP server treats clients that misbehave, and the database on SQLite and PostgreSQL.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod http;
mod migrations;
mod outage;
mod statements;
