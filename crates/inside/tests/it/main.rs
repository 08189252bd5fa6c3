//! Tests of the real binary on temporary folders: builder to droplet, droplet to launcher, and the long-running programs.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fixture;
mod programs;
mod python;
mod sshd;
mod staticfile;
