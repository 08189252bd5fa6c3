//! `cupola` is the one binary. It parses the command line, and boots roles or runs a client.
//!
//! It depends on every component; no component depends on it.

mod addresses;
mod assets;
mod bench_command;
mod broker_command;
mod bundle;
mod certs;
mod command_line;
mod config;
mod demo;
mod edge_certificate;
mod exec;
mod explain;
mod files;
mod join;
mod lesson_command;
mod message_bus;
mod monitor;
mod nats_command;
mod plan;
mod registrar_command;
mod reset_password;
mod role;
mod roles;
mod rotate_key;
mod routes;
mod signals;
mod sockets;
mod supervisor;
mod tap;
mod terminal;
mod up;
mod watch;

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    kit::tls::install_crypto();
    command_line::run()
}
