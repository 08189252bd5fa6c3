//! A separate garden for each test. It is removed afterwards, even if the test fails.

use garden::api::{
    Container, ContainerSpec, EgressRule, Exit, Garden, NetIn, Output, Process, ProcessSpec,
    Protocol,
};
use garden::linux::{Audience, CellNetwork, GardenConfig, HostService, LinuxGarden, SharedLimits};
use std::collections::BTreeMap;
use std::future::Future;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use testkit::wait::{until, within};

/// The lock that lets tests run one at a time, because they compare the machine before and after.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

pub(crate) const STACK: &str = "preloaded:cflinuxfs4";

/// The directories of a test's garden.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) tag: String,
    pub(crate) data: PathBuf,
    pub(crate) run: PathBuf,
    pub(crate) limits: SharedLimits,
}

fn from_env(name: &str, otherwise: impl FnOnce() -> PathBuf) -> PathBuf {
    std::env::var_os(name).map_or_else(otherwise, PathBuf::from)
}

impl Place {
    fn new(name: &str) -> Self {
        let tag = format!("t{name}");
        let data = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("garden-{tag}"));
        std::fs::create_dir_all(&data).unwrap();
        // The stack is unpacked once for all tests.
        let stacks = Path::new(env!("CARGO_TARGET_TMPDIR")).join("garden-stacks");
        std::fs::create_dir_all(&stacks).unwrap();
        let _ = std::os::unix::fs::symlink(stacks, data.join("stacks"));
        Self {
            run: PathBuf::from(format!("/run/cupola-{tag}")),
            tag,
            data,
            limits: SharedLimits::default(),
        }
    }

    pub(crate) async fn build(&self) -> Arc<LinuxGarden> {
        let network = CellNetwork::claim(&self.tag, None).await.unwrap();
        let cell_ip = network.cell_ip;
        let target = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .parent()
            .unwrap()
            .to_owned();
        let config = GardenConfig {
            tag: self.tag.clone(),
            data_dir: self.data.clone(),
            run_dir: self.run.clone(),
            crun: "crun".into(),
            inside: from_env("CUPOLA_INSIDE", || {
                target.join("x86_64-unknown-linux-gnu/debug/inside")
            }),
            stacks: [(
                "cflinuxfs4".to_owned(),
                from_env("CUPOLA_STACK", || "/var/cache/cupola/cflinuxfs4.tar".into()),
            )]
            .into(),
            dns: network.cell_ip,
            network,
            router_ports: vec![ROUTER_PORT],
            host_services: vec![
                host_service(cell_ip, OPEN_PORT, Audience::All),
                host_service(cell_ip, BOUND_PORT, Audience::Bound),
            ],
            log_denied: false,
            limits: self.limits,
            memory_mb: 0,
            disk_mb: 0,
            max_containers: 0,
        };
        Arc::new(LinuxGarden::build(config).await.unwrap())
    }

    async fn clean(&self) {
        let garden = self.build().await;
        for container in garden.containers().await.unwrap() {
            garden.destroy(&container.handle).await.unwrap();
        }
        garden.shutdown_clean().await.unwrap();
        std::fs::remove_dir_all(&self.data).unwrap();
    }
}

/// The port that containers may reach on the cell, as if a router listened there.
pub(crate) const ROUTER_PORT: u16 = 58080;

/// The port of the cell that all containers may reach, and the one that containers with a rule for it may reach.
pub(crate) const OPEN_PORT: u16 = 58081;
pub(crate) const BOUND_PORT: u16 = 58082;

fn host_service(address: Ipv4Addr, port: u16, audience: Audience) -> HostService {
    HostService {
        protocol: Protocol::Tcp,
        address,
        port,
        audience,
    }
}

/// Runs a test with a place of its own. Without `CUPOLA_ROOT_TESTS=1` it prints that the test is skipped.
pub(crate) async fn with_place<F, T>(name: &str, test: F)
where
    F: FnOnce(Place) -> T,
    T: Future<Output = ()> + Send + 'static,
{
    if std::env::var("CUPOLA_ROOT_TESTS").as_deref() != Ok("1") {
        println!("SKIPPED {name}: needs root and crun; set CUPOLA_ROOT_TESTS=1");
        return;
    }
    let _turn = TURN.lock().await;
    let before = Traces::now();
    let place = Place::new(name);
    let outcome = tokio::spawn(test(place.clone())).await;
    place.clean().await;
    if let Err(error) = outcome {
        std::panic::resume_unwind(error.into_panic());
    }
    before.are_back().await;
}

