//! The ssh-proxy between OpenSSH's client and an sshd behind TLS, with a real BBS. The UAA and the Cloud Controller are played.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fixture;
mod logins;
mod sessions;
mod sshd;
