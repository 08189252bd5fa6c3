//! The language of comments and commits: a doc comment begins with a sentence, a commit's subject is short.

use crate::report;
use crate::workspace;
use std::process::Command;

/// The openings that usually leave the sentence without a subject or a verb.
const OPENINGS: &[&str] = &["Of", "As", "The same", "What", "Who"];

/// Words for which the field has its own verbs: log, publish, register, report, return, receive (docs/glossary.md).
const RIDDLES: &[&str] = &["told", "tell", "tells", "heard", "hear", "hears", "said"];

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
    let mut problems = Vec::new();
    for source in workspace::sources() {
        for (line, text) in without_subject(&source.text) {
            problems.push(format!(
                "{}:{line}: a doc comment begins with one of {OPENINGS:?}: write a whole sentence (subject, verb, object): {text}",
                source.path
            ));
        }
    }
    report(&problems);
}

/// Returns the comments (line number, word) that contain a word of `RIDDLES` outside of code.
fn riddles(text: &str) -> Vec<(usize, &'static str)> {
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim_start();
        if !line.starts_with("//") {
            continue;
        }
        let prose: Vec<&str> = line.split('`').step_by(2).collect();
        let prose = prose.join(" ").to_lowercase();
        let mut words = prose.split(|c: char| !c.is_alphanumeric());
        let riddle = words.find_map(|word| RIDDLES.iter().find(|riddle| **riddle == word));
        found.extend(riddle.map(|riddle| (index + 1, *riddle)));
    }
    found
}

#[test]
fn comments_use_the_verbs_of_the_field() {
    let mut problems = Vec::new();
    for source in workspace::sources() {
        for (line, word) in riddles(&source.text) {
            problems.push(format!(
                "{}:{line}: a comment contains {word:?}: use log, publish, register, report, return or receive (docs/glossary.md)",
                source.path
            ));
        }
    }
    report(&problems);
}

#[test]
fn riddles_are_whole_words_outside_of_code() {
    let text =
        "let told = 1; // told\n// It was told.\n/// `told` is a parameter.\n/// A teller hears.\n";
    assert_eq!(riddles(text), [(2, "told"), (4, "hears")]);
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
