//! Rules for crates and their dependencies: every crate has a layer, every dependency points downwards and is used, and cores do
//! no IO.

use crate::report;
use crate::workspace::{self, Dependency, Kind, Package};
use regex::Regex;
use std::collections::{BTreeMap, BTreeSet};

/// The layers, bottom up. A crate depends only on crates of lower layers, so components (layer 6) do not depend on each other.
/// Only tests may also use a crate of the same layer, as a real peer, and [`FOR_TESTS`], whatever its layer.
const LAYERS: &[(&str, u8)] = &[
    ("ids", 0),
    ("go-values", 0),
    ("staging-result", 0),
    ("shim-protocol", 0),
    ("lesson", 0),
    ("lrp", 1),
    ("auction", 1),
    ("route-table", 1),
    ("http1", 1),
    ("http2", 1),
    ("cell-plan", 2),
    ("wire", 3),
    ("kit", 3),
    ("cc-rules", 4),
    ("why", 4),
    ("clients", 4),
    ("garden", 4),
    ("http-sides", 4),
    ("ssh-sides", 4),
    ("osb", 5),
    ("s3-client", 4),
    ("survey", 5),
    ("route-timing", 5),
    ("drains", 5),
    ("router", 6),
    ("cloud-controller", 6),
    ("uaa", 6),
    ("log-cache", 6),
    ("bbs", 6),
    ("auctioneer", 6),
    ("rep", 6),
    ("route-emitter", 6),
    ("route-registrar", 6),
    ("dns", 6),
    ("dashboard", 6),
    ("ssh-proxy", 6),
    ("postgres-broker", 6),
    ("cf-cli", 6),
    ("cfdot", 6),
    ("inside", 6),
    ("testkit", 7),
    ("gorouter", 7),
    ("bench", 8),
    ("cupola", 8),
];

/// The crate that starts peers for tests. It depends on components, and the suites of these components depend on it.
const FOR_TESTS: &str = "testkit";

/// The crates that only make decisions: they use no runtime, sockets or files.
pub(crate) const CORES: &[&str] = &[
    "ids",
    "go-values",
    "staging-result",
    "shim-protocol",
    "lesson",
    "lrp",
    "auction",
    "route-table",
    "http1",
    "http2",
    "cell-plan",
    "cc-rules",
    "why",
];
const NOT_IN_CORES: &[&str] = &[
    "tokio",
    "tokio-util",
    "hyper",
    "axum",
    "sqlx",
    "nix",
    "libc",
    "rustix",
    "reqwest",
    "async-nats",
    "tracing",
];

#[test]
fn every_crate_has_a_layer() {
    let layers: BTreeSet<&str> = LAYERS.iter().map(|(name, _)| *name).collect();
    let names: BTreeSet<&str> = workspace::packages().iter().map(|p| &*p.name).collect();
    let mut problems: Vec<String> = names
        .difference(&layers)
        .map(|name| format!("crates/{name} has no layer: add a row to LAYERS in tests/tidy/crates.rs and a paragraph to ARCHITECTURE.md, code map"))
        .collect();
    problems.extend(layers.difference(&names).map(|name| {
        format!("LAYERS names {name}, which is not a crate of the workspace: remove the row")
    }));
    let map = workspace::file("ARCHITECTURE.md");
    problems.extend(
        names
            .iter()
            .filter(|name| !map.contains(&format!("`{name}`")))
            .map(|name| format!("ARCHITECTURE.md does not name `{name}`: add it to the code map")),
    );
    report(&problems);
}

#[test]
fn dependencies_point_downwards() {
    let layers: BTreeMap<&str, u8> = LAYERS.iter().copied().collect();
    let mut problems = Vec::new();
    for package in workspace::packages() {
        for dependency in &package.dependencies {
            let own = layers.get(&*package.name);
            let (Some(own), Some(other)) = (own, layers.get(&*dependency.package)) else {
                continue;
            };
            let right = match dependency.kind {
                Kind::Dev => other <= own || dependency.package == FOR_TESTS,
                Kind::Normal | Kind::Build => other < own,
            };
            if !right {
                problems.push(format!(
                    "crates/{}/Cargo.toml [{}]: {} (layer {other}) is not below {} (layer {own}): talk to it through `clients`, or move what both need into a lower crate (ARCHITECTURE.md, code map)",
                    package.name,
                    dependency.kind.section(),
                    dependency.package,
                    package.name,
                ));
            }
        }
    }
    report(&problems);
}

