//! Access to the picture: signing in at the UAA, sessions, and the part that each user may see.

mod session;
mod sign_in;
mod viewer;

pub(crate) use session::{Session, Sessions};
pub(crate) use sign_in::{Begun, SignIn, Tokens};
pub(crate) use viewer::{Viewer, Visible, is_operator};

pub use sign_in::OAuth;
