//! Specs that people write: JSON objects in the format that the commands print, read as Go reads them. Unknown members are
//! ignored, the case of a name does not matter, `null` leaves a member empty, and an error names the member.

use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// The position of a value, for messages: the struct's name and the members on the path to the value.
#[derive(Clone, Debug)]
pub(super) struct Place {
    of: &'static str,
    path: Vec<&'static str>,
}

impl Place {
    fn refuse(&self, raw: &RawValue, wanted: &str) -> String {
        let place = if self.path.is_empty() {
            "Go value".to_owned()
        } else {
            format!("Go struct field {}.{}", self.of, self.path.join("."))
        };
        format!(
            "json: cannot unmarshal {} into {place} of type {wanted}",
            kind(raw, wanted)
        )
    }
}

/// Returns the kind of the value in Go's words. A number that does not fit is shown.
fn kind(raw: &RawValue, wanted: &str) -> String {
    match raw.get().as_bytes().first() {
        Some(b'"') => "string".into(),
        Some(b'{') => "object".into(),
        Some(b'[') => "array".into(),
        Some(b't' | b'f') => "bool".into(),
        _ if wanted.contains("int") => format!("number {}", raw.get()),
        _ => "number".into(),
    }
}

/// A type that can be the value of a member.
pub(super) trait Read: Default {
    /// Returns its name in Go, for messages.
    fn name() -> String;
    fn read(raw: &RawValue, place: &Place) -> Result<Self, String>;
}

macro_rules! scalars {
    ($($ty:ty: $name:literal),*) => {$(
        impl Read for $ty {
            fn name() -> String {
                $name.into()
            }
            fn read(raw: &RawValue, place: &Place) -> Result<Self, String> {
                serde_json::from_str(raw.get()).map_err(|_| place.refuse(raw, $name))
            }
        }
    )*};
}
scalars!(String: "string", bool: "bool", i32: "int32", u32: "uint32", i64: "int64", u64: "uint64");

impl<T: Read> Read for Option<T> {
    fn name() -> String {
        T::name()
    }
    fn read(raw: &RawValue, place: &Place) -> Result<Self, String> {
        T::read(raw, place).map(Some)
    }
}

impl<T: Read> Read for Box<T> {
    fn name() -> String {
        T::name()
    }
    fn read(raw: &RawValue, place: &Place) -> Result<Self, String> {
        T::read(raw, place).map(Self::new)
    }
}

impl<T: Read> Read for Vec<T> {
    fn name() -> String {
        let item = T::name();
        let pointer = if item.starts_with("models.") { "*" } else { "" };
        format!("[]{pointer}{item}")
    }
    fn read(raw: &RawValue, place: &Place) -> Result<Self, String> {
        let items: Vec<Box<RawValue>> =
            serde_json::from_str(raw.get()).map_err(|_| place.refuse(raw, &Self::name()))?;
        items.iter().map(|item| value(item, place)).collect()
    }
}

impl<T: Read> Read for BTreeMap<String, T> {
    fn name() -> String {
        let item = T::name();
        let pointer = if item.starts_with("models.") { "*" } else { "" };
        format!("map[string]{pointer}{item}")
    }
    fn read(raw: &RawValue, place: &Place) -> Result<Self, String> {
        let members = members(raw).map_err(|()| place.refuse(raw, &Self::name()))?;
        members
            .into_iter()
            .map(|(name, raw)| Ok((name, value(&raw, place)?)))
            .collect()
    }
}

fn value<T: Read>(raw: &RawValue, place: &Place) -> Result<T, String> {
    if raw.get() == "null" {
        return Ok(T::default());
    }
    T::read(raw, place)
}

fn members(raw: &RawValue) -> Result<BTreeMap<String, Box<RawValue>>, ()> {
    serde_json::from_str(raw.get()).map_err(drop)
}

/// The members of one object.
pub(super) struct Members {
    found: BTreeMap<String, Box<RawValue>>,
    place: Place,
}

