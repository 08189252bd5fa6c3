//! Packs an endpoint's texts into one allocation. A hundred thousand endpoints have a dozen short texts each, many of them equal
//! (the instance guid is also the certificate's name and a tag). As single strings they would need four times the memory.
//!
//! The layout, in one string: one character for the width of a number; the count of texts and the count of distinct texts; for each
//! text the position of its distinct text; the length of each distinct text; then the distinct texts themselves. A number has seven
//! bits per character, so that the whole stays a string.

/// The number of characters per number: `NARROW` suffices for nearly every endpoint, `WIDE` for any message of NATS.
const NARROW: usize = 1;
const WIDE: usize = 3;

/// A packed list of texts. Equal lists are equal byte for byte.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Texts(Box<str>);

impl Texts {
    /// Packs the texts. A text of 2 MiB or more is left empty, so callers must refuse such messages before.
    pub(super) fn pack(texts: &[&str]) -> Self {
        let (mut distinct, mut positions) = (Vec::<&str>::new(), Vec::with_capacity(texts.len()));
        for text in texts {
            let text = if text.len() < limit(WIDE) { text } else { "" };
            let known = distinct.iter().position(|known| *known == text);
            positions.push(known.unwrap_or_else(|| {
                distinct.push(text);
                distinct.len() - 1
            }));
        }
        let lengths = || distinct.iter().map(|text| text.len());
        let is_narrow =
            texts.len() < limit(NARROW) && lengths().all(|length| length < limit(NARROW));
        let width = if is_narrow { NARROW } else { WIDE };
        let counts = [texts.len(), distinct.len()];
        let numbers = counts.into_iter().chain(positions).chain(lengths());
        let table = 1 + width * (2 + texts.len() + distinct.len());
        let mut all = String::with_capacity(table + lengths().sum::<usize>());
        all.push(char::from(width as u8));
        for number in numbers {
            for digit in (0..width).rev() {
                all.push(char::from((number >> (7 * digit)) as u8 & 0x7f));
            }
        }
        distinct.iter().for_each(|text| all.push_str(text));
        Self(all.into())
    }

    /// Returns the text at a position of the packed list.
    pub(super) fn get(&self, at: usize) -> &str {
        let bytes = self.0.as_bytes();
        let width = usize::from(bytes[0]);
        let number = |at: usize| {
            let digits = &bytes[1 + at * width..][..width];
            digits
                .iter()
                .fold(0, |number, digit| number << 7 | usize::from(*digit))
        };
        let (count, distinct) = (number(0), number(1));
        let lengths = 2 + count;
        let position = lengths + number(2 + at);
        let before: usize = (lengths..position).map(number).sum();
        let start = 1 + width * (lengths + distinct) + before;
        &self.0[start..start + number(position)]
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
            let texts = Texts::pack(&given);
            for (at, text) in given.iter().enumerate() {
                assert_eq!(texts.get(at), *text);
            }
            assert!(texts.0.len() < length + 60, "{texts:?}");
            assert_eq!(Texts::pack(&given), texts);
        }
        let texts = Texts::pack(&["a", &"x".repeat(limit(WIDE)), "b"]);
        assert_eq!([0, 1, 2].map(|at| texts.get(at)), ["a", "", "b"]);
    }

    #[test]
    fn any_number_of_texts_is_unpacked() {
        for count in [0, 1, 126, 127, 128, 129, 1_000] {
            let given: Vec<String> = (0..count).map(|n| format!("text {}", n % 200)).collect();
            let views: Vec<&str> = given.iter().map(String::as_str).collect();
            let texts = Texts::pack(&views);
            for (at, text) in views.iter().enumerate() {
                assert_eq!(texts.get(at), *text, "{count}");
            }
        }
    }

    #[test]
    fn a_typical_endpoint_needs_two_bytes_beside_each_text() {
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
        let texts = Texts::pack(&given);
        // Five distinct texts with one length each, ten positions, the width and two counts.
        let stored = "10.0.0.1:61001".len() + guid.len() + "0".len() + "web".len();
        assert_eq!(texts.0.len(), stored + 5 + 10 + 3);
    }
}
