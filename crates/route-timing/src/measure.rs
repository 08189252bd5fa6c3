//! The measurement: prepares the routes, lets one after the other come and go while each router is asked, and cleans up however it
//! ends.

use crate::by_api::{ApiSettings, ByApi};
use crate::by_bus::{BusSettings, ByBus};
use crate::front::Front;
use crate::judge::{Goal, Mistakes, Owner};
use crate::plan::{Means, Owned, Plan, Size};
use crate::prober::{Prober, Question};
use crate::report::{Churned, Ended, Measured, Place, Report, Times};
use anyhow::{Context as _, Result, bail, ensure};
use kit::CancellationToken;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The number of requests that follow each change that was seen.
const AFTER: u32 = 3;
/// The number of measured routes after which progress is reported.
const PROGRESS: usize = 50;

/// A measurement that somebody requests.
#[derive(Clone, Debug)]
pub struct Settings {
    pub by: By,
    /// The routers, or a load balancer before them. A change counts as seen when each of them shows it.
    pub fronts: Vec<Front>,
    pub size: Size,
    /// The longest wait for one change.
    pub patience: Duration,
    /// The time after which no further route is measured.
    pub limit: Duration,
}

/// The means by which routes are made.
#[derive(Clone, Debug)]
pub enum By {
    Api(ApiSettings),
    Bus(BusSettings),
}

enum Routes {
    Api(Box<ByApi>),
    Bus(Box<ByBus>),
}

impl Routes {
    async fn find(settings: &Settings, run: &str) -> Result<Self> {
        match &settings.by {
            By::Api(api) => Ok(Self::Api(Box::new(
                ByApi::find(api, settings.size, run).await?,
            ))),
            By::Bus(bus) => {
                let first = settings.fronts.first().context("no router is named")?;
                let from = first.own_address().await?;
                let routes = ByBus::connect(bus, from, settings.size, run).await?;
                Ok(Self::Bus(Box::new(routes)))
            }
        }
    }

    fn means(&self) -> Means {
        match self {
            Self::Api(_) => Means::Api,
            Self::Bus(_) => Means::Bus,
        }
    }

    fn target(&self) -> String {
        match self {
            Self::Api(routes) => routes.target(),
            Self::Bus(routes) => routes.target(),
        }
    }

    fn plan(&self) -> Arc<Plan> {
        match self {
            Self::Api(routes) => routes.plan(),
            Self::Bus(routes) => routes.plan(),
        }
    }

    fn owner(&self, route: &Owned) -> Owner {
        match self {
            Self::Api(routes) => routes.owner(),
            Self::Bus(routes) => routes.owner(route),
        }
    }

    fn hint(&self) -> String {
        match self {
            Self::Api(routes) => routes.hint(),
            Self::Bus(routes) => routes.hint(),
        }
    }

    async fn set_up(&mut self, probers: &[Prober], stop: &CancellationToken) -> Result<()> {
        match self {
            Self::Api(routes) => routes.set_up(probers, stop).await,
            Self::Bus(routes) => routes.set_up(probers, stop).await,
        }
    }

    async fn add(&mut self, number: usize) -> Result<Instant> {
        match self {
            Self::Api(routes) => routes.add(number).await,
            Self::Bus(routes) => routes.add(number).await,
        }
    }

    async fn remove(&mut self, number: usize) -> Result<Instant> {
        match self {
            Self::Api(routes) => routes.remove(number).await,
            Self::Bus(routes) => routes.remove(number).await,
        }
    }

    async fn clean_up(self) -> (Option<Churned>, Result<()>) {
        match self {
            Self::Api(routes) => routes.clean_up().await,
            Self::Bus(routes) => routes.clean_up().await,
        }
    }
}

/// Measures, until everything is measured, the limit is over or `stop` is cancelled, and cleans up in each case. `progress` gets lines
/// for people.
///
/// # Errors
/// It fails if something cannot be made, measured or removed. Wrong answers are a part of the report.
pub async fn run(
    settings: &Settings,
    stop: &CancellationToken,
    mut progress: impl FnMut(&str),
) -> Result<Report> {
    ensure!(!settings.fronts.is_empty(), "no router is named");
    let run = format!("{:06x}", rand::random::<u32>() & 0xff_ffff);
    let probers = settings.fronts.iter().cloned().map(Prober::start);
    let probers = probers.collect::<Result<Vec<_>>>()?;
    let mut routes = tokio::select! {
        found = Routes::find(settings, &run) => found?,
        () = stop.cancelled() => bail!("interrupted before anything was made"),
    };
    let place = Place {
        means: routes.means(),
        target: routes.target(),
        routers: settings
            .fronts
            .iter()
            .map(|f| f.address().to_owned())
            .collect(),
    };
    let plan = routes.plan();
    // The limit stops the measurement as a person does, and not the clean-up.
    let ending = stop.child_token();
    let mut measurement = Measurement {
        settings,
        plan: &plan,
        probers: &probers,
        stop: &ending,
        measured: Measured::default(),
    };
    let limit = async {
        tokio::time::sleep(settings.limit).await;
        ending.cancel();
        std::future::pending::<()>().await;
    };
    let measuring = async {
        progress(&format!(
            "makes {} routes at {}, and measures {} of them",
            plan.size().probes + plan.present_count() + plan.churned_count(),
            place.target,
            plan.size().probes
        ));
        routes.set_up(&probers, &ending).await?;
        measurement.all(&mut routes, &mut progress).await
    };
    let measured = tokio::select! {
        measured = measuring => measured,
        // The limit never ends by itself.
        () = limit => Ok(false),
    };
    progress("removes the routes");
    let (churned, cleaned) = routes.clean_up().await;
    let is_complete = match (measured, cleaned) {
        (Ok(is_complete), Ok(())) => is_complete,
        (Err(error), Ok(())) | (Ok(_), Err(error)) => return Err(error),
        (Err(error), Err(left)) => return Err(error.context(format!("{left:#}"))),
    };
    let ended = match (is_complete, stop.is_cancelled()) {
        (true, _) => Ended::Complete,
        (false, true) => Ended::Interrupted,
        (false, false) => Ended::TimeLimit,
    };
    let report = Report::new(place, &plan, measurement.measured, ended);
    Ok(Report {
        churn: churned,
        ..report
    })
}

