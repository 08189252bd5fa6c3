//! The rules of iptables that exercises insert. Each carries a mark, by which all of them are found and removed.

use anyhow::{Context as _, Result, ensure};
use tokio::process::Command;

/// The tables in which exercises insert rules.
const TABLES: &[&str] = &["nat", "filter"];

/// Returns the mark of a foundation's rules, a comment in the rule.
fn mark(tag: &str) -> String {
    format!("cupola-lesson-{tag}")
}

/// Inserts a rule at the beginning of a chain. `conditions` and `target` are split at spaces.
pub(super) async fn insert(
    tag: &str,
    table: &str,
    chain: &str,
    conditions: &str,
    target: &str,
) -> Result<()> {
    let mark = mark(tag);
    let mut args = vec!["-t", table, "-I", chain, "1"];
    args.extend(conditions.split_whitespace());
    args.extend(["-m", "comment", "--comment", mark.as_str()]);
    args.extend(target.split_whitespace());
    iptables(&args).await.map(drop)
}

/// Removes all marked rules.
pub(super) async fn remove(tag: &str) -> Result<()> {
    for table in TABLES {
        remove_from(tag, table).await?;
    }
    Ok(())
}

/// Removes the marked rules of one table. Another process may remove them at the same time.
pub(super) async fn remove_from(tag: &str, table: &str) -> Result<()> {
    let mark = mark(tag);
    let rules = iptables(&["-t", table, "-S"]).await?;
    let mut refused = None;
    for rule in marked(&rules, &mark) {
        let mut args = vec!["-t", table, "-D"];
        args.extend(rule);
        refused = iptables(&args).await.err().or(refused);
    }
    let Some(error) = refused else {
        return Ok(());
    };
    let left = iptables(&["-t", table, "-S"]).await?;
    match marked(&left, &mark).is_empty() {
        true => Ok(()),
        false => Err(error),
    }
}

/// Returns the words of each rule with this mark, without `-A`.
fn marked<'a>(rules: &'a str, mark: &str) -> Vec<Vec<&'a str>> {
    let words = rules.lines().map(|line| line.split_whitespace());
    let words = words.map(Iterator::collect::<Vec<&str>>);
    words
        .filter(|words| {
            words.first() == Some(&"-A") && words.windows(2).any(|pair| pair == ["--comment", mark])
        })
        .map(|words| words[1..].to_vec())
        .collect()
}

async fn iptables(args: &[&str]) -> Result<String> {
    let output = Command::new("iptables")
        .arg("-w")
        .args(args)
        .output()
        .await
        .context("start iptables")?;
    ensure!(
        output.status.success(),
        "iptables {} ended with {}: {}",
        args.join(" "),
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_rules_of_this_foundation_are_removed() {
        let rules = "-P OUTPUT ACCEPT\n-A OUTPUT -d 10.0.0.1/32 -m comment --comment cupola-lesson-ab -j REJECT\n-A OUTPUT -m comment --comment cupola-lesson-abc -j REJECT\n-A OUTPUT -j netin--x\n";
        assert_eq!(
            marked(rules, "cupola-lesson-ab"),
            [[
                "OUTPUT",
                "-d",
                "10.0.0.1/32",
                "-m",
                "comment",
                "--comment",
                "cupola-lesson-ab",
                "-j",
                "REJECT"
            ]]
        );
    }
}
