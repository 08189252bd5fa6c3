//! Stories of mistakes that a person can make, and of the one clear line that answers each.

use crate::{Story, story};
use anyhow::{Context as _, Result, ensure};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use testkit::foundation::{Foundation, PASSWORD, binary, both, example, wait_for};

pub(crate) const STORIES: &[Story] = &[
    story("wrong_command_lines", command_lines),
    story("wrong_second_up_on_the_same_data", second_up),
    story("wrong_not_root", not_root),
    story("wrong_port_taken", port_taken),
    story("wrong_programs_missing", programs_missing),
    story("wrong_names_and_passwords", names_and_passwords),
    story("wrong_routes", routes),
    story("wrong_apps_say_why", apps),
    story("wrong_archives", archives),
];

fn cupola(args: &[&str]) -> Result<(Option<i32>, String)> {
    let output = Command::new(binary())
        .args(args)
        .env_remove("CUPOLA_DATA")
        .output()?;
    Ok((output.status.code(), both(&output)))
}

fn expect(outcome: &(Option<i32>, String), code: i32, parts: &[&str]) -> Result<()> {
    let (actual, text) = outcome;
    ensure!(
        *actual == Some(code),
        "exit code {actual:?} instead of {code}: {text}"
    );
    for part in parts {
        ensure!(text.contains(part), "{part:?} is missing in: {text}");
    }
    Ok(())
}

fn command_lines(f: &mut Foundation) -> Result<()> {
    expect(&cupola(&["upp"])?, 2, &["upp"])?;
    expect(&cupola(&["up", "--no-such-flag"])?, 2, &["--no-such-flag"])?;
    expect(
        &cupola(&["up", "--domain", "nodots"])?,
        1,
        &["nodots", "cupola.test"],
    )?;
    expect(
        &cupola(&["up", "--http", "eighty"])?,
        1,
        &["eighty", "0.0.0.0:80"],
    )?;
    let file = f.folder().join("broken.yml");
    std::fs::write(&file, "cell:\n  memroy_mb: 3\n")?;
    expect(
        &cupola(&["check-config", "--config", &file.to_string_lossy()])?,
        1,
        &["memroy_mb", "broken.yml"],
    )?;
    expect(
        &cupola(&["up", "--config", "/no/such/file.yml"])?,
        1,
        &["/no/such/file.yml"],
    )?;
    expect(
        &cupola(&["routes", "--data", "/no/such/data"])?,
        1,
        &["/no/such/data", "cupola up"],
    )?;
    expect(&cupola(&["help"])?, 0, &["Examples:"])?;
    expect(&cupola(&["--version"])?, 0, &["cupola"])
}

fn second_up(f: &mut Foundation) -> Result<()> {
    let data = f.data.to_string_lossy().into_owned();
    expect(
        &cupola(&["up", "--domain", &f.domain, "--data", &data])?,
        1,
        &["in use", &data],
    )
}

fn not_root(f: &mut Foundation) -> Result<()> {
    // The binary may be in a directory that only root can read, so the story copies it elsewhere.
    let copy = f.folder().join("cupola-copy");
    std::fs::copy(binary(), &copy)?;
    sh_mode(f.folder(), "755")?;
    sh_mode(&copy, "755")?;
    let data = f.folder().join("nobody");
    let output = Command::new(&copy)
        .args(["up", "--data"])
        .arg(&data)
        .uid(65534)
        .gid(65534)
        .output()?;
    expect(&(output.status.code(), both(&output)), 1, &["root"])?;
    ensure!(!data.exists(), "something half-done was left");
    Ok(())
}

fn sh_mode(path: &Path, mode: &str) -> Result<()> {
    ensure!(
        Command::new("chmod")
            .arg(mode)
            .arg(path)
            .status()?
            .success()
    );
    Ok(())
}

fn port_taken(f: &mut Foundation) -> Result<()> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?.to_string();
    let data = f.folder().join("taken");
    expect(
        &cupola(&[
            "up",
            "--http",
            &address,
            "--https",
            "127.0.0.1:0",
            "--domain",
            "taken.cupola.test",
            "--data",
            &data.to_string_lossy(),
        ])?,
        1,
        &[&address],
    )
}

fn programs_missing(f: &mut Foundation) -> Result<()> {
    let empty = f.folder().join("empty");
    std::fs::create_dir_all(&empty)?;
    let lone = empty.join("cupola");
    std::fs::copy(binary(), &lone)?;
    let output = Command::new(&lone)
        .args(["up", "--domain", "missing.cupola.test", "--data"])
        .arg(f.folder().join("missing"))
        .env("PATH", &empty)
        .output()?;
    let text = both(&output);
    ensure!(
        output.status.code() == Some(1)
            && (text.contains("make build") || text.contains("apt-get install")),
        "{text}"
    );
    Ok(())
}

