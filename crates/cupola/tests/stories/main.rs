//! The end-to-end stories, seen from outside with the real binary, containers, Envoy, iptables and nats-server. Each foundation
//! is booted once, its stories run in order (one story reads values that an earlier one recorded), and it is always removed.
//!
//! The stories speak the wire formats of Cloud Foundry directly and do not use our own `wire` types. Arguments filter stories by
//! name.

mod bad_input;
mod bench_propagation;
mod brokers;
mod cell;
mod dashboard;
mod drains;
mod firewall;
mod full_disk;
mod integrity;
mod lesson_pages;
mod managed_services;
mod many_machines;
mod metrics;
mod networking;
mod peers;
mod postgres;
mod processes;
mod recovery;
mod robustness;
mod route_policies;
mod route_propagation;
mod route_registrar;
mod route_services;
mod seeing_routes;
mod services;
mod ssh;
mod tour;
mod why;
mod why_faults;

use anyhow::Result;
use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use std::time::Instant;
use testkit::foundation::{Foundation, Mode};
use testkit::machines::Machines;
use testkit::postgres::Postgres;

/// One story: its name and its test.
pub(crate) struct Story<F = Foundation> {
    name: &'static str,
    run: fn(&mut F) -> Result<()>,
}

pub(crate) const fn story<F>(name: &'static str, run: fn(&mut F) -> Result<()>) -> Story<F> {
    Story { name, run }
}

/// The database of a foundation.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Store {
    /// Each component has a file of its own.
    Files,
    /// The components share a PostgreSQL server.
    Server,
}

/// The stories that share a foundation: its name, its mode, its database, the MiB of its separate disk if it has one, its additional
/// configuration in YAML, and the stories.
type Group<'a> = (&'a str, Mode, Store, Option<u64>, &'a str, &'a [Story]);

fn main() -> ExitCode {
    let filters: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| !a.starts_with("--"))
        .collect();
    let with_services = [route_services::CONFIG, brokers::CONFIG, drains::CONFIG].concat();
    let groups: [Group<'_>; 6] = [
        (
            "a foundation with route integrity",
            Mode::OneProcess,
            Store::Files,
            None,
            &with_services,
            concat(&[
                route_propagation::STORIES,
                seeing_routes::STORIES,
                bench_propagation::STORIES,
                route_registrar::STORIES,
                cell::STORIES,
                firewall::STORIES,
                networking::STORIES,
                ssh::STORIES,
                route_policies::STORIES,
                services::STORIES,
                brokers::STORIES,
                route_services::STORIES,
                drains::STORIES,
                integrity::ON,
                why::STORIES,
                dashboard::STORIES,
                why_faults::STORIES,
                bad_input::STORIES,
                metrics::STORIES,
                robustness::STORIES,
                recovery::STORIES,
                brokers::AFTER_A_KILL,
                managed_services::STORIES,
                tour::STORIES,
            ]),
        ),
        (
            "a foundation without route integrity, with short-lived certificates",
            Mode::OneProcess,
            Store::Files,
            None,
            "cell: {route_integrity: off, instance_cert_validity_minutes: 1}\n",
            integrity::OFF,
        ),
        (
            "a foundation with databases for apps",
            Mode::OneProcess,
            Store::Files,
            None,
            postgres::CONFIG,
            postgres::STORIES,
        ),
        (
            "a foundation for the lesson",
            Mode::OneProcess,
            Store::Files,
            None,
            "router: {register_interval: 5}\n",
            lesson_pages::STORIES,
        ),
        (
            "a foundation on a small disk",
            Mode::OneProcess,
            Store::Files,
            Some(full_disk::DISK_MB),
            full_disk::CONFIG,
            full_disk::STORIES,
        ),
        (
            "a foundation of many processes, on PostgreSQL",
            Mode::ManyProcesses,
            Store::Server,
            None,
            "router: {register_interval: 5}\n",
            concat(&[
                &chosen(route_propagation::STORIES, processes::ALSO_HERE),
                processes::STORIES,
                metrics::STORIES,
                metrics::OF_MANY,
                &chosen(integrity::ON, processes::ALSO_HERE),
                why::OF_MANY,
                processes::LAST,
            ]),
        ),
    ];
    let mut tally = Tally::default();
    for (what, mode, store, disk, config, stories) in groups {
        let chosen = matching(stories, &filters);
        if !chosen.is_empty() {
            println!("\n== {what}");
            let server = (store == Store::Server).then(Postgres::start);
            let database = server.as_ref().map(|server| server.database("foundation"));
            let key = database.map_or_else(String::new, |url| format!("database: {url}\n"));
            let booted = Foundation::boot(&format!("{config}{key}"), mode, disk);
            tally.run(booted, &chosen, Foundation::stop_cleanly);
        }
    }
    let chosen = matching(many_machines::STORIES, &filters);
    if !chosen.is_empty() {
        println!("\n== a foundation of five machines");
        tally.run(Machines::boot(), &chosen, Machines::stop_cleanly);
    }
    for (name, error) in &tally.failures {
        println!("\n---- {name} ----\n{error}");
    }
    // This list has the form of libtest, because scripts/run-tests reads it.
    if !tally.failures.is_empty() {
        println!("\nfailures:");
    }
    for (name, _) in &tally.failures {
        println!("    {name}");
    }
    let verdict = if tally.failures.is_empty() {
        "ok"
    } else {
        "FAILED"
    };
    println!(
        "\ntest result: {verdict}. {} passed; {} failed; 0 ignored; 0 measured; 0 filtered out\n",
        tally.passed,
        tally.failures.len()
    );
    if tally.failures.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

