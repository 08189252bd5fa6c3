//! The attributes of a cookie: as an app sets them, as `__VCAP_ID_META__` remembers them, and as they are written. Pure;
//! `now` and all points in time are Unix seconds.

use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use time::{OffsetDateTime, PrimitiveDateTime};

/// For this many seconds a negotiation keeps its instance.
const NEGOTIATION: i64 = 60;

/// How long a cookie lives and where it is sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Attributes {
    pub(super) secure: bool,
    partitioned: bool,
    same_site: Option<&'static str>,
    expires: Option<i64>,
    max_age: Option<Age>,
}

/// `Max-Age`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Age {
    Seconds(i64),
    /// What is left of it.
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

    /// Of an app's `Set-Cookie`. What cannot be read is left out.
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

    /// From the value of `__VCAP_ID_META__`. What cannot be read is left out.
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

    /// The value of `__VCAP_ID_META__`.
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

    /// A `Set-Cookie` of this name and value.
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
    // As Go reads it: no number begins with 0 but 0 itself.
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

/// `Wed, 21 Oct 2026 07:28:00 GMT`, also from its older form with `-` in it; nothing else is a date in a cookie.
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

/// `None`: before the year 1601, which no cookie can name.
fn text(at: i64) -> Option<String> {
    let date = OffsetDateTime::from_unix_timestamp(at).ok()?;
    (date.year() >= 1601).then(|| date.format(DATE).ok())?
}
