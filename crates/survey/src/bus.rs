//! Asks on the message bus: whether a server accepts the foundation's user, and what each router of ours shows about a URL.

use crate::within;
use clients::nats::{Config, ask};
use std::time::Duration;
use why::Answer;
use wire::router::{RouteView, ViewQuestion, subject};

/// The time in which routers answer. They need milliseconds, and one that is paused never answers.
const ANSWERS: Duration = Duration::from_millis(500);

/// The answers on the bus.
#[derive(Debug, Default)]
pub(crate) struct Views {
    /// The server that accepted a connection; `None` if there is no bus to ask.
    pub(crate) server: Option<Answer<String>>,
    pub(crate) views: Vec<RouteView>,
}

/// Asks all routers of ours about a URL. `None`: there is no bus to ask.
pub(crate) async fn views(config: Option<&Config>, url: &str) -> Views {
    let Some(config) = config else {
        return Views::default();
    };
    let question = ViewQuestion {
        url: url.to_owned(),
    };
    let question = serde_json::to_vec(&question).unwrap_or_default();
    let asked = ask(config, "why", subject::ASK_VIEW, &question, ANSWERS);
    match within(asked).await {
        Err(problem) => Views {
            server: Some(Err(problem)),
            views: Vec::new(),
        },
        Ok(answers) => {
            let messages = answers.messages.iter();
            let views = messages.filter_map(|m| serde_json::from_slice(m.payload()).ok());
            Views {
                views: views.collect(),
                server: Some(Ok(answers.server)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_absent_bus_is_a_problem_and_no_bus_is_none() {
        assert_eq!(views(None, "a.test").await.server, None);
        let config = Config {
            servers: vec!["127.0.0.1:1".to_owned()],
            ..Config::default()
        };
        let found = views(Some(&config), "a.test").await;
        let problem = found.server.unwrap().unwrap_err();
        assert!(problem.contains("127.0.0.1:1"), "{problem}");
        assert!(found.views.is_empty());
    }
}