/// Everything that garden could leave behind on the machine, except that of other foundations that run now.
#[derive(Debug, PartialEq)]
pub(crate) struct Traces {
    found: BTreeMap<&'static str, Vec<String>>,
}

impl Traces {
    /// Returns the command lines of shims and inits.
    pub(crate) fn processes(&self) -> &[String] {
        &self.found["processes"]
    }

    /// Waits until the machine has these traces again, and no others.
    pub(crate) async fn are_back(&self) {
        until("the machine to be as before", || {
            let now = Self::now();
            let is = now == *self;
            is.then_some(())
                .ok_or_else(|| format!("before {self:#?}\nafter {now:#?}"))
        })
        .await;
    }

    pub(crate) fn now() -> Self {
        let command = |program: &str, args: &[&str]| {
            let output = std::process::Command::new(program)
                .args(args)
                .output()
                .unwrap();
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        // The tests' tags begin with t; the tags of everything else that runs here do not.
        let ours = |text: String, words: &[&str]| {
            text.lines()
                .filter(|line| words.iter().any(|word| line.contains(word)))
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let mut found = BTreeMap::new();
        found.insert(
            "links",
            ours(command("ip", &["-o", "link"]), &["cvt", "cupola-t"]),
        );
        found.insert(
            "chains",
            ours(
                command("iptables-save", &[]),
                &["cvt", "--t", "--root-test"],
            ),
        );
        found.insert(
            "mounts",
            ours(
                std::fs::read_to_string("/proc/self/mounts").unwrap(),
                &["cupola-t", "garden-t"],
            ),
        );
        found.insert("loops", ours(command("losetup", &["-a"]), &["garden-t"]));
        found.insert(
            "cgroups",
            ours(
                command("find", &["/sys/fs/cgroup", "-type", "d"]),
                &["cupola-t"],
            ),
        );
        found.insert(
            "processes",
            ours(command("ps", &["-eo", "args"]), &["garden-t"]),
        );
        found.insert(
            "routes",
            ours(command("ip", &["route"]), &["unreachable", "cvt"]),
        );
        Self { found }
    }
}

pub(crate) fn spec(handle: &str) -> ContainerSpec {
    ContainerSpec {
        handle: format!("root-test-{handle}"),
        rootfs: STACK.to_owned(),
        env: vec![("FROM_CONTAINER".to_owned(), "yes".to_owned())],
        net_in: vec![
            NetIn {
                host_port: 0,
                container_port: 8080,
            },
            NetIn {
                host_port: 0,
                container_port: 61001,
            },
        ],
        hostname: handle.to_owned(),
        ..ContainerSpec::default()
    }
}

pub(crate) fn sh(id: &str, script: &str) -> ProcessSpec {
    ProcessSpec {
        id: id.to_owned(),
        path: "/bin/bash".to_owned(),
        args: vec!["-c".to_owned(), script.to_owned()],
        ..ProcessSpec::default()
    }
}

pub(crate) fn all_addresses() -> EgressRule {
    EgressRule {
        protocol: Protocol::All,
        destinations: vec![(Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST)],
        ports: vec![],
        icmp: None,
        log: false,
    }
}

/// Runs a process to its end. Returns its exit status and output.
pub(crate) async fn output(
    garden: &LinuxGarden,
    container: &Container,
    process: ProcessSpec,
) -> (Exit, String) {
    finish(garden.run(&container.handle, process).await.unwrap()).await
}

pub(crate) async fn finish(mut process: Process) -> (Exit, String) {
    let mut printed = Vec::new();
    let collect = async {
        while let Some(Output::Stdout(chunk) | Output::Stderr(chunk)) = process.output.recv().await
        {
            printed.extend_from_slice(&chunk);
        }
        process.exit.await.unwrap()
    };
    let exit = within("the end of the process", collect).await;
    (exit, String::from_utf8_lossy(&printed).trim().to_owned())
}

/// Waits for a line of output.
pub(crate) async fn read_until(process: &mut Process, wanted: &str) -> String {
    let mut printed = String::new();
    while !printed.contains(wanted) {
        let next = within("output of the process", process.output.recv()).await;
        let Some(Output::Stdout(chunk) | Output::Stderr(chunk)) = next else {
            panic!("no {wanted:?} in {printed:?}")
        };
        printed.push_str(&String::from_utf8_lossy(&chunk));
    }
    printed
}