impl Members {
    /// Reads the members. `of` is the struct's name in Go, for messages.
    pub(super) fn of(raw: &RawValue, of: &'static str, place: &Place) -> Result<Self, String> {
        Ok(Self {
            found: members(raw).map_err(|()| place.refuse(raw, &format!("models.{of}")))?,
            place: Place {
                of,
                path: place.path.clone(),
            },
        })
    }

    pub(super) fn get<T: Read>(&self, name: &'static str) -> Result<T, String> {
        let Some(raw) = self.raw(name) else {
            return Ok(T::default());
        };
        let mut place = self.place.clone();
        place.path.push(name);
        value(raw, &place)
    }

    fn raw(&self, name: &str) -> Option<&RawValue> {
        let exact = self.found.get(name);
        let alike = || {
            let mut alike = self.found.iter();
            let alike = alike.find(|(found, _)| found.eq_ignore_ascii_case(name));
            alike.map(|(_, raw)| raw)
        };
        exact.or_else(alike).map(AsRef::as_ref)
    }

    /// Reads one of an enumeration's names, whose positions are the numbers.
    pub(super) fn named(&self, name: &'static str, names: &[&str]) -> Result<i32, String> {
        let given: String = self.get(name)?;
        if given.is_empty() {
            return Ok(0);
        }
        let at = names.iter().position(|known| *known == given);
        at.and_then(|at| i32::try_from(at).ok())
            .ok_or_else(|| format!("invalid {}: {given}", name.trim_start_matches("layer_")))
    }

    /// Returns whether any of these members is present.
    pub(super) fn has_any(&self, names: &[&str]) -> bool {
        names.iter().any(|name| self.raw(name).is_some())
    }
}

/// Reads a whole spec whose outermost struct is `of`. Returns `None` if it is `null`.
pub(super) fn spec<T>(
    text: &str,
    of: &'static str,
    read: impl Fn(&Members) -> Result<T, String>,
) -> Result<Option<T>, String> {
    let raw: Box<RawValue> = serde_json::from_str(text).map_err(|error| syntax(text, &error))?;
    let place = Place {
        of,
        path: Vec::new(),
    };
    if raw.get() == "null" {
        return Ok(None);
    }
    read(&Members::of(&raw, of, &place)?).map(Some)
}

/// Returns an error of the JSON syntax, in Go's words.
fn syntax(text: &str, error: &serde_json::Error) -> String {
    if error.is_eof() {
        return "unexpected end of JSON input".into();
    }
    let line = text.lines().nth(error.line().saturating_sub(1));
    let at = |column: usize| {
        line.and_then(|line| line.as_bytes().get(column))
            .map(|b| *b as char)
    };
    let Some(found) = error.column().checked_sub(1).and_then(at) else {
        return error.to_string();
    };
    let message = error.to_string();
    let place = [
        ("expected value", "looking for beginning of value"),
        ("expected ident", "in literal"),
        ("trailing characters", "after top-level value"),
        (
            "key must be a string",
            "looking for beginning of object key string",
        ),
        (
            "trailing comma",
            "looking for beginning of object key string",
        ),
        ("expected `:`", "after object key"),
        ("expected `,` or `}`", "after object key:value pair"),
        ("expected `,` or `]`", "after array element"),
    ]
    .into_iter()
    .find(|(ours, _)| message.starts_with(ours));
    match place {
        Some((_, place)) => format!("invalid character '{found}' {place}"),
        None => message,
    }
}

/// Implements reading for structs by their members: `Type "GoName" { field: "name" }`.
macro_rules! structs {
    ($($ty:ty: $name:literal { $($field:ident: $member:literal),* $(,)? })*) => {$(
        impl $crate::json::read::Read for $ty {
            fn name() -> String {
                concat!("models.", $name).into()
            }
            fn read(
                raw: &serde_json::value::RawValue,
                place: &$crate::json::read::Place,
            ) -> Result<Self, String> {
                let members = $crate::json::read::Members::of(raw, $name, place)?;
                let mut read = Self::default();
                $(read.$field = members.get($member)?;)*
                Ok(read)
            }
        }
    )*};
}
pub(super) use structs;
