//! The processes of this machine, as `/proc` shows them.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Returns the ids of all processes that this process can see.
///
/// # Errors
/// `/proc` cannot be read.
pub fn ids() -> std::io::Result<impl Iterator<Item = i32>> {
    let entries = std::fs::read_dir("/proc")?.flatten();
    Ok(entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()))
}

/// Returns the ids of the processes of a program, given by its name, that were started with this file as an argument. A process in
/// another mount namespace may have the same path for another file, so the files are compared, not their paths.
///
/// # Errors
/// The file or `/proc` cannot be read.
pub fn started_with(program: &OsStr, file: &Path) -> std::io::Result<Vec<i32>> {
    let wanted = identity(file)?;
    let started = |pid: &i32| {
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mut arguments = command.split(|byte| *byte == 0).map(path);
        let is_program = arguments.next().and_then(Path::file_name) == Some(program);
        is_program
            && arguments
                .filter(|argument| argument.file_name() == file.file_name())
                .any(|argument| identity(&seen_by(*pid, argument)).is_ok_and(|it| it == wanted))
    };
    Ok(ids()?.filter(started).collect())
}

fn path(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

/// Returns our path to the file that has this path for another process.
fn seen_by(pid: i32, path: &Path) -> PathBuf {
    match path.strip_prefix("/") {
        Ok(below) => Path::new(&format!("/proc/{pid}/root")).join(below),
        Err(_) => Path::new(&format!("/proc/{pid}/cwd")).join(path),
    }
}

/// Returns what makes a file the same one under two paths: its device and its inode.
fn identity(file: &Path) -> std::io::Result<(u64, u64)> {
    let known = std::fs::metadata(file)?;
    Ok((known.dev(), known.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command, Stdio};
    use std::time::{Duration, Instant};

    /// Starts `cat - FILE`, which waits for its input.
    fn reader(folder: &Path, argument: &Path) -> Child {
        let mut command = Command::new("cat");
        let command = command.arg("-").arg(argument).current_dir(folder);
        command.stdin(Stdio::piped()).spawn().unwrap()
    }

    #[test]
    fn a_process_is_found_by_the_file_that_it_was_started_with() {
        let folder = tempfile::tempdir().unwrap();
        let (mine, other) = (folder.path().join("mine"), folder.path().join("other"));
        for file in [&mine, &other] {
            std::fs::write(file, "").unwrap();
        }
        let mut absolute = reader(Path::new("/"), &mine);
        let mut relative = reader(folder.path(), Path::new("mine"));
        let mut foreign = reader(folder.path(), Path::new("other"));
        let cat = OsStr::new("cat");
        let mut wanted = [absolute.id(), relative.id()].map(|pid| i32::try_from(pid).unwrap());
        wanted.sort_unstable();
        // A program that has just begun shows no arguments for a moment.
        let end = Instant::now() + Duration::from_secs(60);
        let found = loop {
            let mut found = started_with(cat, &mine).unwrap();
            found.sort_unstable();
            if found == wanted || Instant::now() > end {
                break found;
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let editors = started_with(OsStr::new("vi"), &mine).unwrap();
        for child in [&mut absolute, &mut relative, &mut foreign] {
            drop(child.stdin.take());
            child.wait().unwrap();
        }
        assert_eq!(found, wanted);
        assert!(editors.is_empty(), "another program is left alone");
        assert!(started_with(cat, &mine).unwrap().is_empty());
        assert!(started_with(cat, &folder.path().join("none")).is_err());
    }
}
