//! `staticfile_buildpack` is for a folder of files, served by this binary's `staticfile` program. The files to serve are moved to
//! `public`, so that no others can be served.
//!
//! A folder is accepted only if it has a `Staticfile`, with which its author requests that it is public. The settings and the
//! password file are checked here, so that a mistake fails the staging and not the protection of the site.

use super::{Buildpack, Compiled, procfile};
use crate::staticfile::htpasswd::Htpasswd;
use crate::staticfile::settings::{AUTH_FILE, FILE, PRIVATE, PUBLIC, Settings};
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

pub(super) struct Staticfile;

/// The script that starts the server, at the top of the app's folder. People use it in their own start commands.
const BOOT: &str = "boot.sh";
const BOOT_SCRIPT: &str = "#!/bin/sh\nexec /tmp/lifecycle/staticfile -home=\"$HOME\"\n";
/// The files that configure nginx in the original buildpack.
const NGINX_FILES: &[&str] = &["nginx.conf", "mime.types"];

impl Buildpack for Staticfile {
    fn key(&self) -> &'static str {
        "staticfile_buildpack"
    }
    fn title(&self) -> &'static str {
        "Staticfile"
    }

    fn detect(&self, app: &Path) -> bool {
        app.join("Staticfile").is_file()
    }

    fn compile(&self, app: &Path) -> Result<Compiled, String> {
        let mut settings = match read(&app.join("Staticfile"))? {
            Some(text) => Settings::parse(&text)?,
            None => Settings::default(),
        };
        if std::env::var("ENABLE_HTTP2").is_ok_and(|value| !value.is_empty()) {
            return Err("the app's environment sets ENABLE_HTTP2, which is not supported by this buildpack; unset it".to_owned());
        }
        if let Some(text) = read(&app.join(AUTH_FILE))? {
            Htpasswd::parse(&text)?;
            settings.basic_auth = true;
            println!("-----> Enabling basic authentication using {AUTH_FILE}");
        }
        announce(&settings);
        let root = settings.root.as_deref().unwrap_or(".");
        check_root(app, root)?;
        println!("-----> Root folder {}", app.join(root).display());
        println!("-----> Copying project files into public");
        publish(app, root, settings.host_dot_files)
            .map_err(|error| format!("move the files to public: {error}"))?;
        if !settings.directory
            && !["index.html", "index.htm", "Default.htm", "index.html.gz"]
                .iter()
                .any(|name| app.join(PUBLIC).join(name).is_file())
        {
            println!("       **WARNING** there is no index.html in {root}: / will answer 403");
        }
        write_server(app, &settings).map_err(|error| format!("write {BOOT}: {error}"))?;
        if procfile::read(app)?.unwrap_or_default().contains_key("web") {
            println!("       The Procfile's web command replaces the built-in server");
        }
        Ok(Compiled {
            process_types: BTreeMap::from([("web".to_owned(), format!("$HOME/{BOOT}"))]),
            profile: Vec::new(),
        })
    }
}

/// Returns the text of a file; `None` if it does not exist. A file that exists and cannot be read is an error.
fn read(path: &Path) -> Result<Option<String>, String> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error)
            if error.kind() == ErrorKind::NotFound && fs::symlink_metadata(path).is_err() =>
        {
            Ok(None)
        }
        Err(error) => Err(format!(
            "{} cannot be read: {error}",
            path.file_name().unwrap_or_default().to_string_lossy()
        )),
    }
}

fn announce(settings: &Settings) {
    let steps = [
        (settings.host_dot_files, "hosting of dotfiles"),
        (
            settings.directory,
            "directory index for folders without index.html files",
        ),
        (settings.pushstate, "pushstate"),
        (settings.strict_transport_security.is_some(), "HSTS"),
        (settings.force_https, "HTTPS redirect"),
        (
            !settings.status_codes.is_empty(),
            "custom pages for status_codes",
        ),
    ];
    for (_, step) in steps.iter().filter(|(on, _)| *on) {
        println!("-----> Enabling {step}");
    }
}

fn check_root(app: &Path, root: &str) -> Result<(), String> {
    let folder = app.join(root);
    match fs::metadata(&folder) {
        Err(_) => {
            return Err(format!(
                "the application Staticfile specifies a root directory {root} that does not exist"
            ));
        }
        Ok(metadata) if !metadata.is_dir() => {
            return Err(format!(
                "the application Staticfile specifies a root directory {root} that is a plain file, but was expected to be a directory"
            ));
        }
        Ok(_) => {}
    }
    // The root may be a link, but not to a folder outside the app.
    let real =
        |path: &Path| fs::canonicalize(path).map_err(|error| format!("root {root}: {error}"));
    if !real(&folder)?.starts_with(real(app)?) {
        return Err(format!(
            "Staticfile: root {root:?} points outside of the app's folder"
        ));
    }
    match NGINX_FILES.iter().find(|name| folder.join(name).is_file()) {
        Some(name) => Err(format!(
            "{name} is not supported, because this buildpack serves without nginx; remove the file, or push a server of your own"
        )),
        None => Ok(()),
    }
}

/// Moves the files to serve to `public`. Dot files are included only if requested, private files never.
fn publish(app: &Path, root: &str, dot_files: bool) -> io::Result<()> {
    let (source, public) = (app.join(root), app.join(PUBLIC));
    // The folder is served where it is: the server hides private files.
    if public.exists() && fs::canonicalize(&source)? == fs::canonicalize(&public)? {
        return Ok(());
    }
    let moved = app.join(".cloudfoundry-public");
    fs::create_dir(&moved)?;
    for entry in fs::read_dir(&source)? {
        let name = entry?.file_name();
        let private = PRIVATE.iter().any(|private| name == *private);
        let dotted = name.to_string_lossy().starts_with('.');
        if private || (dotted && !dot_files) || source.join(&name) == moved {
            continue;
        }
        fs::rename(source.join(&name), moved.join(&name))?;
    }
    match fs::symlink_metadata(&public) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(&public)?,
        Ok(_) => fs::remove_file(&public)?,
        Err(_) => {}
    }
    fs::rename(moved, public)
}

fn write_server(app: &Path, settings: &Settings) -> io::Result<()> {
    let path = app.join(FILE);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(path, serde_json::to_string(settings)?)?;
    let boot = app.join(BOOT);
    // Writing to a link of the app would change the link's target.
    match fs::remove_file(&boot) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::write(&boot, BOOT_SCRIPT)?;
    fs::set_permissions(boot, fs::Permissions::from_mode(0o755))
}
