//! Packs an endpoint's texts into one allocation. A hundred thousand endpoints have a dozen short texts each, many of them equal
//! (the instance guid is also the certificate's name and a tag). As single strings they would need four times the memory.
//!
//! Which texts are equal is the same for most endpoints, so it stands apart, in a [`Pattern`] that many endpoints share. The
//! layout, in one string: one character for the width of a number; the length of each distinct text; then the distinct texts
//! themselves. A number has seven bits per character, so that the whole stays a string.

/// The number of characters per number: `NARROW` suffices for nearly every endpoint, `WIDE` for any message of NATS.
const NARROW: usize = 1;
const WIDE: usize = 3;

/// The pattern of equal texts in a list.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Pattern {
    /// For each text the number of its distinct text. Distinct texts are numbered in the order in which they first occur.
    numbers: Box<[u32]>,
    distinct: u32,
}

/// A packed list of texts. Equal lists have equal patterns and are equal byte for byte.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Texts(Box<str>);

impl Texts {
    /// Packs the texts. A text of 2 MiB or more is left empty, so callers must refuse such messages before.
    pub(super) fn pack(texts: &[&str]) -> (Pattern, Self) {
        let (mut distinct, mut numbers) = (Vec::<&str>::new(), Vec::with_capacity(texts.len()));
        for text in texts {
            let text = if text.len() < limit(WIDE) { text } else { "" };
            let known = distinct.iter().position(|known| *known == text);
            let number = known.unwrap_or_else(|| {
                distinct.push(text);
                distinct.len() - 1
            });
            numbers.push(number as u32);
        }
        let lengths = || distinct.iter().map(|text| text.len());
        let is_narrow = lengths().all(|length| length < limit(NARROW));
        let width = if is_narrow { NARROW } else { WIDE };
        let table = 1 + width * distinct.len();
        let mut all = String::with_capacity(table + lengths().sum::<usize>());
        all.push(char::from(width as u8));
        for length in lengths() {
            for digit in (0..width).rev() {
                all.push(char::from((length >> (7 * digit)) as u8 & 0x7f));
            }
        }
        distinct.iter().for_each(|text| all.push_str(text));
        let pattern = Pattern {
            numbers: numbers.into(),
            distinct: distinct.len() as u32,
        };
        (pattern, Self(all.into()))
    }

    /// Returns the text at a position of the packed list, which has this pattern.
    pub(super) fn get(&self, pattern: &Pattern, at: usize) -> &str {
        let bytes = self.0.as_bytes();
        let width = usize::from(bytes[0]);
        let length = |number: usize| {
            let digits = &bytes[1 + number * width..][..width];
            digits
                .iter()
                .fold(0, |length, digit| length << 7 | usize::from(*digit))
        };
        let number = pattern.numbers[at] as usize;
        let before: usize = (0..number).map(length).sum();
        let start = 1 + width * pattern.distinct as usize + before;
        &self.0[start..start + length(number)]
    }
}

/// Returns the number of values that a number of this width can represent.
fn limit(width: usize) -> usize {
    1 << (7 * width)
}

impl std::fmt::Debug for Texts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes of text", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_unpacked_and_equal_ones_are_stored_once() {
        for length in [3, 127, 128, 5_000, 16_300, 16_384, 20_000] {
            let long = "x".repeat(length);
            let given = ["", "a", "ünïcode", "a", &long, "", &long];
            let (pattern, texts) = Texts::pack(&given);
            for (at, text) in given.iter().enumerate() {
                assert_eq!(texts.get(&pattern, at), *text);
            }
            assert!(texts.0.len() < length + 60, "{texts:?}");
            assert_eq!(Texts::pack(&given), (pattern, texts));
        }
        let (pattern, texts) = Texts::pack(&["a", &"x".repeat(limit(WIDE)), "b"]);
        assert_eq!([0, 1, 2].map(|at| texts.get(&pattern, at)), ["a", "", "b"]);
    }

    #[test]
    fn any_number_of_texts_is_unpacked() {
        for count in [0, 1, 126, 127, 128, 129, 1_000] {
            let given: Vec<String> = (0..count).map(|n| format!("text {}", n % 200)).collect();
            let views: Vec<&str> = given.iter().map(String::as_str).collect();
            let (pattern, texts) = Texts::pack(&views);
            for (at, text) in views.iter().enumerate() {
                assert_eq!(texts.get(&pattern, at), *text, "{count}");
            }
        }
    }

    #[test]
    fn a_typical_endpoint_needs_one_byte_beside_each_distinct_text() {
        let guid = "0a1b2c3d-1111-2222-3333-0123456789ab";
        let given = [
            "10.0.0.1:61001",
            guid,
            guid,
            "0",
            guid,
            "",
            "",
            "",
            "",
            "web",
        ];
        let (pattern, texts) = Texts::pack(&given);
        // Five distinct texts with one length each, and the width.
        let stored = "10.0.0.1:61001".len() + guid.len() + "0".len() + "web".len();
        assert_eq!(texts.0.len(), stored + 5 + 1);
        // Another endpoint of the same kind has the same pattern.
        let other = given.map(|text| if text == guid { "another" } else { text });
        assert_eq!(Texts::pack(&other).0, pattern);
    }
}
