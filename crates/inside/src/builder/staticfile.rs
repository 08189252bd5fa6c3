//! `staticfile_buildpack`: a folder of files, served by this binary's `staticfile` program. What shall be served is moved
//! to `public`, so that nothing else can be.

use super::{Buildpack, Compiled, procfile};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

pub(super) struct Staticfile;

impl Buildpack for Staticfile {
    fn key(&self) -> &'static str {
        "staticfile_buildpack"
    }
    fn title(&self) -> &'static str {
        "Staticfile"
    }

    /// A Staticfile says so; an index.html alone does when nothing looks like a program.
    fn detect(&self, app: &Path) -> bool {
        app.join("Staticfile").is_file()
            || (app.join("index.html").is_file()
                && !super::python::looks_like_python(app)
                && !app.join("Procfile").is_file())
    }

    fn compile(&self, app: &Path) -> Result<Compiled, String> {
        let settings = match fs::read_to_string(app.join("Staticfile")) {
            Ok(text) => Settings::parse(&text)?,
            Err(_) => Settings::default(),
        };
        let served = publish(app, &settings)
            .map_err(|error| format!("move the files to public: {error}"))??;
        println!("       Root folder {served}");
        if !app.join("public/index.html").is_file() {
            println!("       **WARNING** there is no index.html in {served}: / will answer 404");
        }
        let mut command = "/tmp/lifecycle/staticfile -root=\"$HOME/public\"".to_owned();
        if settings.pushstate {
            command.push_str(" -pushstate");
        }
        if settings.host_dot_files {
            command.push_str(" -hostDotFiles");
        }
        // A Procfile is for other buildpacks here only if it says how to serve.
        let web = procfile::read(app)?.unwrap_or_default().contains_key("web");
        if web {
            println!("       The Procfile's web command replaces the built-in server");
        }
        Ok(Compiled {
            process_types: BTreeMap::from([("web".to_owned(), command)]),
            profile: Vec::new(),
        })
    }
}

#[derive(Debug, Default, PartialEq)]
struct Settings {
    root: Option<String>,
    /// Unknown paths get index.html.
    pushstate: bool,
    host_dot_files: bool,
}

impl Settings {
    fn parse(text: &str) -> Result<Self, String> {
        let mut settings = Self::default();
        for line in text
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with('#') && *line != "---")
        {
            let (key, value) = line
                .split_once(':')
                .ok_or_else(|| format!("Staticfile has the line {line:?}; want key: value"))?;
            let value = value.trim().trim_matches(|c| c == '"' || c == '\'');
            let on = matches!(value, "true" | "enabled" | "visible");
            match key.trim() {
                "root" => {
                    settings.root = Some(value.trim_matches('/').to_owned())
                        .filter(|root| !root.is_empty() && root != ".")
                }
                "pushstate" => settings.pushstate = on,
                "host_dot_files" => settings.host_dot_files = on,
                other => println!(
                    "       **WARNING** Staticfile: {other} is not supported and has no effect"
                ),
            }
        }
        match &settings.root {
            Some(root) if root.split('/').any(|part| part == "..") => {
                Err(format!("Staticfile: root {root:?} leaves the app's folder"))
            }
            _ => Ok(settings),
        }
    }
}

/// Never served, unless they lie below `root`.
const PRIVATE: &[&str] = &[
    "Staticfile",
    "Staticfile.auth",
    "manifest.yml",
    "Procfile",
    ".profile",
    ".profile.d",
    ".cfignore",
    ".git",
    ".public",
];

/// Moves what is to be served to `public`; the folder's former name.
fn publish(app: &Path, settings: &Settings) -> std::io::Result<Result<String, String>> {
    let public = app.join("public");
    if let Some(root) = &settings.root {
        if !app.join(root).is_dir() {
            return Ok(Err(format!(
                "Staticfile names root {root:?}, but there is no such folder in the app"
            )));
        }
        if root != "public" {
            let moved = app.join(".public");
            fs::rename(app.join(root), &moved)?;
            if public.exists() {
                fs::rename(&public, app.join(".public-before"))?;
            }
            fs::rename(moved, public)?;
        }
        return Ok(Ok(root.clone()));
    }
    if public.join("index.html").is_file() && !app.join("index.html").is_file() {
        return Ok(Ok("public".to_owned()));
    }
    let moved = app.join(".public");
    fs::create_dir(&moved)?;
    for entry in fs::read_dir(app)? {
        let name = entry?.file_name();
        let private = PRIVATE.iter().any(|private| name == *private);
        if !private {
            fs::rename(app.join(&name), moved.join(&name))?;
        }
    }
    fs::rename(moved, public)?;
    Ok(Ok("/".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings() {
        let parsed = Settings::parse(
            "# a\nroot: dist/\npushstate: enabled\nhost_dot_files: true\nssi: enabled\n",
        )
        .unwrap();
        assert_eq!(
            parsed,
            Settings {
                root: Some("dist".into()),
                pushstate: true,
                host_dot_files: true
            }
        );
        assert_eq!(Settings::parse("").unwrap(), Settings::default());
        assert_eq!(Settings::parse("root: .").unwrap().root, None);
        assert!(
            Settings::parse("root: ../etc")
                .unwrap_err()
                .contains("leaves the app")
        );
        assert!(Settings::parse("root").unwrap_err().contains("\"root\""));
    }
}
