//! Holds the fields of one head: a buffer that begins with the head as it came, and a list of where names and values stand in it.
//!
//! Values that the router sets are appended to the buffer, so the bytes of a [`Span`] do not change until the buffer is used for
//! the next message. Order and spelling are kept. One bit per known name makes most look-ups free.

use crate::known::Known;

/// A place in a buffer of [`Fields`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    start: u32,
    len: u32,
}

impl Span {
    /// Makes a span. Its numbers fit, because the limits of heads keep them far below 4 GiB.
    pub(crate) fn new(start: usize, len: usize) -> Self {
        let small = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Self {
            start: small(start),
            len: small(len),
        }
    }

    /// Returns the place of `part`, a slice of `whole`, in it.
    pub(crate) fn within(whole: &[u8], part: &[u8]) -> Self {
        let start = (part.as_ptr() as usize).saturating_sub(whole.as_ptr() as usize);
        Self::new(start, part.len())
    }

    pub fn is_empty(self) -> bool {
        self.len == 0
    }
}

#[derive(Clone, Copy, Debug)]
struct Field {
    known: Known,
    /// The spelling of the name. It is empty if the name is spelt as the router spells it.
    name: Span,
    value: Span,
}

/// A name to look for.
#[derive(Clone, Copy, Debug)]
pub enum Name<'a> {
    Known(Known),
    Other(&'a str),
}

impl From<Known> for Name<'_> {
    fn from(known: Known) -> Self {
        Self::Known(known)
    }
}

impl<'a> From<&'a str> for Name<'a> {
    fn from(name: &'a str) -> Self {
        match Known::by_name(name.as_bytes()) {
            Known::Other => Self::Other(name),
            known => Self::Known(known),
        }
    }
}

/// A head's fields. Names compare without regard to case.
#[derive(Clone, Debug, Default)]
pub struct Fields {
    bytes: Vec<u8>,
    list: Vec<Field>,
    /// The set of known names in the list, one bit for each.
    present: u64,
    /// Whether some name has an underscore or a dot.
    unusual: bool,
}

