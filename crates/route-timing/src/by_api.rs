//! Makes routes by the Cloud Controller's API: creates them in the app's space, maps and unmaps them, and deletes all at the end.

use crate::api::{Api, text};
use crate::judge::Owner;
use crate::plan::{Means, Plan, Size};
use crate::prober::{Prober, unserved};
use crate::report::Churned;
use anyhow::{Context as _, Result, anyhow, bail, ensure};
use futures::StreamExt as _;
use kit::CancellationToken;
use reqwest::Method;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

/// The number of calls that are made at the same time, where time does not matter.
const AT_ONCE: usize = 4;
/// The greatest number of tasks that make the changes of the churn. Each makes one call at a time.
const CHURNING: usize = 8;
/// The number of host names in one query.
const HOSTS: usize = 50;
/// The longest time for the deletion of all routes, besides a second for each.
const CLEANING: Duration = Duration::from_secs(60);

/// The API, and the app to which routes are mapped.
#[derive(Clone, Debug)]
pub struct ApiSettings {
    pub api: Api,
    /// The guid of the app.
    pub app: String,
    /// A text that every answer of the app contains. With `None` each answer of an app counts as this app's.
    pub expected: Option<String>,
    /// The name of the domain of the routes. With `None` it is the default one of the app's organization.
    pub domain: Option<String>,
}

/// The calls that concern routes.
#[derive(Clone)]
struct Routes {
    api: Api,
    app: String,
    space: String,
    domain: String,
}

impl Routes {
    /// Creates a route and returns its guid.
    async fn create(&self, host: &str) -> Result<String> {
        let body = json!({"host": label(host), "relationships": {
            "space": {"data": {"guid": self.space}},
            "domain": {"data": {"guid": self.domain}},
        }});
        let route = self.api.post("/v3/routes", &body).await?;
        text(&route, &["guid"])
    }

    /// Maps a route to the app and returns the guid of the destination.
    async fn map(&self, route: &str) -> Result<String> {
        let path = format!("/v3/routes/{route}/destinations");
        let body = json!({"destinations": [{"app": {"guid": self.app}}]});
        let answer = self.api.post(&path, &body).await?;
        let mut all = answer["destinations"].as_array().into_iter().flatten();
        let own = all.find(|d| d["app"]["guid"] == self.app.as_str());
        let own = own.with_context(|| format!("{path} does not show the app: {answer}"))?;
        text(own, &["guid"])
    }

    async fn unmap(&self, route: &str, destination: &str) -> Result<()> {
        let path = format!("/v3/routes/{route}/destinations/{destination}");
        self.api.call(Method::DELETE, &path, None).await.map(drop)
    }

    /// Returns the guids of those routes that exist.
    async fn existing(&self, hosts: &[String]) -> Result<Vec<String>> {
        let labels: Vec<&str> = hosts.iter().map(|host| label(host)).collect();
        let labels = labels.join(",");
        let query = [
            ("space_guids", self.space.as_str()),
            ("domain_guids", self.domain.as_str()),
            ("hosts", labels.as_str()),
        ];
        let found = self.api.page("/v3/routes", &query).await?;
        found.iter().map(|route| text(route, &["guid"])).collect()
    }

    /// Creates routes, some at a time, and returns their guids in the same order. After a failure or a stop no call begins, and
    /// those that run are awaited, so that the server creates nothing later.
    async fn create_all(
        &self,
        hosts: impl Iterator<Item = String>,
        maps: bool,
        stop: &CancellationToken,
    ) -> Result<Vec<String>> {
        let ended = stop.child_token();
        let creating = hosts.map(|host| {
            let ended = ended.clone();
            async move {
                if ended.is_cancelled() {
                    return Ok(None);
                }
                let created = async {
                    let route = self.create(&host).await?;
                    if maps {
                        self.map(&route).await?;
                    }
                    Ok::<_, anyhow::Error>(Some(route))
                };
                created.await.inspect_err(|_| ended.cancel())
            }
        });
        let created: Vec<Result<Option<String>>> = futures::stream::iter(creating)
            .buffered(AT_ONCE)
            .collect()
            .await;
        let created: Result<Vec<Option<String>>> = created.into_iter().collect();
        Ok(created?.into_iter().flatten().collect())
    }

