//! The command line: what a person types, and the exit codes (0 done, 1 failed, 2 wrong usage).

use crate::config::{self, Overrides};
use crate::roles::Role;
use crate::{demo, exec, registrar_command, router_command, routes, up};
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Debug, Parser)]
#[command(name = "cupola", version, about = "Cloud Foundry's route propagation, whole, in one binary", after_help = EXAMPLES)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "Examples:
  cupola up                                  boot a foundation on this machine
  cupola up --http 0.0.0.0:80 --domain paas.example.com
  cupola cf login -a https://api.cupola.test --skip-ssl-validation
  cupola cf push -f examples/proxy/manifest.yml      
  cupola cfdot actual-lrps | jq .            where every instance runs
  cupola routes                              the router's table
  cupola exec proxy/0 -- curl -s localhost:61003/clusters
  cupola serve --roles cell                  one role in a process of its own
  cupola check-config --config cupola.yml
  cupola router -c gorouter.yml              the router alone, in the place of a gorouter";

#[derive(Debug, Subcommand)]
enum Command {
    /// Boot a whole foundation on this machine; Ctrl-C drains and stops it
    #[command(after_help = "Example: cupola up --data /var/lib/cupola --domain cupola.test")]
    Up(Boot),
    /// Run some roles of a foundation; SIGTERM leaves the containers of a cell running
    #[command(
        after_help = "Example: cupola serve --roles router,uaa,cloud-controller --data /var/lib/cupola"
    )]
    Serve {
        /// Comma separated: router, cloud-controller, uaa, log-cache, bbs, auctioneer, cell, nats, dns
        #[arg(long, value_delimiter = ',', required = true)]
        roles: Vec<Role>,
        #[command(flatten)]
        boot: Boot,
    },
    /// The built-in cf client (grammar of the cf CLI)
    #[command(disable_help_flag = true, after_help = "Example: cupola cf push")]
    Cf {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// The built-in cfdot: what Diego's BBS knows, as JSON lines
    #[command(
        disable_help_flag = true,
        after_help = "Example: cupola cfdot desired-lrps | jq ."
    )]
    Cfdot {
        /// The foundation's data directory
        #[arg(long, env = "CUPOLA_DATA", default_value = config::DEFAULT_DATA)]
        data: PathBuf,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Print the router's table (retrieve-local-routes)
    #[command(after_help = "Example: cupola routes | jq 'keys'")]
    Routes {
        /// The foundation's data directory
        #[arg(long, env = "CUPOLA_DATA", default_value = config::DEFAULT_DATA)]
        data: PathBuf,
    },
    /// Run a command inside an app's container (operator, on the cell, as root)
    #[command(after_help = "Example: cupola exec proxy/0 -- curl -s localhost:61003/help")]
    Exec {
        /// The foundation's data directory
        #[arg(long, env = "CUPOLA_DATA", default_value = config::DEFAULT_DATA)]
        data: PathBuf,
        /// App name, app guid or instance guid, with an optional index: proxy, proxy/1
        app: String,
        /// The command and its arguments (default: bash)
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Boot a throw-away foundation, push the example app and show its route's way
    Demo,
    /// Run the router alone, in the place of a gorouter; SIGUSR1 drains it, SIGHUP reloads it, SIGUSR2 upgrades it
    #[command(after_help = "Example: cupola router -c gorouter.yml")]
    Router {
        /// A gorouter's configuration file
        #[arg(short, long)]
        config: PathBuf,
    },
    /// Keep routes of servers that are not apps registered; SIGTERM unregisters them
    #[command(after_help = "Example: cupola route-registrar -c config.json")]
    RouteRegistrar {
        /// A route-registrar's configuration file (JSON)
        #[arg(short, long)]
        config: PathBuf,
    },
    /// Read a configuration file and say what is wrong with it
    #[command(after_help = "Examples:
  cupola check-config --config cupola.yml
  cupola check-config --gorouter gorouter.yml")]
    CheckConfig {
        #[arg(long, required_unless_present = "gorouter")]
        config: Option<PathBuf>,
        /// A gorouter's configuration file
        #[arg(long, conflicts_with = "config")]
        gorouter: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
struct Boot {
    /// Where databases, keys and containers are kept [default: /var/lib/cupola]
    #[arg(long, env = "CUPOLA_DATA")]
    data: Option<PathBuf>,
    /// Configuration file (YAML)
    #[arg(long)]
    config: Option<PathBuf>,
    /// Address of the router's HTTP listener [default: port 80 on loopback and the cell IP]
    #[arg(long)]
    http: Option<String>,
    /// Address of the router's HTTPS listener [default: port 443 on loopback and the cell IP]
    #[arg(long)]
    https: Option<String>,
    /// System and apps domain [default: cupola.test]
    #[arg(long)]
    domain: Option<String>,
    /// Leave /etc/hosts alone
    #[arg(long)]
    no_hosts: bool,
}

impl Boot {
    fn overrides(self) -> Overrides {
        Overrides {
            file: self.config,
            data: self.data,
            http: self.http,
            https: self.https,
            domain: self.domain,
            no_hosts: self.no_hosts,
        }
    }
}

/// Parses the process's arguments and runs the command.
pub(crate) fn run() -> ExitCode {
    let command = match CommandLine::try_parse() {
        Ok(parsed) => parsed.command,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return failed(&anyhow::anyhow!(error).context("start the async runtime")),
    };
    let code = runtime.block_on(dispatch(command));
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    code
}

async fn dispatch(command: Command) -> ExitCode {
    let result = match command {
        Command::Up(boot) => {
            kit::logging::init("warn");
            match config::load(boot.overrides()) {
                Ok(config) => up::up(config).await,
                Err(error) => Err(error),
            }
        }
        Command::Serve { roles, boot } => {
            kit::logging::init("info");
            match config::load(boot.overrides()) {
                Ok(config) => up::serve(config, &roles).await,
                Err(error) => Err(error),
            }
        }
        Command::Cf { args } => {
            kit::logging::init("error");
            return cf_cli::run(args).await;
        }
        Command::Cfdot { data, args } => {
            kit::logging::init("error");
            return exec::cfdot(&data, args).await;
        }
        Command::Routes { data } => routes::print(&data).await,
        Command::Exec { data, app, command } => match exec::exec(&data, &app, command).await {
            Ok(code) => return code,
            Err(error) => Err(error),
        },
        Command::Demo => {
            kit::logging::init("error");
            demo::run().await
        }
        Command::Router { config } => router_command::run(&config).await,
        Command::RouteRegistrar { config } => registrar_command::run(&config).await,
        Command::CheckConfig { config, gorouter } => match (config, gorouter) {
            (Some(config), _) => config::check_file(&config),
            (None, gorouter) => router_command::check(&gorouter.unwrap_or_default()),
        },
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

fn failed(error: &anyhow::Error) -> ExitCode {
    eprintln!("cupola: {error:#}");
    ExitCode::FAILURE
}
