//! `bench`: Cupola's benchmarks, side by side with their peers in one run; prints Markdown for docs/benchmarks.md.
//!
//! That page explains the method. Every section can be run alone. Everything is measured from outside, through sockets and
//! `/proc`, and every program that takes part is a process of its own.

mod backend;
mod bus;
mod certs;
mod client;
mod ends;
mod h2load;
mod idle;
mod messages;
mod open_loop;
mod peers;
mod process;
mod rig;
mod sections;
mod soak;
mod table;
mod wrk;

use anyhow::Result;
use clap::{Parser, Subcommand};
use rig::Effort;
use std::path::PathBuf;

#[derive(Parser)]
#[command(name = "bench", about = "Cupola's benchmarks and its soak test")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the benchmarks
    Run {
        /// Comma-separated names of sections [default: all but router-flame]
        #[arg(long, value_delimiter = ',')]
        only: Vec<String>,
        /// The number of measurements of each kind; 1 is quick, and also shortens each
        #[arg(long, default_value_t = 4)]
        rounds: usize,
        #[command(flatten)]
        programs: Programs,
        /// The file for the tables, in addition to standard output
        #[arg(long)]
        report: PathBuf,
    },
    /// Run the soak test: full speed and route changes for a long time; the exit code is 1 if an answer was wrong or memory grew
    Soak {
        #[command(flatten)]
        size: soak::Size,
        #[command(flatten)]
        programs: Programs,
        /// The file for the report
        #[arg(long)]
        report: PathBuf,
    },
    /// (internal) Run the server behind the peers
    #[command(hide = true)]
    Backend {
        #[arg(long)]
        certificates: PathBuf,
    },
    /// (internal) Open WebSockets and hold them
    #[command(hide = true)]
    IdleSockets {
        #[arg(long)]
        port: u16,
        #[arg(long)]
        host: String,
        #[arg(long)]
        count: usize,
    },
}

/// The programs that are measured.
#[derive(clap::Args)]
pub(crate) struct Programs {
    /// The cupola binary that is measured
    #[arg(long)]
    cupola: PathBuf,
    /// Another build of cupola, whose router is measured in the same rounds: by router-cpu, router-latency and router-http2
    #[arg(long)]
    beside: Option<PathBuf>,
    /// The Envoy binary that is measured beside it
    #[arg(long)]
    envoy: PathBuf,
}

fn main() -> Result<()> {
    kit::tls::install_crypto();
    match Arguments::parse().command {
        Command::Run {
            only,
            rounds,
            programs,
            report,
        } => {
            let effort = Effort {
                rounds: rounds.max(1),
                seconds: if rounds > 1 { 6 } else { 2 },
            };
            sections::run(&only, effort, &programs, &report)
        }
        Command::Soak {
            size,
            programs,
            report,
        } => soak::run(&size, &programs, &report),
        Command::Backend { certificates } => backend::run(&certificates),
        Command::IdleSockets { port, host, count } => idle::run(port, &host, count),
    }
}
