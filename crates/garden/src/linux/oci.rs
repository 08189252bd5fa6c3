//! The OCI configuration of a container and of its processes. Pure data; [`super::container`] writes it for crun.

use super::config::{BASE_ID, ID_COUNT};
use super::passwd::User;
use super::seccomp;
use serde_json::{Value, json};
use std::path::Path;

/// Where our own program stands inside every container: on crun's tmpfs, so that the root file system stays as it is.
pub(crate) const INSIDE: &str = "/dev/inside";

/// Kept for root in the container. All of it holds only within its user namespace. No NET_RAW (forged packets), no
/// MKNOD, no NET_ADMIN, no SYS_ADMIN.
const CAPABILITIES: &[&str] = &[
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_NET_BIND_SERVICE",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// What /proc and /sys would tell or let do beyond the container.
const MASKED: &[&str] = &[
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/scsi",
    "/proc/sched_debug",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];
const READ_ONLY: &[&str] = &[
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// The container: its init, namespaces, mounts, and what it must not do. Memory, CPU and process limits are cgroups
/// that crun does not know of.
pub(crate) fn container(root: &Path, inside: &Path, hostname: &str, nofile: u64) -> Value {
    let root_user = User {
        name: "root".to_owned(),
        uid: 0,
        gid: 0,
        groups: Vec::new(),
        home: "/".to_owned(),
    };
    let init = process(
        &root_user,
        &[INSIDE.to_owned(), "init".to_owned()],
        &[],
        "/",
        nofile,
    );
    let mapping = json!([{ "containerID": 0, "hostID": BASE_ID, "size": ID_COUNT }]);
    let mount = |destination: &str, kind: &str, source: &str, options: &[&str]| json!({ "destination": destination, "type": kind, "source": source, "options": options });
    let namespaces: Vec<Value> = ["mount", "pid", "network", "ipc", "uts", "user", "cgroup"]
        .iter()
        .map(|kind| json!({ "type": kind }))
        .collect();
    json!({
        "ociVersion": "1.0.2",
        "process": init,
        "root": { "path": root, "readonly": false },
        "hostname": hostname,
        "mounts": [
            mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
            mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            mount("/dev/pts", "devpts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
            mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
            mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
            mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
            json!({ "destination": INSIDE, "type": "bind", "source": inside, "options": ["bind", "ro", "nosuid", "nodev"] }),
        ],
        "linux": {
            "namespaces": namespaces,
            "uidMappings": mapping,
            "gidMappings": mapping,
            "maskedPaths": MASKED,
            "readonlyPaths": READ_ONLY,
            "rootfsPropagation": "rprivate",
            "seccomp": seccomp::profile(),
        },
    })
}

/// A process, everything spelled out: crun would start it as root, without PATH and with all it may have.
pub(crate) fn process(
    user: &User,
    args: &[String],
    env: &[String],
    dir: &str,
    nofile: u64,
) -> Value {
    // Inheritable and ambient ones would survive into programs of other users.
    let held: &[&str] = if user.uid == 0 { CAPABILITIES } else { &[] };
    json!({
        "terminal": false,
        "user": { "uid": user.uid, "gid": user.gid, "additionalGids": user.groups, "umask": 0o022 },
        "args": args,
        "env": env,
        "cwd": dir,
        "capabilities": { "bounding": held, "effective": held, "permitted": held, "inheritable": [], "ambient": [] },
        "rlimits": [
            { "type": "RLIMIT_NOFILE", "soft": nofile, "hard": nofile },
            { "type": "RLIMIT_CORE", "soft": 0, "hard": 0 },
        ],
        "noNewPrivileges": true,
    })
}

/// The environment of a process: ours, the container's, its own; what is set later wins.
pub(crate) fn environment(
    user: &User,
    container: &[(String, String)],
    own: &[(String, String)],
) -> Vec<String> {
    let path = if user.uid == 0 { ROOT_PATH } else { USER_PATH };
    let ours = [
        ("HOME", user.home.as_str()),
        ("USER", user.name.as_str()),
        ("PATH", path),
        ("LANG", "en_US.UTF-8"),
    ];
    let mut merged: Vec<(String, String)> = ours
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    for (name, value) in container.iter().chain(own) {
        match merged.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => old.clone_from(value),
            None => merged.push((name.clone(), value.clone())),
        }
    }
    merged
        .into_iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect()
}

const ROOT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const USER_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// What the kernel takes as a host name: the end of the handle, as guardian cuts it.
pub(crate) fn hostname(wanted: &str) -> String {
    let plain: String = wanted
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || c == '-' || c == '.' {
                c
            } else {
                '-'
            }
        })
        .collect();
    let start = plain.len().saturating_sub(49);
    let cut = plain[start..].trim_matches(|c| c == '-' || c == '.');
    if cut.is_empty() {
        "container".to_owned()
    } else {
        cut.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vcap() -> User {
        User {
            name: "vcap".into(),
            uid: 2000,
            gid: 2000,
            groups: vec![],
            home: "/home/vcap".into(),
        }
    }

    #[test]
    fn vcap_holds_no_capability_and_gains_none() {
        let process = process(&vcap(), &["/bin/true".into()], &[], "/home/vcap", 100);
        for set in [
            "bounding",
            "effective",
            "permitted",
            "inheritable",
            "ambient",
        ] {
            assert_eq!(process["capabilities"][set], json!([]), "{set}");
        }
        assert_eq!(process["noNewPrivileges"], true);
        assert_eq!(process["rlimits"][0]["hard"], 100);
    }

    #[test]
    fn a_container_has_all_namespaces_and_no_host_id() {
        let config = container(Path::new("/run/x"), Path::new("/bin/inside"), "h", 1024);
        let kinds: Vec<&str> = config["linux"]["namespaces"]
            .as_array()
            .unwrap()
            .iter()
            .map(|n| n["type"].as_str().unwrap())
            .collect();
        assert_eq!(
            kinds,
            ["mount", "pid", "network", "ipc", "uts", "user", "cgroup"]
        );
        assert_eq!(config["linux"]["uidMappings"][0]["hostID"], BASE_ID);
        assert!(
            !config["process"]["capabilities"]["bounding"]
                .to_string()
                .contains("NET_RAW")
        );
    }

    #[test]
    fn later_settings_win() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let env = environment(
            &vcap(),
            &[pair("A", "1"), pair("PATH", "/x")],
            &[pair("A", "2")],
        );
        assert_eq!(
            env,
            [
                "HOME=/home/vcap",
                "USER=vcap",
                "PATH=/x",
                "LANG=en_US.UTF-8",
                "A=2"
            ]
        );
    }

    #[test]
    fn host_names_fit() {
        assert_eq!(hostname("a_b.c"), "a-b.c");
        assert_eq!(hostname(&"x".repeat(80)).len(), 49);
        assert_eq!(hostname("--"), "container");
    }
}
