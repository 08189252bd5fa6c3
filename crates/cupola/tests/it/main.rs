//! Tests of the binary: as a shell sees it, and as a process beside its peers.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bench_api;
mod bench_command;
mod bus;
mod edge;
mod history;
mod joining;
mod lesson_command;
mod monitor;
mod router_process;
mod shell;
mod tap;
mod watch;
