//! `python_buildpack`: a Python program on the stack's own python3. Packages come from wheels in the app's `vendor`
//! folder, or through pip where the stack has it; nothing is needed for a program without requirements.

use super::{Buildpack, Compiled};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

pub(super) struct Python;

/// Any of these makes an app Python; the first three are also what is started, in this order.
const PROGRAMS: &[&str] = &["app.py", "main.py", "wsgi.py"];
const MARKERS: &[&str] = &["requirements.txt", "setup.py", "Pipfile", "pyproject.toml"];
/// Where packages are put, below the app's folder.
const PACKAGES: &str = ".cloudfoundry/python";

pub(super) fn looks_like_python(app: &Path) -> bool {
    PROGRAMS
        .iter()
        .chain(MARKERS)
        .any(|name| app.join(name).is_file())
}

impl Buildpack for Python {
    fn key(&self) -> &'static str {
        "python_buildpack"
    }
    fn title(&self) -> &'static str {
        "Python"
    }
    fn detect(&self, app: &Path) -> bool {
        looks_like_python(app)
    }

    fn compile(&self, app: &Path) -> Result<Compiled, String> {
        println!("-----> Using {}", python_version()?);
        let requirements = requirements(app)?;
        if !requirements.is_empty() {
            install(app, &requirements)?;
        }
        let web = PROGRAMS
            .iter()
            .find(|name| app.join(name).is_file())
            .map(|name| ("web".to_owned(), format!("python3 {name}")));
        let profile = format!(
            "export PYTHONUNBUFFERED=1\nexport PYTHONPATH=\"$HOME/{PACKAGES}${{PYTHONPATH:+:$PYTHONPATH}}\"\nexport PATH=\"$HOME/{PACKAGES}/bin:$PATH\"\n"
        );
        Ok(Compiled {
            process_types: BTreeMap::from_iter(web),
            profile: vec![("python.sh".to_owned(), profile)],
        })
    }
}

fn python_version() -> Result<String, String> {
    let output = Command::new("python3")
        .arg("--version")
        .output()
        .map_err(|error| format!("this stack has no python3 ({error})"))?;
    Ok(String::from_utf8_lossy(&output.stdout)
        .trim()
        .to_lowercase())
}

/// The lines of requirements.txt that ask for something.
fn requirements(app: &Path) -> Result<Vec<String>, String> {
    let path = app.join("requirements.txt");
    if !path.is_file() {
        return Ok(Vec::new());
    }
    let text =
        fs::read_to_string(path).map_err(|error| format!("read requirements.txt: {error}"))?;
    let lines = text
        .lines()
        .map(|line| line.split(" #").next().unwrap_or_default().trim());
    Ok(lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(str::to_owned)
        .collect())
}

fn install(app: &Path, requirements: &[String]) -> Result<(), String> {
    let target = app.join(PACKAGES);
    fs::create_dir_all(&target).map_err(|error| format!("make {PACKAGES}: {error}"))?;
    let vendor = app.join("vendor");
    if has_pip() {
        println!("-----> Installing requirements.txt with pip");
        let mut pip = Command::new("python3");
        pip.args([
            "-m",
            "pip",
            "install",
            "--disable-pip-version-check",
            "--no-warn-script-location",
            "--target",
        ])
        .arg(&target)
        .arg("-r")
        .arg(app.join("requirements.txt"));
        if vendor.is_dir() {
            pip.arg("--no-index").arg("--find-links").arg(&vendor);
        }
        let status = pip.status().map_err(|error| format!("run pip: {error}"))?;
        return if status.success() {
            Ok(())
        } else {
            Err("pip could not install requirements.txt; its output stands above".to_owned())
        };
    }
    let wheels = wheels(&vendor);
    if wheels.is_empty() {
        return Err(format!(
            "requirements.txt asks for {}, but this stack has no pip and the app no wheels; run: pip download --only-binary=:all: -d vendor -r requirements.txt, and push again",
            requirements.join(", ")
        ));
    }
    println!("-----> Installing {} wheels from vendor", wheels.len());
    for wheel in wheels {
        println!(
            "       {}",
            wheel.file_name().unwrap_or_default().to_string_lossy()
        );
        unpack_wheel(&wheel, &target)?;
    }
    Ok(())
}

fn has_pip() -> bool {
    Command::new("python3")
        .args(["-m", "pip", "--version"])
        .output()
        .is_ok_and(|output| output.status.success())
}

fn wheels(vendor: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(vendor)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path());
    let mut wheels: Vec<_> = entries
        .filter(|path| path.extension().is_some_and(|extension| extension == "whl"))
        .collect();
    wheels.sort();
    wheels
}

/// A wheel is a zip that is importable as it lies; `*.data` folders (scripts, headers) are rarely needed and left out.
fn unpack_wheel(wheel: &Path, target: &Path) -> Result<(), String> {
    let failed = |error: &dyn std::fmt::Display| format!("unpack {}: {error}", wheel.display());
    let file = File::open(wheel).map_err(|error| failed(&error))?;
    let mut archive = zip::ZipArchive::new(file).map_err(|error| failed(&error))?;
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).map_err(|error| failed(&error))?;
        let name = entry
            .enclosed_name()
            .ok_or_else(|| failed(&format!("entry {:?} leaves the folder", entry.name())))?;
        if entry.is_dir()
            || name
                .components()
                .next()
                .is_some_and(|first| first.as_os_str().to_string_lossy().ends_with(".data"))
        {
            continue;
        }
        let path = target.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(|error| failed(&error))?;
        }
        let mut file = File::create(&path).map_err(|error| failed(&error))?;
        std::io::copy(&mut entry, &mut file).map_err(|error| failed(&error))?;
    }
    Ok(())
}
