//! The built-in client: the cf CLI's grammar, output, exit codes and configuration file, called as `cupola cf …`.
//!
//! It is a client like any other: it knows the Cloud Controller, UAA and log-cache by their public HTTP APIs only and
//! shares no type with the components. A command's way: [`args`] parses by the table of [`commands`], [`session`] holds
//! the configuration and who is logged in, [`api`] sends requests, [`ui`] writes. `push` is the one long sequence and
//! has a module of its own; what `start`, `restart`, `restage` and `push` share stands in [`start`] and [`summary`].

mod args;
mod config;
mod session;
mod ui;
mod units;

mod api;

mod help;
mod names;
mod start;
mod summary;

mod commands;
mod push;

pub use ui::Environment;

use std::process::ExitCode;

/// Runs one command (`args`: what follows `cf`) with the process's environment and standard streams.
pub async fn run(args: Vec<String>) -> ExitCode {
    ExitCode::from(run_in(args, Environment::of_process()).await)
}

/// Runs one command in a given environment; returns the exit code: 0, 1 for a failure, 22 for `curl --fail`.
pub async fn run_in(args: Vec<String>, environment: Environment) -> u8 {
    commands::run(args, environment).await
}
