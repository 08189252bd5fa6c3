//! The system calls that containers are denied. The module is pure data for the OCI configuration.
//!
//! It is a list of denied calls: containers are already unprivileged in a user namespace, and a list of allowed calls breaks
//! programs with every new kernel. Denied are calls that reach beyond namespaces, calls with a long history of vulnerabilities in
//! user namespaces, and sockets of families that no namespace contains (vsock reaches the hypervisor).

use serde_json::{Value, json};

/// The calls that fail with EPERM.
const DENIED: &[&str] = &[
    // the machine: modules, clocks, power, accounting, devices, swap
    "acct",
    "adjtimex",
    "clock_adjtime",
    "clock_settime",
    "create_module",
    "delete_module",
    "finit_module",
    "get_kernel_syms",
    "init_module",
    "ioperm",
    "iopl",
    "kexec_file_load",
    "kexec_load",
    "lookup_dcookie",
    "nfsservctl",
    "query_module",
    "quotactl",
    "quotactl_fd",
    "reboot",
    "settimeofday",
    "stime",
    "swapoff",
    "swapon",
    "sysfs",
    "_sysctl",
    "syslog",
    "uselib",
    "ustat",
    "vhangup",
    "vm86",
    "vm86old",
    // mounts and namespaces
    "fsconfig",
    "fsmount",
    "fsopen",
    "fspick",
    "mount",
    "mount_setattr",
    "move_mount",
    "open_tree",
    "open_tree_attr",
    "pivot_root",
    "setns",
    "umount",
    "umount2",
    "unshare",
    // handles past the namespace, keys that user namespaces share, tracing and memory of others
    "add_key",
    "bpf",
    "fanotify_init",
    "kcmp",
    "keyctl",
    "name_to_handle_at",
    "open_by_handle_at",
    "perf_event_open",
    "process_madvise",
    "process_vm_readv",
    "process_vm_writev",
    "request_key",
    "userfaultfd",
    "io_uring_enter",
    "io_uring_register",
    "io_uring_setup",
];

const AF_UNIX: u64 = 1;
const AF_INET: u64 = 2;
const AF_INET6: u64 = 10;
const AF_NETLINK: u64 = 16;
/// Families are numbered densely from 0 (unspecified) to 46 (mctp being 45); newer ones are refused as well.
const LAST_FAMILY: u64 = 46;
/// All flags of `clone` that create a namespace.
const CLONE_NEW: u64 = 0x7e02_0080;
const EPERM: u64 = 1;
const ENOSYS: u64 = 38;
const EAFNOSUPPORT: u64 = 97;
const TIOCSTI: u64 = 0x5412;
const TIOCLINUX: u64 = 0x541c;

pub(crate) fn profile() -> Value {
    let mut syscalls =
        vec![json!({ "names": DENIED, "action": "SCMP_ACT_ERRNO", "errnoRet": EPERM })];
    // Their arguments are in memory, which a filter cannot read. C libraries fall back to clone, and to socket and its relatives,
    // which 32-bit programs also have as separate system calls.
    syscalls.push(json!({ "names": ["clone3", "socketcall"], "action": "SCMP_ACT_ERRNO", "errnoRet": ENOSYS }));
    for bit in (0..31)
        .map(|shift| 1u64 << shift)
        .filter(|bit| CLONE_NEW & bit != 0)
    {
        syscalls.push(deny("clone", EPERM, masked(0, bit)));
    }
    // Input that is injected into a terminal would be executed by the program that reads the terminal.
    for request in [TIOCSTI, TIOCLINUX] {
        syscalls.push(deny("ioctl", EPERM, json!({ "index": 1, "op": "SCMP_CMP_MASKED_EQ", "value": 0xffff_ffffu64, "valueTwo": request })));
    }
    for family in (0..=LAST_FAMILY)
        .filter(|family| ![AF_UNIX, AF_INET, AF_INET6, AF_NETLINK].contains(family))
    {
        syscalls.push(deny(
            "socket",
            EAFNOSUPPORT,
            json!({ "index": 0, "op": "SCMP_CMP_EQ", "value": family }),
        ));
    }
    syscalls.push(deny(
        "socket",
        EAFNOSUPPORT,
        json!({ "index": 0, "op": "SCMP_CMP_GT", "value": LAST_FAMILY }),
    ));
    json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": architectures(),
        "syscalls": syscalls,
    })
}

fn deny(name: &str, errno: u64, argument: Value) -> Value {
    json!({ "names": [name], "action": "SCMP_ACT_ERRNO", "errnoRet": errno, "args": [argument] })
}

fn masked(index: u64, bits: u64) -> Value {
    json!({ "index": index, "op": "SCMP_CMP_MASKED_EQ", "value": bits, "valueTwo": bits })
}

/// Returns all call conventions of the machine: a call that is denied in one must not be allowed by another.
fn architectures() -> &'static [&'static str] {
    if cfg!(target_arch = "aarch64") {
        &["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]
    } else {
        &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_profile_denies_what_it_should() {
        let profile = profile();
        assert_eq!(profile["defaultAction"], "SCMP_ACT_ALLOW");
        let rules = profile["syscalls"].as_array().unwrap();
        let named = |name: &str| {
            rules
                .iter()
                .filter(|rule| rule["names"].as_array().unwrap().iter().any(|n| n == name))
                .count()
        };
        for name in [
            "mount",
            "unshare",
            "setns",
            "bpf",
            "keyctl",
            "init_module",
            "clone3",
            "socketcall",
        ] {
            assert_eq!(named(name), 1, "{name}");
        }
        assert_eq!(named("clone"), 8, "one per namespace flag");
        assert!(
            rules
                .iter()
                .any(|rule| rule["names"][0] == "socket" && rule["args"][0]["value"] == 40),
            "vsock"
        );
        assert!(
            !rules.iter().any(|rule| rule["names"][0] == "socket"
                && rule["args"][0]["op"] == "SCMP_CMP_EQ"
                && rule["args"][0]["value"] == 2),
            "inet"
        );
    }
}
