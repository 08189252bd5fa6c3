//! The Cloud Controller over real HTTP, beside a real BBS; tokens are signed by a key of the tests.
#![allow(clippy::unwrap_used)]

mod apps;
mod fixture;
mod organizations;
mod pushing;
mod routes;
mod security_groups;
