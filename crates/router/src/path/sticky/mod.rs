//! Sticky sessions: a client of an app that sets `JSESSIONID` gets the same instance again, whose guid `__VCAP_ID__` stores. So
//! does a client that negotiates (NTLM, Kerberos), whose handshake no other instance could continue.
//!
//! `__VCAP_ID_META__` is set beside it and stores the attributes of the app's own cookie: when the instance is gone and the app
//! begins no new session, the new `__VCAP_ID__` lives no longer than the old one would have.

mod attributes;

use crate::backend::peer;
use crate::config::Serving;
use attributes::Attributes;
use http1::{Fields, Known};
use route_table::registry::{Endpoint, Pool};
use std::time::{SystemTime, UNIX_EPOCH};

const VCAP_ID: &str = "__VCAP_ID__";
const VCAP_ID_META: &str = "__VCAP_ID_META__";

/// The instance that a request sticks to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Sticky {
    pub(crate) instance: String,
    /// Whether no other instance may serve the request.
    pub(crate) mandatory: bool,
    /// The attributes with which the cookie was set.
    attributes: Option<Attributes>,
}

/// Returns the instance that a request with `__VCAP_ID__` sticks to. The request must also carry a session cookie or continue a
/// negotiation.
pub(crate) fn wanted(fields: &Fields, settings: &Serving) -> Option<Sticky> {
    if !fields.contains(Known::Cookie) {
        return None;
    }
    let mandatory = settings.sticky_for_auth_negotiate && negotiates(fields, Known::Authorization);
    let (mut session, mut instance, mut meta) = (false, None, None);
    for (name, value) in fields
        .get_all(Known::Cookie)
        .filter_map(|line| std::str::from_utf8(line).ok())
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
    {
        if name == VCAP_ID {
            instance = instance.or(Some(value.trim_matches('"').to_owned()));
        } else if name == VCAP_ID_META {
            meta = meta.or(Some(value.trim_matches('"')));
        } else if is_session(name, settings) {
            session = true;
        }
    }
    instance
        .filter(|_| session || mandatory)
        .map(|instance| Sticky {
            instance,
            mandatory,
            attributes: meta.map(Attributes::remembered),
        })
}

/// Returns whether the name is one of the operator's, with or without `__Host-` before it.
fn is_session(name: &str, settings: &Serving) -> bool {
    let bare = name.strip_prefix("__Host-").unwrap_or(name);
    settings.sticky_cookies.iter().any(|sticky| sticky == bare)
}

fn negotiates(fields: &Fields, name: Known) -> bool {
    const SCHEME: &[u8] = b"negotiate";
    fields.get_all(name).any(|value| {
        let start = value.get(..SCHEME.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(SCHEME))
    })
}

/// Adds `__VCAP_ID__` when the app began a session, or when another instance than the wanted one has answered.
pub(crate) fn remember(
    fields: &mut Fields,
    wanted: Option<&Sticky>,
    pool: &Pool,
    endpoint: &Endpoint,
    settings: &Serving,
) {
    // Without an instance guid there is nothing to return to.
    let instance = peer::instance_guid(endpoint);
    if instance.is_empty() {
        return;
    }
    let negotiated =
        settings.sticky_for_auth_negotiate && negotiates(fields, Known::WwwAuthenticate);
    if wanted.is_none() && !negotiated && !fields.contains(Known::SetCookie) {
        return;
    }
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = since_1970.map_or(0, |since| {
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    });
    let answered = StickyAnswer {
        wanted,
        negotiated,
        instance,
        path: pool.cookie_path(),
    };
    for cookie in answered.cookies(fields, settings, now) {
        // The instance guid comes from a registration and the attributes from the app's own cookie, so neither is trusted.
        if cookie.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
            fields.append(Known::SetCookie, cookie.as_bytes());
        }
    }
}

/// The properties of an answer that decide about stickiness.
struct StickyAnswer<'a> {
    wanted: Option<&'a Sticky>,
    negotiated: bool,
    instance: &'a str,
    path: &'a str,
}

impl StickyAnswer<'_> {
    fn cookies(&self, fields: &Fields, settings: &Serving, now: i64) -> Vec<String> {
        let lines = fields.get_all(Known::SetCookie);
        let lines = lines.filter_map(|line| std::str::from_utf8(line).ok());
        let named = lines.filter_map(|line| Some((line.split_once('=')?.0.trim(), line)));
        let named: Vec<(&str, &str)> = named.collect();
        // A cookie that the app sets itself takes precedence.
        if named.iter().any(|(name, _)| *name == VCAP_ID) {
            return Vec::new();
        }
        let moved = self
            .wanted
            .is_some_and(|wanted| wanted.instance != self.instance);
        if self.negotiated && (self.wanted.is_none() || moved) {
            return vec![self.cookie(&Attributes::negotiated(settings.secure_cookies), now)];
        }
        let sessions = named.iter().filter(|(name, _)| is_session(name, settings));
        let mut cookies = Vec::new();
        for (_, session) in sessions {
            let mut attributes = Attributes::of(session, now);
            attributes.secure |= settings.secure_cookies;
            cookies.push(self.cookie(&attributes, now));
            let meta = format!("{VCAP_ID_META}={}", attributes.to_meta());
            cookies.push(attributes.written_behind(&meta, self.path, now));
        }
        if cookies.is_empty() && moved {
            let before = self.wanted.and_then(|wanted| wanted.attributes.clone());
            let mut attributes = before.unwrap_or_default();
            attributes.secure |= settings.secure_cookies;
            cookies.push(self.cookie(&attributes, now));
        }
        cookies
    }

    fn cookie(&self, attributes: &Attributes, now: i64) -> String {
        let pair = format!("{VCAP_ID}={}", self.instance);
        attributes.written_behind(&pair, self.path, now)
    }
}

#[cfg(test)]
mod tests;
