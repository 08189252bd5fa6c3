//! Tests have one layout: unit tests beside the code or in `x/tests.rs`, the suite of a crate in `tests/it`.

use crate::report;
use crate::workspace;

/// The test programs besides `tests/it`: those of the whole binary, each with a way to run of its own.
const PROGRAMS: &[&str] = &[
    "crates/cupola/tests/stories/",
    "crates/cupola/tests/suites/",
    "crates/cupola/tests/tidy/",
];

#[test]
fn suites_are_in_tests_it() {
    let mut problems = Vec::new();
    for source in workspace::sources() {
        let Some((_, below)) = source.path.split_once("/tests/") else {
            continue;
        };
        let is_suite = source
            .path
            .starts_with(&format!("crates/{}/tests/", source.krate));
        let is_listed = PROGRAMS
            .iter()
            .any(|folder| source.path.starts_with(folder));
        if is_suite && !is_listed && !below.starts_with("it/") {
            problems.push(format!(
                "{} is not in tests/it: move it there, and name it in tests/it/main.rs",
                source.path
            ));
        }
    }
    report(&problems);
}

#[test]
fn main_files_of_suites_list_modules_only() {
    let mut problems = Vec::new();
    for source in workspace::sources() {
        if !source.path.ends_with("/tests/it/main.rs") {
            continue;
        }
        let holds = |line: &str| line.starts_with("use ") || line.contains("fn ");
        if source.code().any(holds) {
            problems.push(format!(
                "{} has more than modules: move what starts the component to fixture.rs, and tests to modules named after their subject",
                source.path
            ));
        }
    }
    report(&problems);
}

#[test]
fn unit_tests_are_in_the_folder_of_their_module() {
    let mut problems = Vec::new();
    for source in workspace::sources() {
        let mut lines = source.code();
        if lines.any(|line| line.trim_start().starts_with("#[path") && line.contains("tests")) {
            problems.push(format!(
                "{} names a test file by a path attribute: move the file to x/tests.rs beside x.rs",
                source.path
            ));
        }
    }
    report(&problems);
}