fn names_and_passwords(f: &mut Foundation) -> Result<()> {
    let text = f.cf_fails(&["app", "no-such-app"])?;
    ensure!(text.contains("App 'no-such-app' not found"), "{text}");
    let stranger = f.folder().join("stranger");
    let output = f.cf_in(
        &stranger,
        &[
            "login",
            "-a",
            &f.api(),
            "--skip-ssl-validation",
            "-u",
            "admin",
            "-p",
            "wrong",
        ],
    )?;
    ensure!(
        output.status.code() == Some(1)
            && both(&output)
                .to_lowercase()
                .contains("credentials were rejected"),
        "{}",
        both(&output)
    );
    ensure!(!f.log().contains(PASSWORD), "the log contains the password");
    // The tokens: one that has expired, and one whose signature is wrong.
    let token = f.cf_ok(&["oauth-token"])?;
    let mut parts: Vec<&str> = token
        .trim()
        .trim_start_matches("bearer ")
        .split('.')
        .collect();
    parts[2] = "AAAA";
    let forged = parts.join(".");
    let answer = Command::new("curl")
        .args([
            "-sSk",
            "-i",
            "-H",
            &format!("Host: api.{}", f.domain),
            "-H",
            &format!("Authorization: bearer {forged}"),
        ])
        .arg(format!(
            "https://127.0.0.1:{}/v3/apps",
            f.plan["https_port"]
        ))
        .output()?;
    ensure!(
        both(&answer).contains("401") && both(&answer).contains("CF-InvalidAuthToken"),
        "{}",
        both(&answer)
    );
    Ok(())
}

fn routes(f: &mut Foundation) -> Result<()> {
    let text = f.cf_fails(&[
        "create-route",
        "no-such-domain.example.com",
        "--hostname",
        "x",
    ])?;
    ensure!(text.contains("no-such-domain.example.com"), "{text}");
    let text = f.cf_fails(&["create-route", &f.domain, "--hostname", "not_valid!"])?;
    ensure!(text.to_lowercase().contains("host"), "{text}");
    let text = f.cf_fails(&["map-route", "appA", &f.domain, "--hostname", "api"])?;
    ensure!(text.contains("api"), "{text}");
    // The host is taken in another space.
    f.cf_ok(&["create-space", "other"])?;
    let home = f.folder().join("other-home");
    let login = f.cf_in(
        &home,
        &[
            "login",
            "-a",
            &f.api(),
            "--skip-ssl-validation",
            "-u",
            "admin",
            "-p",
            PASSWORD,
            "-o",
            "demo",
            "-s",
            "other",
        ],
    )?;
    ensure!(login.status.success(), "{}", both(&login));
    let output = f.cf_in(
        &home,
        &[
            "push",
            "thief",
            "-p",
            &example("static"),
            "-b",
            "staticfile_buildpack",
            "-m",
            "32M",
            "-k",
            "64M",
            "--no-route",
        ],
    )?;
    ensure!(output.status.success(), "{}", both(&output));
    let output = f.cf_in(
        &home,
        &["map-route", "thief", &f.domain, "--hostname", "appa"],
    )?;
    ensure!(
        output.status.code() == Some(1),
        "a route of another space was mapped: {}",
        both(&output)
    );
    // An endpoint that an earlier story pruned returns with its next registration.
    let body = wait_for("an answer on appA's route", 25, || {
        let answer = f.get(&f.host("appa"), "/")?;
        Ok((answer.status == 200).then_some(answer.body))
    })?;
    ensure!(
        body.contains("ListenAddresses"),
        "another app answers on appA's route: {body}"
    );
    f.cf_in(&home, &["delete", "thief", "-f", "-r"]).map(drop)
}

