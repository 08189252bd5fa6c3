//! Components that run in the test's process, on free ports and with their real protocols, for suites that need them as peers.
//!
//! Each is behind the feature with its name, so that a suite compiles only the components that it starts. A component's own suite
//! below `tests/` may use this module too. Its unit tests must not, because they would see its types twice.

#[cfg(feature = "cloud-controller")]
mod controller;
#[cfg(feature = "bbs")]
mod diego;
#[cfg(feature = "uaa")]
mod login;

#[cfg(feature = "cloud-controller")]
pub use controller::{CloudController, DOMAIN, Peers};
#[cfg(feature = "bbs")]
pub use diego::Bbs;
#[cfg(feature = "uaa")]
pub use login::Uaa;
