//! The network of the machines: a namespace for each, and one for the bridge that connects them. The root namespace stays as it is.

use crate::foundation::sh;
use anyhow::{Context as _, Result};
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

/// The namespaces. They are removed with all links in them when it is dropped.
#[derive(Debug)]
pub(super) struct Network {
    /// The beginning of the namespaces' names.
    prefix: String,
    machines: Vec<&'static str>,
}

/// The name of the bridge's namespace after the prefix.
const FABRIC: &str = "fabric";

impl Network {
    /// Creates a namespace for each machine, with `eth0` at `10.77.0.N`.
    pub(super) fn create(machines: &[(&'static str, u8)]) -> Result<Self> {
        let network = Self {
            prefix: format!("cupst{}", std::process::id()),
            machines: machines.iter().map(|(name, _)| *name).collect(),
        };
        let fabric = network.namespace(FABRIC);
        sh(&format!(
            "ip netns add {fabric} && ip -n {fabric} link add br0 type bridge && ip -n {fabric} link set br0 up"
        ))?;
        for (at, (name, address)) in machines.iter().enumerate() {
            let own = network.namespace(name);
            sh(&format!(
                "set -e; ip netns add {own}
                 ip -n {own} link add eth0 type veth peer name port{at} netns {fabric}
                 ip -n {fabric} link set port{at} master br0 up
                 ip -n {own} address add 10.77.0.{address}/24 dev eth0
                 ip -n {own} link set lo up; ip -n {own} link set eth0 up"
            ))
            .with_context(|| format!("create the machine {name}"))?;
        }
        Ok(network)
    }

    fn namespace(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    /// Returns a command that runs on the machine. `ip netns exec` would also hide the cgroups, so it is not used.
    pub(super) fn command(&self, machine: &str, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net=/run/netns/{}", self.namespace(machine)))
            .arg("--")
            .arg(program);
        command
    }

    pub(super) fn connect(&self, machine: &str, connected: bool) -> Result<()> {
        let at = self.machines.iter().position(|name| *name == machine);
        let at = at.context("there is no such machine")?;
        let state = if connected { "up" } else { "down" };
        let fabric = self.namespace(FABRIC);
        sh(&format!("ip -n {fabric} link set port{at} {state}")).map(drop)
    }

    /// Returns what the machine has besides its uplink: iptables rules, links and routes.
    pub(super) fn remains(&self, machine: &str) -> Result<Vec<String>> {
        let path = format!("/run/netns/{}", self.namespace(machine));
        let text = sh(&format!(
            "nsenter --net={path} sh -c '
               for t in filter nat mangle; do iptables -w -t $t -S; done | grep -v ^-P
               ip -o link | grep -v -E \"^[0-9]+: (lo|eth0)[@:]\"
               ip route | grep -v \"^10.77.0.0/24 dev eth0\"
               true'"
        ))?;
        Ok(text.lines().map(str::to_owned).collect())
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for name in self.machines.iter().chain([&FABRIC]) {
            let namespace = self.namespace(name);
            // A machine that could not be created has no namespace.
            let removed = sh(&format!(
                "! ip netns list | grep -qw {namespace} || ip netns delete {namespace}"
            ));
            if let Err(error) = removed {
                let _ = writeln!(std::io::stderr(), "{namespace} is left: {error:#}");
            }
        }
    }
}
