//! Counts modules that import each other in a circle, because they can only be understood together. A circle of two is usually a
//! noun and its parts and is allowed; no crate has a longer one.

use crate::report;
use crate::workspace::{self, Source};
use std::collections::{BTreeMap, BTreeSet};

type Module = Vec<String>;

/// Returns the module of a file: `src/a/b.rs` and `src/a/b/mod.rs` are `a::b`.
fn module(path: &str) -> Option<Module> {
    let below = path.split_once("/src/")?.1.strip_suffix(".rs")?;
    let mut parts: Module = below.split('/').map(str::to_owned).collect();
    if matches!(
        parts.last().map(String::as_str),
        Some("mod" | "lib" | "main")
    ) {
        parts.pop();
    }
    (parts.first().map(String::as_str) != Some("bin")).then_some(parts)
}

/// Returns the code without comments and without the tests at its end.
fn code(source: &Source) -> String {
    let text: String = source.code().flat_map(|line| [line, "\n"]).collect();
    let tests = "#[cfg(test)]\nmod tests {";
    text.split(tests).next().unwrap_or_default().to_owned()
}

/// Returns every `crate::…` path of a text; `crate::{a, b::{C, D}}` counts as three.
fn paths(text: &str) -> Vec<Module> {
    let mut found = Vec::new();
    for (at, prefix) in text.match_indices("crate::") {
        let before = text[..at].chars().next_back();
        if !before.is_some_and(|c| c.is_alphanumeric() || "_$".contains(c)) {
            tree(&text[at + prefix.len()..], &[], &mut found);
        }
    }
    found
}

/// Reads one tree of imports behind `prefix`, and returns the text that follows it.
fn tree<'a>(text: &'a str, prefix: &[String], found: &mut Vec<Module>) -> &'a str {
    let text = text.trim_start();
    if let Some(mut rest) = text.strip_prefix('{') {
        loop {
            rest = rest.trim_start();
            if let Some(end) = rest.strip_prefix('}') {
                return end;
            }
            let before = rest.len();
            rest = tree(rest, prefix, found).trim_start();
            if let Some(alias) = rest.strip_prefix("as ") {
                rest =
                    alias.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_' || c == ' ');
            }
            rest = rest.strip_prefix(',').unwrap_or(rest);
            if rest.len() == before {
                return rest;
            }
        }
    }
    let end = text
        .find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '*'))
        .unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let mut path = prefix.to_vec();
    if !matches!(name, "" | "*" | "self") {
        path.push(name.to_owned());
    }
    match rest.strip_prefix("::") {
        Some(rest) if end > 0 => tree(rest, &path, found),
        _ => {
            found.push(path);
            rest
        }
    }
}

/// Returns the imports between the modules of a crate, by `crate::…` paths. The crate's root does not count as a module.
fn imports(sources: &[&Source]) -> BTreeMap<Module, BTreeSet<Module>> {
    let modules: BTreeSet<Module> = sources.iter().filter_map(|s| module(&s.path)).collect();
    let mut graph: BTreeMap<Module, BTreeSet<Module>> = BTreeMap::new();
    for source in sources {
        let Some(own) = module(&source.path).filter(|own| !own.is_empty()) else {
            continue;
        };
        for path in paths(&code(source)) {
            let lengths = (1..=path.len()).rev();
            let target = lengths
                .map(|n| path[..n].to_vec())
                .find(|p| modules.contains(p));
            if let Some(target) = target.filter(|target| *target != own) {
                graph.entry(own.clone()).or_default().insert(target);
            }
        }
    }
    graph
}

fn reachable(graph: &BTreeMap<Module, BTreeSet<Module>>, from: &Module) -> BTreeSet<Module> {
    let (mut seen, mut open) = (BTreeSet::new(), vec![from]);
    while let Some(module) = open.pop() {
        for next in graph.get(module).into_iter().flatten() {
            if seen.insert(next.clone()) {
                open.push(next);
            }
        }
    }
    seen
}

/// Returns the circles of more than two modules, the longest first.
fn circles(graph: &BTreeMap<Module, BTreeSet<Module>>) -> Vec<Vec<String>> {
    let reach: BTreeMap<&Module, BTreeSet<Module>> = graph
        .keys()
        .map(|module| (module, reachable(graph, module)))
        .collect();
    let mut circles: BTreeSet<Vec<String>> = BTreeSet::new();
    for (module, reached) in &reach {
        let back = |other: &&Module| reach.get(other).is_some_and(|r| r.contains(*module));
        let circle: Vec<String> = reached.iter().filter(back).map(|m| m.join("::")).collect();
        if circle.len() > 2 {
            circles.insert(circle);
        }
    }
    let mut circles: Vec<_> = circles.into_iter().collect();
    circles.sort_by_key(|circle| std::cmp::Reverse(circle.len()));
    circles
}

#[test]
fn modules_do_not_import_each_other_in_long_circles() {
    let mut crates: BTreeMap<&str, Vec<&Source>> = BTreeMap::new();
    for source in workspace::sources()
        .iter()
        .filter(|source| !source.is_test())
    {
        crates.entry(&source.krate).or_default().push(source);
    }
    let mut problems = Vec::new();
    for (krate, sources) in crates {
        let circles = circles(&imports(&sources));
        let count: usize = circles.iter().map(Vec::len).sum();
        if count > 0 {
            problems.push(format!(
                "crates/{krate}: {count} modules are in circles of more than two: move what both sides need below them; {circles:?}"
            ));
        }
    }
    report(&problems);
}

#[test]
fn trees_of_imports_are_read_whole() {
    let text = "use crate::{a, b::{C as D, d::E}};\nlet x = crate::f::g(1); $crate::h::i; pub(crate) fn j() {}";
    let found: Vec<String> = paths(text).iter().map(|p| p.join("::")).collect();
    assert_eq!(found, ["a", "b::C", "b::d::E", "f::g"]);
}

#[test]
fn a_circle_of_three_is_found_and_one_of_two_is_not() {
    let edges = [
        ("a", "b"),
        ("b", "c"),
        ("c", "a"),
        ("d", "e"),
        ("e", "d"),
        ("a", "d"),
    ];
    let mut graph: BTreeMap<Module, BTreeSet<Module>> = BTreeMap::new();
    for (from, to) in edges {
        graph
            .entry(vec![from.into()])
            .or_default()
            .insert(vec![to.into()]);
    }
    assert_eq!(circles(&graph), [["a", "b", "c"]]);
}
