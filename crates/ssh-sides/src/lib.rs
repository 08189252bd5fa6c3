//! Gives every end of an SSH connection what it needs beside russh: buffers with a bound that never stop the whole connection.
//!
//! A connection of russh is one task. If a channel is read slowly, that task would wait for it, and with it every other channel and
//! the way back: `cat` could not pass on a long file, because it writes while it reads. So an [`Inbox`] takes all messages of a
//! channel at once, and a [`Gate`] stops reading from the socket while the inboxes hold too much. Writing continues meanwhile. An
//! [`Outlet`] writes as much as the peer has room for, and gives up when the channel is closed.
//!
//! The ssh-proxy and the sshd in containers call it. It knows neither users nor rights.
//!
//! | Module | Owns |
//! |---|---|
//! | [`gate`] | how much a connection holds, and when it reads on |
//! | [`inbox`] | the messages of one channel |
//! | [`outlet`] | writing to one channel |
//! | [`socket`] | the settings of a TCP socket |

pub mod gate;
pub mod inbox;
pub mod outlet;
pub mod socket;

pub use gate::{Gate, Gated};
pub use inbox::Inbox;
pub use outlet::Outlet;
