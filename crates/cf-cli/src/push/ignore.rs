//! `.cfignore` lists the files of an app that are not uploaded. The patterns are those of gitignore: the last one that matches
//! decides, and one that matches a folder covers everything in it.

use anyhow::{Context as _, Result};
use ignore::gitignore::{Gitignore, GitignoreBuilder};

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

/// Each pattern has a matcher of its own: in a common one, a pattern of a file would win over a later one of its folder.
#[derive(Debug)]
pub(super) struct Ignore {
    patterns: Vec<Gitignore>,
}

impl Ignore {
    /// Parses the default patterns followed by those of the text.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let lines = DEFAULTS.into_iter().chain(text.lines());
        let mut patterns = lines.map(pattern).collect::<Result<Vec<_>>>()?;
        patterns.retain(|pattern| !pattern.is_empty());
        Ok(Self { patterns })
    }

    /// Returns whether `path` (relative, with `/`) is excluded.
    pub(super) fn is_ignored(&self, path: &str, is_folder: bool) -> bool {
        let mut found = self.patterns.iter().rev().map(|pattern| {
            // It also looks at the folders that the path is in.
            pattern.matched_path_or_any_parents(path, is_folder)
        });
        found
            .find(|found| !found.is_none())
            .is_some_and(|found| found.is_ignore())
    }

    /// Returns whether no pattern can include anything below an ignored folder.
    pub(super) fn may_prune(&self) -> bool {
        self.patterns
            .iter()
            .all(|pattern| pattern.num_whitelists() == 0)
    }
}

/// Returns a matcher that is empty if the line is a comment or blank.
fn pattern(line: &str) -> Result<Gitignore> {
    let mut builder = GitignoreBuilder::new("");
    builder
        .add_line(None, line)
        .and_then(|builder| builder.build())
        .with_context(|| format!("invalid pattern {line:?} in .cfignore"))
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
        assert_eq!(
            kept("*\n!src/", &["a", "src/", "src/a.c"]),
            ["src/", "src/a.c"]
        );
        assert!(
            Ignore::parse("a").unwrap().may_prune() && !Ignore::parse("!a").unwrap().may_prune()
        );
    }

    #[test]
    fn a_pattern_that_cannot_be_read_is_named() {
        let error = Ignore::parse("a\n[z-a]").unwrap_err().to_string();
        assert_eq!(error, r#"invalid pattern "[z-a]" in .cfignore"#);
        assert_eq!(kept("a\r\n\r\nb \n", &["a", "b", "c"]), ["c"]);
    }
}