/// Tests that no unit test uses [`FOR_TESTS`] if that crate depends on the unit test's own crate. The compiler would build the crate
/// twice, and a type of one build is no type of the other. Suites below `tests/` see one build only.
#[test]
fn unit_tests_see_their_own_crate_once() {
    let packages = workspace::packages();
    let (mut below, mut open) = (BTreeSet::new(), vec![FOR_TESTS]);
    while let Some(name) = open.pop() {
        let found = packages.iter().filter(|package| package.name == name);
        for dependency in found.flat_map(|package| &package.dependencies) {
            if dependency.kind != Kind::Dev && below.insert(&*dependency.package) {
                open.push(&dependency.package);
            }
        }
    }
    let mut problems = Vec::new();
    for source in workspace::sources() {
        let is_below = below.contains(&*source.krate) && source.path.contains("/src/");
        if is_below && named(source.code()).contains(FOR_TESTS) {
            problems.push(format!(
                "{} uses {FOR_TESTS}, which depends on {}: move the test below tests/, or what it needs into a lower crate",
                source.path, source.krate
            ));
        }
    }
    report(&problems);
}

#[test]
fn cores_depend_on_no_run_time() {
    let mut problems = Vec::new();
    for package in workspace::packages() {
        if !CORES.contains(&&*package.name) {
            continue;
        }
        for dependency in &package.dependencies {
            if dependency.kind != Kind::Dev && NOT_IN_CORES.contains(&&*dependency.package) {
                problems.push(format!(
                    "crates/{}/Cargo.toml depends on {}: a core takes values and returns values; move the effect into a component",
                    package.name, dependency.package,
                ));
            }
        }
    }
    report(&problems);
}

/// Returns the names that begin a path (`name::…`) or an import (`use name`) in these texts.
fn named<'a>(texts: impl Iterator<Item = &'a str>) -> BTreeSet<String> {
    let begins =
        Regex::new(r"(?:^|[^:\w])(?:::)?([A-Za-z_]\w*)\s*::|\buse\s+(?:::)?([A-Za-z_]\w*)")
            .expect("a constant");
    let mut names = BTreeSet::new();
    for line in texts {
        for found in begins.captures_iter(line) {
            let name = found.get(1).or_else(|| found.get(2)).expect("one of both");
            names.insert(name.as_str().to_owned());
        }
    }
    names
}

/// Returns the name of a dependency's library, as the sources write it.
fn library(dependency: &Dependency) -> String {
    let renamed = dependency
        .rename
        .as_ref()
        .map(|name| name.replace('-', "_"));
    let built = || {
        let compiled = workspace::compiled().get(&dependency.package);
        compiled.map(|c| c.library.clone())
    };
    renamed
        .or_else(built)
        .unwrap_or_else(|| dependency.package.replace('-', "_"))
}

fn unused(package: &Package) -> Vec<String> {
    let folder = package.folder.file_name().unwrap_or_default();
    let of_crate = || {
        let sources = workspace::sources().iter();
        sources.filter(move |source| *source.krate == *folder)
    };
    let build = of_crate().filter(|source| source.path.ends_with("/build.rs"));
    let own = of_crate().filter(|source| source.path.contains("/src/") && !source.is_test());
    let by_build = named(build.flat_map(|source| source.code()));
    let by_sources = named(own.flat_map(|source| source.code()));
    let by_all = named(of_crate().flat_map(|source| source.code()));
    let mut problems = Vec::new();
    for dependency in &package.dependencies {
        let name = library(dependency);
        let users = match dependency.kind {
            Kind::Normal => &by_sources,
            Kind::Dev => &by_all,
            Kind::Build => &by_build,
        };
        if users.contains(&name) {
            continue;
        }
        let fix = if dependency.kind == Kind::Normal && by_all.contains(&name) {
            "only tests use it: move the line to [dev-dependencies]"
        } else {
            "nothing names it: remove the line"
        };
        problems.push(format!(
            "crates/{}/Cargo.toml [{}] {}: {fix}",
            package.name,
            dependency.kind.section(),
            dependency.package,
        ));
    }
    problems
}

#[test]
fn every_dependency_line_is_used() {
    let mut problems: Vec<String> = workspace::packages().iter().flat_map(unused).collect();
    let used: BTreeSet<&str> = workspace::packages()
        .iter()
        .flat_map(|package| package.dependencies.iter().map(|d| &*d.package))
        .collect();
    let manifest = workspace::file("Cargo.toml");
    let section = manifest.split("[workspace.dependencies]").nth(1);
    let lines = section.unwrap_or_default().lines();
    for line in lines.take_while(|line| !line.starts_with('[')) {
        let name = line.split([' ', '=', '.']).next().unwrap_or_default();
        if !name.is_empty() && !name.starts_with('#') && !used.contains(name) {
            problems.push(format!(
                "Cargo.toml [workspace.dependencies] {name}: no crate names it: remove the line"
            ));
        }
    }
    report(&problems);
}

#[test]
fn a_line_is_seen_as_used_by_paths_imports_and_derives() {
    let text = "use serde::Deserialize; let x = ::hex::encode(y); #[derive(thiserror::Error)] crate::bytes::X; foo(tar::Y)";
    let names = named([text].into_iter());
    for used in ["serde", "hex", "thiserror", "tar"] {
        assert!(names.contains(used), "{used} of {names:?}");
    }
    assert!(!names.contains("bytes"), "a module of the crate itself");
}
