//! Decides what is measured: the names of all routes, their owners, when each simulated cell registers, and the order of the churn
//! (pure).
//!
//! ```text
//!   probed    one route for each measurement: it comes, is answered, and goes
//!   present   apps × routes that exist meanwhile and are registered again as cells do
//!   churned   routes that come and go beside, at a rate
//! ```

use std::ops::Range;
use std::time::Duration;

/// The way in which routes are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Means {
    /// The Cloud Controller's API maps them to one running app.
    Api,
    /// Messages on the bus register simulated apps.
    Bus,
}

/// The size of a measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// The number of routes that are measured. With 0, which only the bus allows, the other routes are held until the end.
    pub probes: usize,
    /// The number of apps whose routes exist meanwhile.
    pub apps: usize,
    /// The number of routes that each of them has.
    pub routes_per_app: usize,
    /// The number of changes of other routes in a second.
    pub churn: usize,
}

impl Size {
    /// Refuses what no means can measure. The bus can measure most. [`run`](crate::run) checks the bounds of the chosen means.
    ///
    /// # Errors
    /// A number is out of its bounds. The text names it and them.
    pub fn check(self) -> Result<(), String> {
        Plan::new(self, Means::Bus, "", "test").map(drop)
    }
}

/// The bounds of a measurement by one means.
struct Bounds {
    /// The least number of measured routes.
    least_probes: usize,
    apps: usize,
    /// The number of routes of all apps together.
    routes: usize,
    churn: usize,
    churned: usize,
}

/// The greatest number of measured routes.
const MOST_PROBES: usize = 10_000;
/// The number of simulated apps on one simulated cell.
const APPS_PER_CELL: usize = 10;

impl Means {
    fn bounds(self) -> Bounds {
        match self {
            // Each of the routes costs the Cloud Controller three transactions.
            Self::Api => Bounds {
                least_probes: 1,
                apps: 1,
                routes: 1_000,
                churn: 100,
                churned: 32,
            },
            Self::Bus => Bounds {
                least_probes: 0,
                apps: 1_000,
                routes: 400_000,
                churn: 10_000,
                churned: 2_000,
            },
        }
    }

    /// Returns the name of the means in a report.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Bus => "bus",
        }
    }
}

/// A route, and the number of the app that owns it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Owned {
    pub(crate) host: String,
    pub(crate) app: usize,
}

/// A change of a churned route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// The number of the churned route.
    pub(crate) route: usize,
    /// The app that gets the route or loses it.
    pub(crate) app: usize,
    pub(crate) adds: bool,
}

/// A checked measurement.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    size: Size,
    churned: usize,
    /// The beginning of all host names, which no other run has.
    prefix: String,
    domain: String,
}

impl Plan {
    /// Checks a size. `run` is a short text that no other run has. The error names the value and what is possible.
    pub(crate) fn new(size: Size, means: Means, run: &str, domain: &str) -> Result<Self, String> {
        let most = means.bounds();
        let within = |name: &str, value: usize, range: Range<usize>| match range.contains(&value) {
            true => Ok(()),
            false => Err(format!(
                "--{name} {value}: use a number from {} to {}{}",
                range.start,
                range.end - 1,
                match means {
                    Means::Api => " (by the API), or measure by the bus with --nats",
                    Means::Bus => "",
                }
            )),
        };
        let probes = most.least_probes..MOST_PROBES + 1;
        within("probes", size.probes, probes)?;
        within("apps", size.apps, 1..most.apps + 1)?;
        within(
            "routes-per-app",
            size.routes_per_app,
            0..most.routes / size.apps + 1,
        )?;
        within("churn", size.churn, 0..most.churn + 1)?;
        let plan = Self {
            size,
            churned: match size.churn {
                0 => 0,
                churn => (2 * churn).clamp(2, most.churned),
            },
            prefix: format!("propbench-{run}"),
            domain: domain.to_owned(),
        };
        let longest = plan.host("r", most.routes);
        let label = longest.split('.').next().map_or(0, str::len);
        if label > 63 || longest.len() > 253 || domain.is_empty() {
            return Err(format!(
                "the domain {domain:?} makes host names such as {longest:?}, which no DNS name may be: use another domain"
            ));
        }
        Ok(plan)
    }

    fn host(&self, kind: &str, number: usize) -> String {
        format!("{}-{kind}{number}.{}", self.prefix, self.domain)
    }

    pub(crate) fn size(&self) -> Size {
        self.size
    }

    /// Returns the label that begins the names of all routes of this run.
    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Returns the number of routes that exist meanwhile.
    pub(crate) fn present_count(&self) -> usize {
        self.size.apps * self.size.routes_per_app
    }

    pub(crate) fn churned_count(&self) -> usize {
        self.churned
    }

    pub(crate) fn probe(&self, number: usize) -> Owned {
        Owned {
            host: self.host("p", number),
            app: number % self.size.apps,
        }
    }

    pub(crate) fn present(&self, number: usize) -> Owned {
        Owned {
            host: self.host("r", number),
            app: number / self.size.routes_per_app.max(1),
        }
    }

    pub(crate) fn churned(&self, number: usize) -> String {
        self.host("c", number)
    }

    /// Returns the present route that is requested beside the probe with this number, so that all apps are requested in turn.
    pub(crate) fn witness(&self, probe: usize) -> Option<Owned> {
        let count = self.present_count();
        // A step that has no divisor in common with most counts visits nearly all of them.
        (count > 0).then(|| self.present(probe * 7_919 % count))
    }

