//! Rules for the code of others: licences, one TLS stack, one compiler. `deny.toml` is the only list. Where `cargo deny` is
//! installed, it checks the same rules and also the advisories.

use crate::crates::CORES;
use crate::report;
use crate::workspace;
use regex::Regex;

/// Returns a list of strings from `deny.toml`: `key = [ "…", ]`.
fn list(text: &str, key: &str) -> Vec<String> {
    let start = format!("\n{key} = [");
    let body = text.split_once(&start).map_or("", |(_, rest)| rest);
    let lines = body.lines().take_while(|line| !line.starts_with(']'));
    let strings = Regex::new(r#""([^"]+)""#).expect("a constant");
    lines
        .filter_map(|line| strings.captures(line).map(|found| found[1].to_owned()))
        .collect()
}

/// Returns whether a licence expression can be met by allowed licences only. `/` is an old spelling of OR.
fn is_met(expression: &str, allowed: &[String]) -> bool {
    let spaced = expression
        .replace('/', " OR ")
        .replace('(', " ( ")
        .replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    any(&words, &mut at, allowed) && at == words.len()
}

fn any(words: &[&str], at: &mut usize, allowed: &[String]) -> bool {
    let mut met = all(words, at, allowed);
    while words.get(*at) == Some(&"OR") {
        *at += 1;
        met |= all(words, at, allowed);
    }
    met
}

fn all(words: &[&str], at: &mut usize, allowed: &[String]) -> bool {
    let mut met = one(words, at, allowed);
    while words.get(*at) == Some(&"AND") {
        *at += 1;
        met &= one(words, at, allowed);
    }
    met
}

fn one(words: &[&str], at: &mut usize, allowed: &[String]) -> bool {
    let Some(word) = words.get(*at) else {
        return false;
    };
    *at += 1;
    if *word == "(" {
        let met = any(words, at, allowed);
        *at += 1;
        return met;
    }
    let mut licence = (*word).to_owned();
    if words.get(*at) == Some(&"WITH") {
        licence = format!("{word} WITH {}", words.get(*at + 1).unwrap_or(&""));
        *at += 2;
    }
    allowed.contains(&licence)
}

#[test]
fn licences_are_allowed() {
    let allowed = list(&workspace::file("deny.toml"), "allow");
    assert!(
        !allowed.is_empty(),
        "deny.toml lists no licence under `allow`"
    );
    let problems: Vec<String> = workspace::compiled()
        .iter()
        .filter(|(_, compiled)| !is_met(&compiled.license, &allowed))
        .map(|(name, compiled)| {
            format!(
                "{name} has the licence {:?}, which deny.toml does not allow: do without the crate, or add the licence after reading it",
                compiled.license
            )
        })
        .collect();
    report(&problems);
}

#[test]
fn expressions_are_read_with_their_precedence() {
    let allowed = ["MIT".to_owned(), "ISC".to_owned()];
    for met in [
        "MIT",
        "MIT/Apache-2.0",
        "GPL-3.0 OR MIT",
        "(GPL-3.0 OR MIT) AND ISC",
        "GPL-3.0 AND X OR ISC",
    ] {
        assert!(is_met(met, &allowed), "{met}");
    }
    for not in [
        "",
        "GPL-3.0",
        "MIT AND GPL-3.0",
        "MIT AND (GPL-3.0 OR X)",
        "MIT WITH Y",
        "MIT MIT",
    ] {
        assert!(!is_met(not, &allowed), "{not}");
    }
}

#[test]
fn banned_crates_are_not_compiled() {
    let banned = list(&workspace::file("deny.toml"), "deny");
    assert!(
        banned.contains(&"ring".to_owned()),
        "deny.toml bans no second TLS stack: {banned:?}"
    );
    let problems: Vec<String> = banned
        .iter()
        .filter(|name| workspace::compiled().contains_key(*name))
        .map(|name| {
            format!("{name} is compiled, and deny.toml bans it with a reason: `cargo tree -i {name}` shows who wants it; choose other features there")
        })
        .collect();
    report(&problems);
}

/// Tests that `make build` compiles each package with the features that it has in the tests. Otherwise cargo would compile the package, and
/// all that depends on it, once for the program and once for the tests.
#[test]
fn the_program_and_the_tests_share_their_packages() {
    let all = workspace::with_features(&["--workspace", "--edges", "normal,dev,build"]);
    let program = workspace::with_features(&["--package", "cupola", "--edges", "normal,build"]);
    let problems: Vec<String> = program
        .difference(&all)
        .map(|package| {
            format!("the program has {package}, and the tests have it with other features: `cargo tree -e features -i NAME` shows who wants them; choose the same in the workspace's Cargo.toml")
        })
        .collect();
    report(&problems);
}

/// Tests that `rust-version` names the compiler that everybody uses and that runs the tests.
#[test]
fn the_compiler_is_the_promised_one() {
    let value = |path: &str, key: &str| {
        let text = workspace::file(path);
        let line = text
            .lines()
            .find_map(|l| l.strip_prefix(key)?.strip_prefix(" = "));
        line.unwrap_or_default().trim_matches('"').to_owned()
    };
    let pinned = value("rust-toolchain.toml", "channel");
    let promised = value("Cargo.toml", "rust-version");
    assert!(
        !promised.is_empty() && pinned.starts_with(&format!("{promised}.")),
        "rust-toolchain.toml pins {pinned:?} and Cargo.toml promises rust-version {promised:?}: change both together"
    );
}

/// Tests that every core has the same `clippy.toml`, because Clippy reads one for each crate.
#[test]
fn cores_ban_clocks_files_and_sockets() {
    let bans = workspace::file(&format!("crates/{}/clippy.toml", CORES[0]));
    let mut problems = Vec::new();
    for name in [
        "Instant::now",
        "SystemTime::now",
        "env::var",
        "fs::read",
        "net::TcpStream",
        "thread::spawn",
    ] {
        if !bans.contains(&format!(
            "std::{}",
            if name.starts_with(char::is_uppercase) {
                format!("time::{name}")
            } else {
                name.to_owned()
            }
        )) {
            problems.push(format!(
                "crates/{}/clippy.toml does not ban {name}",
                CORES[0]
            ));
        }
    }
    for core in CORES {
        if workspace::file(&format!("crates/{core}/clippy.toml")) != bans {
            problems.push(format!(
                "crates/{core}/clippy.toml differs from crates/{}/clippy.toml: copy it, all cores have the same bans",
                CORES[0]
            ));
        }
    }
    report(&problems);
}
