//! The ports of a plan, one for each service.

use crate::addresses::Service;
use serde::{Deserialize, Serialize};

/// The ports, which are on loopback unless the configuration names another address. A foundation in the default data directory gets
/// Cloud Foundry's default ports if they are free; all others get any free ports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ports {
    pub(crate) nats: u16,
    pub(crate) bbs: u16,
    pub(crate) locket: u16,
    pub(crate) auctioneer: u16,
    pub(crate) rep: u16,
    pub(crate) cloud_controller: u16,
    pub(crate) cloud_controller_internal: u16,
    pub(crate) uaa: u16,
    pub(crate) log_cache: u16,
    pub(crate) log_ingress: u16,
    pub(crate) router_status: u16,
    /// Plans of earlier versions have none: then it is 0 until [`Plan::open`](super::Plan::open) chooses one.
    #[serde(default)]
    pub(crate) dashboard: u16,
    /// Plans of earlier versions have none.
    #[serde(default)]
    pub(crate) ssh_proxy: u16,
    /// Plans of earlier versions have none of the next two.
    #[serde(default)]
    pub(crate) postgres_broker: u16,
    #[serde(default)]
    pub(crate) postgres: u16,
}

impl Ports {
    pub(super) fn of(&mut self, service: Service) -> &mut u16 {
        match service {
            Service::Nats => &mut self.nats,
            Service::Bbs => &mut self.bbs,
            Service::Locket => &mut self.locket,
            Service::Auctioneer => &mut self.auctioneer,
            Service::Rep => &mut self.rep,
            Service::CloudController => &mut self.cloud_controller,
            Service::CloudControllerInternal => &mut self.cloud_controller_internal,
            Service::Uaa => &mut self.uaa,
            Service::LogCache => &mut self.log_cache,
            Service::LogIngress => &mut self.log_ingress,
            Service::RouterStatus => &mut self.router_status,
            Service::Dashboard => &mut self.dashboard,
            Service::SshProxy => &mut self.ssh_proxy,
            Service::PostgresBroker => &mut self.postgres_broker,
            Service::Postgres => &mut self.postgres,
        }
    }

    pub(super) fn get(&self, service: Service) -> u16 {
        *self.clone().of(service)
    }
}
