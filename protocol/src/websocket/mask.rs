//! Masking (RFC 6455 section 5.3): each byte is combined (exclusive or) with one byte of a four-byte
//! key, in turn. Masking twice is not masking.
//!
//! There is nothing here but loops over arrays, which the compiler turns into the widest registers that the target has: 16 bytes on
//! x86-64 as it is by default, 32 with `-C target-cpu=x86-64-v3`. The former is as quick as a copy of the bytes where that is
//! bound by memory, from some tens of KiB on.

use alloc::vec::Vec;

/// The bytes that are masked at once, with the key laid out side by side, so that the compiler uses wide registers for them.
const WIDE: usize = 64;
/// The bytes that are masked on their way at once.
const APPENDED_AT_ONCE: usize = 128;

/// Masks or unmasks `bytes`, of which the first is the `phase`-th of its payload.
///
/// ```
/// use keepwatch_protocol::websocket::mask;
///
/// let (key, mut bytes) = ([1, 2, 3, 4], *b"watching");
/// let (front, back) = bytes.split_at_mut(5);
/// mask::apply(key, 0, front);
/// mask::apply(key, 5, back); // in parts, as the bytes arrive
/// mask::apply(key, 0, &mut bytes);
/// assert_eq!(&bytes, b"watching");
/// ```
#[inline]
pub fn apply(key: [u8; 4], phase: usize, bytes: &mut [u8]) {
    let mut turned = key;
    turned.rotate_left(phase % 4);
    let wide = side_by_side::<WIDE>(turned);
    // Payloads are never aligned, and aligning them first costs small ones more than it gains large ones.
    let rest = in_blocks(bytes, &wide);
    let rest = in_blocks(rest, &side_by_side::<16>(turned));
    let rest = in_blocks(rest, &turned);
    for (byte, key) in rest.iter_mut().zip(turned) {
        *byte ^= key;
    }
}

/// Appends a whole payload, masked: each byte is read once and written once.
pub(crate) fn append(key: [u8; 4], payload: &[u8], to: &mut Vec<u8>) {
    let wide = side_by_side::<APPENDED_AT_ONCE>(key);
    to.reserve(payload.len());
    for block in payload.chunks(APPENDED_AT_ONCE) {
        to.extend(block.iter().zip(&wide).map(|(byte, key)| byte ^ key));
    }
}

/// The key, over and over.
#[inline]
fn side_by_side<const SIZE: usize>(key: [u8; 4]) -> [u8; SIZE] {
    let mut wide = [0; SIZE];
    for part in wide.chunks_exact_mut(4) {
        part.copy_from_slice(&key);
    }
    wide
}

/// Masks as many blocks of this size as there are; what is left is for smaller ones.
#[inline]
fn in_blocks<'b, const SIZE: usize>(bytes: &'b mut [u8], key: &[u8; SIZE]) -> &'b mut [u8] {
    let mut blocks = bytes.chunks_exact_mut(SIZE);
    for block in &mut blocks {
        for (byte, key) in block.iter_mut().zip(key) {
            *byte ^= key;
        }
    }
    blocks.into_remainder()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_phase_and_alignment_is_the_byte_by_byte_definition() {
        let key = [0x37, 0xfa, 0x21, 0x3d];
        let source: Vec<u8> = (0..200).map(|i: u8| i.wrapping_mul(37)).collect();
        for start in 0..9 {
            for len in 0..150 {
                for phase in [0, 1, 2, 3, 4, 7, usize::MAX] {
                    let plain = &source[start..start + len];
                    let mut buffer = source.clone();
                    apply(key, phase, &mut buffer[start..start + len]);
                    let by_definition: Vec<u8> =
                        plain.iter().enumerate().map(|(i, byte)| byte ^ key[(phase % 4 + i) % 4]).collect();
                    assert_eq!(buffer[start..start + len], by_definition, "{start} {len} {phase}");
                    assert_eq!(
                        (&buffer[..start], &buffer[start + len..]),
                        (&source[..start], &source[start + len..])
                    );
                }
            }
        }
    }

    #[test]
    fn what_is_appended_is_what_is_masked_in_place() {
        let source: Vec<u8> = (0..600).map(|i: u32| i as u8).collect();
        for len in 0..source.len() {
            let (mut masked, mut out) = (source[..len].to_vec(), Vec::new());
            apply([1, 2, 3, 4], 0, &mut masked);
            append([1, 2, 3, 4], &source[..len], &mut out);
            assert_eq!(out, masked, "{len}");
        }
    }

    #[test]
    fn the_example_of_the_rfc() {
        let mut bytes = [0x7f, 0x9f, 0x4d, 0x51, 0x58];
        apply([0x37, 0xfa, 0x21, 0x3d], 0, &mut bytes);
        assert_eq!(&bytes, b"Hello");
    }
}
