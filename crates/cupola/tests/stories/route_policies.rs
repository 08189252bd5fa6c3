//! Stories of apps that call each other by their instance identities: which callers are admitted, which are refused, and how soon
//! that changes.

use crate::{Story, story};
use anyhow::{Result, ensure};
use testkit::foundation::{Foundation, wait_for};

pub(crate) const STORIES: &[Story] = &[story("route_policies_let_one_app_in", one_app_is_let_in)];

const DOMAIN: &str = "apps.identity";
const APPS: [&str; 3] = ["callee", "caller", "third"];

/// Pushes a site whose page names the app.
fn push(f: &Foundation, app: &str) -> Result<()> {
    let folder = f.folder().join(format!("policies-{app}"));
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("index.html"), format!("<p>I am the {app}"))?;
    std::fs::write(folder.join("Staticfile"), "")?;
    let path = folder.display().to_string();
    f.cf_ok(&["push", app, "-p", &path, "-m", "64M", "-k", "64M"])?;
    Ok(())
}

/// Runs curl inside a container. Returns the page and the status (000 if there was no response).
fn call(f: &Foundation, app: &str, options: &str, url: &str) -> Result<String> {
    let command = format!("curl -sS --max-time 20 -w ' %{{http_code}}' {options} {url} 2>&1; true");
    f.exec(&format!("{app}/0"), &["bash", "-c", &command])
}

fn one_app_is_let_in(f: &mut Foundation) -> Result<()> {
    for app in APPS {
        push(f, app)?;
    }
    f.cf_ok(&["map-route", "callee", DOMAIN, "--hostname", "callee"])?;
    let host = format!("callee.{DOMAIN}");
    wait_for("the route", 30, || {
        Ok(f.table()?[&host].is_array().then_some(()))
    })?;
    let url = format!("https://{host}:{}/", f.plan["https_port"]);
    let trust = "--cacert $CF_SYSTEM_CERT_PATH/trusted-ca.crt";
    let identity = format!("{trust} --cert $CF_INSTANCE_CERT --key $CF_INSTANCE_KEY");
    let ask = |app: &str| call(f, app, &identity, &url);

    // The domain admits only instance identities, and without a policy none of them.
    let answer = ask("caller")?;
    ensure!(answer.ends_with(" 403"), "without a policy: {answer}");
    let answer = call(f, "caller", trust, &url)?;
    ensure!(answer.ends_with(" 000"), "without a certificate: {answer}");
    let plain = format!("http://{host}:{}/", f.plan["http_port"]);
    let answer = call(f, "caller", "", &plain)?;
    ensure!(answer.ends_with(" 421"), "without TLS: {answer}");

    let policy = [DOMAIN, "--hostname", "callee", "--source-app", "caller"];
    let run = |command: &str, last: &[&str]| f.cf_ok(&[&[command], &policy[..], last].concat());
    run("add-route-policy", &[])?;
    wait_for("the policy", 20, || {
        Ok((ask("caller")? == "<p>I am the callee 200").then_some(()))
    })?;
    let answer = ask("third")?;
    ensure!(answer.ends_with(" 403"), "a third app: {answer}");
    let table = f.cf_ok(&["route-policies"])?;
    let row = table.lines().last().unwrap_or_default();
    let wanted = ["callee", DOMAIN, "cf:app:", "app", "caller"];
    ensure!(wanted.iter().all(|part| row.contains(part)), "{table}");

    // The instances of a running app are admitted and refused without a restart.
    let before = f.instances(&f.guid("callee")?)?[0]["instance_guid"].clone();
    run("remove-route-policy", &["-f"])?;
    wait_for("the end of the policy", 20, || {
        Ok(ask("caller")?.ends_with(" 403").then_some(()))
    })?;
    let after = f.instances(&f.guid("callee")?)?[0]["instance_guid"].clone();
    ensure!(before == after, "the app was restarted");

    // A second instance, and one that starts later, obey the same policy.
    f.cf_ok(&[
        "add-route-policy",
        DOMAIN,
        "--hostname",
        "callee",
        "--source-space",
        "dev",
    ])?;
    f.cf_ok(&["scale", "callee", "-i", "2"])?;
    wait_for("two instances that the space may call", 60, || {
        let both = f.table()?[&host].as_array().map_or(0, Vec::len) == 2;
        Ok((both && ask("third")?.ends_with(" 200")).then_some(()))
    })?;
    let text = f.cf_fails(&[
        "add-route-policy",
        DOMAIN,
        "--hostname",
        "callee",
        "--source-any",
    ])?;
    ensure!(text.contains("'cf:any' cannot coexist"), "{text}");
    for app in APPS {
        f.cf_ok(&["delete", "-f", "-r", app])?;
    }
    let table = f.cf_ok(&["route-policies"])?;
    ensure!(table.contains("No route policies found."), "{table}");
    Ok(())
}