    /// Returns the present routes of each simulated cell.
    pub(crate) fn cells(&self) -> Vec<Range<usize>> {
        let each = APPS_PER_CELL * self.size.routes_per_app;
        let count = self.present_count();
        let starts = (0..count).step_by(each.max(1));
        starts.map(|start| start..count.min(start + each)).collect()
    }

    /// Returns the time between the registrations of one cell and those of the next one, if each registers at this interval.
    pub(crate) fn pause_between_cells(&self, interval: Duration) -> Duration {
        let cells = u32::try_from(self.cells().len()).unwrap_or(u32::MAX);
        (interval / cells.max(1)).max(Duration::from_millis(1))
    }

    /// Returns the change with this number. All churned routes come in turn and then go in turn, each time with the next app.
    pub(crate) fn step(&self, number: usize) -> Step {
        let count = self.churned.max(1);
        let (route, turn) = (number % count, number / count);
        Step {
            route,
            app: (route + turn / 2) % self.size.apps,
            adds: turn.is_multiple_of(2),
        }
    }

    /// Returns the routes that exist after so many changes, each with its app. Whether the change with the next number took
    /// place may be unknown, so its route is among them.
    pub(crate) fn left_after(&self, steps: usize) -> Vec<(usize, usize)> {
        let first = steps.saturating_sub(self.churned);
        let all = (first..=steps).map(|number| self.step(number));
        let left = all.filter(|step| step.adds && self.churned > 0);
        left.map(|step| (step.route, step.app)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Size = Size {
        probes: 10,
        apps: 25,
        routes_per_app: 4,
        churn: 3,
    };

    fn plan(size: Size) -> Plan {
        Plan::new(size, Means::Bus, "a1", "apps.test").unwrap()
    }

    #[test]
    fn a_size_out_of_bounds_is_refused_with_the_bounds() {
        let refused = |size: Size, means: Means, reason: &str| {
            let error = Plan::new(size, means, "a1", "apps.test").unwrap_err();
            assert!(error.contains(reason), "{error}");
        };
        let bus = Means::Bus;
        refused(
            Size { probes: 0, ..SIZE },
            Means::Api,
            "--probes 0: use a number from 1 to 10000 (by the API)",
        );
        refused(
            Size { apps: 1001, ..SIZE },
            bus,
            "--apps 1001: use a number from 1 to 1000",
        );
        let many = Size {
            routes_per_app: 16_001,
            ..SIZE
        };
        refused(
            many,
            bus,
            "--routes-per-app 16001: use a number from 0 to 16000",
        );
        refused(
            Size {
                churn: 10_001,
                ..SIZE
            },
            bus,
            "--churn 10001",
        );
        refused(
            SIZE,
            Means::Api,
            "--apps 25: use a number from 1 to 1 (by the API)",
        );
        let nothing = Size { apps: 0, ..SIZE }.check().unwrap_err();
        assert_eq!(nothing, "--apps 0: use a number from 1 to 1000");
        assert_eq!(SIZE.check(), Ok(()));
        let error = Plan::new(SIZE, bus, "a1", &"a.".repeat(130)).unwrap_err();
        assert!(error.contains("use another domain"), "{error}");
        let largest = Size {
            apps: 1000,
            routes_per_app: 100,
            ..SIZE
        };
        assert_eq!(plan(largest).present_count(), 100_000);
        assert_eq!(plan(largest).cells().len(), 100);
    }

    #[test]
    fn every_present_route_belongs_to_one_app_and_one_cell() {
        let plan = plan(SIZE);
        assert_eq!(plan.cells(), [0..40, 40..80, 80..100]);
        let apps: Vec<usize> = (0..100).map(|n| plan.present(n).app).collect();
        assert!((0..25).all(|app| apps.iter().filter(|a| **a == app).count() == 4));
        assert_eq!(plan.present(5).host, "propbench-a1-r5.apps.test");
        let pause = plan.pause_between_cells(Duration::from_secs(21));
        assert_eq!(pause, Duration::from_secs(7));
    }

    #[test]
    fn without_present_routes_there_are_no_cells_and_no_witness() {
        let plan = plan(Size {
            apps: 1,
            routes_per_app: 0,
            churn: 0,
            ..SIZE
        });
        assert_eq!((plan.cells().len(), plan.witness(3)), (0, None));
        assert_eq!(
            plan.pause_between_cells(Duration::from_secs(20)).as_secs(),
            20
        );
        assert!(plan.left_after(0).is_empty());
    }

    #[test]
    fn a_churned_route_goes_from_the_app_to_which_it_came() {
        let plan = plan(SIZE);
        assert_eq!(plan.churned_count(), 6);
        let mut owners = vec![None; plan.churned_count()];
        for number in 0..100 {
            let step = plan.step(number);
            match step.adds {
                true => assert_eq!(owners[step.route].replace(step.app), None),
                false => assert_eq!(owners[step.route].take(), Some(step.app)),
            }
            let present: Vec<_> = owners.iter().enumerate().collect();
            let left = plan.left_after(number + 1);
            for (route, app) in present {
                assert!(
                    app.is_none_or(|app| left.contains(&(route, app))),
                    "{number}: {route} of {app:?} is not in {left:?}"
                );
            }
        }
    }
}
