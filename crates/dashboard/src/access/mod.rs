//! Access to the picture: signing in at the UAA, sessions, and the part that each user may see.

mod session;
mod sign_in;
mod viewer;

pub(crate) use session::Sessions;
pub(crate) use sign_in::SignIn;
pub(crate) use viewer::{Viewer, Visible, is_operator};

pub use sign_in::OAuth;
