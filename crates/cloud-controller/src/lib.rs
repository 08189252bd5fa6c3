//! The Cloud Controller: the v3 API, which keeps what users want and drives Diego until it is so.
//!
//! ```text
//!  cf ──▶ router ──▶ api/<noun> ──▶ actions/<noun> ──▶ db/<noun> (SQLite: the truth)
//!                    parse,         verbs in one            │ after the commit
//!                    authorise,     transaction             ▼
//!                    present                       diego: driver ──desire, update, remove──▶ BBS
//!  BBS ──callbacks──▶ internal                            sync ───every 30 s and on nudges──▶ BBS
//!  BBS ──events─────▶ diego::events ──▶ audit events      staging, tasks, deployments
//! ```
//!
//! An answer of 2xx means: committed. What Diego has is derived from the database and repaired by the sync; nothing here
//! ever reads a cell or the router. Callers: the `cupola` binary builds and runs [`CloudController`].

mod config;
mod controller;

mod api;
mod auth;
mod flags;
mod internal;

mod actions;
mod limits;
mod manifest;
mod metadata;
mod names;
mod policy_source;
mod quota;
mod route_rules;

pub mod bits;
pub mod buildpacks;
pub mod diego;

mod cleanup;

mod clock;
mod db;
mod error;
mod seed;

pub use api::{Endpoint, described as endpoints};
pub use config::{AppSsh, Config, FirstTarget, IdentityDomain, Retention, UaaClient};
pub use controller::CloudController;
pub use limits::Limits;
pub use quota::DefaultQuota;

/// The domain of internal routes that every foundation has; the name servers of containers answer below it.
pub const INTERNAL_DOMAIN: &str = "apps.internal";
