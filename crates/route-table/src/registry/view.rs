//! Shows a pool's endpoints with what the pool records about them, for operators.

use super::endpoint::Endpoint;
use super::pool::Pool;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// An endpoint of a pool, as it is at one moment.
#[derive(Clone, Debug)]
pub struct MemberView {
    pub endpoint: Arc<Endpoint>,
    /// The time since its last registration, to a tenth of a second.
    pub silence: Duration,
    /// Whether a failure still counts against it.
    pub has_failed: bool,
}

impl Pool {
    /// Returns the endpoints with their ages and failures.
    pub fn view(&self, now: Instant) -> Vec<MemberView> {
        let tick = self.common.tick(now);
        let members = self.read();
        let list = members.list.as_slice().iter();
        list.map(|member| MemberView {
            endpoint: member.endpoint.clone(),
            silence: member.silence(tick),
            has_failed: member.is_failed(tick),
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use crate::registry::{EndpointSpec, Registry, Settings};
    use std::time::{Duration, Instant};

    #[test]
    fn an_endpoint_shows_the_age_of_its_last_registration() {
        let start = Instant::now();
        let registry = Registry::new(Settings::default(), start);
        let endpoint = registry.endpoint(EndpointSpec {
            host: "10.0.0.1".into(),
            port: 80,
            ..EndpointSpec::default()
        });
        registry.register("app.test", &endpoint, start);
        let pool = registry.lookup("app.test", "/").unwrap();
        let shown = |seconds| {
            let view = pool.view(start + Duration::from_secs(seconds));
            (view.len(), view[0].silence, view[0].has_failed)
        };
        assert_eq!(shown(7), (1, Duration::from_secs(7), false));
        registry.register("app.test", &endpoint, start + Duration::from_secs(8));
        assert_eq!(shown(9), (1, Duration::from_secs(1), false));
    }
}
