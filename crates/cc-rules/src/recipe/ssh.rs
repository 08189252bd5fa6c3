//! Adds the sshd to an LRP: its action, and the entry `diego-ssh` of the routes, from which the ssh-proxy learns how to log in.
//!
//! The keys belong to one LRP. They are created when it is desired, and an update sends the entry back as it is: the sshd of a
//! running instance knows no others.

use super::environment::{self, FILE_DESCRIPTORS};
use super::{AppSpec, LIFECYCLE_DIR, SSH_PORT, USER, run};
use wire::bbs::{DesiredLrp, ProtoRoutes, ResourceLimits, RunAction};
use wire::lrp_routes::DIEGO_SSH;
use wire::ssh::{Ed25519Key, SshRoute, sha1_fingerprint, sha256_fingerprint};

/// The keys of one LRP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    /// The key by which the sshd proves that it is the right one.
    pub host: Ed25519Key,
    /// The key with which the ssh-proxy logs in.
    pub user: Ed25519Key,
}

/// The entry `diego-ssh` of an LRP, as it is stored. It contains a private key.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry(Vec<u8>);

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entry").finish_non_exhaustive()
    }
}

impl Entry {
    /// Returns the entry of an LRP, if it has one.
    pub fn of(lrp: &DesiredLrp) -> Option<Self> {
        let routes = lrp.routes.as_ref()?;
        routes.routes.get(DIEGO_SSH).cloned().map(Self)
    }

    pub(super) fn add_to(&self, routes: &mut ProtoRoutes) {
        routes.routes.insert(DIEGO_SSH.to_owned(), self.0.clone());
    }
}

/// Returns whether instances have an sshd: SSH is permitted, and the app does not use the port itself.
pub fn has_sshd(spec: &AppSpec) -> bool {
    spec.ssh_allowed && !spec.app_ports().contains(&SSH_PORT)
}

/// Adds the sshd to an LRP whose spec permits SSH; other LRPs stay as they are.
pub fn add(lrp: &mut DesiredLrp, spec: &AppSpec, keys: &Keys) {
    if !has_sshd(spec) {
        return;
    }
    let codependent = lrp.action.as_mut().and_then(|a| a.codependent.as_mut());
    if let Some(codependent) = codependent {
        codependent.actions.push(sshd(spec, keys));
    }
    let host = keys.host.public_blob();
    let route = SshRoute {
        container_port: SSH_PORT.into(),
        host_fingerprint: sha1_fingerprint(&host),
        host_256_fingerprint: sha256_fingerprint(&host),
        private_key: keys.user.private_pem(),
        ..SshRoute::default()
    };
    let entry = serde_json::to_vec(&route).expect("texts and a number are JSON");
    Entry(entry).add_to(lrp.routes.get_or_insert_default());
}

/// Returns the action of the sshd. It has the process's environment, which its sessions inherit.
fn sshd(spec: &AppSpec, keys: &Keys) -> wire::bbs::Action {
    run(RunAction {
        path: format!("{LIFECYCLE_DIR}/diego-sshd"),
        args: vec![
            format!("-address=0.0.0.0:{SSH_PORT}"),
            format!("-hostKey={}", keys.host.private_pem()),
            format!("-authorizedKey={}", keys.user.authorized_key()),
            "-inheritDaemonEnv".into(),
            "-logLevel=fatal".into(),
        ],
        env: environment::running(spec, spec.app_ports()[0], spec.own_memory_mb()),
        resource_limits: Some(ResourceLimits {
            nofile: Some(FILE_DESCRIPTORS),
            nproc: None,
        }),
        user: USER.into(),
        log_source: "CELL/SSHD".into(),
        ..Default::default()
    })
}
