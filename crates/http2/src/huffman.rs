//! Implements HPACK's string code (RFC 7541, 5.2 and appendix B). Two steps of an automaton for each byte determine how long a
//! string is and which kinds of bytes it contains. The string itself is decoded only where that matters.

use crate::name::{CLASSES, Classes};

/// The length of each byte's code in bits; the last is that of the end-of-string symbol. The code is canonical, so the lengths
/// determine it.
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];
const END: u16 = 256;

/// The number of inner nodes of the code's tree: one less than it has leaves.
const NODES: usize = 256;
/// The bit that marks a child as a leaf. The bits below it are its symbol.
const LEAF: u16 = 1 << 9;

const TREE: [[u16; 2]; NODES] = tree();

const fn tree() -> [[u16; 2]; NODES] {
    let mut tree = [[0; 2]; NODES];
    let (mut nodes, mut code, mut length) = (1, 0_u32, 1);
    while length <= 30 {
        let mut symbol = 0;
        while symbol <= END {
            if LENGTHS[symbol as usize] == length {
                let (mut node, mut bit) = (0, length);
                while bit > 1 {
                    bit -= 1;
                    let side = (code >> bit & 1) as usize;
                    if tree[node][side] == 0 {
                        tree[node][side] = nodes;
                        nodes += 1;
                    }
                    node = tree[node][side] as usize;
                }
                tree[node][(code & 1) as usize] = LEAF | symbol;
                code += 1;
            }
            symbol += 1;
        }
        code <<= 1;
        length += 1;
    }
    tree
}

// A step of the automaton contains the next node in the low byte, and above it what happened on the way there.
const EMITTED: u16 = 1 << 8;
const FAILED: u16 = 1 << 9;
/// The mark of a step after which a string may end: the rest of its last byte is padding.
const MAY_END: u16 = 1 << 10;
const CLASSES_AT: u32 = 11;

static STEPS: [[u16; 16]; NODES] = steps();

const fn steps() -> [[u16; 16]; NODES] {
    let mut steps = [[0; 16]; NODES];
    let padding = padding();
    let mut from = 0;
    while from < NODES {
        let mut nibble = 0;
        while nibble < 16 {
            let (mut node, mut step, mut bit) = (from, 0, 4);
            while bit > 0 {
                bit -= 1;
                let child = TREE[node][nibble >> bit & 1];
                if child & LEAF == 0 {
                    node = child as usize;
                } else if child == LEAF | END {
                    step |= FAILED;
                    node = 0;
                } else {
                    let classes = CLASSES[(child & 0xff) as usize] as u16;
                    step |= EMITTED | classes << CLASSES_AT;
                    node = 0;
                }
            }
            if padding[node] {
                step |= MAY_END;
            }
            // A node fits into a byte, because there are 256 nodes.
            steps[from][nibble] = step | node as u16;
            nibble += 1;
        }
        from += 1;
    }
    steps
}

/// Returns which nodes less than eight bits of ones lead to.
const fn padding() -> [bool; NODES] {
    let (mut padding, mut node, mut ones) = ([false; NODES], 0, 0);
    while ones < 8 {
        padding[node] = true;
        node = TREE[node][1] as usize;
        ones += 1;
    }
    padding
}

/// Returns the length of a string in bytes and the classes of its bytes, or `None` if it cannot be decoded.
pub(crate) fn classify(coded: &[u8]) -> Option<(usize, Classes)> {
    let (mut node, mut length, mut seen, mut last) = (0_u8, 0, 0_u16, MAY_END);
    for &byte in coded {
        for nibble in [byte >> 4, byte & 0xf] {
            last = STEPS[usize::from(node)][usize::from(nibble)];
            seen |= last;
            length += usize::from(last & EMITTED != 0);
            node = last as u8;
        }
    }
    let decodable = seen & FAILED == 0 && last & MAY_END != 0;
    decodable.then_some((length, (seen >> CLASSES_AT) as Classes))
}

/// Decodes a string that [`classify`] has accepted.
pub(crate) fn decode(coded: &[u8]) -> Vec<u8> {
    let (mut text, mut node) = (Vec::new(), 0);
    for byte in coded {
        for bit in (0..8).rev() {
            let child = TREE[node][usize::from(byte >> bit & 1)];
            node = usize::from(child);
            if child & LEAF != 0 {
                text.push(child as u8);
                node = 0;
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of RFC 7541, C.4 and C.6.
    const EXAMPLES: &[(&str, &[u8])] = &[
        (
            "www.example.com",
            &[
                0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff,
            ],
        ),
        ("no-cache", &[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf]),
        (
            "custom-key",
            &[0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xa9, 0x7d, 0x7f],
        ),
        (
            "custom-value",
            &[0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xb8, 0xe8, 0xb4, 0xbf],
        ),
        ("302", &[0x64, 0x02]),
        ("private", &[0xae, 0xc3, 0x77, 0x1a, 0x4b]),
        ("", &[]),
    ];

    #[test]
    fn examples_of_the_rfc_are_decoded() {
        for (text, coded) in EXAMPLES {
            let (length, _) = classify(coded).expect(text);
            assert_eq!(
                (length, decode(coded)),
                (text.len(), text.as_bytes().to_vec())
            );
        }
    }

    #[test]
    fn undecodable_strings_are_refused() {
        for coded in [
            &[0x1f, 0xff][..],
            &[0x18],
            &[0xff],
            &[0xff, 0xff, 0xff, 0xff],
        ] {
            assert_eq!(classify(coded), None, "{coded:x?}");
        }
    }

    /// Every byte alone, with the code that the tree gives it, keeps its class.
    #[test]
    fn every_byte_keeps_its_class() {
        fn find(node: usize, symbol: u16, code: &mut Vec<bool>) -> bool {
            (0..2).any(|side| {
                let child = TREE[node][side];
                code.push(side == 1);
                let found = child == LEAF | symbol
                    || child & LEAF == 0 && find(usize::from(child), symbol, code);
                if !found {
                    code.pop();
                }
                found
            })
        }
        for byte in 0..=255_u8 {
            let mut code = Vec::new();
            assert!(find(0, u16::from(byte), &mut code));
            assert_eq!(code.len(), usize::from(LENGTHS[usize::from(byte)]));
            code.resize(code.len().next_multiple_of(8), true);
            let coded: Vec<u8> = code
                .chunks(8)
                .map(|bits| bits.iter().fold(0, |byte, &bit| byte << 1 | u8::from(bit)))
                .collect();
            assert_eq!(classify(&coded), Some((1, CLASSES[usize::from(byte)])));
            assert_eq!(decode(&coded), [byte]);
        }
    }
}
