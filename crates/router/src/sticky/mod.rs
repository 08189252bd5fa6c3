//! Sticky sessions: an app that sets `JSESSIONID` gets the same instance again, remembered in `__VCAP_ID__`. So does one
//! that negotiates (NTLM, Kerberos), whose handshake no other instance could go on with.

use crate::backend::peer;
use crate::config::Serving;
use http1::{Fields, Known};
use routing::registry::{Endpoint, Pool};

const VCAP_ID: &str = "__VCAP_ID__";

/// The instance that a request sticks to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Sticky {
    pub(crate) instance: String,
    /// No other will do.
    pub(crate) mandatory: bool,
}

/// Only with `__VCAP_ID__`, and either a session cookie or a negotiation that goes on.
pub(crate) fn wanted(fields: &Fields, settings: &Serving) -> Option<Sticky> {
    if !fields.contains(Known::Cookie) {
        return None;
    }
    let mandatory = settings.sticky_for_auth_negotiate && negotiates(fields, Known::Authorization);
    let (mut session, mut instance) = (false, None);
    for (name, value) in fields
        .get_all(Known::Cookie)
        .filter_map(|line| std::str::from_utf8(line).ok())
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
    {
        if name == VCAP_ID {
            instance = instance.or(Some(value.trim_matches('"').to_owned()));
        } else if settings.sticky_cookies.iter().any(|sticky| sticky == name) {
            session = true;
        }
    }
    instance
        .filter(|_| session || mandatory)
        .map(|instance| Sticky {
            instance,
            mandatory,
        })
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
    // No instance: nothing to come back to.
    let instance = peer::instance_guid(endpoint);
    if instance.is_empty() {
        return;
    }
    let negotiated =
        settings.sticky_for_auth_negotiate && negotiates(fields, Known::WwwAuthenticate);
    if wanted.is_none() && !negotiated && !fields.contains(Known::SetCookie) {
        return;
    }
    let cookies: Vec<&str> = fields
        .get_all(Known::SetCookie)
        .filter_map(|line| std::str::from_utf8(line).ok())
        .collect();
    let name = |cookie: &str| Some(cookie.split_once('=')?.0.trim().to_owned());
    if cookies
        .iter()
        .any(|cookie| name(cookie).as_deref() == Some(VCAP_ID))
    {
        return;
    }
    let session = cookies
        .iter()
        .find(|cookie| name(cookie).is_some_and(|name| settings.sticky_cookies.contains(&name)));
    let moved = wanted.is_some_and(|wanted| wanted.instance != instance);
    if session.is_none() && !moved && !negotiated {
        return;
    }
    let session = if negotiated {
        Some("; Max-Age=60; SameSite=Strict")
    } else {
        session.copied()
    };
    let cookie = cookie(
        instance,
        pool.context_path(),
        session,
        settings.secure_cookies,
    );
    // An instance guid comes from a registration, and what it copies from the app's own cookie.
    if cookie.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        fields.append(Known::SetCookie, cookie.as_bytes());
    }
}

/// Takes over the life and the reach of the app's own cookie.
fn cookie(instance: &str, path: &str, session: Option<&str>, secure: bool) -> String {
    let (mut expires, mut max_age, mut same_site, mut is_secure, mut partitioned) =
        (None, None, None, secure, false);
    for attribute in session.unwrap_or_default().split(';').skip(1) {
        let (name, value) = attribute
            .trim()
            .split_once('=')
            .unwrap_or((attribute.trim(), ""));
        match name.to_ascii_lowercase().as_str() {
            "expires" => expires = date(value),
            "max-age" if value.starts_with('-') || value == "0" => max_age = Some("0"),
            "max-age" if session.is_some_and(|s| s.starts_with(';')) => max_age = Some(value),
            "samesite" => {
                let known = ["Lax", "Strict", "None"];
                same_site = known.into_iter().find(|k| k.eq_ignore_ascii_case(value));
            }
            "secure" => is_secure = true,
            "partitioned" => partitioned = true,
            _ => {}
        }
    }
    let mut cookie = format!("{VCAP_ID}={instance}; Path={path}");
    if let Some(expires) = expires {
        cookie.push_str(&format!("; Expires={expires}"));
    }
    if let Some(max_age) = max_age {
        cookie.push_str(&format!("; Max-Age={max_age}"));
    }
    cookie.push_str("; HttpOnly");
    if is_secure {
        cookie.push_str("; Secure");
    }
    if let Some(value) = same_site {
        cookie.push_str(&format!("; SameSite={value}"));
    }
    if partitioned {
        cookie.push_str("; Partitioned");
    }
    cookie
}