fn apps(f: &mut Foundation) -> Result<()> {
    let folder = f.folder().join("bad-app");
    std::fs::create_dir_all(&folder)?;
    std::fs::write(
        folder.join("Procfile"),
        "web: echo about to leave; exit 3\n",
    )?;
    let path = folder.to_string_lossy().into_owned();
    let output = f.cf(&[
        "push",
        "exits",
        "-p",
        &path,
        "-b",
        "procfile_buildpack",
        "-m",
        "32M",
        "-k",
        "64M",
    ])?;
    ensure!(
        output.status.code() == Some(1),
        "an app that exits at once was pushed: {}",
        both(&output)
    );
    wait_for("the exit status in cf events", 20, || {
        Ok(f.cf_ok(&["events", "exits"])?
            .contains("Exited with status 3")
            .then_some(()))
    })?;
    let logs = f.cf_ok(&["logs", "exits", "--recent"])?;
    ensure!(
        logs.contains("about to leave") && logs.contains("Exit"),
        "{logs}"
    );
    f.cf_ok(&["delete", "exits", "-f", "-r"])?;

    std::fs::write(folder.join("Procfile"), "web: sleep 3600\n")?;
    let output = f.cf(&[
        "push",
        "silent",
        "-p",
        &path,
        "-b",
        "procfile_buildpack",
        "-m",
        "32M",
        "-k",
        "64M",
        "-t",
        "3",
    ])?;
    ensure!(
        output.status.code() == Some(1),
        "an app that does not listen was pushed: {}",
        both(&output)
    );
    let logs = f.cf_ok(&["logs", "silent", "--recent"])?;
    ensure!(logs.contains("health check"), "{logs}");
    f.cf_ok(&["delete", "silent", "-f", "-r"])?;

    f.cf_ok(&[
        "push",
        "greedy",
        "-p",
        &example("proxy/bin"),
        "-b",
        "binary_buildpack",
        "-c",
        "./proxy",
        "-m",
        "64M",
        "-k",
        "128M",
    ])?;
    let _ = f.get(&f.host("greedy"), "/memory/500");
    wait_for("the reason in cf events", 30, || {
        Ok(f.cf_ok(&["events", "greedy"])?
            .contains("out of memory")
            .then_some(()))
    })?;
    f.cf_ok(&["delete", "greedy", "-f", "-r"]).map(drop)
}

fn archives(f: &mut Foundation) -> Result<()> {
    // The story uploads a hostile zip as a person with curl would.
    let script = f.folder().join("zips.py");
    std::fs::write(
        &script,
        "import zipfile,sys,stat\nd=sys.argv[1]\nz=zipfile.ZipFile(d+'/dots.zip','w'); z.writestr('../../evil','x'); z.close()\nz=zipfile.ZipFile(d+'/link.zip','w'); i=zipfile.ZipInfo('passwd'); i.external_attr=(stat.S_IFLNK|0o777)<<16; z.writestr(i,'/etc/passwd'); z.close()\nz=zipfile.ZipFile(d+'/bomb.zip','w',zipfile.ZIP_DEFLATED)\nfor n in range(8): z.writestr('z%d'%n, b'\\0'*(200<<20))\nz.close()\nopen(d+'/not.zip','w').write('not a zip')\n",
    )?;
    testkit::foundation::sh(&format!(
        "python3 {} {}",
        script.display(),
        f.folder().display()
    ))?;
    f.cf_ok(&["create-space", "archives"])?;
    let token = f.cf_ok(&["oauth-token"])?.trim().to_owned();
    let app = f.guid("appB")?;
    for (name, word) in [
        ("dots.zip", "evil"),
        ("link.zip", "passwd"),
        ("bomb.zip", ""),
        ("not.zip", ""),
    ] {
        let url = |path: &str| format!("https://127.0.0.1:{}{path}", f.plan["https_port"]);
        let curl = |args: &[&str]| -> Result<serde_json::Value> {
            let output = Command::new("curl")
                .args([
                    "-sSk",
                    "--max-time",
                    "60",
                    "-H",
                    &format!("Host: api.{}", f.domain),
                    "-H",
                    &format!("Authorization: {token}"),
                ])
                .args(args)
                .output()?;
            serde_json::from_slice(&output.stdout).with_context(|| both(&output))
        };
        let package = curl(&[
            "-X",
            "POST",
            "-H",
            "Content-Type: application/json",
            "-d",
            &format!(
                r#"{{"type":"bits","relationships":{{"app":{{"data":{{"guid":"{app}"}}}}}}}}"#
            ),
            &url("/v3/packages"),
        ])?;
        let guid = package["guid"]
            .as_str()
            .context("no package guid")?
            .to_owned();
        let answer = curl(&[
            "-X",
            "POST",
            "-F",
            &format!("bits=@{}", f.folder().join(name).display()),
            &url(&format!("/v3/packages/{guid}/upload")),
        ])?;
        let text = answer.to_string();
        ensure!(
            text.contains("errors") || answer["state"] == "FAILED",
            "{name} was taken: {text}"
        );
        ensure!(
            text.contains(word),
            "{name}: the answer does not name {word}: {text}"
        );
    }
    Ok(())
}
