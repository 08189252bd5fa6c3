//! The bits of packages and droplets: which are accepted ([`package`], [`droplet`]), which need not be sent again
//! ([`resources`]), where they are kept ([`store`]), and the lifecycle bundle that cells download ([`lifecycle`]). The functions
//! block, so that callers use `spawn_blocking`. This module does not know the database.

mod blobs;
pub mod droplet;
mod folder;
pub mod lifecycle;
pub mod package;
mod reserve;
pub mod resources;
mod s3;
mod staging;
pub mod store;
