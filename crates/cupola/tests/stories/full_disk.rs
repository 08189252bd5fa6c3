//! Stories of a full disk. It fails only writes: apps, reads and the router continue, and everything recovers by itself when
//! there is space again.

use crate::{Story, story, why};
use anyhow::{Context as _, Result, ensure};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};
use testkit::foundation::{Foundation, both, example, sh, wait_for};

pub(crate) const DISK_MB: u64 = 3000;
const RESERVE_MB: u64 = 100;
pub(crate) const CONFIG: &str = "disk_reserve_mb: 100\nrouter: {register_interval: 5}\n";

pub(crate) const STORIES: &[Story] = &[
    story("full_disk_costs_writes_only", writes_only),
    story("full_disk_uploads_leave_the_reserve", reserve),
    story("full_disk_at_a_restart_of_the_bus", bus_restart),
];

fn push(f: &Foundation, app: &str, path: &str) -> Result<()> {
    f.cf_ok(&[
        "push",
        app,
        "-p",
        path,
        "-b",
        "staticfile_buildpack",
        "-m",
        "32M",
        "-k",
        "64M",
    ])
    .map(drop)
}

/// A file that fills the disk. It is removed when this value is dropped.
struct Filler(PathBuf);

impl Filler {
    /// Fills the disk and leaves `free` bytes.
    fn fill(f: &Foundation, free: u64) -> Result<Self> {
        let filler = Self(f.data.join("filler"));
        let mut file = std::fs::File::create(&filler.0)?;
        // Allocating the very last blocks at once fails, so they are written one after the other.
        let at_once = available(f)?.saturating_sub(free.max(64 << 20));
        nix::fcntl::fallocate(
            &file,
            nix::fcntl::FallocateFlags::empty(),
            0,
            i64::try_from(at_once)?.max(1),
        )?;
        file.seek(SeekFrom::End(0))?;
        for block in [vec![1; 64 << 10], vec![1; 4 << 10]] {
            while free == 0 && file.write_all(&block).is_ok() {}
        }
        Ok(filler)
    }
}

impl Drop for Filler {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn available(f: &Foundation) -> Result<u64> {
    let text = sh(&format!(
        "df --output=avail -B1 {} | tail -1",
        f.data.display()
    ))?;
    Ok(text.trim().parse()?)
}

/// Sends a request to the API as admin. Returns status and body.
fn api(f: &Foundation, method: &str, path: &str, body: &str) -> Result<(u16, String)> {
    let token = f.cf_ok(&["oauth-token"])?;
    let output = Command::new("curl")
        .args([
            "-sk",
            "-X",
            method,
            "-w",
            "\n%{http_code}",
            "--max-time",
            "30",
        ])
        .args(["-H", &format!("Host: {}", f.host("api"))])
        .args(["-H", &format!("Authorization: {}", token.trim())])
        .args(["-H", "Content-Type: application/json", "-d", body])
        .arg(format!("http://127.0.0.1:{}{path}", f.plan["http_port"]))
        .output()?;
    let text = both(&output);
    let (body, status) = text.trim_end().rsplit_once('\n').context("no status")?;
    Ok((status.parse()?, body.to_owned()))
}

/// A load of requests to an app, one after the other until it is stopped. It counts failures.
struct Load<'a> {
    f: &'a Foundation,
    stop: AtomicBool,
    sent: AtomicU32,
    failed: AtomicU32,
}

