//! The names of routes on this machine, which `cupola up` keeps in a block of /etc/hosts. A command that created or mapped a
//! route waits until the block has the route's name, so that `curl` finds it at once.

use crate::api::types::Route;
use crate::session::Session;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

const BEGIN: &str = "# BEGIN cupola ";
const END: &str = "# END cupola ";
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(50);

/// Waits until the names of an app's routes are known on this machine. It returns at once if no block of this machine has the
/// API's own name, or if the app is not started.
pub(crate) async fn wait_for_app(session: &Session, app_guid: &str) {
    if block_of(session).is_none() {
        return;
    }
    let path = format!("/v3/apps/{app_guid}/routes");
    // Waiting is a convenience, so an error does not fail the command.
    if let Ok(routes) = session.list::<Route>(&path, &[]).await {
        wait_for_routes(session, &routes).await;
    }
}

async fn wait_for_routes(session: &Session, routes: &[Route]) {
    let wanted: BTreeSet<_> = routes.iter().filter_map(|route| name(&route.url)).collect();
    let begun = Instant::now();
    while let Some(block) = block_of(session) {
        let Some(missing) = wanted.iter().find(|name| !block.contains(**name)) else {
            return;
        };
        if begun.elapsed() > PATIENCE {
            session.ui.warn(format!(
                "The name {missing} does not resolve on this machine yet. It will when an instance of the app runs and its route has reached the router."
            ));
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Returns the names in the block that has the API's own name.
fn block_of(session: &Session) -> Option<BTreeSet<String>> {
    let target = session.config().target.clone();
    let api = reqwest::Url::parse(&target).ok()?;
    let text = std::fs::read_to_string(&session.hosts_file).ok()?;
    block_with(&text, api.host_str()?)
}

/// Returns the names of the first block that has `name`.
fn block_with(text: &str, name: &str) -> Option<BTreeSet<String>> {
    let mut block = None;
    for line in text.lines() {
        if line.starts_with(BEGIN) {
            block = Some(BTreeSet::new());
        } else if line.starts_with(END) {
            if block
                .as_ref()
                .is_some_and(|names: &BTreeSet<String>| names.contains(name))
            {
                return block;
            }
            block = None;
        } else if let Some(names) = &mut block {
            let words = line.split_whitespace().skip(1);
            names.extend(words.map(str::to_ascii_lowercase));
        }
    }
    None
}

/// Returns the host of a route's URL if a hosts file can contain it: no wildcard, no port of its own, and no name that only
/// containers see.
fn name(url: &str) -> Option<&str> {
    let host = url.split('/').next()?;
    let is_plain = !host.contains(['*', ':']) && !host.ends_with(".internal");
    (is_plain && host.contains('.')).then_some(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTS: &str = "127.0.0.1 localhost\n# BEGIN cupola 1:2\n127.0.0.1 api.other.test\n# END cupola 1:2\n# BEGIN cupola 3:4\n127.0.0.1 api.cupola.test\n127.0.0.1 Dora.cupola.test\n# END cupola 3:4\n";

    #[test]
    fn the_block_is_the_one_of_the_api() {
        let block = block_with(HOSTS, "api.cupola.test").unwrap();
        assert_eq!(
            block.into_iter().collect::<Vec<_>>(),
            ["api.cupola.test", "dora.cupola.test"]
        );
        assert_eq!(block_with(HOSTS, "localhost"), None);
        assert_eq!(block_with("# BEGIN cupola 1:1\n1.1.1.1 a.b\n", "a.b"), None);
    }

    #[test]
    fn names_of_routes() {
        assert_eq!(name("dora.cupola.test/path"), Some("dora.cupola.test"));
        for url in [
            "*.cupola.test",
            "tcp.cupola.test:1024",
            "a.apps.internal",
            "x",
        ] {
            assert_eq!(name(url), None, "{url}");
        }
    }
}
