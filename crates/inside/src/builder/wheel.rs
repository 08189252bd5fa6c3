//! Unpacks wheels without pip: the modules, and the scripts that they contain or declare.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use zip::ZipArchive;

/// The folder for scripts, below the folder of packages.
const SCRIPTS: &str = "bin";
const SHEBANG: &str = "#!/usr/bin/env python3";

/// Unpacks a wheel, which is a zip that can be imported directly, except for the scripts and the contents of its `*.data` folder.
pub(super) fn unpack(wheel: &Path, target: &Path) -> Result<(), String> {
    let failed = |error: &dyn std::fmt::Display| format!("unpack {}: {error}", wheel.display());
    let file = File::open(wheel).map_err(|error| failed(&error))?;
    let mut archive = ZipArchive::new(file).map_err(|error| failed(&error))?;
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).map_err(|error| failed(&error))?;
        let name = entry
            .enclosed_name()
            .ok_or_else(|| failed(&format!("entry {:?} leaves the folder", entry.name())))?;
        if entry.is_dir() {
            continue;
        }
        match place(&name) {
            Place::Nowhere => {}
            Place::Module(path) => {
                write(&mut entry, &target.join(path)).map_err(|error| failed(&error))?;
            }
            Place::Script(path) => {
                let mut text = Vec::new();
                entry
                    .read_to_end(&mut text)
                    .map_err(|error| failed(&error))?;
                script(&target.join(SCRIPTS).join(path), &with_interpreter(text))
                    .map_err(|error| failed(&error))?;
            }
            Place::EntryPoints(path) => {
                let mut text = String::new();
                entry
                    .read_to_string(&mut text)
                    .map_err(|error| failed(&error))?;
                let path = target.join(path);
                write(&mut text.as_bytes(), &path).map_err(|error| failed(&error))?;
                for (name, module, function) in entry_points(&text) {
                    script(
                        &target.join(SCRIPTS).join(name),
                        starter(module, function).as_bytes(),
                    )
                    .map_err(|error| failed(&error))?;
                }
            }
        }
    }
    Ok(())
}

enum Place {
    Module(PathBuf),
    Script(PathBuf),
    EntryPoints(PathBuf),
    /// Headers and data for the system, which are not unpacked.
    Nowhere,
}

fn place(name: &Path) -> Place {
    let parts: Vec<_> = name.iter().map(|part| part.to_string_lossy()).collect();
    match parts.as_slice() {
        [info, file] if info.ends_with(".dist-info") && file == "entry_points.txt" => {
            Place::EntryPoints(name.to_owned())
        }
        [data, kind, rest @ ..] if data.ends_with(".data") => {
            let rest: PathBuf = rest.iter().map(AsRef::<str>::as_ref).collect();
            match kind.as_ref() {
                "purelib" | "platlib" => Place::Module(rest),
                "scripts" => Place::Script(rest),
                _ => Place::Nowhere,
            }
        }
        _ => Place::Module(name.to_owned()),
    }
}

fn write(content: &mut impl io::Read, path: &Path) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    io::copy(content, &mut File::create(path)?).map(drop)
}

fn script(path: &Path, mut text: &[u8]) -> io::Result<()> {
    write(&mut text, path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}

/// Replaces the placeholder with which scripts in wheels begin.
fn with_interpreter(text: Vec<u8>) -> Vec<u8> {
    let rest = text
        .strip_prefix(b"#!pythonw".as_slice())
        .or_else(|| text.strip_prefix(b"#!python".as_slice()));
    match rest {
        Some(rest) if matches!(rest.first(), Some(b'\n' | b'\r') | None) => {
            [SHEBANG.as_bytes(), rest].concat()
        }
        _ => text,
    }
}

/// Returns name, module and function of each script that `entry_points.txt` declares. Entries that are not valid Python names are
/// skipped.
fn entry_points(text: &str) -> Vec<(&str, &str, &str)> {
    let mut section = "";
    let mut found = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(name) = line
            .strip_prefix('[')
            .and_then(|line| line.strip_suffix(']'))
        {
            section = name;
            continue;
        }
        if !matches!(section, "console_scripts" | "gui_scripts") {
            continue;
        }
        let Some((name, object)) = line.split_once('=') else {
            continue;
        };
        // Extras in brackets may follow.
        let object = object.split('[').next().unwrap_or_default();
        let Some((module, function)) = object.split_once(':') else {
            continue;
        };
        let (name, module, function) = (name.trim(), module.trim(), function.trim());
        let dotted = |text: &str| {
            !text.is_empty()
                && text
                    .chars()
                    .all(|c| c.is_alphanumeric() || c == '_' || c == '.')
        };
        let plain = !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\0']);
        if plain && dotted(module) && dotted(function) {
            found.push((name, module, function));
        }
    }
    found
}

fn starter(module: &str, function: &str) -> String {
    let first = function.split('.').next().unwrap_or_default();
    format!(
        "{SHEBANG}\nimport sys\nfrom {module} import {first}\nif __name__ == \"__main__\":\n    sys.exit({function}())\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entry_points_become_scripts() {
        let text = "[console_scripts]\ngunicorn = gunicorn.app.wsgiapp:run\nextra=a.b:C.main [x,y]\n../evil = a:b\nbad = a b:c\n; note\n\n[other]\nx = a:b\n";
        assert_eq!(
            entry_points(text),
            [
                ("gunicorn", "gunicorn.app.wsgiapp", "run"),
                ("extra", "a.b", "C.main")
            ]
        );
        assert!(
            starter("a.b", "C.main").contains("from a.b import C\n")
                && starter("a.b", "C.main").contains("C.main()")
        );
    }

    #[test]
    fn placeholders_are_replaced() {
        assert_eq!(
            with_interpreter(b"#!python\nx".to_vec()),
            b"#!/usr/bin/env python3\nx"
        );
        assert_eq!(with_interpreter(b"#!python2\nx".to_vec()), b"#!python2\nx");
        assert_eq!(with_interpreter(b"#!/bin/sh\nx".to_vec()), b"#!/bin/sh\nx");
    }
}
