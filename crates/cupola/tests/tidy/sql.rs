//! SQL must be in the database layer of a crate (`db/` or `db.rs`) and nowhere else.

use crate::report;
use crate::workspace;
use regex::Regex;
use std::collections::BTreeMap;

/// The number of lines of SQL that are elsewhere today, which is none. A new row is an error.
const ELSEWHERE: &[(&str, usize)] = &[];

fn sql() -> Regex {
    let statements = r"\bSELECT\s.*\bFROM\b|\bINSERT (OR \w+ )?INTO\b|\bUPDATE \w+ SET\b|\bDELETE FROM\b|\bCREATE (UNIQUE )?(TABLE|INDEX)\b|\bALTER TABLE\b|\bPRAGMA \w|\b(ORDER|GROUP) BY\b";
    let conditions = r#""[^"]*\b\w+ (=|<>|<|>|<=|>=|IN|LIKE) \(?(\?|\$\d)"#;
    Regex::new(&format!("{statements}|{conditions}")).expect("a constant")
}

#[test]
fn sql_is_in_db_only() {
    let sql = sql();
    let mut found: BTreeMap<&str, usize> = BTreeMap::new();
    for source in workspace::sources() {
        let database = source.path.contains("/db/") || source.path.ends_with("/db.rs");
        if database || source.is_test() || !source.path.contains("/src/") {
            continue;
        }
        let lines = source.code().filter(|line| sql.is_match(line)).count();
        if lines > 0 {
            found.insert(&source.path, lines);
        }
    }
    let listed: BTreeMap<&str, usize> = ELSEWHERE.iter().copied().collect();
    let mut problems = Vec::new();
    for (path, lines) in &found {
        let allowed = listed.get(path).copied().unwrap_or_default();
        if *lines > allowed {
            problems.push(format!(
                "{path}: {lines} lines of SQL, {allowed} are allowed: move them to the crate's db/ and call a function of it"
            ));
        }
    }
    for (path, allowed) in listed {
        let lines = found.get(path).copied().unwrap_or_default();
        if lines < allowed {
            problems.push(format!(
                "{path}: {lines} lines of SQL are left of {allowed}: write {lines} into ELSEWHERE (tests/tidy/sql.rs), or remove the row at 0"
            ));
        }
    }
    report(&problems);
}

#[test]
fn sql_is_recognised() {
    let sql = sql();
    for line in [
        r#"sqlx::query("SELECT 1 FROM users")"#,
        r#"select.and("guid IN (SELECT a FROM b)", [])"#,
        r#"select.and("space_guid = ?", [guid])"#,
        r#""organization_guid IN (?)""#,
        r#""DELETE FROM apps""#,
    ] {
        assert!(sql.is_match(line), "{line}");
    }
    for line in [
        "SELECT a mode",
        r#""changeMode", "UPDATE""#,
        "a = b?",
        "x IN y",
    ] {
        assert!(!sql.is_match(line), "{line}");
    }
}
