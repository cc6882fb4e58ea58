//! A table that grows without moving what is in it.

use alloc::vec::Vec;
use core::fmt;
use core::ops::{Index, IndexMut};

/// Entries found by small dense numbers, such as the slots of connections, in blocks of [`Blocks::BLOCK`].
///
/// A vector that grows is copied into twice the room: for a moment it takes three times its size, what it left is a hole, and
/// with a million entries the one connection too many holds up all others while it is copied. This one takes another
/// block. It has room for at most one block more than it needs, and its entries stay where they are.
///
/// ```
/// use keepwatch_protocol::Blocks;
///
/// let mut blocks = Blocks::new();
/// blocks.resize_with(1000, || 'a');
/// blocks[999] = 'z';
/// assert_eq!((blocks.len(), blocks.get(999), blocks.get(1000)), (1000, Some(&'z'), None));
/// ```
#[derive(Clone)]
pub struct Blocks<T> {
    /// All are full but the last, and each has room for a whole one.
    blocks: Vec<Vec<T>>,
}

impl<T> Blocks<T> {
    /// Entries in a block.
    pub const BLOCK: usize = 256;

    /// No entries, and no memory.
    pub const fn new() -> Self {
        Self { blocks: Vec::new() }
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        match self.blocks.split_last() {
            Some((last, full)) => full.len() * Self::BLOCK + last.len(),
            None => 0,
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// The entry with this number.
    #[inline]
    pub fn get(&self, number: usize) -> Option<&T> {
        self.blocks.get(number / Self::BLOCK)?.get(number % Self::BLOCK)
    }

    /// The entry with this number.
    #[inline]
    pub fn get_mut(&mut self, number: usize) -> Option<&mut T> {
        self.blocks.get_mut(number / Self::BLOCK)?.get_mut(number % Self::BLOCK)
    }

    /// Adds an entry behind the others.
    pub fn push(&mut self, entry: T) {
        match self.blocks.last_mut().filter(|block| block.len() < Self::BLOCK) {
            Some(block) => block.push(entry),
            None => {
                let mut block = Vec::with_capacity(Self::BLOCK);
                block.push(entry);
                self.blocks.push(block);
            }
        }
    }

    /// Adds entries until there are so many. If there are, it does nothing.
    pub fn resize_with(&mut self, count: usize, mut entry: impl FnMut() -> T) {
        for _ in self.len()..count {
            self.push(entry());
        }
    }

    /// The entries, in order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.blocks.iter().flatten()
    }

    /// The entries, in order.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.blocks.iter_mut().flatten()
    }
}

impl<T> Default for Blocks<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// # Panics
///
/// There is no entry with this number, as with a slice.
impl<T> Index<usize> for Blocks<T> {
    type Output = T;

    #[inline]
    fn index(&self, number: usize) -> &T {
        &self.blocks[number / Self::BLOCK][number % Self::BLOCK]
    }
}

/// # Panics
///
/// As above.
impl<T> IndexMut<usize> for Blocks<T> {
    #[inline]
    fn index_mut(&mut self, number: usize) -> &mut T {
        &mut self.blocks[number / Self::BLOCK][number % Self::BLOCK]
    }
}

impl<T: fmt::Debug> fmt::Debug for Blocks<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As many as two blocks and a half have.
    fn counted() -> Blocks<usize> {
        let mut blocks = Blocks::new();
        (0..Blocks::<usize>::BLOCK * 5 / 2).for_each(|number| blocks.push(number));
        blocks
    }

    #[test]
    fn each_number_finds_its_entry_and_no_other_finds_any() {
        let mut blocks = counted();
        let count = blocks.len();
        for number in 0..count {
            assert_eq!((blocks.get(number), blocks[number]), (Some(&number), number));
            assert_eq!(blocks.get_mut(number), Some(&mut { number }));
        }
        assert_eq!((count, blocks.get(count)), (640, None));
        assert_eq!(blocks.get_mut(usize::MAX), None);
        assert!(blocks.iter().copied().eq(0..count) && blocks.iter_mut().map(|entry| *entry).eq(0..count));
    }

    #[test]
    fn what_is_in_it_stays_where_it_is() {
        let mut blocks = Blocks::new();
        blocks.push(7_u64);
        let place = core::ptr::from_ref(&blocks[0]);
        blocks.resize_with(100_000, || 0);
        assert_eq!((core::ptr::from_ref(&blocks[0]), blocks[0]), (place, 7));
    }

    #[test]
    fn it_has_room_for_less_than_a_block_too_many() {
        for count in [1, 255, 256, 257, 1000] {
            let mut blocks = Blocks::new();
            blocks.resize_with(count, || 0_u8);
            blocks.resize_with(count / 2, || 1);
            let room: usize = blocks.blocks.iter().map(Vec::capacity).sum();
            assert_eq!((blocks.len(), blocks.is_empty()), (count, false));
            assert!(room - count < Blocks::<u8>::BLOCK, "{room} for {count}");
        }
    }
}
