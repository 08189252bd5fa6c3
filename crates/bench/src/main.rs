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
mod statistics;
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
    /// The benchmarks
    Run {
        /// Comma separated names of sections [default: all but router-flame]
        #[arg(long, value_delimiter = ',')]
        only: Vec<String>,
        /// How often each thing is measured; 1 is quick, and also shortens what is measured
        #[arg(long, default_value_t = 4)]
        rounds: usize,
        #[command(flatten)]
        programs: Programs,
        /// Where the tables go, beside standard output
        #[arg(long)]
        report: PathBuf,
    },
    /// Full speed and churn for a long time; exit code 1 when an answer was wrong or memory grew
    Soak {
        #[command(flatten)]
        size: soak::Size,
        #[command(flatten)]
        programs: Programs,
        #[arg(long)]
        report: PathBuf,
    },
    /// (internal) the server behind the peers
    #[command(hide = true)]
    Backend {
        #[arg(long)]
        certificates: PathBuf,
    },
    /// (internal) opens WebSockets and holds them
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

#[derive(clap::Args)]
struct Programs {
    #[arg(long)]
    cupola: PathBuf,
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
            sections::run(&only, effort, &programs.cupola, &programs.envoy, &report)
        }
        Command::Soak {
            size,
            programs,
            report,
        } => soak::run(&size, &programs.cupola, &programs.envoy, &report),
        Command::Backend { certificates } => backend::run(&certificates),
        Command::IdleSockets { port, host, count } => idle::run(port, &host, count),
    }
}
