//! Network policies: which app's containers may connect to which other app's, on which ports. All other traffic between
//! containers is refused.
//!
//! ```text
//! filter  netout--H ─▶ c2cout--TAG     marks packets to containers with the number of the sender's app
//!         overlay--TAG ─▶ c2cin--TAG   accepts what carries a number that the receiver's app permits, on its ports
//! ```
//! Both chains belong to the cell's own rules, which are compared and restored. A sender is identified by its interface, a
//! receiver by its address. The mark stays with a packet as long as the packet is on this machine, so that a container of one
//! cell can reach one of another cell here. Rendering is pure.

use super::garden::LinuxGarden;
use super::iptables::CELL;
use super::record::write_private;
use crate::api::{POLICY_GROUP, Policy, PolicyProtocol};
use crate::seal;
use anyhow::{Context, Result};
use std::fmt::Write;
use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::path::Path;

/// The requested policies, and the firewall rules that were applied for them.
#[derive(Debug, Default)]
pub(super) struct Policies {
    wanted: Vec<Policy>,
    applied: String,
}

/// A container, as far as policies concern it.
#[derive(Debug)]
struct Member {
    group: String,
    veth: String,
    address: Ipv4Addr,
}

/// Renders both chains. They are emptied and filled again.
fn render(tag: &str, policies: &[Policy], members: &[Member]) -> String {
    let mut text = format!("*filter\n:c2cout--{tag} - [0:0]\n:c2cin--{tag} - [0:0]\n");
    for member in members {
        let sent = policies.iter().find(|policy| policy.source == member.group);
        if let Some(policy) = sent {
            let _ = writeln!(
                text,
                "-A c2cout--{tag} -i {} -j MARK --set-xmark {:#x}/0xffffffff",
                member.veth, policy.source_tag
            );
        }
    }
    for member in members {
        for policy in policies
            .iter()
            .filter(|policy| policy.destination == member.group)
        {
            let protocol = match policy.protocol {
                PolicyProtocol::Tcp => "tcp",
                PolicyProtocol::Udp => "udp",
            };
            let (first, last) = policy.ports;
            let _ = writeln!(
                text,
                "-A c2cin--{tag} -d {}/32 -p {protocol} -m {protocol} --dport {first}:{last} -m mark --mark {:#x} -j ACCEPT",
                member.address, policy.source_tag
            );
        }
    }
    text.push_str("COMMIT\n");
    text
}

fn read(file: &Path) -> Result<Vec<Policy>> {
    let text = match std::fs::read(file) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        text => text.with_context(|| format!("read {}", file.display()))?,
    };
    let text = seal::open_or_plain(&text).with_context(|| format!("read {}", file.display()))?;
    serde_json::from_slice(text).with_context(|| format!("parse {}", file.display()))
}

impl LinuxGarden {
    /// Replaces the policies, and stores them for the next start.
    pub(super) async fn replace_policies(&self, wanted: &[Policy]) -> Result<()> {
        let mut policies = self.policies.lock().await;
        if policies.wanted != wanted {
            let text = serde_json::to_vec(wanted).context("encode the network policies")?;
            write_private(&self.paths.policies(), &seal::seal(&text))?;
            policies.wanted = wanted.to_vec();
        }
        self.render_policies(&mut policies).await
    }

    /// Adjusts the firewall to the present containers. It is called before a new container runs anything, because its address may
    /// have belonged to another container.
    pub(super) async fn apply_policies(&self) -> Result<()> {
        let mut policies = self.policies.lock().await;
        self.render_policies(&mut policies).await
    }

    /// Restores the stored policies; they hold until they are replaced. The chains are written again in any case.
    pub(super) async fn restore_policies(&self) -> Result<()> {
        let mut policies = self.policies.lock().await;
        policies.wanted = read(&self.paths.policies()).unwrap_or_else(|error| {
            tracing::error!(
                error = format!("{error:#}"),
                "the network policies cannot be read; none holds until they are set again"
            );
            Vec::new()
        });
        policies.applied.clear();
        self.render_policies(&mut policies).await
    }

    async fn render_policies(&self, policies: &mut Policies) -> Result<()> {
        let members: Vec<Member> = self
            .table()
            .containers
            .values()
            .filter_map(|record| {
                Some(Member {
                    group: record.properties.get(POLICY_GROUP)?.clone(),
                    veth: record.veth.clone(),
                    address: record.address,
                })
            })
            .collect();
        let text = render(&self.cell.tag, &policies.wanted, &members);
        if text != policies.applied {
            self.iptables
                .change(CELL, &text)
                .await
                .context("apply the network policies")?;
            policies.applied = text;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn senders_are_marked_and_receivers_require_the_mark() {
        let policy = |source: &str, tag, destination: &str, protocol, ports| Policy {
            source: source.into(),
            source_tag: tag,
            destination: destination.into(),
            protocol,
            ports,
        };
        let policies = [
            policy("front", 1, "back", PolicyProtocol::Tcp, (8080, 8080)),
            policy("front", 1, "back", PolicyProtocol::Udp, (53, 60)),
            policy("other", 300, "back", PolicyProtocol::Tcp, (1, 65535)),
        ];
        let member = |group: &str, last| Member {
            group: group.into(),
            veth: format!("cvt1-000{last}"),
            address: Ipv4Addr::new(10, 255, 0, last),
        };
        let members = [member("front", 2), member("back", 3), member("idle", 4)];
        assert_eq!(
            render("t1", &policies, &members),
            "*filter\n:c2cout--t1 - [0:0]\n:c2cin--t1 - [0:0]\n\
             -A c2cout--t1 -i cvt1-0002 -j MARK --set-xmark 0x1/0xffffffff\n\
             -A c2cin--t1 -d 10.255.0.3/32 -p tcp -m tcp --dport 8080:8080 -m mark --mark 0x1 -j ACCEPT\n\
             -A c2cin--t1 -d 10.255.0.3/32 -p udp -m udp --dport 53:60 -m mark --mark 0x1 -j ACCEPT\n\
             -A c2cin--t1 -d 10.255.0.3/32 -p tcp -m tcp --dport 1:65535 -m mark --mark 0x12c -j ACCEPT\n\
             COMMIT\n"
        );
        assert_eq!(
            render("t1", &[], &members),
            "*filter\n:c2cout--t1 - [0:0]\n:c2cin--t1 - [0:0]\nCOMMIT\n"
        );
    }
}