    /// Deletes those of the routes that exist.
    async fn delete_all(&self, hosts: &[String]) -> Result<()> {
        for hosts in hosts.chunks(HOSTS) {
            let routes = self.existing(hosts).await?;
            let deleting = routes.iter().map(|route| async move {
                let path = format!("/v3/routes/{route}");
                self.api.delete(&path).await
            });
            let deleted: Vec<Result<()>> = futures::stream::iter(deleting)
                .buffer_unordered(AT_ONCE)
                .collect()
                .await;
            deleted.into_iter().collect::<Result<()>>()?;
        }
        Ok(())
    }
}

/// Returns the first label of a host name.
fn label(host: &str) -> &str {
    host.split('.').next().unwrap_or(host)
}

/// The changes that one task of the churn made.
#[derive(Default)]
struct Done {
    changes: usize,
    failed: u64,
    first_failure: Option<String>,
}

/// The routes of one run.
pub(crate) struct ByApi {
    routes: Routes,
    plan: Arc<Plan>,
    expected: Option<String>,
    /// The guids of the measured routes.
    probes: Vec<String>,
    /// The destination of the measured route that is mapped.
    mapped: Option<String>,
    churning: JoinSet<Done>,
    churning_since: Instant,
    /// The token that ends the churn.
    beside: CancellationToken,
}

impl ByApi {
    /// Checks that the app runs, and finds its space and the domain. It changes nothing.
    pub(crate) async fn find(settings: &ApiSettings, size: Size, run: &str) -> Result<Self> {
        let api = settings.api.clone();
        let path = format!("/v3/apps/{}", settings.app);
        let app = api.get(&path).await.context("find the app")?;
        let name = text(&app, &["name"])?;
        let stats = api.get(&format!("{path}/processes/web/stats")).await?;
        let mut instances = stats["resources"].as_array().into_iter().flatten();
        ensure!(
            app["state"] == "STARTED" && instances.any(|instance| instance["state"] == "RUNNING"),
            "app {name:?} has no running instance to which routes can lead: start it with `cf start {name}`, or name another app with --app"
        );
        let space = text(&app, &["relationships", "space", "data", "guid"])?;
        let domain = domain(&api, &space, settings.domain.as_deref()).await?;
        let name = text(&domain, &["name"])?;
        let plan = Plan::new(size, Means::Api, run, &name).map_err(|fault| anyhow!(fault))?;
        Ok(Self {
            routes: Routes {
                api,
                app: settings.app.clone(),
                space,
                domain: text(&domain, &["guid"])?,
            },
            plan: Arc::new(plan),
            expected: settings.expected.clone(),
            probes: Vec::new(),
            mapped: None,
            churning: JoinSet::new(),
            churning_since: Instant::now(),
            beside: CancellationToken::new(),
        })
    }

    pub(crate) fn plan(&self) -> Arc<Plan> {
        self.plan.clone()
    }

    pub(crate) fn target(&self) -> String {
        self.routes.api.url().to_owned()
    }

    pub(crate) fn owner(&self) -> Owner {
        Owner::App {
            expected: self.expected.clone(),
        }
    }

    /// Creates all routes, maps the present ones, waits until the routers serve them, and starts the churn.
    pub(crate) async fn set_up(
        &mut self,
        probers: &[Prober],
        stop: &CancellationToken,
    ) -> Result<()> {
        let plan = self.plan();
        let present = (0..plan.present_count()).map(|n| plan.present(n).host);
        let probes = (0..plan.size().probes).map(|n| plan.probe(n).host);
        let churned = (0..plan.churned_count()).map(|n| plan.churned(n));
        self.routes.create_all(present, true, stop).await?;
        let churned = self.routes.create_all(churned, false, stop).await?;
        self.probes = self.routes.create_all(probes, false, stop).await?;
        for number in 0..plan.present_count() {
            let host = plan.present(number).host;
            if let Some(reason) = unserved(probers, &host, &self.owner(), stop).await? {
                bail!("{reason}: {}", self.hint());
            }
        }
        if stop.is_cancelled() {
            return Ok(());
        }
        let tasks = churned.len().min(CHURNING);
        self.churning_since = Instant::now();
        for task in 0..tasks {
            let own = churned.iter().skip(task).step_by(tasks).cloned().collect();
            let pause = Duration::from_secs_f64(tasks as f64 / plan.size().churn as f64);
            let (routes, beside) = (self.routes.clone(), self.beside.clone());
            self.churning.spawn(churn(routes, own, pause, beside));
        }
        Ok(())
    }

    /// Returns the explanation of a route that is not served although it was mapped.
    pub(crate) fn hint(&self) -> String {
        "do requests reach a router of this foundation? name it with --router".to_owned()
    }

