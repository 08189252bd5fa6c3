//! The command line: what a person types, and the exit codes (0 done, 1 failed, 2 wrong usage).

mod data;

#[cfg(test)]
mod tests;

use crate::config::{self, Overrides};
use crate::role::Role;
use crate::{
    bench_command, broker_command, demo, exec, explain, join, lesson_command, nats_command,
    registrar_command, reset_password, rotate_key, routes, tap, terminal, up, watch,
};
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Debug, Parser)]
#[command(name = "cupola", version, about = "Cloud Foundry's route propagation, whole, in one binary", after_help = EXAMPLES)]
struct CommandLine {
    /// The foundation's data directory [default: /var/lib/cupola]
    #[arg(long, env = "CUPOLA_DATA", global = true, value_name = "DIR")]
    data: Option<PathBuf>,
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
  cupola routes --diff 5m now                what changed in it
  cupola watch proxy                         a route as it comes and goes
  cupola tap proxy.cupola.test               the next requests, with the time of each hop
  cupola why proxy.cupola.test               the way of a route, and the hop that breaks it
  cupola bench propagation                   how long a changed route takes
  cupola broker postgres restore db --config cupola.yml
  cupola exec proxy/0 -- curl -s localhost:61003/clusters
  cupola serve --roles cell                  one role in a process of its own
  cupola join-bundle --roles cell --host 10.0.0.3 --out cell-2.bundle
  cupola check-config --config cupola.yml
  cupola lesson                              learn step by step how a route travels
  cupola router -c gorouter.yml              the router alone, in place of a gorouter";

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
        /// Comma-separated roles: router, cloud-controller, uaa, log-cache, bbs, auctioneer, cell, nats, dns, dashboard, ssh-proxy, postgres-broker
        #[arg(long, value_delimiter = ',', required = true)]
        roles: Vec<Role>,
        #[command(flatten)]
        boot: Boot,
    },
    /// The built-in cf client (grammar of the cf CLI)
    #[command(disable_help_flag = true, after_help = "Example: cupola cf push")]
    Cf {
        /// The sub-command and its arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// The built-in cfdot: the content of Diego's BBS, as JSON lines
    #[command(
        disable_help_flag = true,
        after_help = "Example: cupola cfdot desired-lrps | jq ."
    )]
    Cfdot {
        /// The sub-command and its arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Print the router's table, as retrieve-local-routes does, now or at an earlier time, or follow its changes
    #[command(after_help = "Examples:
  cupola routes | jq 'keys'                         all routes
  cupola routes proxy.cupola.test                   what a request meets now
  cupola routes proxy.cupola.test/x --at 10:04:31   what a request met at that time (UTC)
  cupola routes --diff 5m now                       what changed in five minutes
  cupola routes --watch                             every change as it happens")]
    Routes(routes::Query),
    /// Show each component's change of a route as it happens, with milliseconds; the route is requested meanwhile
    #[command(after_help = "Examples:
  cupola watch proxy.cupola.test     a host
  cupola watch proxy --json          an app by name or guid, with its routes
  cupola watch proxy --past          with what has happened so far")]
    Watch {
        /// A host (it has a dot), or an app's name or guid
        #[arg(value_name = "HOST|APP")]
        target: String,
        /// Show first the steps that the BBS and the router have kept
        #[arg(long)]
        past: bool,
        /// Print each step as a line of JSON
        #[arg(long)]
        json: bool,
    },
    /// Show the next requests to a host as they end: where each spent its time, and each attempt at an instance
    #[command(after_help = "Examples:
  cupola tap proxy.cupola.test
  cupola tap proxy.cupola.test --limit 1 --json | jq .attempts")]
    Tap(tap::Query),
    /// Show the messages of the bus
    #[command(subcommand)]
    Nats(nats_command::Command),
    /// Run a service broker of this foundation, and look after what it keeps
    #[command(subcommand)]
    Broker(broker_command::Command),
    /// Measure a Cloud Foundry from outside, this one or any other
    #[command(subcommand)]
    Bench(bench_command::Command),
    /// Explain the way of a URL through all components, and name the hop that breaks it; exit code 0 if it is right
    #[command(after_help = "Examples:
  cupola why proxy.cupola.test
  cupola why https://proxy.cupola.test/path --json | jq .guilty
  cupola why proxy.cupola.test --router 10.0.0.5:8082")]
    Why {
        /// The URL, with or without its scheme
        url: String,
        /// Print the explanation as JSON
        #[arg(long)]
        json: bool,
        /// The address of the operator's pages of a router that does not answer on the bus; it may be repeated
        #[arg(long, value_name = "ADDRESS")]
        router: Vec<String>,
    },
    /// Run a command inside an app's container (operator, on the cell, as root)
    #[command(after_help = "Example: cupola exec proxy/0 -- curl -s localhost:61003/help")]
    Exec {
        /// App name, app guid or instance guid, with an optional index: proxy, proxy/1
        app: String,
        /// The command and its arguments (default: bash)
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Evacuate a cell; its process ends when it is empty
    #[command(after_help = "Example: cupola evacuate cell-4be1d2")]
    Evacuate {
        /// The cell's id; it may be left out if there is only one cell
        cell: Option<String>,
    },
    /// Set a user's password without the old one (operator, on the machine); the foundation may be running or stopped
    #[command(after_help = "Examples:
  cupola reset-password admin                 generates a password and prints it
  cupola reset-password admin --stdin < file  uses the first line of the file")]
    ResetPassword {
        /// Read the new password from standard input
        #[arg(long)]
        stdin: bool,
        /// The configuration file (YAML) of a foundation with a database server
        #[arg(long)]
        config: Option<PathBuf>,
        /// The user's name
        user: String,
    },
    /// Seal the secrets in the Cloud Controller's database with a new key (operator, on the machine)
    #[command(after_help = "Example: cupola rotate-key")]
    RotateKey,
    /// Issue a certificate of the foundation's CA for a component that runs on another host
    #[command(
        after_help = "Example: cupola certs auctioneer --host auctioneer.example.com --host 10.0.0.4 --out certs"
    )]
    Certs {
        /// The component's name: bbs, auctioneer, log-cache, cloud-controller-ng, cell, gorouter or any other
        name: String,
        /// A host for which the certificate is valid, a name or an IP address; it may be repeated
        #[arg(long, required = true, value_name = "HOST")]
        host: Vec<String>,
        /// The directory for the certificate, its key and the CA's certificate
        #[arg(long, default_value = ".", value_name = "DIR")]
        out: PathBuf,
    },
    /// Write the file with which another machine joins this foundation; it has secrets
    #[command(after_help = "Examples:
  cupola join-bundle --roles cell,dns --host 10.0.0.3 --out cell-2.bundle
  cupola join-bundle --roles router --host 10.0.0.5 --host router-2.example.com --out router-2.bundle")]
    JoinBundle {
        /// Comma-separated roles of that machine: cell, dns, router, nats
        #[arg(long, value_delimiter = ',', required = true)]
        roles: Vec<Role>,
        /// A host at which that machine is reached, a name or an IP address; it may be repeated
        #[arg(long, required = true, value_name = "HOST")]
        host: Vec<String>,
        /// The file to write
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// The foundation's configuration file, if it sets identity_domains
        #[arg(short, long)]
        config: Option<PathBuf>,
    },
    /// Boot a throw-away foundation, push the example app and show the path of its route
    Demo,
    /// Learn step by step how a route travels; without a sub-command, walk through the pages from where the last walk stopped
    #[command(after_help = "Examples:
  cupola lesson               walk through the pages
  cupola lesson from 4        walk from story 4 on
  cupola lesson show e1       print exercise 1
  cupola lesson break 1       break something on purpose
  cupola lesson repair        repair it")]
    Lesson {
        #[command(subcommand)]
        action: Option<lesson_command::Action>,
    },
    /// Run the router alone, in place of a gorouter; SIGUSR1 drains it, SIGHUP reloads it, SIGUSR2 upgrades it
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
    /// Check a configuration file, and list everything that is wrong with it
    #[command(after_help = "Examples:
  cupola check-config --config cupola.yml
  cupola check-config --gorouter gorouter.yml")]
    CheckConfig {
        /// A configuration file of a foundation
        #[arg(long, required_unless_present = "gorouter")]
        config: Option<PathBuf>,
        /// A gorouter's configuration file
        #[arg(long, conflicts_with = "config")]
        gorouter: Option<PathBuf>,
    },
    /// Print a completion script for a shell
    #[command(after_help = "Examples:
  cupola completion bash > /etc/bash_completion.d/cupola
  cupola completion zsh > ~/.zfunc/_cupola
  cupola completion fish > ~/.config/fish/completions/cupola.fish")]
    Completion {
        /// The shell that the script is for
        shell: clap_complete::Shell,
    },
}

