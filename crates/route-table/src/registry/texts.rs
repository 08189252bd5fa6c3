//! Packs an endpoint's texts into one allocation. A hundred thousand endpoints have a dozen short texts each, many of them equal
//! (the instance guid is also the certificate's name and a tag). As single strings they would need four times the memory.
//!
//! The layout, in one string, is: one character for the width of a number; then for each text its start and its length (seven
//! bits per character, so that the whole stays a string); then the texts themselves, each distinct text once.

/// The number of characters per number: `NARROW` suffices for nearly every endpoint, `WIDE` for any message of NATS.
const NARROW: usize = 2;
const WIDE: usize = 3;

/// A packed list of texts. Equal lists are equal byte for byte.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Texts(Box<str>);

impl Texts {
    /// Packs the texts. A text that would end beyond 2 MiB is left empty, so callers must refuse such messages before.
    pub(super) fn pack(texts: &[&str]) -> Self {
        let total: usize = texts.iter().map(|text| text.len()).sum();
        let width = if 1 + texts.len() * 2 * NARROW + total < longest(NARROW) {
            NARROW
        } else {
            WIDE
        };
        let table = 1 + texts.len() * 2 * width;
        let (mut packed, mut numbers) = (String::new(), Vec::with_capacity(texts.len() * 2));
        for (at, text) in texts.iter().enumerate() {
            let start = table + packed.len();
            if let Some(equal) = texts[..at].iter().position(|earlier| earlier == text) {
                numbers.extend_from_within(2 * equal..2 * equal + 2);
            } else if start + text.len() < longest(width) {
                numbers.extend([start, text.len()]);
                packed.push_str(text);
            } else {
                numbers.extend([0, 0]);
            }
        }
        let mut all = String::with_capacity(table + packed.len());
        all.push(char::from(width as u8));
        for number in numbers {
            for digit in (0..width).rev() {
                all.push(char::from((number >> (7 * digit)) as u8 & 0x7f));
            }
        }
        all.push_str(&packed);
        Self(all.into())
    }

    /// Returns the text at a position of the packed list.
    pub(super) fn get(&self, at: usize) -> &str {
        let bytes = self.0.as_bytes();
        let width = usize::from(bytes[0]);
        let entry = &bytes[1 + at * 2 * width..][..2 * width];
        let number = |digits: &[u8]| {
            digits
                .iter()
                .fold(0, |number, digit| number << 7 | usize::from(*digit))
        };
        let (start, len) = (number(&entry[..width]), number(&entry[width..]));
        &self.0[start..start + len]
    }
}

/// Returns the number of values that a number of this width can represent.
fn longest(width: usize) -> usize {
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
        let texts = Texts::pack(&["a", &"x".repeat(longest(WIDE)), "b"]);
        assert_eq!([0, 1, 2].map(|at| texts.get(at)), ["a", "", "b"]);
    }
}
