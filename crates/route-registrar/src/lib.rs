//! The route-registrar: keeps routes of things that are not apps (the API, the UAA, log-cache …) in every router.
//!
//! Called by whoever runs such a thing. It registers at once, again every interval, again when a router says
//! `router.start`, and unregisters everything when it is told to stop. It never asks whether the thing is well.

mod registrar;

pub use registrar::{Registrar, Route};
