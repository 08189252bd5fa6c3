//! The choice of the endpoint of a pool that serves a request.

use super::endpoint::Endpoint;
use super::maglev::Maglev;
use super::members::Member;
use super::options::{Balancing, Within};
use super::pool::Pool;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// The instance that a request asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Instance<'a> {
    #[default]
    Any,
    /// The index of an app's instance, from the header `X-CF-APP-INSTANCE`.
    App { app: &'a str, index: &'a str },
    /// A process, or one instance of it, from the header `X-CF-PROCESS-INSTANCE`.
    Process {
        process: &'a str,
        index: Option<&'a str>,
    },
}

impl Instance<'_> {
    pub(super) fn is(&self, endpoint: &Endpoint) -> bool {
        match *self {
            Self::Any => true,
            Self::App { app, index } => {
                endpoint.app_id() == app && endpoint.instance_index() == index
            }
            Self::Process { process, index } => {
                endpoint.tag("process_id") == process
                    && index.is_none_or(|index| endpoint.instance_index() == index)
            }
        }
    }
}

/// The conditions under which [`Pool::pick`] chooses an endpoint for one attempt of a request.
#[derive(Clone, Copy, Debug, Default)]
pub struct Want<'a> {
    pub instance: Instance<'a>,
    /// The endpoints that the caller may reach. This condition is applied before the balancing.
    pub within: Within<'a>,
    /// The preferred instance guid (`__VCAP_ID__`). Another endpoint is chosen when that instance is gone, full or already tried.
    pub sticky: Option<&'a str>,
    /// Whether only the instance in `sticky` may be chosen.
    pub mandatory: bool,
    /// The value of the pool's hash header ([`Pool::hash_header`]).
    pub hash: Option<&'a [u8]>,
    /// The availability zone whose endpoints are preferred.
    pub zone: Option<&'a str>,
    /// The endpoints whose addresses this request has already tried.
    pub tried: &'a [Arc<Endpoint>],
    /// The highest number of requests in flight per endpoint; 0 means no limit.
    pub max_conns: u32,
}

impl Want<'_> {
    /// Returns whether the request may use only a part of the pool.
    fn is_choosy(&self) -> bool {
        self.instance != Instance::Any || !matches!(self.within, Within::Anywhere)
    }

    /// Returns whether the endpoint is in the part of the pool that the request may use.
    fn concerns(&self, endpoint: &Endpoint) -> bool {
        self.instance.is(endpoint) && self.within.holds(endpoint)
    }

    pub(super) fn admits(&self, member: &Member) -> bool {
        let endpoint = &member.endpoint;
        let tried = |tried: &Arc<Endpoint>| tried.address() == endpoint.address();
        self.concerns(endpoint)
            && !endpoint.is_full(self.max_conns)
            && !self.tried.iter().any(tried)
    }

    /// Returns why no endpoint of a pool can serve the request. [`NoPick::Full`] means that every endpoint that the request may
    /// use is at its limit, even if it asks for a particular instance.
    fn no_pick(&self, list: &[Member]) -> NoPick {
        let endpoints = list.iter().map(|member| &member.endpoint);
        let mut candidates = endpoints.filter(|endpoint| self.concerns(endpoint));
        if candidates.clone().next().is_none() {
            NoPick::None
        } else if candidates.all(|endpoint| endpoint.is_full(self.max_conns)) {
            NoPick::Full
        } else {
            NoPick::Tried
        }
    }
}

/// The reason why no endpoint was picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoPick {
    #[error("no endpoints available")]
    None,
    #[error("every endpoint is at its connection limit")]
    Full,
    #[error("every endpoint was tried, or is not the one that the request insists on")]
    Tried,
}

/// The conditions that an endpoint must meet. A pick goes to the next step when the step before found no endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The endpoint was registered within its stale threshold, is the newest of its index, and has not failed.
    Good,
    /// The endpoint has not failed.
    NotFailed,
    Any,
}

