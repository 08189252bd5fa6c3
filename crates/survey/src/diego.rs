//! Asks the BBS for the desired and actual LRPs of a route, and the reps for each of its instances.

use crate::{LIMIT, within};
use anyhow::Result;
use clients::{bbs, rep};
use futures::StreamExt as _;
use kit::tls::Identity;
use std::collections::BTreeMap;
use why::{Actual, Answer, Desired, DesiredRoute, Port};
use wire::bbs::{ActualLrp, CellPresence, DesiredLrp, DesiredLrpsRequest, PortMapping, Presence};
use wire::cc::StoredRoute;
use wire::lrp_routes::{CF_ROUTER, CfRoute};
use wire::rep::Inspection;

/// The number of instances that are inspected at the same time.
const AT_ONCE: usize = 16;

/// The clients of Diego.
#[derive(Debug)]
pub struct Diego {
    bbs: bbs::Client,
    reps: rep::Client,
}

/// The answers of Diego about one URL.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) desired: Answer<Vec<Desired>>,
    pub(crate) actual: Answer<Vec<Actual>>,
    pub(crate) cells: Answer<Vec<String>>,
    pub(crate) inspections: BTreeMap<String, Answer<Inspection>>,
}

impl Diego {
    /// Makes the clients. The identity is a component's or the operator's.
    pub fn new(bbs: bbs::Client, identity: &Identity) -> Result<Self> {
        Ok(Self {
            bbs,
            reps: rep::Client::with_timeout(identity, LIMIT)?,
        })
    }

    pub(crate) async fn ask(&self, url: &str, route: &Answer<Option<StoredRoute>>) -> Found {
        let (desired, cells) = tokio::join!(self.desired(url, route), within(self.bbs.cells()));
        let actual = match &desired {
            // A request without guids would return the instances of all apps.
            Ok(desired) if desired.is_empty() => Ok(Vec::new()),
            Ok(desired) => {
                let guids = desired.iter().map(|lrp| lrp.process_guid.clone()).collect();
                within(self.bbs.actual_lrps_by_process_guids(guids)).await
            }
            Err(problem) => Err(problem.clone()),
        };
        let actual: Answer<Vec<Actual>> =
            actual.map(|lrps| lrps.into_iter().map(actual_of).collect());
        let inspections = match (&actual, &cells) {
            (Ok(actual), Ok(cells)) => self.inspections(actual, cells).await,
            _ => BTreeMap::new(),
        };
        Found {
            desired,
            actual,
            cells: cells.map(|cells| cells.into_iter().map(|cell| cell.cell_id).collect()),
            inspections,
        }
    }

    /// Returns the desired LRPs of the route's apps, or those that carry the route if the Cloud Controller could not be read.
    async fn desired(
        &self,
        url: &str,
        route: &Answer<Option<StoredRoute>>,
    ) -> Answer<Vec<Desired>> {
        let app_guids = match route {
            Ok(None) => return Ok(Vec::new()),
            Ok(Some(route)) if route.destinations.is_empty() => return Ok(Vec::new()),
            Ok(Some(route)) => route
                .destinations
                .iter()
                .map(|d| d.app_guid.clone())
                .collect(),
            Err(_) => Vec::new(),
        };
        let is_all = app_guids.is_empty();
        let request = DesiredLrpsRequest {
            app_guids,
            ..DesiredLrpsRequest::default()
        };
        let lrps = within(self.bbs.desired_lrps(&request)).await?;
        let desired = lrps.into_iter().map(desired_of);
        let carries = |lrp: &Desired| lrp.routes.iter().any(|r| why::serves(&r.url, url));
        Ok(desired.filter(|lrp| !is_all || carries(lrp)).collect())
    }

