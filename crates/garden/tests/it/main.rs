//! Garden on the real machine. Needs root: `CUPOLA_ROOT_TESTS=1 cargo test -p garden --test it`.

mod container;
mod fixture;
mod network;
mod survival;
