//! Which endpoint of a pool a request gets.

use super::endpoint::Endpoint;
use super::maglev::Maglev;
use super::members::Member;
use super::options::{Balancing, Within};
use super::pool::Pool;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// The instance that a request insists on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Instance<'a> {
    #[default]
    Any,
    /// `X-CF-APP-INSTANCE`
    App { app: &'a str, index: &'a str },
    /// `X-CF-PROCESS-INSTANCE`
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

/// What one attempt of a request wants of [`Pool::pick`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Want<'a> {
    pub instance: Instance<'a>,
    /// Only endpoints that the caller may reach: decided before the balancing.
    pub within: Within<'a>,
    /// Preferred instance guid (`__VCAP_ID__`); any other will do when it is gone, full or tried.
    pub sticky: Option<&'a str>,
    /// No other will do.
    pub mandatory: bool,
    /// The value of the pool's hash header ([`Pool::hash_header`]).
    pub hash: Option<&'a [u8]>,
    /// Endpoints of this availability zone first.
    pub zone: Option<&'a str>,
    /// Addresses that this request has tried already.
    pub tried: &'a [Arc<Endpoint>],
    /// Most requests in flight per endpoint; 0: no limit.
    pub max_conns: u32,
}

impl Want<'_> {
    /// Whether it is for a part of the pool only.
    fn is_choosy(&self) -> bool {
        self.instance != Instance::Any || !matches!(self.within, Within::Anywhere)
    }

    /// Whether the endpoint is one of those that the request is for.
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

    /// Why nobody of a pool serves the request: whether all that could are full, also when it insists on one of them.
    fn nobody(&self, list: &[Member]) -> NoPick {
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

/// Why there is no endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoPick {
    #[error("no endpoints available")]
    None,
    #[error("every endpoint is at its connection limit")]
    Full,
    #[error("every endpoint was tried, or is not the one that the request insists on")]
    Tried,
}

/// How choosy a pick is: each step is taken when the one before found nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Heard of lately, the newest of its index, without a failure.
    Good,
    /// Without a failure.
    NotFailed,
    Any,
}

impl Pool {
    /// The next endpoint for an attempt. Endpoints that failed lately, that were not heard of lately, or that have a
    /// successor are passed over while there are others.
    pub fn pick(&self, want: &Want<'_>, now: Instant) -> Result<Arc<Endpoint>, NoPick> {
        let members = self.read();
        let list = members.list.as_slice();
        if let Some(id) = want.sticky {
            let stuck = list
                .iter()
                .find(|member| member.endpoint.instance_id() == id && want.admits(member));
            match stuck {
                Some(member) => return Ok(member.endpoint.clone()),
                None if want.mandatory => return Err(want.nobody(list)),
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
                    // All that are left have failed: give everybody another chance.
                    list.iter().for_each(Member::clear_failed);
                }
                return Ok(member.endpoint.clone());
            }
        }
        Err(want.nobody(list))
    }

    /// Round robin, or the least busy; within the wanted zone while somebody is there.
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

    /// The first that fits behind the one that had the last turn. The turn moves only when somebody is chosen, and then
    /// behind that one: whoever follows one that was passed over gets no share of it.
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

/// For requests that are for a part of the pool only: among those that fit, the one whose turn was longest ago. They leave
/// the turn of all others where it is.
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

/// The endpoint that a value leads to; the next in the table when it may not be, or has too much to do.
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