impl Fields {
    /// Empties the fields for the next message and keeps their memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.list.clear();
        self.present = 0;
        self.unusual = false;
    }

    /// Returns whether the fields hold memory at all.
    pub fn has_room(&self) -> bool {
        self.bytes.capacity() > 0
    }

    /// Frees memory beyond `bytes`, which only an unusually large head needs.
    pub fn shrink(&mut self, bytes: usize) {
        if self.bytes.capacity() > bytes {
            self.bytes.shrink_to(bytes.max(self.bytes.len()));
            self.list.shrink_to(bytes / 64);
        }
    }

    /// Begins with a head's bytes. [`Fields::list_received`] then records where the fields stand.
    pub(crate) fn receive(&mut self, head: &[u8]) {
        self.clear();
        self.bytes.extend_from_slice(head);
    }

    pub(crate) fn list_received(&mut self, name: Span, value: Span) -> Known {
        let known = Known::by_name(self.slice(name));
        self.push(Field { known, name, value });
        known
    }

    fn push(&mut self, field: Field) {
        self.present |= field.known.bit();
        if field.known == Known::Other && !self.unusual {
            let name = self.slice(field.name);
            self.unusual = name.iter().any(|byte| matches!(byte, b'_' | b'.'));
        }
        self.list.push(field);
    }

    /// Returns bytes that were stored, or a part of the received head.
    pub fn slice(&self, span: Span) -> &[u8] {
        let start = span.start as usize;
        self.bytes
            .get(start..start + span.len as usize)
            .unwrap_or_default()
    }

    /// Returns the bytes of a span as text, or an empty text if they are not UTF-8.
    pub fn text(&self, span: Span) -> &str {
        std::str::from_utf8(self.slice(span)).unwrap_or_default()
    }

    /// Stores bytes beside the fields and returns their place.
    pub fn store(&mut self, bytes: &[u8]) -> Span {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        Span::new(start, bytes.len())
    }

    /// Returns whether there is a field of that name.
    pub fn contains<'n>(&self, name: impl Into<Name<'n>>) -> bool {
        self.position(name.into()).is_some()
    }

    /// Returns the first value.
    pub fn get<'n>(&self, name: impl Into<Name<'n>>) -> Option<&[u8]> {
        self.span(name).map(|span| self.slice(span))
    }

    /// Returns the first value, if it is text.
    pub fn get_text<'n>(&self, name: impl Into<Name<'n>>) -> Option<&str> {
        std::str::from_utf8(self.get(name)?).ok()
    }

    /// Returns the place of the first value.
    pub fn span<'n>(&self, name: impl Into<Name<'n>>) -> Option<Span> {
        self.position(name.into()).map(|at| self.list[at].value)
    }

    /// Returns all values, in order.
    pub fn get_all<'a>(&'a self, name: impl Into<Name<'a>>) -> impl Iterator<Item = &'a [u8]> {
        let name = name.into();
        let list = if self.may_have(name) {
            &self.list[..]
        } else {
            &[]
        };
        list.iter()
            .filter(move |field| self.is(field, name))
            .map(|field| self.slice(field.value))
    }

    /// Returns all fields, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.list
            .iter()
            .map(|field| (self.name(field), self.slice(field.value)))
    }

    /// Returns the number of bytes that are kept. For a head that was just read this is its size.
    pub fn stored(&self) -> usize {
        self.bytes.len()
    }

    pub fn len(&self) -> usize {
        self.list.len()
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Leaves exactly one field of that name, with that value. It changes the first such field and removes the others; if there
    /// was none, it appends one.
    pub fn set<'n>(&mut self, name: impl Into<Name<'n>>, value: &[u8]) {
        let value = self.store(value);
        self.set_span(name, value);
    }

    /// Sets a field, as [`set`](Self::set), to a value that is already stored.
    pub fn set_span<'n>(&mut self, name: impl Into<Name<'n>>, value: Span) {
        let name = name.into();
        let Some(first) = self.position(name) else {
            return self.append_span(name, value);
        };
        self.list[first].value = value;
        self.remove_from(first + 1, |fields, field| fields.is(field, name));
    }

    /// Removes the fields behind the first `start` for which `is_so` holds. It needs one pass, however many they are.
    fn remove_from(&mut self, start: usize, is_so: impl Fn(&Self, &Field) -> bool) {
        let mut list = std::mem::take(&mut self.list);
        let mut at = 0;
        list.retain(|field| {
            at += 1;
            at <= start || !is_so(self, field)
        });
        self.list = list;
    }

    /// Appends a field.
    pub fn append<'n>(&mut self, name: impl Into<Name<'n>>, value: &[u8]) {
        let value = self.store(value);
        self.append_span(name, value);
    }

    /// Appends a field whose name is spelt as given.
    pub fn append_spelled(&mut self, name: &[u8], value: &[u8]) {
        let name_span = self.store(name);
        let value = self.store(value);
        let known = Known::by_name(name);
        self.push(Field {
            known,
            name: name_span,
            value,
        });
    }

    fn append_span<'n>(&mut self, name: impl Into<Name<'n>>, value: Span) {
        let (known, name) = match name.into() {
            Name::Known(known) => (known, Span::default()),
            Name::Other(name) => (Known::Other, self.store(name.as_bytes())),
        };
        self.push(Field { known, name, value });
    }

    /// Removes all fields of that name. Returns whether there was one.
    pub fn remove<'n>(&mut self, name: impl Into<Name<'n>>) -> bool {
        let name = name.into();
        if !self.may_have(name) {
            return false;
        }
        let before = self.list.len();
        self.remove_from(0, |fields, field| fields.is(field, name));
        if let Name::Known(known) = name {
            self.present &= !known.bit();
        }
        before != self.list.len()
    }

    /// Keeps the fields whose names satisfy `is_kept`, in one pass.
    pub fn retain(&mut self, is_kept: impl Fn(&[u8]) -> bool) {
        self.remove_from(0, |fields, field| !is_kept(fields.name(field)));
        self.present = self
            .list
            .iter()
            .fold(0, |all, field| all | field.known.bit());
    }

    /// Removes the fields that a careless server confuses with a field that the router vouches for: many servers read
    /// `X_Forwarded_For` and `X.Forwarded.For` as `X-Forwarded-For`.
    pub fn remove_lookalikes(&mut self) {
        if !self.unusual {
            return;
        }
        self.remove_from(0, |fields, field| {
            field.known == Known::Other && looks_known(fields.slice(field.name))
        });
    }

    /// Writes `Name: value` lines. With `canonical`, names are spelt as Go spells them (`x-ABC` becomes `X-Abc`).
    pub fn write_to(&self, out: &mut Vec<u8>, canonical: bool) {
        for field in &self.list {
            let name = self.name(field);
            if canonical {
                write_canonical(out, name);
            } else {
                out.extend_from_slice(name);
            }
            out.extend_from_slice(b": ");
            out.extend_from_slice(self.slice(field.value));
            out.extend_from_slice(b"\r\n");
        }
    }

    fn name(&self, field: &Field) -> &[u8] {
        if field.name.is_empty() {
            field.known.name().as_bytes()
        } else {
            self.slice(field.name)
        }
    }

    fn may_have(&self, name: Name<'_>) -> bool {
        let known = match name {
            Name::Known(known) => known,
            Name::Other(_) => Known::Other,
        };
        self.present & known.bit() != 0
    }

    fn is(&self, field: &Field, name: Name<'_>) -> bool {
        match name {
            Name::Known(known) => field.known == known,
            Name::Other(name) => {
                field.known == Known::Other
                    && self.slice(field.name).eq_ignore_ascii_case(name.as_bytes())
            }
        }
    }

    fn position(&self, name: Name<'_>) -> Option<usize> {
        if !self.may_have(name) {
            return None;
        }
        self.list.iter().position(|field| self.is(field, name))
    }
}

