//! The masking keys of a client.

use core::fmt;

/// Masking keys from a seed.
///
/// A key keeps bytes that a script chose from being on the wire as they were chosen (RFC 6455 section 10.3). The server sees
/// every key, and may be the script's friend: from those it has seen it must not be simple to tell the next (section 5.3). So
/// each step is `SipHash-2-4` with 128 bits of output, keyed with the state. One half becomes the state, of the other comes the
/// key: who wants the next one has to try 2^64 states.
pub(super) struct MaskingKeys(u64);

impl MaskingKeys {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next_key(&mut self) -> [u8; 4] {
        let (state, key) = siphash_of_nothing(self.0, 0);
        self.0 = state;
        (key as u32).to_be_bytes()
    }
}

impl fmt::Debug for MaskingKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MaskingKeys(..)") // a log must not tell the keys that follow
    }
}

/// `SipHash-2-4` (Aumasson and Bernstein, 2012) of the empty message, with 128 bits of output: those in front, and those behind.
fn siphash_of_nothing(k0: u64, k1: u64) -> (u64, u64) {
    let mut v = [
        k0 ^ 0x736f_6d65_7073_6575,
        k1 ^ 0x646f_7261_6e64_6f6d ^ 0xee,
        k0 ^ 0x6c79_6765_6e65_7261,
        k1 ^ 0x7465_6462_7974_6573,
    ];
    rounds::<2>(&mut v);
    v[2] ^= 0xee;
    rounds::<4>(&mut v);
    let front = v[0] ^ v[1] ^ v[2] ^ v[3];
    v[1] ^= 0xdd;
    rounds::<4>(&mut v);
    (front, v[0] ^ v[1] ^ v[2] ^ v[3])
}

fn rounds<const COUNT: usize>(v: &mut [u64; 4]) {
    let [mut v0, mut v1, mut v2, mut v3] = *v;
    for _ in 0..COUNT {
        v0 = v0.wrapping_add(v1);
        v1 = v1.rotate_left(13) ^ v0;
        v0 = v0.rotate_left(32);
        v2 = v2.wrapping_add(v3);
        v3 = v3.rotate_left(16) ^ v2;
        v0 = v0.wrapping_add(v3);
        v3 = v3.rotate_left(21) ^ v0;
        v2 = v2.wrapping_add(v1);
        v1 = v1.rotate_left(17) ^ v2;
        v2 = v2.rotate_left(32);
    }
    *v = [v0, v1, v2, v3];
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first of the reference implementation's vectors: the key is 00 01 .. 0f, the message empty.
    #[test]
    fn the_hash_is_that_of_its_authors() {
        let (k0, k1) = (0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908);
        let (front, back) = siphash_of_nothing(k0, k1);
        let hash: Vec<u8> = [front.to_le_bytes(), back.to_le_bytes()].concat();
        assert_eq!(hash, *b"\xa3\x81\x7f\x04\xba\x25\xa8\xe6\x6d\xf6\x72\x14\xc7\x55\x02\x93");
    }

    #[test]
    fn keys_differ_from_each_other_and_by_seed() {
        let keys = |seed| {
            let mut keys = MaskingKeys::new(seed);
            (0..1000).map(|_| keys.next_key()).collect::<Vec<_>>()
        };
        let (one, other) = (keys(1), keys(2));
        assert_eq!(one, keys(1));
        let distinct: std::collections::BTreeSet<_> = one.iter().chain(&other).collect();
        assert!(
            distinct.len() >= 1999,
            "two of 2,000 may be the same by chance, hardly four: {}",
            distinct.len()
        );
    }
}
