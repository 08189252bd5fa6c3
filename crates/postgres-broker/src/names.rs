//! The names of databases and roles on the server. They are made of guids alone, so that no text of a request is part of a statement.
//!
//! | Name | Thing |
//! |---|---|
//! | `db_…` | the database of an instance |
//! | `o_…` | the role that owns what is in it; nobody logs in with it |
//! | `u_…` | the user of a binding, a member of `o_…` |
//! | `t_…` | the user of a dump or of a restore, for as long as it lasts |
//! | `r_…`, `k_…` | during a restore: the new database, and the previous one |

use std::fmt;
use uuid::Uuid;

/// The guid of an instance or of a binding.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Guid(Uuid);

impl Guid {
    /// Reads a guid in its usual form, with hyphens.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let guid = Uuid::try_parse(text).ok().map(Self)?;
        (text.len() == 36).then_some(guid)
    }

    /// Returns a guid for a temporary user.
    pub(crate) fn random() -> Self {
        Self(Uuid::new_v4())
    }

    fn named(self, prefix: &str) -> String {
        format!("{prefix}_{}", self.0.simple())
    }

    pub(crate) fn database(self) -> String {
        self.named("db")
    }

    pub(crate) fn owner(self) -> String {
        self.named("o")
    }

    pub(crate) fn user(self) -> String {
        self.named("u")
    }

    pub(crate) fn temporary(self) -> String {
        self.named("t")
    }

    pub(crate) fn restored(self) -> String {
        self.named("r")
    }

    pub(crate) fn kept(self) -> String {
        self.named("k")
    }

    /// Returns the guid in a name that begins with `prefix` and an underscore.
    pub(crate) fn of_name(name: &str, prefix: &str) -> Option<Self> {
        let simple = name.strip_prefix(prefix)?.strip_prefix('_')?;
        let is_simple = simple.len() == 32 && simple.bytes().all(|b| b.is_ascii_hexdigit());
        is_simple.then(|| Uuid::try_parse(simple).ok().map(Self))?
    }
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl fmt::Debug for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "0a1b2c3d-0000-4000-8000-00000000000f";

    #[test]
    fn names_have_only_the_digits_of_the_guid() {
        let guid = Guid::parse(TEXT).unwrap();
        assert_eq!(guid.database(), "db_0a1b2c3d00004000800000000000000f");
        assert_eq!(guid.owner(), "o_0a1b2c3d00004000800000000000000f");
        assert_eq!(Guid::of_name(&guid.database(), "db"), Some(guid));
        assert_eq!(Guid::of_name(&guid.user(), "db"), None);
        assert_eq!(guid.to_string(), TEXT);
        assert_eq!(Guid::parse(&TEXT.to_uppercase()), Some(guid));
    }

    #[test]
    fn other_texts_are_no_guids() {
        for text in [
            "",
            "db",
            "0a1b2c3d00004000800000000000000f",
            "{0a1b2c3d-0000-4000-8000-00000000000f}",
            "0a1b2c3d-0000-4000-8000-00000000000f\"; DROP",
            "urn:uuid:0a1b2c3d-0000-4000-8000-00000000000f",
        ] {
            assert_eq!(Guid::parse(text), None, "{text}");
        }
        assert_eq!(Guid::of_name("db_x", "db"), None);
        assert_eq!(Guid::of_name("postgres", "db"), None);
    }
}