impl Load<'_> {
    fn run(&self, host: &str) {
        while !self.stop.load(Ordering::Relaxed) {
            let answer = self.f.get(host, "/");
            self.sent.fetch_add(1, Ordering::Relaxed);
            if answer.map_or(0, |answer| answer.status) != 200 {
                self.failed.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

fn writes_only(f: &mut Foundation) -> Result<()> {
    push(f, "steady", &example("static"))?;
    let pid = f.child.as_ref().context("cupola up is not running")?.id();
    let f = &*f;
    let (app, load) = (
        f.host("steady"),
        Load {
            f,
            stop: AtomicBool::new(false),
            sent: AtomicU32::new(0),
            failed: AtomicU32::new(0),
        },
    );
    std::thread::scope(|scope| {
        scope.spawn(|| load.run(&app));
        let shown = while_full(f);
        load.stop.store(true, Ordering::Relaxed);
        shown
    })?;
    let (sent, failed) = (load.sent.into_inner(), load.failed.into_inner());
    ensure!(
        failed == 0 && sent > 50,
        "{failed} of {sent} requests to the app failed"
    );
    let now = f.child.as_ref().map(std::process::Child::id);
    ensure!(now == Some(pid), "cupola up was started again");
    Ok(())
}

fn while_full(f: &Foundation) -> Result<()> {
    let space = f.cf_curl("/v3/spaces?names=dev")?["resources"][0]["guid"].clone();
    let filler = Filler::fill(f, 0)?;
    why::named(f, &f.host("steady"), "rep disk")?;
    // In the past everything ended after less time than this.
    let full_since = Instant::now();
    let mut round = 0;
    while full_since.elapsed() < Duration::from_secs(15) {
        round += 1;
        let app = format!(
            r#"{{"name":"a{round}","relationships":{{"space":{{"data":{{"guid":{space}}}}}}}}}"#
        );
        let (status, text) = api(f, "POST", "/v3/apps", &app)?;
        let named = format!("the disk of {}", f.data.display());
        ensure!(
            status == 503 && text.contains(&named) && text.contains("bytes are free"),
            "a write on a full disk: {status} {text}"
        );
        let (status, text) = api(f, "GET", "/v3/apps?names=steady", "")?;
        ensure!(
            status == 200 && text.contains("steady"),
            "a read on a full disk: {status} {text}"
        );
        ensure!(
            f.instances(&f.guid("steady")?)?.len() == 1,
            "the BBS lost an instance"
        );
        ensure!(
            !f.table()?.as_object().context("no table")?.is_empty(),
            "no routes"
        );
        // Another user logs in.
        let home = f.folder().join("other-home");
        for args in [
            &["api", &f.api(), "--skip-ssl-validation"][..],
            &["auth", "admin", testkit::foundation::PASSWORD],
        ] {
            let output = f.cf_in(&home, args)?;
            ensure!(output.status.success(), "cf {args:?}: {}", both(&output));
        }
    }
    drop(filler);
    wait_for("writes work again by themselves", 30, || {
        let created = f.cf(&["create-space", "after-full"])?;
        Ok(created.status.success().then_some(()))
    })?;
    push(f, "after", &example("static"))?;
    let answer = f.get(&f.host("after"), "/")?;
    ensure!(
        answer.status == 200,
        "the app pushed afterwards: {}",
        answer.head
    );
    f.cf_ok(&["delete", "after", "-f", "-r"]).map(drop)
}

fn reserve(f: &mut Foundation) -> Result<()> {
    let folder = f.folder().join("large");
    std::fs::create_dir_all(&folder)?;
    sh(&format!(
        "cp -r {0}/* {1} && head -c 80M /dev/urandom > {1}/large",
        example("static"),
        folder.display()
    ))?;
    let filler = Filler::fill(f, (RESERVE_MB + 40) << 20)?;
    let pushed = f.cf_fails(&[
        "push",
        "large",
        "-p",
        &folder.to_string_lossy(),
        "-b",
        "staticfile_buildpack",
    ])?;
    ensure!(
        pushed.contains("kept in reserve") && pushed.contains(&*f.data.to_string_lossy()),
        "{pushed}"
    );
    let left = available(f)?;
    ensure!(
        left > (RESERVE_MB - 10) << 20,
        "{left} bytes are left of a reserve of {RESERVE_MB} MiB"
    );
    drop(filler);
    f.cf_ok(&["delete", "large", "-f", "-r"]).map(drop)
}

fn bus_restart(f: &mut Foundation) -> Result<()> {
    let filler = Filler::fill(f, 0)?;
    f.kill_nats_server()?;
    let password = f.plan["nats_password"].as_str().unwrap_or_default();
    wait_for("the bus is back on a full disk", 60, || {
        Ok(
            crate::peers::Nats::connect(f.port("nats"), "nats", password)
                .ok()
                .map(drop),
        )
    })?;
    let answer = f.get(&f.host("steady"), "/")?;
    ensure!(answer.status == 200, "{}", answer.head);
    drop(filler);
    f.cf_ok(&["delete", "steady", "-f", "-r"]).map(drop)
}
