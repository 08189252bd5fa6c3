//! Finds files by pattern: `*` and `?` match within one component of the path.

use std::path::{Path, PathBuf};

/// Returns the existing files that match, sorted. Folders that cannot be read contain none.
pub(crate) fn files(pattern: &str) -> Vec<PathBuf> {
    let mut found = vec![PathBuf::new()];
    for component in Path::new(pattern).components() {
        let part = component.as_os_str().to_string_lossy();
        found = if part.contains(['*', '?']) {
            found.iter().flat_map(|at| inside(at, &part)).collect()
        } else {
            found.iter().map(|at| at.join(component)).collect()
        };
    }
    found.retain(|path| path.is_file());
    found.sort();
    found
}

fn inside(folder: &Path, pattern: &str) -> Vec<PathBuf> {
    let folder = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            matches(pattern.as_bytes(), name.as_bytes())
        })
        .map(|entry| entry.path())
        .collect()
}

fn matches(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern.first(), name.first()) {
        (None, None) => true,
        (Some(b'*'), _) => {
            matches(&pattern[1..], name) || (!name.is_empty() && matches(pattern, &name[1..]))
        }
        (Some(b'?'), Some(_)) => matches(&pattern[1..], &name[1..]),
        (Some(p), Some(n)) if p == n => matches(&pattern[1..], &name[1..]),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, name, matched) in [
            ("*", "a", true),
            ("a*c", "abbc", true),
            ("a*c", "abb", false),
            ("a?", "ab", true),
            ("a?", "a", false),
            ("*.yml", "x.yml", true),
        ] {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), matched);
        }
        let folder = tempfile::tempdir().unwrap();
        for job in ["a", "b"] {
            std::fs::create_dir_all(folder.path().join(job).join("config")).unwrap();
            std::fs::write(folder.path().join(job).join("config/r.yml"), "").unwrap();
        }
        let found = files(&format!("{}/*/config/r.yml", folder.path().display()));
        assert_eq!(found.len(), 2);
    }
}
