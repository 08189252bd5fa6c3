//! The log drains of all apps. The internal listener returns them to the component that sends the logs of apps there; the API has no such
//! endpoint. A drain begins with the binding of an app to an instance that has a `syslog_drain_url`, and ends with the unbinding.

use super::prelude::*;
use crate::db::syslog_drain::{self, DrainBinding};
use crate::sealing::Keyring;
use axum::Json;
use axum::response::IntoResponse as _;
use cc_rules::ordered_json::OrderedJson;
use serde::Deserialize;
use wire::cc::{DrainCredentials, DrainedApp, SyslogDrain, SyslogDrains, drain_hostname};

/// The largest number of URLs of a page.
const LARGEST_PAGE: u32 = 1000;

/// The query of the internal listener.
#[derive(Debug, Deserialize)]
#[serde(default)]
pub(crate) struct Asked {
    /// The number of URLs before the page.
    next_id: u32,
    /// The number of URLs of the page.
    batch_size: u32,
}

impl Default for Asked {
    fn default() -> Self {
        Self {
            next_id: 0,
            batch_size: 50,
        }
    }
}

/// Returns a page of the drains. The next one begins where this one ends; after the last one follows an empty one.
pub(crate) async fn internal(
    State(cc): State<Cc>,
    axum::extract::Query(asked): axum::extract::Query<Asked>,
) -> ApiResult {
    let size = asked.batch_size.clamp(1, LARGEST_PAGE);
    let found = syslog_drain::page(&mut *cc.db.read_own().await?, size, asked.next_id).await?;
    let next_id = (!found.is_empty()).then(|| asked.next_id.saturating_add(size));
    let results = drains(&cc.settings.keys, found);
    Ok(Json(SyslogDrains { results, next_id }).into_response())
}

/// Groups the bindings, which are in the order of their URLs, by URL and by credentials.
fn drains(keys: &Keyring, bindings: Vec<DrainBinding>) -> Vec<SyslogDrain> {
    let mut drains: Vec<SyslogDrain> = Vec::new();
    for binding in bindings.into_iter().filter(|binding| binding.is_made) {
        let credentials = match keys.open_json(&binding.guid, binding.credentials.as_ref()) {
            Ok(credentials) => credentials.unwrap_or(OrderedJson::Null),
            Err(error) => {
                tracing::warn!(%error, binding = binding.guid, "drain-left-out");
                continue;
            }
        };
        let app = DrainedApp {
            hostname: drain_hostname(&binding.organization, &binding.space, &binding.app),
            app_id: binding.app_guid,
        };
        if drains.last().is_none_or(|last| last.url != binding.url) {
            drains.push(SyslogDrain {
                url: binding.url,
                credentials: Vec::new(),
            });
        }
        let Some(drain) = drains.last_mut() else {
            continue;
        };
        let [cert, key, ca] = ["cert", "key", "ca"].map(|name| text(&credentials, name));
        let known = drain
            .credentials
            .iter_mut()
            .find(|known| known.cert == cert && known.key == key && known.ca == ca);
        match known {
            Some(known) => known.apps.push(app),
            None => drain.credentials.push(DrainCredentials {
                cert,
                key,
                ca,
                apps: vec![app],
            }),
        }
    }
    drains
}

/// Returns a text of the credentials. It is empty if there is none.
fn text(credentials: &OrderedJson, name: &str) -> String {
    match credentials.get(name) {
        Some(OrderedJson::Text(text)) => text.clone(),
        _ => String::new(),
    }
}