/// `Wed, 21 Oct 2026 07:28:00 GMT`, also from its older form with `-` in it; nothing else is a date in a cookie.
fn date(text: &str) -> Option<String> {
    const SHAPE: &[u8] = b"Aaa, 00 Aaa 0000 00:00:00";
    let date: String = text
        .char_indices()
        .map(|(at, c)| {
            if c == '-' && matches!(at, 7 | 11) {
                ' '
            } else {
                c
            }
        })
        .collect();
    let fits = |(byte, shape): (u8, &u8)| match shape {
        b'A' => byte.is_ascii_uppercase(),
        b'a' => byte.is_ascii_lowercase(),
        b'0' => byte.is_ascii_digit(),
        same => byte == *same,
    };
    let time = date.strip_suffix(" GMT")?;
    let shaped = time.len() == SHAPE.len() && time.bytes().zip(SHAPE).all(fits);
    shaped.then_some(date)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_cookies_make_a_request_sticky() {
        let of = |line: &'static str| {
            let mut fields = Fields::default();
            fields.append(Known::Cookie, line.as_bytes());
            let sticky = wanted(&fields, &Serving::default())?;
            assert!(!sticky.mandatory);
            Some(sticky.instance)
        };
        assert_eq!(
            of("a=b; JSESSIONID=1; __VCAP_ID__=inst"),
            Some("inst".into())
        );
        assert_eq!(of("__VCAP_ID__=inst"), None);
        assert_eq!(of("JSESSIONID=1"), None);
    }

    #[test]
    fn a_negotiation_insists_on_its_instance() {
        let mut fields = Fields::default();
        fields.append(Known::Cookie, b"__VCAP_ID__=inst");
        fields.append(Known::Authorization, b"NEGOTIATE abc");
        let on = Serving {
            sticky_for_auth_negotiate: true,
            ..Serving::default()
        };
        assert_eq!(wanted(&fields, &Serving::default()), None);
        assert!(wanted(&fields, &on).unwrap().mandatory);
        assert_eq!(
            cookie("i", "/", Some("; Max-Age=60; SameSite=Strict"), false),
            "__VCAP_ID__=i; Path=/; Max-Age=60; HttpOnly; SameSite=Strict"
        );
    }

    #[test]
    fn the_cookie_copies_the_sessions_attributes() {
        assert_eq!(
            cookie("i", "/p", None, false),
            "__VCAP_ID__=i; Path=/p; HttpOnly"
        );
        assert_eq!(
            cookie(
                "i",
                "/",
                Some(
                    "JSESSIONID=x; Path=/z; Max-Age=60; Expires=Wed, 21 Oct 2026 07:28:00 GMT; Secure; SameSite=None; Partitioned"
                ),
                false
            ),
            "__VCAP_ID__=i; Path=/; Expires=Wed, 21 Oct 2026 07:28:00 GMT; HttpOnly; Secure; SameSite=None; Partitioned"
        );
        for (attribute, copied) in [
            ("samesite=none", "; HttpOnly; SameSite=None"),
            ("SameSite", "; HttpOnly"),
            ("SameSite=odd", "; HttpOnly"),
            ("Expires=junk", "; HttpOnly"),
            (
                "Expires=Wed, 21-Oct-2099 07:28:00 GMT",
                "; Expires=Wed, 21 Oct 2099 07:28:00 GMT; HttpOnly",
            ),
        ] {
            let session = format!("JSESSIONID=x; {attribute}");
            assert_eq!(
                cookie("i", "/", Some(&session), false),
                format!("__VCAP_ID__=i; Path=/{copied}")
            );
        }
        assert_eq!(
            cookie("i", "/", Some("JSESSIONID=x; Max-Age=-1"), true),
            "__VCAP_ID__=i; Path=/; Max-Age=0; HttpOnly; Secure"
        );
    }
}