    /// Maps a measured route. Returns when the API answered.
    pub(crate) async fn add(&mut self, number: usize) -> Result<Instant> {
        let route = self.probe(number)?;
        let destination = self.routes.map(&route).await?;
        let answered = Instant::now();
        self.mapped = Some(destination);
        Ok(answered)
    }

    pub(crate) async fn remove(&mut self, number: usize) -> Result<Instant> {
        let route = self.probe(number)?;
        let destination = self.mapped.take().context("the route was not mapped")?;
        self.routes.unmap(&route, &destination).await?;
        Ok(Instant::now())
    }

    fn probe(&self, number: usize) -> Result<String> {
        let route = self.probes.get(number).cloned();
        route.with_context(|| format!("measured route {number} was not created"))
    }

    /// Ends the churn and deletes all routes. Returns what the churn did.
    pub(crate) async fn clean_up(mut self) -> (Option<Churned>, Result<()>) {
        self.beside.cancel();
        let wanted = self.plan.size().churn;
        let churns = !self.churning.is_empty();
        let mut all = Done::default();
        while let Some(done) = self.churning.join_next().await {
            let done = done.unwrap_or_default();
            all.changes += done.changes;
            all.failed += done.failed;
            all.first_failure = all.first_failure.or(done.first_failure);
        }
        let seconds = self.churning_since.elapsed().as_secs_f64().max(1e-3);
        let churned = churns.then(|| Churned {
            wanted_per_second: wanted,
            made_per_second: all.changes as f64 / seconds,
            failed: all.failed,
            first_failure: all.first_failure,
        });
        let plan = &self.plan;
        let present = (0..plan.present_count()).map(|n| plan.present(n).host);
        let probes = (0..plan.size().probes).map(|n| plan.probe(n).host);
        let churn = (0..plan.churned_count()).map(|n| plan.churned(n));
        let hosts: Vec<String> = probes.chain(present).chain(churn).collect();
        let limit = CLEANING + Duration::from_secs(hosts.len() as u64);
        let deleting = tokio::time::timeout(limit, self.routes.delete_all(&hosts)).await;
        let deleted =
            deleting.unwrap_or_else(|_| Err(anyhow!("it takes longer than {} s", limit.as_secs())));
        let deleted = deleted.with_context(|| {
            format!(
                "delete the routes: those that are left are called {}-…; `cf routes` lists them, `cf delete-route DOMAIN --hostname HOST` deletes one",
                plan.prefix()
            )
        });
        (churned, deleted)
    }
}

/// Returns the domain with this name, or the default one of the space's organization.
async fn domain(api: &Api, space: &str, name: Option<&str>) -> Result<Value> {
    if let Some(name) = name {
        let found = api.page("/v3/domains", &[("names", name)]).await?;
        let first = found.into_iter().next();
        return first.with_context(|| {
            format!("there is no domain {name:?} at {}, or this user may not see it: name another one with --domain", api.url())
        });
    }
    let space = api.get(&format!("/v3/spaces/{space}")).await?;
    let org = text(&space, &["relationships", "organization", "data", "guid"])?;
    let path = format!("/v3/organizations/{org}/domains/default");
    let found = api.get(&path).await;
    found.context("find the domain of the routes: name one with --domain")
}

/// Maps and unmaps routes in turn, one change each `pause`, until it is stopped. A call that has begun is awaited.
async fn churn(routes: Routes, own: Vec<String>, pause: Duration, stop: CancellationToken) -> Done {
    let mut done = Done::default();
    let mut ticks = tokio::time::interval(pause.max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut mapped: Vec<Option<String>> = vec![None; own.len()];
    for at in (0..own.len()).cycle() {
        tokio::select! {
            _ = ticks.tick() => {}
            () = stop.cancelled() => break,
        }
        let route = &own[at];
        let changed = match mapped[at].take() {
            Some(destination) => routes.unmap(route, &destination).await,
            None => match routes.map(route).await {
                Ok(destination) => {
                    mapped[at] = Some(destination);
                    Ok(())
                }
                Err(error) => Err(error),
            },
        };
        match changed {
            Ok(()) => done.changes += 1,
            Err(error) => {
                done.failed += 1;
                done.first_failure
                    .get_or_insert_with(|| format!("{error:#}"));
            }
        }
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_of_the_api_is_the_first_label() {
        let size = Size {
            probes: 1,
            apps: 1,
            routes_per_app: 0,
            churn: 0,
        };
        let plan = Plan::new(size, Means::Api, "a1", "apps.test").unwrap();
        let crate::plan::Owned { host, app } = plan.probe(0);
        assert_eq!((label(&host), app), ("propbench-a1-p0", 0));
    }
}
