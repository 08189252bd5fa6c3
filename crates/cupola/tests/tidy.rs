//! Rules of the workspace that a compiler does not know: which crate may depend on which, and what cores must not touch.

use std::collections::BTreeMap;
use std::path::Path;

/// Layers, bottom up: a crate depends on crates of lower layers only; components (layer 5) not on each other.
const LAYERS: &[(&str, u8)] = &[
    ("ids", 0),
    ("go-values", 0),
    ("lrp", 1),
    ("auction", 1),
    ("routing", 1),
    ("http1", 1),
    ("http2", 1),
    ("cell-plan", 2),
    ("wire", 3),
    ("kit", 3),
    ("clients", 4),
    ("garden", 4),
    ("router", 5),
    ("cloud-controller", 5),
    ("uaa", 5),
    ("log-cache", 5),
    ("bbs", 5),
    ("auctioneer", 5),
    ("rep", 5),
    ("route-emitter", 5),
    ("route-registrar", 5),
    ("dns", 5),
    ("cf-cli", 5),
    ("cfdot", 5),
    ("cupola", 6),
];

/// Neither a run time, nor sockets, nor files.
const CORES: &[&str] = &[
    "ids",
    "go-values",
    "lrp",
    "auction",
    "routing",
    "http1",
    "http2",
    "cell-plan",
];
const NOT_IN_CORES: &[&str] = &[
    "tokio",
    "hyper",
    "axum",
    "sqlx",
    "nix",
    "reqwest",
    "async-nats",
];

fn dependencies(krate: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .join(krate)
        .join("Cargo.toml");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let section = text
        .split("\n[")
        .find(|s| s.starts_with("dependencies]"))
        .unwrap_or_default();
    section
        .lines()
        .skip(1)
        .filter_map(|l| l.split(['.', ' ', '=']).next())
        .filter(|n| !n.is_empty())
        .map(str::to_owned)
        .collect()
}

#[test]
fn dependencies_point_downwards() {
    let layers: BTreeMap<&str, u8> = LAYERS.iter().copied().collect();
    for (krate, layer) in &layers {
        for dependency in dependencies(krate) {
            if let Some(lower) = layers.get(dependency.as_str()) {
                // cell-plan sits on lrp; wire may see cores; garden's api is the seam that rep plans for
                assert!(
                    lower < layer,
                    "{krate} depends on {dependency}, which is not below it: see ARCHITECTURE.md, code map"
                );
            }
        }
    }
}

#[test]
fn cores_touch_nothing() {
    for core in CORES {
        for dependency in dependencies(core) {
            assert!(
                !NOT_IN_CORES.contains(&dependency.as_str()),
                "the core {core} depends on {dependency}: move the effect into a shell"
            );
        }
    }
}

/// As a word of code, not in a string.
const KEYWORD: &str = "unsafe";

#[test]
fn unsafe_stays_in_garden() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut stack = vec![crates];
    while let Some(folder) = stack.pop() {
        for entry in std::fs::read_dir(folder)
            .expect("the crates are there")
            .flatten()
        {
            let path = entry.path();
            if path.is_dir() && !path.ends_with("target") {
                stack.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = std::fs::read_to_string(&path).expect("readable");
                let uses = text.lines().any(|line| {
                    let mut words = line
                        .split("//")
                        .next()
                        .unwrap_or_default()
                        .split_whitespace();
                    words.any(|word| word == KEYWORD)
                });
                let allowed = path
                    .components()
                    .any(|c| c.as_os_str() == "garden" || c.as_os_str() == "inside");
                assert!(
                    !uses || allowed,
                    "{} uses unsafe: only garden and inside may",
                    path.display()
                );
            }
        }
    }
}

/// All sources of the workspace that are no tests.
fn sources() -> Vec<(std::path::PathBuf, String)> {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let (mut stack, mut sources) = (vec![crates], Vec::new());
    while let Some(folder) = stack.pop() {
        for entry in std::fs::read_dir(folder)
            .expect("the crates are there")
            .flatten()
        {
            let path = entry.path();
            if path.is_dir() {
                if !path.ends_with("target") && !path.ends_with("tests") {
                    stack.push(path);
                }
            } else if path.extension().is_some_and(|e| e == "rs")
                && !path.to_string_lossy().ends_with("_tests.rs")
            {
                let text = std::fs::read_to_string(&path).expect("readable");
                sources.push((path, text));
            }
        }
    }
    sources
}

fn is_of(path: &Path, krate: &str) -> bool {
    path.components().any(|c| c.as_os_str() == krate)
}

/// These macros panic when their output is closed: a command that `head` has left, or a process whose terminal is gone.
#[test]
fn output_never_panics() {
    for (path, text) in sources() {
        // The benchmarks are a tool of ours; `inside` writes to the app's own log.
        if is_of(&path, "bench") || is_of(&path, "benches") || is_of(&path, "inside") {
            continue;
        }
        for name in ["print", "println", "eprint", "eprintln"] {
            let call = format!("{name}!(");
            let calls = text.lines().any(|line| {
                let code = line.split("//").next().unwrap_or_default();
                code.split(|c: char| !(c.is_ascii_alphanumeric() || "_!(".contains(c)))
                    .any(|word| word.starts_with(&call))
            });
            assert!(
                !calls,
                "{} uses {name}!: write, and handle the error",
                path.display()
            );
        }
    }
}

/// Whoever begins a transaction elsewhere leaves a connection in an unknown state when the disk is full.
#[test]
fn transactions_are_the_kit_s() {
    for (path, text) in sources() {
        let begins = [
            "begin_with(",
            "pool.begin()",
            "connection.begin()",
            "conn.begin()",
        ];
        let found = begins.iter().find(|begin| text.contains(**begin));
        assert!(
            found.is_none() || is_of(&path, "kit"),
            "{} begins a transaction by itself: use kit::db::Database::begin",
            path.display()
        );
    }
}