struct Measurement<'a> {
    settings: &'a Settings,
    plan: &'a Plan,
    probers: &'a [Prober],
    stop: &'a CancellationToken,
    measured: Measured,
}

/// The state that all routers showed.
struct Seen {
    /// The arrival of the last router's answer; `None` if a router did not show it in time.
    reached: Option<Instant>,
    /// The time of the last request; with several routers the longest.
    last: Duration,
    first_mistake: Option<String>,
}

impl Measurement<'_> {
    /// Measures all routes. Returns false if it was stopped before the last one.
    async fn all(&mut self, routes: &mut Routes, progress: &mut impl FnMut(&str)) -> Result<bool> {
        let count = self.plan.size().probes;
        if count == 0 {
            progress(
                "holds the routes and goes on with the changes, until the time limit or Ctrl-C",
            );
            self.stop.cancelled().await;
            return Ok(true);
        }
        for number in 0..count {
            if self.stop.is_cancelled() || !self.one(routes, number).await? {
                return Ok(false);
            }
            if (number + 1).is_multiple_of(PROGRESS) {
                progress(&format!("{} of {count} routes measured", number + 1));
            }
        }
        Ok(true)
    }

    /// Lets one route come and go. Returns false if it was stopped meanwhile.
    async fn one(&mut self, routes: &mut Routes, number: usize) -> Result<bool> {
        let route = self.plan.probe(number);
        let question = Question {
            host: route.host.clone(),
            owner: routes.owner(&route),
            goal: Goal::Gone,
            patience: Duration::ZERO,
            // The first request also opens a connection. The second one shows what a request takes.
            after: 1,
        };
        let Some(before) = self.seen(question.clone()).await? else {
            return Ok(false);
        };
        ensure!(
            before.reached.is_some(),
            "{} is answered before it was made ({}): is the router one of this foundation, and does no route with a wildcard serve the domain? name another domain with --domain",
            route.host,
            before.first_mistake.as_deref().unwrap_or("by an app")
        );

        let floor = before.last.as_secs_f64() * 1000.0;
        self.measured.floor.push(floor);
        let awaited = |goal| Question {
            goal,
            patience: self.settings.patience,
            after: AFTER,
            ..question.clone()
        };
        let (serving, gone) = (awaited(Goal::Serving), awaited(Goal::Gone));
        let sent = Instant::now();
        let (accepted, seen) = tokio::join!(routes.add(number), self.seen(serving));
        let (accepted, Some(seen)) = (accepted?, seen?) else {
            return Ok(false);
        };
        if number == 0 && seen.reached.is_none() {
            bail!(
                "{} was made, and a router did not serve it within {} s ({}): {}",
                route.host,
                self.settings.patience.as_secs(),
                seen.first_mistake.as_deref().unwrap_or("no route"),
                routes.hint()
            );
        }
        self.measured
            .mapped
            .push(times(sent, accepted, seen.reached));
        if let Some(witness) = self.plan.witness(number) {
            let owner = routes.owner(&witness);
            self.check(witness.host, owner).await?;
        }

        let sent = Instant::now();
        let (accepted, seen) = tokio::join!(routes.remove(number), self.seen(gone));
        let (accepted, Some(seen)) = (accepted?, seen?) else {
            return Ok(false);
        };
        self.measured
            .unmapped
            .push(times(sent, accepted, seen.reached));
        Ok(true)
    }

    /// Requests a route that must be served.
    async fn check(&mut self, host: String, owner: Owner) -> Result<()> {
        let question = Question {
            host: host.clone(),
            owner,
            goal: Goal::Serving,
            patience: Duration::ZERO,
            after: 0,
        };
        let seen = self.seen(question).await?;
        if let Some(Seen {
            reached: None,
            first_mistake: None,
            ..
        }) = seen
        {
            self.measured.mistakes.add(Mistakes {
                lost: 1,
                first: Some(format!("{host}: no route, although nobody removed it")),
                ..Mistakes::default()
            });
        }
        Ok(())
    }

    /// Asks all routers until they show the state. `None`: it was stopped.
    async fn seen(&mut self, question: Question) -> Result<Option<Seen>> {
        let probers = self.probers.iter();
        let asked = probers.map(|prober| prober.observe(question.clone()));
        let all = tokio::select! {
            all = futures::future::try_join_all(asked) => all?,
            () = self.stop.cancelled() => return Ok(None),
        };
        let mut seen = Seen {
            reached: all.iter().filter_map(|one| one.reached).max(),
            last: all.iter().map(|one| one.last).max().unwrap_or_default(),
            first_mistake: None,
        };
        for one in all {
            if one.reached.is_none() {
                seen.reached = None;
            }
            self.measured.requests += one.requests;
            let first = one.mistakes.first.clone();
            seen.first_mistake = seen.first_mistake.or(first);
            self.measured.mistakes.add(one.mistakes);
        }
        Ok(Some(seen))
    }
}

fn times(sent: Instant, accepted: Instant, seen: Option<Instant>) -> Times {
    let since = |at: Instant| at.saturating_duration_since(sent).as_secs_f64() * 1000.0;
    Times {
        accepted: since(accepted),
        seen: seen.map(since),
    }
}
