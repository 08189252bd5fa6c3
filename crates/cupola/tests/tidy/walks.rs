//! The walks of a route and of a request in ARCHITECTURE.md: every module that they name exists.

use crate::report;
use crate::workspace;

/// Returns the texts in backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Returns the modules that a path names, as paths of files: `a::{b, c}` names two, and `a::Type` names `a`.
fn modules(path: &str) -> Vec<String> {
    let (folder, names) = path.split_once('{').unwrap_or(("", path));
    let mut modules = Vec::new();
    for name in names.trim_end_matches('}').split(',') {
        let path = format!("{folder}{}", name.trim());
        let is_module = |segment: &&str| !segment.starts_with(char::is_uppercase);
        let segments: Vec<&str> = path.split("::").take_while(is_module).collect();
        if !segments.is_empty() {
            modules.push(segments.join("/"));
        }
    }
    modules
}

#[test]
fn the_walks_name_modules_that_exist() {
    let text = workspace::file("ARCHITECTURE.md");
    let walks = text.split("\n### Flow ").skip(1);
    let walks: Vec<&str> = walks
        .filter_map(|walk| walk.split("\n## ").next())
        .collect();
    let mut problems = Vec::new();
    if walks.len() != 2 {
        problems.push("ARCHITECTURE.md does not walk both flows: keep \"### Flow 1, module by module\" and \"### Flow 2, module by module\"".to_owned());
    }
    for row in walks.iter().flat_map(|walk| walk.lines()) {
        let columns: Vec<&str> = row.split('|').collect();
        let [_, crates, paths, ..] = columns[..] else {
            continue;
        };
        for krate in quoted(crates) {
            for module in quoted(paths).flat_map(modules) {
                let file = format!("crates/{krate}/src/{module}.rs");
                let folder = format!("crates/{krate}/src/{module}/mod.rs");
                if !workspace::sources()
                    .iter()
                    .any(|source| source.path == file || source.path == folder)
                {
                    problems.push(format!(
                        "ARCHITECTURE.md names {module} of {krate}, but neither {file} nor {folder} exists: correct the row {row}"
                    ));
                }
            }
        }
    }
    report(&problems);
}

#[test]
fn paths_name_modules() {
    assert_eq!(modules("a::{b, c}"), ["a/b", "a/c"]);
    assert_eq!(modules("a::Type"), ["a"]);
    assert!(modules("Type").is_empty());
}
