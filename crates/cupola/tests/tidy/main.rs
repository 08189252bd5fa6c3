//! Rules of the workspace that a compiler does not know. Each failure names the file, the value and the fix.
//!
//! The checks read the tree, `cargo metadata` and `cargo tree`, both offline; they need no network.
//! Lists of exceptions and ceilings describe today's tree. They may shrink and never grow: a row that is no longer
//! needed fails as well, so that what was gained stays gained.

mod circles;
mod code;
mod crates;
mod layout;
mod prose;
mod sizes;
mod sql;
mod supply;
mod walks;
mod workspace;

/// Fails with all problems of a check at once.
#[track_caller]
fn report(problems: &[String]) {
    assert!(
        problems.is_empty(),
        "{} problems\n{}\n",
        problems.len(),
        problems.join("\n")
    );
}