#[derive(Default)]
struct Tally {
    passed: u32,
    failures: Vec<(String, String)>,
}

impl Tally {
    /// Runs the stories of one foundation in their order, and stops it.
    fn run<F>(&mut self, booted: Result<F>, stories: &[&Story<F>], stop: fn(&mut F) -> Result<()>) {
        let mut foundation = match booted {
            Ok(foundation) => foundation,
            Err(error) => {
                self.failures.push(("boot".into(), format!("{error:#}")));
                return;
            }
        };
        for story in stories {
            self.run_story(story, &mut foundation);
        }
        match stop(&mut foundation) {
            Ok(()) => {
                println!("test nothing_is_left_behind ... ok");
                self.passed += 1;
            }
            Err(error) => self
                .failures
                .push(("nothing_is_left_behind".into(), format!("{error:#}"))),
        }
    }

    fn run_story<F>(&mut self, story: &Story<F>, foundation: &mut F) {
        let began = Instant::now();
        let result = std::panic::catch_unwind(AssertUnwindSafe(|| (story.run)(foundation)));
        let failure = match result {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(format!("{error:#}")),
            Err(panic) => Some(
                panic
                    .downcast_ref::<String>()
                    .cloned()
                    .or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string))
                    .unwrap_or_default(),
            ),
        };
        println!(
            "test {} ... {} ({:.1} s)",
            story.name,
            if failure.is_none() { "ok" } else { "FAILED" },
            began.elapsed().as_secs_f64()
        );
        match failure {
            None => self.passed += 1,
            Some(error) => {
                println!("     {}", error.lines().next().unwrap_or_default());
                self.failures.push((story.name.into(), error));
            }
        }
    }
}

/// Returns the stories whose name contains one of the filters; all if there is no filter.
fn matching<'a, F>(stories: &'a [Story<F>], filters: &[String]) -> Vec<&'a Story<F>> {
    let is_chosen = |name: &str| filters.iter().any(|f| name.contains(f.as_str()));
    let stories = stories.iter();
    stories
        .filter(|s| filters.is_empty() || is_chosen(s.name))
        .collect()
}

fn concat(groups: &[&[Story]]) -> &'static [Story] {
    let all: Vec<Story> = groups
        .iter()
        .flat_map(|group| group.iter().map(|s| story(s.name, s.run)))
        .collect();
    Vec::leak(all)
}

/// Returns the stories whose name begins with one of `prefixes`.
fn chosen(stories: &[Story], prefixes: &[&str]) -> Vec<Story> {
    stories
        .iter()
        .filter(|s| prefixes.iter().any(|p| s.name.starts_with(p)))
        .map(|s| story(s.name, s.run))
        .collect()
}
