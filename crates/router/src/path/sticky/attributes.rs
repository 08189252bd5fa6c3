//! The attributes of a cookie: as an app sets them, as `__VCAP_ID_META__` stores them, and as they are written. The module is
//! pure; `now` and all points in time are Unix seconds.

use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use time::{OffsetDateTime, PrimitiveDateTime};

/// The seconds for which a negotiation keeps its instance.
const NEGOTIATION: i64 = 60;

/// The lifetime of a cookie and the requests that it is sent with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Attributes {
    pub(super) secure: bool,
    partitioned: bool,
    same_site: Option<&'static str>,
    expires: Option<i64>,
    max_age: Option<Age>,
}

/// The `Max-Age` of a cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Age {
    Seconds(i64),
    /// The time at which the cookie ends; the seconds until then are written.
    Until(i64),
    /// The cookie is deleted.
    Over,
}

const SAME_SITE: [&str; 3] = ["Lax", "Strict", "None"];

fn same_site(value: &str) -> Option<&'static str> {
    let mut known = SAME_SITE.into_iter();
    known.find(|known| known.eq_ignore_ascii_case(value))
}

impl Attributes {
    pub(super) fn negotiated(secure: bool) -> Self {
        Self {
            secure,
            same_site: Some("Strict"),
            max_age: Some(Age::Seconds(NEGOTIATION)),
            ..Self::default()
        }
    }

    /// Parses the attributes of an app's `Set-Cookie`. An attribute that cannot be read is left out.
    pub(super) fn of(cookie: &str, now: i64) -> Self {
        let mut of = Self::default();
        for attribute in cookie.split(';').skip(1) {
            let attribute = attribute.trim();
            let (name, value) = attribute.split_once('=').unwrap_or((attribute, ""));
            match name.to_ascii_lowercase().as_str() {
                "expires" => of.expires = date(value).or(of.expires),
                "max-age" => of.max_age = age(value, now).or(of.max_age),
                "samesite" => of.same_site = same_site(value),
                "secure" => of.secure = true,
                "partitioned" => of.partitioned = true,
                _ => {}
            }
        }
        of
    }

    /// Parses the value of `__VCAP_ID_META__`. A part that cannot be read is left out.
    pub(super) fn remembered(meta: &str) -> Self {
        let mut of = Self::default();
        for part in meta.split('&') {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            match name {
                "secure" => of.secure = true,
                "partitioned" => of.partitioned = true,
                "samesite" if value.bytes().all(|byte| byte.is_ascii_lowercase()) => {
                    of.same_site = of.same_site.or(same_site(value));
                }
                "expires" => of.expires = of.expires.or(value.parse().ok()),
                "maxage" => {
                    of.max_age = of.max_age.or(match value.parse::<i64>() {
                        Ok(0) | Err(_) => None,
                        Ok(until) if until < 0 => Some(Age::Over),
                        Ok(until) => Some(Age::Until(until)),
                    });
                }
                _ => {}
            }
        }
        of
    }

    /// Returns the value of `__VCAP_ID_META__`.
    pub(super) fn to_meta(&self) -> String {
        let mut parts = Vec::new();
        if self.secure {
            parts.push("secure".to_owned());
        }
        if self.partitioned {
            parts.push("partitioned".to_owned());
        }
        parts.extend(self.expires.map(|at| format!("expires={at}")));
        parts.extend(self.max_age.map(|age| match age {
            Age::Over => "maxage=-1".to_owned(),
            Age::Until(at) | Age::Seconds(at) => format!("maxage={at}"),
        }));
        let same_site = self.same_site.map(str::to_ascii_lowercase);
        parts.extend(same_site.map(|value| format!("samesite={value}")));
        parts.join("&")
    }

    /// Returns a `Set-Cookie` with this name and value.
    pub(super) fn written_behind(&self, pair: &str, path: &str, now: i64) -> String {
        let mut cookie = format!("{pair}; Path={path}");
        if let Some(expires) = self.expires.and_then(text) {
            cookie.push_str(&format!("; Expires={expires}"));
        }
        if let Some(age) = self.max_age {
            let left = match age {
                Age::Seconds(seconds) => seconds,
                Age::Until(at) => at.saturating_sub(now).max(0),
                Age::Over => 0,
            };
            cookie.push_str(&format!("; Max-Age={left}"));
        }
        cookie.push_str("; HttpOnly");
        if self.secure {
            cookie.push_str("; Secure");
        }
        if let Some(value) = self.same_site {
            cookie.push_str(&format!("; SameSite={value}"));
        }
        if self.partitioned {
            cookie.push_str("; Partitioned");
        }
        cookie
    }
}

fn age(value: &str, now: i64) -> Option<Age> {
    let seconds: i64 = value.parse().ok()?;
    // Go reads it in the same way: no number except 0 itself begins with 0.
    if seconds != 0 && value.starts_with('0') {
        return None;
    }
    Some(if seconds <= 0 {
        Age::Over
    } else {
        Age::Until(now.saturating_add(seconds))
    })
}

const DATE: &[BorrowedFormatItem<'_>] = format_description!(
    "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
);

/// Parses `Wed, 21 Oct 2026 07:28:00 GMT`, also in its older form with `-`; cookies have no other dates.
fn date(value: &str) -> Option<i64> {
    let at = |at: usize, byte: u8| {
        if byte == b'-' && matches!(at, 7 | 11) {
            b' '
        } else {
            byte
        }
    };
    let value: Vec<u8> = value
        .bytes()
        .enumerate()
        .map(|(n, byte)| at(n, byte))
        .collect();
    let value = String::from_utf8(value).ok()?;
    let date = PrimitiveDateTime::parse(&value, DATE).ok()?;
    Some(date.assume_utc().unix_timestamp())
}

/// Formats a date; `None`: it is before the year 1601, which no cookie can express.
fn text(at: i64) -> Option<String> {
    let date = OffsetDateTime::from_unix_timestamp(at).ok()?;
    (date.year() >= 1601).then(|| date.format(DATE).ok())?
}