    async fn inspections(
        &self,
        actual: &[Actual],
        cells: &[CellPresence],
    ) -> BTreeMap<String, Answer<Inspection>> {
        let placed = actual.iter().filter(|lrp| !lrp.cell_id.is_empty());
        let asked = placed.filter_map(|lrp| {
            let cell = cells.iter().find(|cell| cell.cell_id == lrp.cell_id)?;
            // The presence of an older rep has the other field alone.
            let url = match cell.rep_url.is_empty() {
                true => &cell.rep_address,
                false => &cell.rep_url,
            };
            Some((lrp.instance_guid.clone(), url.clone()))
        });
        futures::stream::iter(asked.collect::<Vec<_>>())
            .map(|(guid, rep_url)| async move {
                let answer = within(self.reps.inspect(&rep_url, &guid)).await;
                (guid, answer)
            })
            .buffer_unordered(AT_ONCE)
            .collect()
            .await
    }
}

fn desired_of(lrp: DesiredLrp) -> Desired {
    let json = lrp
        .routes
        .as_ref()
        .and_then(|routes| routes.routes.get(CF_ROUTER));
    let routes: Option<Vec<CfRoute>> = json.and_then(|json| serde_json::from_slice(json).ok());
    let routes = routes.unwrap_or_default().into_iter().flat_map(|route| {
        let port = number(route.port);
        let segment = route.isolation_segment.unwrap_or_default();
        let generation = route.generation.unwrap_or_default();
        route.hostnames.into_iter().map(move |url| DesiredRoute {
            url,
            port,
            isolation_segment: segment.clone(),
            generation,
        })
    });
    Desired {
        process_guid: lrp.process_guid,
        instances: u32::try_from(lrp.instances).unwrap_or_default(),
        routes: routes.collect(),
    }
}

fn actual_of(lrp: ActualLrp) -> Actual {
    let key = lrp.key.unwrap_or_default();
    let instance = lrp.instance_key.unwrap_or_default();
    let net = lrp.net_info.unwrap_or_default();
    Actual {
        process_guid: key.process_guid,
        index: key.index,
        instance_guid: instance.instance_guid,
        cell_id: instance.cell_id,
        is_evacuating: lrp.presence == Presence::Evacuating as i32,
        state: lrp.state,
        routable: lrp.routable,
        placement_error: lrp.placement_error,
        crash_count: lrp.crash_count,
        crash_reason: lrp.crash_reason,
        since: lrp.since / 1_000_000_000,
        address: net.address,
        ports: net.ports.iter().map(port_of).collect(),
    }
}

fn port_of(mapping: &PortMapping) -> Port {
    Port {
        app: number(mapping.container_port),
        host: number(mapping.host_port),
        proxy: number(mapping.container_tls_proxy_port),
        host_proxy: number(mapping.host_tls_proxy_port),
    }
}

fn number(port: u32) -> u16 {
    u16::try_from(port).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::bbs::ProtoRoutes;

    #[test]
    fn a_desired_lrp_shows_each_host_with_its_port() {
        let json =
            br#"[{"hostnames":["a.test","b.test/x"],"port":8080,"isolation_segment":"iso"}]"#;
        let lrp = DesiredLrp {
            process_guid: "p-v".to_owned(),
            instances: 3,
            routes: Some(ProtoRoutes {
                routes: [(CF_ROUTER.to_owned(), json.to_vec())].into(),
            }),
            ..DesiredLrp::default()
        };
        let desired = desired_of(lrp);
        let urls: Vec<&str> = desired
            .routes
            .iter()
            .map(|route| route.url.as_str())
            .collect();
        assert_eq!(urls, ["a.test", "b.test/x"]);
        assert_eq!((desired.instances, desired.routes[1].port), (3, 8080));
        assert_eq!(desired.routes[1].isolation_segment, "iso");
    }

    #[test]
    fn an_actual_lrp_has_its_age_in_seconds() {
        let actual = actual_of(ActualLrp {
            since: 1_700_000_000_500_000_000,
            state: "RUNNING".to_owned(),
            ..ActualLrp::default()
        });
        assert_eq!(
            (actual.since, actual.state.as_str()),
            (1_700_000_000, "RUNNING")
        );
    }
}
