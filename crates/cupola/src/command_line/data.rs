//! The option `--data`, which every command of a foundation accepts at any position.

use std::ffi::OsString;

/// Moves `--data` to the front. The commands that pass on their arguments also accept it, anywhere before `--` (for `exec`:
/// before the command that it runs).
pub(super) fn moved_to_front(args: Vec<OsString>) -> Vec<OsString> {
    let is = |arg: &OsString, text: &str| arg.to_str() == Some(text);
    let own = |arg: &OsString| arg.to_string_lossy().starts_with("--data=");
    // Find the first word that is neither `--data` nor its value.
    let mut at = 1;
    while let Some(arg) = args.get(at).filter(|arg| own(arg) || is(arg, "--data")) {
        at += if own(arg) { 1 } else { 2 };
    }
    if !args
        .get(at)
        .is_some_and(|arg| is(arg, "cfdot") || is(arg, "exec"))
    {
        return args;
    }
    let exec = is(&args[at], "exec");
    let (mut data, mut rest, mut positional) = (Vec::new(), Vec::new(), 0);
    let mut remaining = args[at + 1..].iter().cloned();
    while let Some(arg) = remaining.next() {
        if is(&arg, "--data") {
            data.push(arg);
            data.extend(remaining.next());
        } else if own(&arg) {
            data.push(arg);
        } else {
            let ends = is(&arg, "--") || (exec && positional == 1);
            positional += 1;
            rest.push(arg);
            if ends {
                break;
            }
        }
    }
    let mut all = args[..=at].to_vec();
    all.extend(data);
    all.extend(rest);
    all.extend(remaining);
    all
}
