//! The language of comments and commits: a doc comment begins with a sentence, a commit's subject is short.

use crate::report;
use crate::workspace::{self, Source};
use std::collections::BTreeMap;
use std::process::Command;

/// The number of doc comments in the whole tree that begin with a word of `OPENINGS`. It may shrink and never grow.
const CEILING: usize = 314;
/// The number of removed comments after which the ceiling must be lowered.
const SLACK: usize = 50;

/// The openings that usually leave the sentence without a subject or a verb.
const OPENINGS: &[&str] = &["Of", "As", "The same", "What", "Who"];

/// The first commit whose subject is checked; older ones stay unchanged.
const FIRST_COMMIT: &str = "37c1ea3";
const SUBJECT: usize = 72;

/// Returns the doc comments (line number, first line) that begin without a subject.
fn without_subject(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut inside = false;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim_start();
        let doc = line
            .strip_prefix("///")
            .or_else(|| line.strip_prefix("//!"));
        let begins = |doc: &str| {
            OPENINGS.iter().any(|opening| {
                let rest = doc.trim_start().strip_prefix(opening);
                rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric()))
            })
        };
        if !inside && doc.is_some_and(begins) {
            found.push((index + 1, line));
        }
        inside = doc.is_some();
    }
    found
}

#[test]
fn doc_comments_begin_with_a_subject() {
    let count = |source: &Source| without_subject(&source.text).len();
    let total: usize = workspace::sources().iter().map(count).sum();
    let mut crates: BTreeMap<&str, usize> = BTreeMap::new();
    for source in workspace::sources() {
        *crates.entry(&source.krate).or_default() += count(source);
    }
    let mut problems = Vec::new();
    if total > CEILING {
        problems.push(format!(
            "{total} doc comments begin with {OPENINGS:?}, {CEILING} are allowed: write whole sentences (subject, verb, object) in what you added; by crate: {crates:?}"
        ));
    }
    if total + SLACK < CEILING {
        problems.push(format!(
            "{total} doc comments begin with {OPENINGS:?}: write {total} into CEILING (tests/tidy/prose.rs)"
        ));
    }
    report(&problems);
}

#[test]
fn openings_are_whole_words_at_the_beginning() {
    let text = "/// Of a run.\nfn a() {}\n/// Offers a run.\n/// What follows.\nfn b() {}\n    //! The same, again\n";
    let lines: Vec<usize> = without_subject(text)
        .iter()
        .map(|(line, _)| *line)
        .collect();
    assert_eq!(lines, [1, 6]);
}

fn git(arguments: &[&str]) -> Option<String> {
    let mut git = Command::new("git");
    // The clone of a continuous integration may belong to another user.
    git.args(["-c", "safe.directory=*"]);
    let output = git
        .args(arguments)
        .current_dir(workspace::root())
        .output()
        .ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Checks the commits' subjects. The test is skipped if there is no git, or if the clone does not reach back to the first checked
/// commit.
#[test]
fn commit_subjects_are_short() {
    let range = format!("{FIRST_COMMIT}..HEAD");
    let Some(log) = git(&["log", "--no-merges", "--format=%h %s", &range]) else {
        return;
    };
    let problems: Vec<String> = log
        .lines()
        .filter_map(|line| line.split_once(' '))
        .filter(|(_, subject)| subject.chars().count() > SUBJECT)
        .map(|(hash, subject)| {
            format!(
                "commit {hash}: its subject has {} characters, {SUBJECT} are allowed: one idea, imperative; the body gives the reason: {subject}",
                subject.chars().count()
            )
        })
        .collect();
    report(&problems);
}
