//! Stories of static sites and internal routes: what a folder serves to the world, and which container reaches which.

use crate::{Story, story};
use anyhow::{Result, ensure};
use std::path::PathBuf;
use testkit::foundation::{Foundation, wait_for};

pub(crate) const STORIES: &[Story] = &[
    story("networking_static_sites", static_sites),
    story("networking_internal_routes", internal_routes),
];

/// Creates a folder to push.
fn folder(f: &Foundation, name: &str, files: &[(&str, &str)]) -> Result<PathBuf> {
    let folder = f.folder().join(name);
    for (file, text) in files {
        let path = folder.join(file);
        std::fs::create_dir_all(path.parent().unwrap_or(&folder))?;
        std::fs::write(path, text)?;
    }
    Ok(folder)
}

fn push(f: &Foundation, app: &str, folder: &std::path::Path) -> Result<String> {
    let path = folder.display().to_string();
    f.cf_ok(&["push", app, "-p", &path, "-m", "64M", "-k", "64M"])
}

fn static_sites(f: &mut Foundation) -> Result<()> {
    let plain = folder(
        f,
        "plain",
        &[("index.html", "<p>hi"), ("secrets.json", "{}")],
    )?;
    let path = plain.display().to_string();
    let text = f.cf_fails(&["push", "plain", "-p", &path, "-m", "64M", "-k", "64M"])?;
    ensure!(
        text.contains("NoAppDetectedError") && text.contains("a file named Staticfile"),
        "{text}"
    );
    let site = folder(
        f,
        "site",
        &[
            ("index.html", "<p>members only"),
            ("Staticfile", ""),
            ("Staticfile.auth", "ann:{PLAIN}letmein\n"),
        ],
    )?;
    let text = push(f, "site", &site)?;
    ensure!(
        text.contains("Downloading staticfile_buildpack..."),
        "{text}"
    );
    let host = f.host("site");
    wait_for("the site's route", 30, || {
        Ok((f.get(&host, "/")?.status == 401).then_some(()))
    })?;
    ensure!(!f.get(&host, "/")?.body.contains("members"));
    let http = f.plan["http_port"].to_string();
    let inside = |command: &str| f.exec("site/0", &["bash", "-c", command]);
    let answer = inside(&format!("curl -sS -u ann:letmein http://{host}:{http}/"))?;
    ensure!(answer.contains("members only"), "{answer}");
    // The files keep their times, the locale exists, python is python3, and the usual start script exists.
    let year = inside("stat -c %y /home/vcap/app/public/index.html | cut -c1-4")?;
    ensure!(year.trim() > "2000", "index.html is of the year {year}");
    let words = inside(
        "echo $LANG; locale -a | grep -i en_us; python --version; test -x /home/vcap/app/boot.sh && echo boot",
    )?;
    for wanted in ["en_US.UTF-8\n", "en_US.utf8\n", "Python 3", "boot\n"] {
        ensure!(words.contains(wanted), "{wanted:?} is missing in {words}");
    }
    wait_for("the access log", 30, || {
        let logs = f.cf_ok(&["logs", "site", "--recent"])?;
        Ok(logs.contains("\"GET / HTTP/1.1\" 200").then_some(()))
    })?;
    f.cf_ok(&["delete", "-f", "plain"])?;
    Ok(())
}

/// Runs after [`static_sites`].
fn internal_routes(f: &mut Foundation) -> Result<()> {
    let back = folder(
        f,
        "back",
        &[("index.html", "<p>the back"), ("Staticfile", "")],
    )?;
    push(f, "back", &back)?;
    f.cf_ok(&["scale", "back", "-i", "2"])?;
    f.cf_ok(&["map-route", "back", "apps.internal", "--hostname", "back"])?;
    let resolve = |name: &str| -> Result<Vec<String>> {
        let script = format!(
            "import socket\ntry: print(*sorted({{a[4][0] for a in socket.getaddrinfo('{name}', 80)}}))\nexcept OSError: pass"
        );
        let answer = f.exec("site/0", &["python", "-c", &script])?;
        Ok(answer.split_whitespace().map(str::to_owned).collect())
    };
    let mut addresses: Vec<String> = wait_for("two instances", 60, || {
        let instances = f.instances(&f.guid("back")?)?;
        let addresses = instances
            .iter()
            .filter_map(|lrp| Some(lrp["instance_address"].as_str()?.to_owned()))
            .collect::<Vec<_>>();
        Ok((addresses.len() == 2).then_some(addresses))
    })?;
    addresses.sort();
    wait_for("both addresses under the internal name", 20, || {
        Ok((resolve("back.apps.internal")? == addresses).then_some(()))
    })?;
    ensure!(resolve("1.back.apps.internal")?.len() == 1);
    ensure!(resolve("nobody.apps.internal")?.is_empty());
    // The name cannot be reached from outside.
    ensure!(f.get("back.apps.internal", "/")?.status == 404);
    ensure!(!f.table()?.to_string().contains("apps.internal"));

    let fetch = || {
        f.exec(
            "site/0",
            &[
                "bash",
                "-c",
                "curl -sS --max-time 20 http://back.apps.internal:8080/; echo $?",
            ],
        )
    };
    let closed = fetch()?;
    ensure!(closed.trim().ends_with('7'), "without a policy: {closed}");
    let policy = serde_json::json!({ "policies": [{
        "source": { "id": f.guid("site")? },
        "destination": { "id": f.guid("back")?, "protocol": "tcp", "ports": { "start": 8080, "end": 8080 } },
    }] })
    .to_string();
    let post = |path: &str| f.cf_ok(&["curl", path, "-X", "POST", "-d", &policy]);
    post("/networking/v1/external/policies")?;
    wait_for("the policy", 20, || {
        Ok(fetch()?.contains("the back").then_some(()))
    })?;
    // An instance that stops is removed from the name at once.
    f.cf_ok(&["scale", "back", "-i", "1"])?;
    wait_for("one address is left", 20, || {
        Ok((resolve("back.apps.internal")?.len() == 1).then_some(()))
    })?;
    ensure!(fetch()?.contains("the back"));
    post("/networking/v1/external/policies/delete")?;
    wait_for("the end of the policy", 20, || {
        Ok(fetch()?.trim().ends_with('7').then_some(()))
    })?;
    f.cf_ok(&["delete", "-f", "-r", "back"])?;
    wait_for("the name is gone", 20, || {
        Ok(resolve("back.apps.internal")?.is_empty().then_some(()))
    })?;
    f.cf_ok(&["delete", "-f", "-r", "site"])?;
    Ok(())
}
