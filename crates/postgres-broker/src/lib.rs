//! A service broker for PostgreSQL: it gives each service instance a database on one server, and each binding a user.
//!
//! ```text
//!  Cloud Controller ── Open Service Broker API ─▶ api ─▶ broker ─▶ db ─▶ PostgreSQL
//!                                                         the verbs      server: our child, or one of somebody else
//!  cupola broker postgres ─▶ operator ─▶ dumps, restore ─▶ pg_dump, pg_restore ─▶ a folder or a bucket
//! ```
//!
//! The server is the only memory: an instance is a database with a row that describes it, a binding is a role, and the passwords of
//! bindings are computed. So nothing can differ from what is there, and each operation can be repeated after a crash.
//!
//! It wakes for requests of the platform, every minute for the sizes of databases, and at night for dumps. It registers itself at the
//! Cloud Controller. It never opens a way to the server: the Cloud Controller derives the egress rule of a bound app from the binding, and
//! garden applies it.
//!
//! | Module | Owns |
//! |---|---|
//! | [`api`] | requests and answers of the platform |
//! | [`broker`] | the verbs, and the credentials of bindings |
//! | [`catalog`], [`instance`], [`names`], [`scram`] | what things are called and how they are described; pure |
//! | [`db`] | the statements |
//! | [`server`], [`programs`] | the server's process, and Debian's programs |
//! | [`dumps`], [`restore`], [`storage`] | what happens without a request |
//! | [`register`] | the Cloud Controller's knowledge of the broker |

mod address;
mod api;
mod broker;
mod catalog;
mod component;
mod config;
mod db;
mod dumps;
mod instance;
mod metrics;
mod names;
mod operator;
mod programs;
mod register;
mod restore;
mod scram;
mod secrets;
mod server;
mod storage;
#[cfg(test)]
mod testing;

pub use address::{Address, Tls};
pub use component::PostgresBroker;
pub use config::{Config, DumpPlace, Dumps, OwnServer, Plan, Registration, Server, Settings};
pub use operator::{Listed, Operator};
pub use restore::Source;
