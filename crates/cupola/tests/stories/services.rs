//! Stories of user-provided services: an app shows what it finds in its environment and in its files, and nothing of it is in clear in
//! the database, before and after a rotation of the key.

use crate::{Story, story};
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::process::Command;
use testkit::foundation::{Foundation, binary, both, wait_for};

pub(crate) const STORIES: &[Story] = &[story(
    "services_an_app_shows_its_vcap_services",
    an_app_shows_its_services,
)];

const SECRET: &str = "s3cret-of-the-story";

/// A server that shows a variable (`/env/NAME`) or a file (`/file/PATH`).
const APP: &str = r#"
import http.server, os

class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        kind, _, name = self.path.lstrip("/").partition("/")
        text = os.environ.get(name, "none") if kind == "env" else open("/" + name).read()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(text.encode())

http.server.HTTPServer(("", int(os.environ["PORT"])), Page).serve_forever()
"#;

fn page(f: &Foundation, path: &str) -> Result<String> {
    let answer = f.get(&f.host("shows"), path)?;
    ensure!(answer.status == 200, "{path}: {}", answer.status);
    Ok(answer.body)
}

/// Waits until the app's page is as expected.
fn shows(f: &Foundation, path: &str, is_right: impl Fn(&str) -> bool) -> Result<()> {
    wait_for(path, 60, || {
        Ok(page(f, path)
            .is_ok_and(|text| is_right(&text))
            .then_some(()))
    })
}

/// Returns whether a text occurs in the files of the Cloud Controller's database.
pub(crate) fn is_stored(f: &Foundation, text: &str) -> Result<bool> {
    let mut found = false;
    for entry in std::fs::read_dir(f.data.join("cloud-controller"))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("cloud-controller.db") {
            let bytes = std::fs::read(&path)?;
            found |= bytes
                .windows(text.len())
                .any(|part| part == text.as_bytes());
        }
    }
    Ok(found)
}

fn an_app_shows_its_services(f: &mut Foundation) -> Result<()> {
    let folder = f.folder().join("shows");
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("app.py"), APP)?;
    std::fs::write(folder.join("Procfile"), "web: python3 app.py\n")?;
    let path = folder.display().to_string();
    let push = ["push", "shows", "-p", &path, "-m", "64M", "-k", "128M"];
    f.cf_ok(&[&push[..], &["--no-start"]].concat())?;
    let credentials = format!(r#"{{"uri":"postgres://u:{SECRET}@db.test/d","port":5432}}"#);
    f.cf_ok(&["cups", "db", "-p", &credentials, "-t", "sql"])?;
    f.cf_ok(&["bind-service", "shows", "db", "--binding-name", "main"])?;
    f.cf_ok(&["start", "shows"])?;
    shows(f, "/env/VCAP_SERVICES", |text| text.contains(SECRET))?;
    let text = page(f, "/env/VCAP_SERVICES")?;
    let begin = r#"{"user-provided":[{"label":"user-provided","name":"main","tags":["sql"],"instance_guid":""#;
    ensure!(text.starts_with(begin), "{text}");
    let services: Value = serde_json::from_str(&text).context("VCAP_SERVICES is JSON")?;
    let found = &services["user-provided"][0];
    let wanted: Value = serde_json::from_str(&credentials)?;
    ensure!(found["credentials"] == wanted, "{text}");
    let table = f.cf_ok(&["services"])?;
    ensure!(
        table.contains("user-provided") && table.contains("shows"),
        "{table}"
    );
    ensure!(
        !is_stored(f, SECRET)?,
        "the credentials are stored in clear"
    );

    // The app asks for a file now. The file has the same text, although the key was rotated in between.
    let data = f.data.display().to_string();
    let output = Command::new(binary())
        .args(["rotate-key", "--data", &data])
        .output()?;
    ensure!(output.status.success(), "{}", both(&output));
    let app = f.guid("shows")?;
    let feature = format!("/v3/apps/{app}/features/file-based-vcap-services");
    f.cf_ok(&["curl", &feature, "-X", "PATCH", "-d", r#"{"enabled":true}"#])?;
    f.cf_ok(&["restart", "shows"])?;
    let file = "/etc/cf-service-bindings/vcap_services";
    shows(f, "/env/VCAP_SERVICES_FILE_PATH", |text| text == file)?;
    let content = page(f, &format!("/file{file}"))?;
    ensure!(content == text, "{content}");
    ensure!(
        page(f, "/env/VCAP_SERVICES")? == "none",
        "the variable is still there"
    );

    f.cf_ok(&["delete-service", "db", "-f"])?;
    f.cf_ok(&["delete", "-f", "-r", "shows"])?;
    let table = f.cf_ok(&["services"])?;
    ensure!(table.contains("No service instances found."), "{table}");
    Ok(())
}
