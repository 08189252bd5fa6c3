//! The sources of route policies: one app, the apps of a space or of an organization, or every app. This module is pure.

use std::fmt;

/// The source of a route policy. A guid is a lower-case UUID of 36 characters. The resource that it names need not exist,
/// because teams exchange the guids of apps and spaces that the other team cannot see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicySource {
    /// Every app with an instance identity.
    Any,
    App(String),
    Space(String),
    Organization(String),
}

impl PolicySource {
    /// Parses `cf:app:<uuid>`, `cf:space:<uuid>`, `cf:org:<uuid>` or `cf:any`. Anything else is no source.
    pub fn parse(text: &str) -> Option<Self> {
        if text == "cf:any" {
            return Some(Self::Any);
        }
        let (kind, guid) = text.strip_prefix("cf:")?.split_once(':')?;
        let guid = Some(guid).filter(|guid| is_guid(guid))?.to_owned();
        match kind {
            "app" => Some(Self::App(guid)),
            "space" => Some(Self::Space(guid)),
            "org" => Some(Self::Organization(guid)),
            _ => None,
        }
    }

    /// Returns the guid of the source, which is empty for `cf:any`.
    pub fn guid(&self) -> &str {
        match self {
            Self::Any => "",
            Self::App(guid) | Self::Space(guid) | Self::Organization(guid) => guid,
        }
    }
}

impl fmt::Display for PolicySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("cf:any"),
            Self::App(guid) => write!(f, "cf:app:{guid}"),
            Self::Space(guid) => write!(f, "cf:space:{guid}"),
            Self::Organization(guid) => write!(f, "cf:org:{guid}"),
        }
    }
}

fn is_guid(text: &str) -> bool {
    let lengths = text.split('-').map(str::len);
    lengths.eq([8, 4, 4, 4, 12])
        && text
            .bytes()
            .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GUID: &str = "d76446a1-f429-4444-8797-be2f78b75b08";

    #[test]
    fn sources_are_read_and_written_alike() {
        for (kind, source) in [
            ("app", PolicySource::App(GUID.into())),
            ("space", PolicySource::Space(GUID.into())),
            ("org", PolicySource::Organization(GUID.into())),
        ] {
            let text = format!("cf:{kind}:{GUID}");
            assert_eq!(source.to_string(), text);
            assert_eq!(source.guid(), GUID);
            assert_eq!(PolicySource::parse(&text), Some(source));
        }
        assert_eq!(PolicySource::parse("cf:any"), Some(PolicySource::Any));
        assert_eq!(PolicySource::Any.to_string(), "cf:any");
    }

    #[test]
    fn everything_else_is_nobody() {
        for text in [
            "".to_owned(),
            "any".into(),
            "cf:".into(),
            "cf:any:".into(),
            "cf:ANY".into(),
            format!("cf:any:{GUID}"),
            "cf:app".into(),
            "cf:app:".into(),
            "cf:app:x".into(),
            format!("app:{GUID}"),
            format!("cf:user:{GUID}"),
            format!("cf:app:{}", GUID.to_uppercase()),
            format!("cf:app:{GUID}0"),
            format!("cf:app:{GUID},cf:any"),
            format!(" cf:app:{GUID}"),
            format!("cf:app:{GUID}\n"),
            "cf:app:d76446a1f4-29-4444-8797-be2f78b75b08".into(),
        ] {
            assert_eq!(PolicySource::parse(&text), None, "{text:?}");
        }
    }
}