impl Pool {
    /// Returns the next endpoint for an attempt. Endpoints that failed recently, whose stale threshold has passed, or that have a
    /// successor are chosen only when there are no others.
    pub fn pick(&self, want: &Want<'_>, now: Instant) -> Result<Arc<Endpoint>, NoPick> {
        let members = self.read();
        let list = members.list.as_slice();
        if let Some(id) = want.sticky {
            let stuck = list
                .iter()
                .find(|member| member.endpoint.instance_id() == id && want.admits(member));
            match stuck {
                Some(member) => return Ok(member.endpoint.clone()),
                None if want.mandatory => return Err(want.no_pick(list)),
                None => {}
            }
        }
        let tick = self.common.tick(now);
        let default = &self.common.settings.balancing;
        for step in [Step::Good, Step::NotFailed, Step::Any] {
            let fits = |member: &Member| {
                want.admits(member)
                    && match step {
                        Step::Good => member.is_good(&self.common, tick),
                        Step::NotFailed => !member.is_failed(tick),
                        Step::Any => true,
                    }
            };
            let chosen = match (members.balancing(), want.hash) {
                (Some(Balancing::Hash { balance, .. }), Some(value)) => members
                    .maglev()
                    .and_then(|maglev| hashed(list, maglev, value, *balance, fits)),
                (Some(Balancing::Hash { .. }) | None, _) => self.spread(list, default, want, fits),
                (Some(balancing), _) => self.spread(list, balancing, want, fits),
            };
            if let Some(member) = chosen {
                if step == Step::Any {
                    // All endpoints that are left have failed, so each gets another chance.
                    list.iter().for_each(Member::clear_failed);
                }
                return Ok(member.endpoint.clone());
            }
        }
        Err(want.no_pick(list))
    }

    /// Chooses by round robin or by least connections. Endpoints outside the wanted zone are chosen only when none inside fits.
    fn spread<'m>(
        &self,
        list: &'m [Member],
        balancing: &Balancing,
        want: &Want<'_>,
        fits: impl Fn(&Member) -> bool,
    ) -> Option<&'m Member> {
        let least = *balancing == Balancing::LeastConnection;
        let choose = |fits: &dyn Fn(&Member) -> bool| {
            if want.is_choosy() {
                longest_passed_over(list, least, fits)
            } else {
                self.in_turn(list, least, fits)
            }
        };
        let Some(zone) = want.zone else {
            return choose(&fits);
        };
        let near = |member: &Member| member.endpoint.availability_zone() == zone;
        choose(&|member| near(member) && fits(member)).or_else(|| choose(&fits))
    }

    /// Returns the first endpoint that fits after the one that had the last turn. The turn moves only when an endpoint is chosen,
    /// and then to the place behind the chosen one; otherwise the neighbour of a skipped endpoint would get its share as well.
    fn in_turn<'m>(
        &self,
        list: &'m [Member],
        least: bool,
        fits: &dyn Fn(&Member) -> bool,
    ) -> Option<&'m Member> {
        if let [only] = list {
            return fits(only).then_some(only);
        }
        let mut next = self.next.load(Ordering::Relaxed);
        loop {
            let start = next as usize % list.len().max(1);
            let turn = (start..list.len()).chain(0..start);
            let mut turn = turn.filter(|at| fits(&list[*at]));
            let at = if least {
                turn.min_by_key(|at| list[*at].endpoint.in_flight())
            } else {
                turn.next()
            }?;
            let (relaxed, then) = (Ordering::Relaxed, at as u32 + 1);
            match (self.next).compare_exchange_weak(next, then, relaxed, relaxed) {
                Ok(_) => return Some(&list[at]),
                Err(moved) => next = moved,
            }
        }
    }
}

/// Returns the fitting endpoint whose turn was longest ago. It serves requests that may use only a part of the pool, and leaves
/// the turn of all other requests unchanged.
fn longest_passed_over<'m>(
    list: &'m [Member],
    least: bool,
    fits: &dyn Fn(&Member) -> bool,
) -> Option<&'m Member> {
    let fitting = list.iter().filter(|member| fits(member));
    let latest = fitting.clone().map(Member::turn).max()?;
    let chosen = fitting.min_by_key(|member| {
        let busy = if least {
            member.endpoint.in_flight()
        } else {
            0
        };
        (busy, member.turn())
    })?;
    chosen.had_turn(latest.wrapping_add(1));
    Some(chosen)
}

/// Returns the endpoint to which a hash value leads. When it does not fit or is too busy, the next one in the table is returned.
fn hashed<'m>(
    list: &'m [Member],
    maglev: &Maglev,
    value: &[u8],
    balance: f64,
    fits: impl Fn(&Member) -> bool,
) -> Option<&'m Member> {
    let total: u32 = list.iter().map(|member| member.endpoint.in_flight()).sum();
    let limit = balance * f64::from(total) / list.len() as f64;
    let crowded = |member: &Member| limit > 0.0 && f64::from(member.endpoint.in_flight()) > limit;
    let mut spare = None;
    for member in maglev.from(value).map(|at| &list[at]) {
        if fits(member) {
            if !crowded(member) {
                return Some(member);
            }
            spare = spare.or(Some(member));
        }
    }
    spare
}
