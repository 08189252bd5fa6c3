//! Tests of the pages on which operators watch a process. The real binary runs some of its roles; the tests read its pages as
//! Prometheus does.

use std::process::{Child, Command, Stdio};
use std::time::Duration;
use testkit::metrics::{self, Listed};
use testkit::net::free_port;
use testkit::wait::block_until;

/// A process that is stopped when the test ends.
struct Process {
    child: Child,
    port: u16,
    _data: tempfile::TempDir,
}

impl Drop for Process {
    fn drop(&mut self) {
        // A process that is killed would leave its nats-server behind.
        let pid = nix::unistd::Pid::from_raw(self.child.id().cast_signed());
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        for _ in 0..200 {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn serve(roles: &str, port: u16) -> (Command, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("cupola.yml");
    std::fs::write(&config, format!("metrics: 127.0.0.1:{port}\n")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_cupola"));
    command
        .args(["serve", "--roles", roles, "--config"])
        .arg(config)
        .args(["--http", "127.0.0.1:0", "--https", "127.0.0.1:0", "--data"])
        .arg(folder.path().join("data"))
        .env_remove("CUPOLA_DATA")
        .env("CUPOLA_ADMIN_PASSWORD", "password")
        .stdin(Stdio::null());
    (command, folder)
}

fn start(roles: &str) -> Process {
    let port = free_port();
    let (mut command, data) = serve(roles, port);
    let child = command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    Process {
        child,
        port,
        _data: data,
    }
}

impl Process {
    /// Waits until a page has this status, and returns its body.
    fn wait_for(&self, path: &str, status: u16) -> String {
        block_until(&format!("{status} for {path}"), || {
            match metrics::get(self.port, path) {
                Ok((seen, body)) if seen == status => Ok(body),
                Ok((seen, body)) => Err(format!("{seen}: {body}")),
                Err(error) => Err(error),
            }
        })
    }
}

/// The roles that need neither root nor a role that does, and the titles of their tables.
const ROLES: &str = "nats,bbs,auctioneer,uaa,log-cache";
const TABLES: &[&str] = &[
    "The process itself",
    "Role `nats`",
    "Role `bbs`",
    "Role `bbs` (locket)",
    "Role `auctioneer`",
    "Role `uaa`",
    "Role `log-cache`",
];
/// The metrics that need another role: a domain is made fresh by a Cloud Controller, which also has the list of drains, and envelopes come
/// from a cell.
const OF_OTHERS: &[&str] = &[
    "bbs_domain",
    "log_cache_cache_period_seconds",
    "syslog_agent_active_drains",
    "syslog_agent_blacklisted_drains",
    "syslog_agent_drains",
    "syslog_agent_invalid_drains",
];

#[test]
fn every_listed_metric_has_a_value() {
    let process = start(ROLES);
    process.wait_for("/ready", 200);
    let listed: Vec<Listed> = metrics::listed()
        .into_iter()
        .filter(|metric| TABLES.contains(&metric.table.as_str()))
        .filter(|metric| !OF_OTHERS.contains(&metric.name.as_str()))
        .collect();
    for table in TABLES {
        assert!(
            listed.iter().any(|metric| metric.table == *table),
            "{table}"
        );
    }
    let page = block_until("a value of every metric", || {
        let page = process.wait_for("/metrics", 200);
        let lacks = listed.iter().find(|m| !metrics::has_value(&page, &m.name));
        match lacks {
            Some(metric) => Err(format!("{} has no value:\n{page}", metric.name)),
            None => Ok(page),
        }
    });
    let kinds = metrics::kinds(&page);
    for metric in &listed {
        assert_eq!(kinds[metric.name.as_str()], metric.kind, "{}", metric.name);
    }
    assert_eq!(metrics::value(&page, "bbs_lock_held"), Some(1.0));
    assert_eq!(metrics::value(&page, "auctioneer_lock_held"), Some(1.0));
    assert_eq!(metrics::value(&page, "locket_active_locks"), Some(2.0));
    assert_eq!(metrics::value(&page, "bbs_present_cells"), Some(0.0));
    assert_eq!(metrics::value(&page, "nats_server_starts_total"), Some(1.0));
    // The registrar of the routes to uaa and log-cache is the sixth.
    assert_eq!(metrics::value(&page, "cupola_role_ready"), Some(6.0));
    assert_eq!(
        metrics::value(&page, "cupola_role_failures_total"),
        Some(0.0)
    );
}

#[test]
fn every_role_answers_for_itself() {
    let process = start(ROLES);
    for role in ROLES.split(',') {
        let body = process.wait_for(&format!("/ready/{role}"), 200);
        assert_eq!(
            body,
            format!(r#"{{"ready":true,"roles":{{"{role}":{{"ready":true,"reasons":[]}}}}}}"#)
        );
    }
    let body = process.wait_for("/ready/router", 404);
    assert!(body.contains("does not run a role \"router\""), "{body}");
}

#[test]
fn a_role_names_what_it_lacks() {
    let process = start("auctioneer");
    let body = block_until("the reason", || {
        let body = process.wait_for("/ready/auctioneer", 503);
        if body.contains("the lock: not yet") {
            Ok(body)
        } else {
            Err(body)
        }
    });
    assert_eq!(process.wait_for("/ready", 503), body);
    assert_eq!(process.wait_for("/healthz", 200), "ok\n");
    let page = process.wait_for("/metrics", 200);
    assert_eq!(metrics::value(&page, "cupola_role_ready"), Some(0.0));
    assert!(
        !metrics::has_value(&page, "auctioneer_lock_held"),
        "it is not known before the lock was held or lost"
    );
}

#[test]
fn a_taken_address_is_refused_by_name() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let (mut command, _data) = serve("uaa", port);
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    let wanted = format!("metrics: this process cannot listen on 127.0.0.1:{port}");
    assert!(text.contains(&wanted), "{text}");
    assert!(text.contains("with the key `metrics`"), "{text}");
}