impl Command {
    /// Returns whether the command works on the foundation in the data directory.
    fn has_data(&self) -> bool {
        match self {
            Self::Up(_)
            | Self::Serve { .. }
            | Self::Cfdot { .. }
            | Self::Routes(_)
            | Self::Nats(_)
            | Self::Watch { .. }
            | Self::Tap(_)
            | Self::Bench(_)
            | Self::Broker(_)
            | Self::Why { .. }
            | Self::Evacuate { .. }
            | Self::ResetPassword { .. }
            | Self::RotateKey
            | Self::Certs { .. }
            | Self::JoinBundle { .. }
            | Self::Lesson { .. }
            | Self::Exec { .. } => true,
            Self::Cf { .. }
            | Self::Demo
            | Self::Router { .. }
            | Self::RouteRegistrar { .. }
            | Self::CheckConfig { .. }
            | Self::Completion { .. } => false,
        }
    }
}

#[derive(Debug, Args)]
struct Boot {
    /// The configuration file (YAML)
    #[arg(short, long)]
    config: Option<PathBuf>,
    /// The address of the router's HTTP listener [default: port 80 on loopback and the cell IP]
    #[arg(long)]
    http: Option<String>,
    /// The address of the router's HTTPS listener [default: port 443 on loopback and the cell IP]
    #[arg(long)]
    https: Option<String>,
    /// The domain of the components and of apps [default: cupola.test]
    #[arg(long)]
    domain: Option<String>,
    /// Do not write names to /etc/hosts
    #[arg(long)]
    no_hosts: bool,
}

