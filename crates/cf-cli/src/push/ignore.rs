//! `.cfignore` lists the files of an app that are not uploaded. The patterns are those of gitignore: the last one that matches
//! decides, and one that matches a folder covers everything in it.

use anyhow::{Context as _, Result};
use regex::Regex;

/// The patterns of files that are never uploaded unless a `!` pattern includes them.
const DEFAULTS: [&str; 9] = [
    ".cfignore",
    "/manifest.yml",
    "/manifest.yaml",
    ".gitignore",
    ".git",
    ".hg",
    ".svn",
    "_darcs",
    ".DS_Store",
];

#[derive(Debug)]
pub(super) struct Ignore {
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    pattern: Regex,
    is_negated: bool,
    folders_only: bool,
}

impl Ignore {
    /// Parses the default patterns followed by those of the text.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let rules = DEFAULTS
            .into_iter()
            .chain(text.lines())
            .filter_map(|line| rule(line).transpose())
            .collect::<Result<_>>()?;
        Ok(Self { rules })
    }

    /// Returns whether `path` (relative, with `/`) is excluded.
    pub(super) fn is_ignored(&self, path: &str, is_folder: bool) -> bool {
        self.rules
            .iter()
            .rev()
            .find(|rule| rule.covers(path, is_folder))
            .is_some_and(|rule| !rule.is_negated)
    }

    /// Returns whether no pattern can include anything below an ignored folder.
    pub(super) fn may_prune(&self) -> bool {
        self.rules.iter().all(|rule| !rule.is_negated)
    }
}

impl Rule {
    fn covers(&self, path: &str, is_folder: bool) -> bool {
        let ancestors = path.match_indices('/').map(|(at, _)| (&path[..at], true));
        ancestors
            .chain([(path, is_folder)])
            .any(|(path, is_folder)| {
                (is_folder || !self.folders_only) && self.pattern.is_match(path)
            })
    }
}

fn rule(line: &str) -> Result<Option<Rule>> {
    let line = line.trim_end();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let (is_negated, glob) = match line.strip_prefix('!') {
        Some(rest) => (true, rest),
        None => (false, line),
    };
    let (folders_only, glob) = match glob.strip_suffix('/') {
        Some(rest) => (true, rest),
        None => (false, glob),
    };
    let is_anchored = glob.contains('/');
    let glob = glob.strip_prefix('/').unwrap_or(glob);
    if glob.is_empty() {
        return Ok(None);
    }
    let pattern = format!(
        "^{}{}$",
        if is_anchored { "" } else { "(?:.*/)?" },
        translate(glob)
    );
    let pattern =
        Regex::new(&pattern).with_context(|| format!("invalid pattern {line:?} in .cfignore"))?;
    Ok(Some(Rule {
        pattern,
        is_negated,
        folders_only,
    }))
}

/// Translates a glob into a regular expression.
fn translate(glob: &str) -> String {
    let mut regex = String::new();
    let mut rest = glob;
    while let Some(c) = rest.chars().next() {
        if let Some(after) = rest.strip_prefix("**/") {
            regex.push_str("(?:.*/)?");
            rest = after;
        } else if let Some(after) = rest.strip_prefix("**") {
            regex.push_str(".*");
            rest = after;
        } else if let (Some(class), true) = (rest.find(']').filter(|at| *at > 1), c == '[') {
            let inner = rest[1..class].replace('\\', "\\\\");
            regex.push_str(&format!(
                "[{}]",
                inner
                    .strip_prefix('!')
                    .map_or_else(|| inner.clone(), |not| format!("^{not}"))
            ));
            rest = &rest[class + 1..];
        } else {
            rest = &rest[c.len_utf8()..];
            match c {
                '*' => regex.push_str("[^/]*"),
                '?' => regex.push_str("[^/]"),
                '\\' => {
                    let literal = rest.chars().next().map_or_else(String::new, String::from);
                    rest = &rest[literal.len()..];
                    regex.push_str(&regex::escape(&literal));
                }
                c => regex.push_str(&regex::escape(c.encode_utf8(&mut [0; 4]))),
            }
        }
    }
    regex
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(patterns: &str, paths: &[&str]) -> Vec<String> {
        let ignore = Ignore::parse(patterns).unwrap();
        paths
            .iter()
            .filter(|p| !ignore.is_ignored(p.trim_end_matches('/'), p.ends_with('/')))
            .map(|p| (*p).to_owned())
            .collect()
    }

    #[test]
    fn defaults_are_left_out() {
        assert_eq!(
            kept(
                "",
                &[
                    "app",
                    ".git/config",
                    "sub/.git/",
                    "manifest.yml",
                    "sub/manifest.yml",
                    ".cfignore"
                ]
            ),
            ["app", "sub/manifest.yml"]
        );
    }

    #[test]
    fn patterns_mean_what_git_means() {
        assert_eq!(kept("*.log", &["a.log", "x/b.log", "a.logs"]), ["a.logs"]);
        assert_eq!(
            kept("/target", &["target/x", "sub/target/x"]),
            ["sub/target/x"]
        );
        assert_eq!(
            kept("build/", &["build", "build/", "sub/build/x"]),
            ["build"]
        );
        assert_eq!(
            kept("doc/*.txt", &["doc/a.txt", "doc/x/a.txt", "x/doc/a.txt"]),
            ["doc/x/a.txt", "x/doc/a.txt"]
        );
        assert_eq!(kept("a/**/z", &["a/z", "a/b/z", "a/b/c/z", "b/z"]), ["b/z"]);
        assert_eq!(kept("**/tmp", &["tmp", "x/y/tmp", "tmpx"]), ["tmpx"]);
        assert_eq!(kept("x/**", &["x/a", "x/b/c", "y"]), ["y"]);
        assert_eq!(
            kept("file?.[ch]", &["file1.c", "file2.h", "file.c", "file1.o"]),
            ["file.c", "file1.o"]
        );
        assert_eq!(
            kept("# comment\n\n\\#x\n", &["# comment", "#x"]),
            ["# comment"]
        );
    }

    #[test]
    fn later_patterns_include_files_again() {
        assert_eq!(
            kept(
                "*\n!bin/\n!bin/**\nbin/*.tmp",
                &["a", "bin/app", "bin/x.tmp"]
            ),
            ["bin/app"]
        );
        assert!(
            Ignore::parse("a").unwrap().may_prune() && !Ignore::parse("!a").unwrap().may_prune()
        );
    }
}
