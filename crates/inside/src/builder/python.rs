//! `python_buildpack` is for a Python program on the stack's own python3. pip installs packages from the app's `vendor` folder if
//! there is one, otherwise from the package index (`PIP_INDEX_URL` and pip's other variables are used). On a stack without pip,
//! wheels in `vendor` are unpacked directly. A program without requirements needs none of this.

use super::{Buildpack, Compiled};
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub(super) struct Python;

/// The files that make an app a Python app, together with the markers below. The first one of these that exists is also started.
const PROGRAMS: &[&str] = &["app.py", "main.py", "wsgi.py"];
const MARKERS: &[&str] = &["requirements.txt", "setup.py", "Pipfile", "pyproject.toml"];
/// The folder for packages, below the app's folder.
const PACKAGES: &str = ".cloudfoundry/python";

fn looks_like_python(app: &Path) -> bool {
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

/// Returns the lines of requirements.txt that require something.
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
        return pip(app, &target, vendor.is_dir().then_some(vendor.as_path()));
    }
    let wheels = wheels(&vendor);
    if wheels.is_empty() {
        return Err(format!(
            "requirements.txt requires {}, but this stack has no pip and the app no wheels; {VENDOR}",
            requirements.join(", ")
        ));
    }
    println!("-----> Installing {} wheels from vendor", wheels.len());
    for wheel in wheels {
        println!(
            "       {}",
            wheel.file_name().unwrap_or_default().to_string_lossy()
        );
        super::wheel::unpack(&wheel, &target)?;
    }
    Ok(())
}

const VENDOR: &str =
    "run: pip download --only-binary=:all: -d vendor -r requirements.txt, and push again";

/// The texts that pip writes when it cannot reach an index (as opposed to an index that lacks a package).
const UNREACHABLE: &[&str] = &[
    "NewConnectionError",
    "ConnectTimeoutError",
    "ReadTimeoutError",
    "Temporary failure in name resolution",
    "Connection refused",
    "Network is unreachable",
];

fn pip(app: &Path, target: &Path, vendor: Option<&Path>) -> Result<(), String> {
    let mut pip = Command::new("python3");
    pip.args("-m pip install --quiet --disable-pip-version-check --no-warn-script-location --no-cache-dir --no-input".split(' '))
        .arg("--target")
        .arg(target)
        .arg("-r")
        .arg(app.join("requirements.txt"))
        .current_dir(app)
        .stderr(Stdio::piped());
    if let Some(vendor) = vendor {
        println!("-----> Installing requirements.txt with pip from vendor");
        pip.arg("--no-index").arg("--find-links").arg(vendor);
    } else {
        println!("-----> Installing requirements.txt with pip");
        if std::env::var_os("PIP_RETRIES").is_none() {
            pip.args(["--retries", "1"]);
        }
    }
    let failed = |error: std::io::Error| format!("run pip: {error}");
    let mut pip = pip.spawn().map_err(failed)?;
    let mut unreachable = false;
    for line in pip
        .stderr
        .take()
        .into_iter()
        .flat_map(|stderr| BufReader::new(stderr).lines())
    {
        let line = line.map_err(failed)?;
        unreachable |= UNREACHABLE.iter().any(|words| line.contains(words));
        eprintln!("{line}");
    }
    if pip.wait().map_err(failed)?.success() {
        return Ok(());
    }
    Err(match vendor {
        Some(_) => format!(
            "pip could not install requirements.txt from vendor; see its output above. The folder must contain everything that is required: {VENDOR}"
        ),
        None if unreachable => format!(
            "pip could not reach its package index {}. Permit it with a security group for staging, name another index with: cf set-env APP PIP_INDEX_URL URL, or include the packages in the app: {VENDOR}",
            index_url()
        ),
        None => "pip could not install requirements.txt; see its output above".to_owned(),
    })
}

/// Returns the URL of the index without user and password.
fn index_url() -> String {
    let url =
        std::env::var("PIP_INDEX_URL").unwrap_or_else(|_| "https://pypi.org/simple".to_owned());
    match url.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            format!(
                "{scheme}://{}{path}",
                authority.rsplit('@').next().unwrap_or_default()
            )
        }
        None => url,
    }
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