impl Boot {
    fn overrides(self, data: Option<PathBuf>) -> Overrides {
        Overrides {
            file: self.config,
            data,
            http: self.http,
            https: self.https,
            domain: self.domain,
            no_hosts: self.no_hosts,
        }
    }
}

/// Parses the process's arguments and runs the command.
pub(crate) fn run() -> ExitCode {
    let parsed = match parse(std::env::args_os().collect()) {
        Ok(parsed) => parsed,
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
    let code = runtime.block_on(dispatch(parsed));
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    code
}

fn parse(args: Vec<OsString>) -> Result<CommandLine, clap::Error> {
    let mut command = CommandLine::command();
    let matches = command.try_get_matches_from_mut(data::moved_to_front(args))?;
    let parsed = CommandLine::from_arg_matches(&matches)?;
    // A value from the environment may be meant for other commands.
    let given = matches.value_source("data") == Some(ValueSource::CommandLine);
    if given && !parsed.command.has_data() {
        return Err(command.error(
            ErrorKind::ArgumentConflict,
            "--data has no effect on this command: leave it out",
        ));
    }
    Ok(parsed)
}

async fn dispatch(CommandLine { data, command }: CommandLine) -> ExitCode {
    let foundation = || data.clone().unwrap_or_else(|| config::DEFAULT_DATA.into());
    let result = match command {
        Command::Up(boot) => {
            terminal::start_logging("warn");
            match config::load(boot.overrides(data)) {
                Ok(config) => up::up(config).await,
                Err(error) => Err(error),
            }
        }
        Command::Serve { roles, boot } => {
            terminal::start_logging("info");
            match config::load(boot.overrides(data)) {
                Ok(config) => up::serve(config, &roles).await,
                Err(error) => Err(error),
            }
        }
        Command::Cf { args } => {
            terminal::start_logging("error");
            return cf_cli::run(args).await;
        }
        Command::Cfdot { args } => {
            terminal::start_logging("error");
            return exec::cfdot(&foundation(), args).await;
        }
        Command::Routes(query) => routes::run(&foundation(), query).await,
        Command::Watch { target, past, json } => {
            terminal::start_logging("warn");
            let choices = watch::Choices { past, json };
            watch::run(&foundation(), &target, choices).await
        }
        Command::Tap(query) => tap::run(&foundation(), query).await,
        Command::Nats(command) => {
            terminal::start_logging("warn");
            nats_command::run(&foundation(), command).await
        }
        Command::Broker(command) => broker_command::run(data.clone(), command).await,
        Command::Bench(command) => {
            terminal::start_logging("warn");
            bench_command::run(&foundation(), command).await
        }
        Command::Why { url, json, router } => {
            match explain::run(&foundation(), &url, json, &router).await {
                Ok(code) => return code,
                Err(error) => Err(error),
            }
        }
        Command::Exec { app, command } => match exec::exec(&foundation(), &app, command).await {
            Ok(code) => return code,
            Err(error) => Err(error),
        },
        Command::Evacuate { cell } => exec::evacuate(&foundation(), cell.as_deref()).await,
        Command::RotateKey => rotate_key::run(&foundation()),
        Command::ResetPassword {
            stdin,
            config,
            user,
        } => {
            terminal::start_logging("error");
            let overrides = Overrides {
                file: config,
                data,
                ..Overrides::default()
            };
            match config::load(overrides) {
                Ok(config) => reset_password::run(&config, &user, stdin).await,
                Err(error) => Err(error),
            }
        }
        Command::Certs { name, host, out } => join::certs(&foundation(), &name, &host, &out).await,
        Command::JoinBundle {
            roles,
            host,
            out,
            config,
        } => {
            let machine = join::Machine {
                roles,
                hosts: host,
                config,
            };
            join::bundle(&foundation(), &machine, &out).await
        }
        Command::Demo => {
            terminal::start_logging("error");
            demo::run().await
        }
        Command::Lesson { action } => {
            terminal::start_logging("error");
            lesson_command::run(&foundation(), action).await
        }
        Command::Router { config } => gorouter::run(&config).await,
        Command::RouteRegistrar { config } => registrar_command::run(&config).await,
        Command::CheckConfig { config, gorouter } => match (config, gorouter) {
            (Some(config), _) => config::check_file(&config),
            (None, file) => {
                gorouter::check(&file.unwrap_or_default()).and_then(|valid| terminal::print(&valid))
            }
        },
        Command::Completion { shell } => complete(shell),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

fn complete(shell: clap_complete::Shell) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut CommandLine::command(), "cupola", &mut script);
    terminal::print(&String::from_utf8_lossy(&script))
}

/// The exit code that a shell shows for a command that SIGPIPE ended.
const OUTPUT_CLOSED: u8 = 141;

fn failed(error: &anyhow::Error) -> ExitCode {
    if error.is::<terminal::OutputClosed>() {
        return ExitCode::from(OUTPUT_CLOSED);
    }
    terminal::print_error(&format!("cupola: {error:#}"));
    ExitCode::FAILURE
}
