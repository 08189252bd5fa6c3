//! The workspace as the checks read it: its packages from `cargo metadata`, the compiled packages from `cargo tree`, and its
//! sources. Each is read once.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

/// A package of the workspace.
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) folder: PathBuf,
    pub(crate) dependencies: Vec<Dependency>,
}

/// One dependency in a `Cargo.toml`.
pub(crate) struct Dependency {
    /// The package's name in the registry.
    pub(crate) package: String,
    /// The name that the manifest gives it, if it differs.
    pub(crate) rename: Option<String>,
    pub(crate) kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    Normal,
    Dev,
    Build,
}

impl Kind {
    pub(crate) fn section(self) -> &'static str {
        match self {
            Self::Normal => "dependencies",
            Self::Dev => "dev-dependencies",
            Self::Build => "build-dependencies",
        }
    }
}

/// A package that the build compiles, ours or another's.
pub(crate) struct Compiled {
    pub(crate) license: String,
    /// The name of its library in `use` statements.
    pub(crate) library: String,
}

/// A source file.
pub(crate) struct Source {
    /// The path below the repository's root, with `/`.
    pub(crate) path: String,
    /// The crate's folder name.
    pub(crate) krate: String,
    pub(crate) text: String,
}

impl Source {
    /// Returns whether the file contains only tests or benchmarks.
    pub(crate) fn is_test(&self) -> bool {
        let name = self.path.rsplit('/').next().unwrap_or_default();
        self.path.contains("/tests/")
            || self.path.contains("/benches/")
            || name == "tests.rs"
            || name.ends_with("_tests.rs")
    }

    /// Returns the lines without their comments.
    pub(crate) fn code(&self) -> impl Iterator<Item = &str> {
        self.text
            .lines()
            .map(|line| line.split("//").next().unwrap_or_default())
    }
}

pub(crate) fn root() -> &'static Path {
    static ROOT: LazyLock<PathBuf> = LazyLock::new(|| {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = here.ancestors().nth(2).expect("crates/cupola has a root");
        root.to_path_buf()
    });
    &ROOT
}

/// Returns a file of the repository, or an empty text if it does not exist.
pub(crate) fn file(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_default()
}

fn cargo(arguments: &[&str]) -> String {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let output = Command::new(cargo)
        .args(arguments)
        .arg("--offline")
        .current_dir(root())
        .output()
        .expect("cargo runs the tests, so it can be started");
    assert!(
        output.status.success(),
        "cargo {} failed: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("cargo writes UTF-8")
}

/// Returns the packages that such a selection compiles, each with its version and features. `cargo tree` writes a package once for
/// each set of features.
pub(crate) fn with_features(selection: &[&str]) -> BTreeSet<String> {
    let tree = ["tree", "--prefix", "none", "--format", "{p} [{f}]"];
    let text = cargo(&[&tree, selection].concat());
    text.lines()
        .map(|line| line.trim_end_matches(" (*)").to_owned())
        .filter(|line| !line.is_empty())
        .collect()
}

pub(crate) fn packages() -> &'static [Package] {
    static PACKAGES: LazyLock<Vec<Package>> = LazyLock::new(|| {
        let text = cargo(&["metadata", "--no-deps", "--format-version", "1"]);
        let metadata: Value = serde_json::from_str(&text).expect("cargo metadata writes JSON");
        let packages = metadata["packages"].as_array().expect("it lists packages");
        packages.iter().map(package).collect()
    });
    &PACKAGES
}

fn package(package: &Value) -> Package {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let dependencies = package["dependencies"].as_array().expect("a list");
    Package {
        name: text(&package["name"]),
        folder: Path::new(&text(&package["manifest_path"]))
            .parent()
            .expect("a manifest lies in a folder")
            .to_path_buf(),
        dependencies: dependencies
            .iter()
            .map(|dependency| Dependency {
                package: text(&dependency["name"]),
                rename: dependency["rename"].as_str().map(str::to_owned),
                kind: match dependency["kind"].as_str() {
                    Some("dev") => Kind::Dev,
                    Some("build") => Kind::Build,
                    _ => Kind::Normal,
                },
            })
            .collect(),
    }
}

/// Returns every package that the build compiles on this platform, by name. If there are two versions, the last one listed is
/// kept.
pub(crate) fn compiled() -> &'static BTreeMap<String, Compiled> {
    static COMPILED: LazyLock<BTreeMap<String, Compiled>> = LazyLock::new(|| {
        let text = cargo(&[
            "tree",
            "--workspace",
            "--edges=normal,build,dev",
            "--prefix=none",
            "--format={p}|{l}|{lib}",
        ]);
        let rows = text.lines().filter_map(|line| {
            let mut parts = line.trim_end_matches(" (*)").split('|');
            let name = parts.next()?.split(' ').next()?.to_owned();
            let (license, library) = (parts.next()?.to_owned(), parts.next()?.to_owned());
            Some((name, Compiled { license, library }))
        });
        rows.collect()
    });
    &COMPILED
}

/// Returns every Rust file below `crates/`.
pub(crate) fn sources() -> &'static [Source] {
    static SOURCES: LazyLock<Vec<Source>> = LazyLock::new(|| {
        let (mut folders, mut sources) = (vec![root().join("crates")], Vec::new());
        while let Some(folder) = folders.pop() {
            let entries = std::fs::read_dir(folder).expect("the folder was listed");
            for path in entries.flatten().map(|entry| entry.path()) {
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|e| e == "rs") {
                    sources.push(source(&path));
                }
            }
        }
        sources.sort_by(|a, b| a.path.cmp(&b.path));
        sources
    });
    &SOURCES
}

fn source(path: &Path) -> Source {
    let below = path.strip_prefix(root()).expect("it lies below the root");
    let below = below.to_string_lossy().replace('\\', "/");
    Source {
        krate: below.split('/').nth(1).unwrap_or_default().to_owned(),
        text: std::fs::read_to_string(path).expect("a source is readable"),
        path: below,
    }
}
