//! The bits of packages and droplets: what is accepted ([`package`], [`droplet`]), what need
//! not be sent again ([`resources`]), where it is kept ([`store`]), and the lifecycle
//! bundle that cells get ([`lifecycle`]). Blocking: call from `spawn_blocking`. Knows no database.

pub mod droplet;
pub mod lifecycle;
pub mod package;
pub mod resources;
pub mod store;