fn looks_known(name: &[u8]) -> bool {
    let dashed: Vec<u8> = name
        .iter()
        .map(|byte| match byte {
            b'_' | b'.' => b'-',
            other => *other,
        })
        .collect();
    Known::by_name(&dashed) != Known::Other
}

fn write_canonical(out: &mut Vec<u8>, name: &[u8]) {
    let mut first = true;
    for byte in name {
        out.push(if first {
            byte.to_ascii_uppercase()
        } else {
            byte.to_ascii_lowercase()
        });
        first = *byte == b'-';
    }
}

/// Returns the comma-separated items of all values of a field, without the blanks around them and without empty items.
pub fn items<'a>(values: impl Iterator<Item = &'a [u8]>) -> impl Iterator<Item = &'a [u8]> {
    values
        .flat_map(|value| value.split(|&byte| byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|item| !item.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(fields: &Fields) -> String {
        let mut out = Vec::new();
        fields.write_to(&mut out, false);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn order_and_spelling_are_kept() {
        let mut fields = Fields::default();
        for (name, value) in [("x-A", "1"), ("HOST", "h"), ("x-a", "2"), ("X-B", "3")] {
            fields.append_spelled(name.as_bytes(), value.as_bytes());
        }
        assert_eq!(fields.get(Known::Host), Some(&b"h"[..]));
        assert_eq!(fields.get_all("X-a").count(), 2);
        fields.set("X-A", b"new");
        fields.set(Known::XForwardedFor, b"me");
        assert!(fields.remove("x-b") && !fields.remove("x-b"));
        assert_eq!(
            text(&fields),
            "x-A: new\r\nHOST: h\r\nX-Forwarded-For: me\r\n"
        );
        fields.set(Known::Host, b"other");
        assert_eq!(fields.get_text("host"), Some("other"));
        assert!(fields.remove(Known::Host) && !fields.contains(Known::Host));
        let mut out = Vec::new();
        fields.write_to(&mut out, true);
        assert_eq!(out, b"X-A: new\r\nX-Forwarded-For: me\r\n");
    }

    #[test]
    fn lookalikes_go() {
        let mut fields = Fields::default();
        for name in [
            "X_Forwarded_For",
            "content.length",
            "my_own",
            "Host",
            "X-B3_TraceId",
        ] {
            fields.append_spelled(name.as_bytes(), b"1");
        }
        fields.remove_lookalikes();
        assert_eq!(text(&fields), "my_own: 1\r\nHost: 1\r\n");
    }

    #[test]
    fn only_what_is_kept_is_there() {
        let mut fields = Fields::default();
        for name in ["Host", "te", "X-A"] {
            fields.append_spelled(name.as_bytes(), b"1");
        }
        fields.retain(|name| !name.eq_ignore_ascii_case(b"TE"));
        assert!(!fields.contains(Known::Te) && fields.contains(Known::Host));
        assert_eq!(text(&fields), "Host: 1\r\nX-A: 1\r\n");
    }

    #[test]
    fn lists_are_split() {
        let values = [&b" a ,B"[..], b"", b",c,"];
        let found: Vec<_> = items(values.into_iter()).collect();
        assert_eq!(found, [b"a", b"B", b"c"]);
    }
}
