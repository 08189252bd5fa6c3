//! `cupola certs` and `cupola join-bundle` as an operator runs them, on the data directory of a stopped foundation.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

/// The plan of a foundation whose services are reached at 10.0.0.2, except the BBS if `bbs` is another address.
fn foundation(bbs: &str) -> tempfile::TempDir {
    let data = tempfile::tempdir().unwrap();
    let address =
        |advertise: &str| serde_json::json!({"listen": "10.0.0.2:1", "advertise": advertise});
    let plan = serde_json::json!({
        "tag": "a", "domain": "a.test", "cell_ip": "10.0.0.1", "http_port": 80, "https_port": 443,
        "ports": {"nats": 1, "bbs": 2, "locket": 3, "auctioneer": 4, "rep": 5, "cloud_controller": 6,
            "cloud_controller_internal": 7, "uaa": 8, "log_cache": 9, "log_ingress": 10, "router_status": 11},
        "addresses": {
            "nats": address("10.0.0.2:4222"), "bbs": address(bbs), "locket": address("10.0.0.2:8891"),
            "cloud_controller_internal": address("10.0.0.2:9023"), "log_ingress": address("10.0.0.2:3458"),
        },
        "nats_password": "the-password", "status_password": "", "client_secret": "", "admin_user": "admin",
    });
    std::fs::write(data.path().join("foundation.json"), plan.to_string()).unwrap();
    data
}

fn cupola(data: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_cupola"))
        .args(args)
        .arg("--data")
        .arg(data)
        .output()
        .unwrap()
}

fn fails(data: &Path, args: &[&str], reason: &str) {
    let output = cupola(data, args);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{args:?}: {text}");
    assert!(text.contains(reason), "{args:?}: {text}");
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn certificates_are_issued_for_named_hosts() {
    let data = foundation("10.0.0.2:8889");
    let out = data.path().join("out");
    let place = out.display().to_string();
    let issue = [
        "certs",
        "bbs",
        "--host",
        "bbs.example.com",
        "--host",
        "10.0.0.2",
        "--out",
        &place,
    ];
    let output = cupola(data.path(), &issue);
    assert!(output.status.success(), "{output:?}");
    let text = |name: &str| std::fs::read_to_string(out.join(name)).unwrap();
    kit::tls::check_pair(&text("bbs.crt"), &text("bbs.key")).unwrap();
    assert_eq!(mode(&out.join("bbs.key")), 0o600);
    let ca = std::fs::read_to_string(data.path().join("certs/components_ca.crt")).unwrap();
    assert_eq!(text("components_ca.crt"), ca);
    // A server with this certificate is believed by clients that trust the CA, at both hosts.
    for host in ["bbs.example.com", "10.0.0.2"] {
        let checked = Command::new("openssl")
            .args(["verify", "-CAfile"])
            .arg(out.join("components_ca.crt"))
            .arg(if host.starts_with("10") {
                "-verify_ip"
            } else {
                "-verify_hostname"
            })
            .arg(host)
            .arg(out.join("bbs.crt"))
            .output()
            .unwrap();
        assert!(checked.status.success(), "{host}: {checked:?}");
    }
    fails(data.path(), &issue, "exists already");
    fails(
        data.path(),
        &["certs", "bbs", "--host", "a b"],
        "is neither an IP address nor a name",
    );
}

#[test]
fn a_bundle_is_one_private_file() {
    let data = foundation("10.0.0.2:8889");
    let out = data.path().join("cell.bundle");
    let place = out.display().to_string();
    let make = [
        "join-bundle",
        "--roles",
        "cell,dns",
        "--host",
        "10.0.0.3",
        "--out",
        &place,
    ];
    let output = cupola(data.path(), &make);
    assert!(output.status.success(), "{output:?}");
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(
        printed.contains("cupola serve --roles cell,dns -c"),
        "{printed}"
    );
    assert!(!printed.contains("the-password"), "{printed}");
    assert_eq!(mode(&out), 0o600);
    let bundle = std::fs::read_to_string(&out).unwrap();
    assert!(bundle.contains("the-password") && bundle.contains("10.0.0.2:8889"));
    fails(data.path(), &make, "exists already");
}

#[test]
fn a_bundle_that_could_not_work_is_refused() {
    let data = foundation("127.0.0.1:8889");
    let make = |roles| {
        [
            "join-bundle",
            "--roles",
            roles,
            "--host",
            "10.0.0.3",
            "--out",
            "/nowhere/x",
        ]
    };
    fails(
        data.path(),
        &make("cell"),
        "bbs is advertised at 127.0.0.1:8889",
    );
    fails(data.path(), &make("router,uaa"), "the role uaa cannot join");
    let none = tempfile::tempdir().unwrap();
    fails(none.path(), &make("router"), "no foundation in");
}
