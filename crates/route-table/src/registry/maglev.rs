//! Implements consistent hashing with a Maglev table: every router sends the same value to the same instance without
//! communicating with the others, and when an instance comes or goes few values move (Eisenbud et al., NSDI 2016; RFC-0042).

/// The number of entries of a table; a prime.
const SIZE: usize = 3001;

#[derive(Debug)]
pub(super) struct Maglev {
    /// The positions in the list from which the table was made.
    table: Box<[u16]>,
    members: usize,
}

impl Maglev {
    /// Makes the table of the ids. Their order does not influence which id an entry gets.
    pub(super) fn new<'a>(ids: impl Iterator<Item = &'a str>) -> Self {
        let mut ids: Vec<(&str, u16)> = ids.zip(0..=u16::MAX).collect();
        ids.sort_unstable();
        let members = ids.len();
        if ids.is_empty() {
            return Self {
                table: Box::default(),
                members,
            };
        }
        // Each instance prefers the entries in an order of its own, and the instances choose in turn.
        let mut walks: Vec<(usize, usize, u16)> = ids
            .iter()
            .map(|(id, at)| {
                let hash = mix(fnv1a(id.as_bytes()));
                let offset = (hash >> 32) as usize % SIZE;
                let step = (hash & 0xffff_ffff) as usize % (SIZE - 1) + 1;
                (offset, step, *at)
            })
            .collect();
        let mut table = vec![u16::MAX; SIZE];
        let mut taken = vec![false; SIZE];
        let mut left = SIZE;
        while left > 0 {
            for (entry, step, at) in &mut walks {
                while taken[*entry] {
                    *entry = (*entry + *step) % SIZE;
                }
                (taken[*entry], table[*entry]) = (true, *at);
                left -= 1;
                if left == 0 {
                    break;
                }
            }
        }
        Self {
            table: table.into(),
            members,
        }
    }

    /// Returns the positions of all members once each: first that of the value itself, then the others in the order of the table.
    pub(super) fn from(&self, value: &[u8]) -> impl Iterator<Item = usize> {
        let start = (mix(fnv1a(value)) % SIZE as u64) as usize;
        let start = start.min(self.table.len());
        let (before, after) = self.table.split_at(start);
        let mut seen = vec![false; self.members];
        after
            .iter()
            .chain(before)
            .map(|at| usize::from(*at))
            .filter(move |at| !std::mem::replace(&mut seen[*at], true))
    }
}

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// Spreads the bits of a hash evenly. FNV leaves the influence of the last bytes in the low bits.
fn mix(hash: u64) -> u64 {
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(n: usize) -> Vec<String> {
        (0..n).map(|n| format!("instance-{n}")).collect()
    }

    fn of(ids: &[String]) -> Maglev {
        Maglev::new(ids.iter().map(String::as_str))
    }

    fn first(maglev: &Maglev, value: usize) -> usize {
        maglev.from(value.to_string().as_bytes()).next().unwrap()
    }

    #[test]
    fn shares_are_even_and_few_values_move() {
        let (ten, nine) = (of(&ids(10)), of(&ids(9)));
        let (mut shares, mut moved) = ([0; 10], 0);
        for value in 0..10_000 {
            let at = first(&ten, value);
            shares[at] += 1;
            if at != 9 && first(&nine, value) != at {
                moved += 1;
            }
        }
        assert!(shares.iter().all(|n| (700..1300).contains(n)), "{shares:?}");
        assert!(moved < 1000, "{moved} of 9000 moved");
    }

    #[test]
    fn the_order_of_the_list_does_not_matter_and_all_follow() {
        let forward = ids(5);
        let backward: Vec<String> = forward.iter().rev().cloned().collect();
        for value in 0..100 {
            let at = |ids: &[String]| ids[first(&of(ids), value)].clone();
            assert_eq!(at(&forward), at(&backward));
        }
        let mut all: Vec<usize> = of(&forward).from(b"x").collect();
        all.sort_unstable();
        assert_eq!(all, [0, 1, 2, 3, 4]);
        assert_eq!(of(&[]).from(b"x").count(), 0);
    }
}
