//! The OCI configuration of a container and of its processes. It is pure data; [`super::container`] writes it for crun.

use super::config::ID_COUNT;
use super::passwd::User;
use super::seccomp;
use nix::sys::resource::{Resource, getrlimit};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// The path of our own program in every container. It is on crun's tmpfs, so that the root file system stays unchanged.
pub(crate) const INSIDE: &str = "/dev/inside";

const CGROUPS: &str = "/sys/fs/cgroup";

/// The capabilities of root in the container. They hold only within its user namespace. NET_RAW (forged packets), MKNOD,
/// NET_ADMIN and SYS_ADMIN are not among them.
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

/// The files of /proc and /sys that would show or change things outside the container.
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

/// The values of one container's configuration.
#[derive(Debug)]
pub(crate) struct Bundle<'a> {
    pub(crate) root: &'a Path,
    pub(crate) inside: &'a Path,
    pub(crate) hostname: &'a str,
    pub(crate) nofile: u64,
    /// The size of /dev/shm in MiB.
    pub(crate) shared_memory_mb: u64,
    /// The app's cgroups: each mount point in the container, and the folder on the host.
    pub(crate) cgroups: &'a [(PathBuf, PathBuf)],
    /// The host id of the container's root.
    pub(crate) base_id: u32,
}

/// Returns the configuration of the container: its init, namespaces, mounts and restrictions. Memory, CPU and process limits are
/// set in cgroups that crun does not know.
pub(crate) fn container(bundle: &Bundle<'_>) -> Value {
    let Bundle {
        root,
        inside,
        hostname,
        nofile,
        ..
    } = *bundle;
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
    let mapping = json!([{ "containerID": 0, "hostID": bundle.base_id, "size": ID_COUNT }]);
    let mount = |destination: &str, kind: &str, source: &str, options: &[&str]| json!({ "destination": destination, "type": kind, "source": source, "options": options });
    let namespaces: Vec<Value> = ["mount", "pid", "network", "ipc", "uts", "user", "cgroup"]
        .iter()
        .map(|kind| json!({ "type": kind }))
        .collect();
    let shm = format!("size={}m", bundle.shared_memory_mb);
    let mut mounts = vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount(
            "/dev",
            "tmpfs",
            "tmpfs",
            &["nosuid", "strictatime", "mode=755", "size=65536k"],
        ),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &[
                "nosuid",
                "noexec",
                "newinstance",
                "ptmxmode=0666",
                "mode=0620",
                "gid=5",
            ],
        ),
        mount(
            "/dev/shm",
            "tmpfs",
            "shm",
            &[
                "nosuid",
                "noexec",
                "nodev",
                "mode=1777",
                "nr_inodes=16k",
                &shm,
            ],
        ),
        mount(
            "/dev/mqueue",
            "mqueue",
            "mqueue",
            &["nosuid", "noexec", "nodev"],
        ),
        mount(
            "/sys",
            "sysfs",
            "sysfs",
            &["nosuid", "noexec", "nodev", "ro"],
        ),
        json!({ "destination": INSIDE, "type": "bind", "source": inside, "options": ["bind", "ro", "nosuid", "nodev"] }),
    ];
    // Language runtimes size their heaps by these files.
    let several = bundle
        .cgroups
        .iter()
        .all(|(place, _)| place != Path::new(CGROUPS));
    if several {
        mounts.push(mount(
            CGROUPS,
            "tmpfs",
            "tmpfs",
            &[
                "nosuid",
                "noexec",
                "nodev",
                "mode=755",
                "size=64k",
                "nr_inodes=64",
            ],
        ));
    }
    mounts.extend(bundle.cgroups.iter().map(|(place, folder)| json!({
        "destination": place, "type": "bind", "source": folder, "options": ["rbind", "ro", "nosuid", "nodev", "noexec"],
    })));
    json!({
        "ociVersion": "1.0.2",
        "process": init,
        "root": { "path": root, "readonly": false },
        "hostname": hostname,
        "mounts": mounts,
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

/// Returns the configuration of a process. It sets everything explicitly: crun's defaults are root, no PATH, and all capabilities
/// that are allowed.
pub(crate) fn process(
    user: &User,
    args: &[String],
    env: &[String],
    dir: &str,
    nofile: u64,
) -> Value {
    // Inheritable and ambient capabilities would survive into programs of other users.
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
            // The limit is not 0, because the kernel would then still start a program to which core dumps are piped.
            { "type": "RLIMIT_CORE", "soft": 1, "hard": 1 },
            // The kernel counts these for all containers together.
            limit("RLIMIT_MEMLOCK", 64 << 10),
            limit("RLIMIT_MSGQUEUE", 200 << 10),
            limit("RLIMIT_SIGPENDING", 4096),
        ],
        "noNewPrivileges": true,
    })
}

/// Returns a limit that never exceeds this process's own, which only a privileged process could raise.
fn limit(name: &str, most: u64) -> Value {
    let resource = match name {
        "RLIMIT_MEMLOCK" => Resource::RLIMIT_MEMLOCK,
        "RLIMIT_MSGQUEUE" => Resource::RLIMIT_MSGQUEUE,
        _ => Resource::RLIMIT_SIGPENDING,
    };
    let most = getrlimit(resource).map_or(most, |(_, hard)| most.min(hard));
    json!({ "type": name, "soft": most, "hard": most })
}

/// Returns the environment of a process: our variables, the container's, and its own. If a name occurs twice, the last one wins.
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

/// Returns a host name that the kernel accepts: the end of the handle, cut as in guardian.
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

    fn bundle(cgroups: &[(PathBuf, PathBuf)]) -> Bundle<'_> {
        Bundle {
            root: Path::new("/run/x"),
            inside: Path::new("/bin/inside"),
            hostname: "h",
            nofile: 1024,
            shared_memory_mb: 64,
            cgroups,
            base_id: 0x7002_0000,
        }
    }

    #[test]
    fn cgroups_are_shown_read_only() {
        let places = |cgroups: &[(&str, &str)]| {
            let cgroups: Vec<(PathBuf, PathBuf)> = cgroups
                .iter()
                .map(|(place, folder)| (place.into(), folder.into()))
                .collect();
            let config = container(&bundle(&cgroups));
            let mounts = config["mounts"].as_array().unwrap().iter();
            mounts
                .filter(|mount| mount["destination"].as_str().unwrap().starts_with(CGROUPS))
                .map(|mount| format!("{} {}", mount["type"], mount["options"]))
                .collect::<Vec<_>>()
        };
        let bind = r#""bind" ["rbind","ro","nosuid","nodev","noexec"]"#;
        assert_eq!(places(&[("/sys/fs/cgroup", "/host/app")]), [bind]);
        let version_1 = places(&[("/sys/fs/cgroup/memory", "/host/app")]);
        assert!(
            version_1[0].starts_with("\"tmpfs\"") && version_1[1] == bind,
            "{version_1:?}"
        );
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
        let config = container(&bundle(&[]));
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
        assert_eq!(config["linux"]["uidMappings"][0]["hostID"], 0x7002_0000);
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
