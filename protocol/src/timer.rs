//! Deadlines of many connections, of which almost none ever passes.
//!
//! A held connection's deadline is moved with every byte that it sends or takes, and only the first of thousands is of
//! interest. So a [`Wheel`] is *lazy*: a later deadline is one store into an array, and the key stays linked where it was;
//! when its slot is met, the key is found to be not due and is linked again where it belongs by then.
//!
//! ```text
//!   deadlines   key ─► true deadline                    an array of its own: re-arming touches nothing else
//!
//!                         cursor: all before it is met
//!                            ▼
//!   slots   ──┬────┬────┬────┬────┬────┬────┬──  one for each tick of the resolution, 4096 of them, in a ring;
//!             │    │    │ ●  │ ●  │    │ ●  │    a bitmap and its summary find the next that is occupied
//!           ──┴────┴────┴─┼──┴────┴────┴────┴──
//!                         │     each a list through the links of its keys; a key is in at most one
//!                         ▼
//!   met     ● ─ ● ─ ●           expire takes from here:  due ─► returned     not due ─► linked into its slot
//! ```
//!
//! What holds between any two calls: a key with a deadline is in exactly one list, in a slot not later than its deadline
//! (rounded up to a tick) or, if that had passed when it was set, in the first slot not met; a key without one is in none.

use core::time::Duration;

use crate::blocks::Blocks;
use crate::time::Instant;

/// The number of slots; also the horizon in ticks. A deadline beyond it waits in the furthest slot and is moved from there.
const SLOTS: u32 = 4096;
/// The node that anchors the list of keys whose slot was met. The nodes before it anchor the slots.
const MET: u32 = SLOTS;
/// The node of key 0.
const FIRST_KEY: u32 = SLOTS + 1;
/// What stands in `deadlines` for a key that has none.
const NONE: u64 = Instant::NEVER.as_nanos();

/// One deadline for each of many keys: small dense numbers, such as the slots of connections.
///
/// Setting, moving and cancelling are O(1), [`next`](Self::next) looks at a few words of a bitmap. Memory is 16 bytes for each
/// key up to the largest ever set, and 33 KiB for the wheel itself; it is kept, since slots are used again.
///
/// ```
/// use core::time::Duration;
/// use keepwatch_protocol::{Instant, timer::Wheel};
///
/// let mut wheel = Wheel::new(Duration::from_millis(10));
/// wheel.set(7, Instant::from_millis(25));
/// assert_eq!(wheel.next(), Some(Instant::from_millis(30))); // rounded up to the resolution
/// assert_eq!(wheel.expire(Instant::from_millis(29)), None);
/// assert_eq!(wheel.expire(Instant::from_millis(30)), Some(7));
/// assert_eq!(wheel.expire(Instant::from_millis(30)), None);
/// ```
#[derive(Clone, Debug)]
pub struct Wheel {
    resolution: u64,
    /// The first tick whose slot is not met. The slots stand for the ticks `cursor..cursor + SLOTS`.
    cursor: u64,
    occupied: Occupied,
    deadlines: Blocks<u64>,
    links: Blocks<Link>,
}

/// A node in a circular list: the anchor of a list, or a key.
#[derive(Clone, Copy, Debug)]
struct Link {
    next: u32,
    prev: u32,
}

impl Wheel {
    /// Keys from this one on are not taken: their links would not fit.
    pub const KEY_LIMIT: usize = (u32::MAX - FIRST_KEY) as usize;

    /// No deadlines, on a clock that starts at [`Instant::START`].
    ///
    /// A key fires at most one `resolution` late. Deadlines up to 4096 of it ahead are met once, those further ahead once
    /// in so many. A resolution of zero is taken as a nanosecond.
    pub fn new(resolution: Duration) -> Self {
        let mut links = Blocks::new();
        (0..FIRST_KEY).for_each(|node| links.push(Link::to_itself(node)));
        Self {
            resolution: u64::try_from(resolution.as_nanos()).unwrap_or(u64::MAX).max(1),
            cursor: 0,
            occupied: Occupied::default(),
            deadlines: Blocks::new(),
            links,
        }
    }

    /// Gives the key this deadline, in place of the one that it may have. [`Instant::NEVER`] cancels.
    ///
    /// Later than before, or the same: one store. Earlier, or new: linked into its slot. A deadline that has passed fires
    /// within one resolution, but not from the calls of [`expire`](Self::expire) with the time of the last one: a caller
    /// that sets keys while it empties the wheel comes to an end.
    ///
    /// A key from [`Wheel::KEY_LIMIT`] on is ignored.
    pub fn set(&mut self, key: usize, at: Instant) {
        let at = at.as_nanos();
        if at == NONE {
            return self.cancel(key);
        }
        if key >= self.deadlines.len() {
            if key >= Self::KEY_LIMIT {
                return;
            }
            self.grow(key);
        }
        let old = core::mem::replace(&mut self.deadlines[key], at);
        let node = node_of(key);
        if old == NONE {
            self.link(node, at);
        } else if at < old {
            self.unlink(node);
            self.link(node, at);
        }
    }

    /// Takes the key's deadline away, if it has one.
    pub fn cancel(&mut self, key: usize) {
        if self.deadline_of(key).is_some() {
            self.deadlines[key] = NONE;
            self.unlink(node_of(key));
        }
    }

    /// The key's deadline, exactly as it was set.
    pub fn deadline_of(&self, key: usize) -> Option<Instant> {
        self.deadlines.get(key).filter(|&&at| at != NONE).map(|&at| Instant::from_nanos(at))
    }

    /// When to call [`expire`](Self::expire) at the latest; `None` while no key has a deadline.
    ///
    /// It may be earlier than every deadline, since a key that was given a later one is still linked where it was. After
    /// `expire(now)` has returned `None`, it is later than `now`.
    pub fn next(&self) -> Option<Instant> {
        let tick = if self.links[MET as usize].next == MET {
            self.cursor.saturating_add(u64::from(self.first_slot()?.1))
        } else {
            self.cursor.saturating_sub(1) // there are keys of slots that were met: call again at once
        };
        Some(Instant::from_nanos(tick.saturating_mul(self.resolution)))
    }

    /// Takes one key whose deadline has passed; it has none afterwards. Call it until it returns `None`.
    ///
    /// Keys come in the order of their slots, not of their deadlines within a slot. All calls with one `now` together look
    /// at each occupied slot that has passed once (4096 at most, however far the clock jumped), and at each key in them once.
    /// Should `now` go back, the wheel goes back with it: nothing fires early by the new time, and nothing is lost.
    /// A deadline less than one resolution before [`Instant::NEVER`] does not fire.
    pub fn expire(&mut self, now: Instant) -> Option<usize> {
        let now = now.as_nanos();
        self.meet_until(now / self.resolution);
        loop {
            let node = self.links[MET as usize].next;
            let key = node.checked_sub(FIRST_KEY)? as usize; // the anchor itself: the list is empty
            self.unlink(node);
            let at = self.deadlines[key];
            if at <= now {
                self.deadlines[key] = NONE;
                return Some(key);
            }
            self.link(node, at);
        }
    }

    /// Moves the cursor behind `tick`, and the keys of the slots that it passes to the list of those met.
    fn meet_until(&mut self, tick: u64) {
        while let Some((slot, ahead)) = self.first_slot() {
            if self.cursor.saturating_add(u64::from(ahead)) > tick {
                break;
            }
            self.occupied.clear(slot);
            self.splice(slot, MET);
        }
        // Going back is sound: slots are then taken for earlier ones than meant, and a key that is met early is moved.
        self.cursor = tick.saturating_add(1);
    }

    /// The first occupied slot at or after the cursor, and how many ticks ahead of the cursor it is.
    fn first_slot(&self) -> Option<(u32, u32)> {
        let from = slot_of(self.cursor);
        let slot = self.occupied.first_from(from)?;
        Some((slot, slot.wrapping_sub(from) % SLOTS))
    }

    /// Links a node that is in no list into the slot of its deadline.
    fn link(&mut self, node: u32, at: u64) {
        let furthest = self.cursor.saturating_add(u64::from(SLOTS - 1));
        let slot = slot_of(at.div_ceil(self.resolution).clamp(self.cursor, furthest));
        let last = self.links[slot as usize].prev;
        self.links[node as usize] = Link { next: slot, prev: last };
        self.links[last as usize].next = node;
        self.links[slot as usize].prev = node;
        self.occupied.set(slot);
    }

    /// Takes a node out of the list that it is in, whichever that is.
    fn unlink(&mut self, node: u32) {
        let Link { next, prev } = self.links[node as usize];
        self.links[prev as usize].next = next;
        self.links[next as usize].prev = prev;
        if next == prev && next < SLOTS {
            self.occupied.clear(next); // both neighbours are the slot's anchor: it was the last
        }
    }

    /// Appends the whole list of one anchor, not empty, to that of another.
    fn splice(&mut self, from: u32, to: u32) {
        let Link { next: first, prev: last } = self.links[from as usize];
        let end = self.links[to as usize].prev;
        self.links[from as usize] = Link::to_itself(from);
        self.links[end as usize].next = first;
        self.links[first as usize].prev = end;
        self.links[last as usize].next = to;
        self.links[to as usize].prev = last;
    }

    /// Makes room for the key. The new nodes are in no list.
    fn grow(&mut self, key: usize) {
        self.deadlines.resize_with(key + 1, || NONE);
        let nodes = FIRST_KEY as usize + key + 1;
        self.links.resize_with(nodes, || Link { next: MET, prev: MET });
    }
}

impl Link {
    /// The anchor of an empty list.
    fn to_itself(node: u32) -> Self {
        Self { next: node, prev: node }
    }
}

/// The slot that stands for a tick.
fn slot_of(tick: u64) -> u32 {
    (tick % u64::from(SLOTS)) as u32
}

/// The node of a key below [`Wheel::KEY_LIMIT`].
fn node_of(key: usize) -> u32 {
    key as u32 + FIRST_KEY
}

/// Which slots have keys: a bit for each, and a bit for each word of those.
#[derive(Clone, Debug)]
struct Occupied {
    words: [u64; (SLOTS / 64) as usize],
    summary: u64,
}

impl Occupied {
    fn set(&mut self, slot: u32) {
        self.words[(slot / 64) as usize] |= 1 << (slot % 64);
        self.summary |= 1 << (slot / 64);
    }

    fn clear(&mut self, slot: u32) {
        let word = &mut self.words[(slot / 64) as usize];
        *word &= !(1 << (slot % 64));
        if *word == 0 {
            self.summary &= !(1 << (slot / 64));
        }
    }

    /// The first slot that is set, from the given one on and around the ring.
    fn first_from(&self, slot: u32) -> Option<u32> {
        let word = slot / 64;
        let here = self.words[word as usize] & (u64::MAX << (slot % 64));
        if here != 0 {
            return Some(word * 64 + here.trailing_zeros());
        }
        let above = self.summary & ((u64::MAX << word) << 1);
        let around = if above == 0 { self.summary } else { above };
        if around == 0 {
            return None;
        }
        let word = around.trailing_zeros();
        Some(word * 64 + self.words[word as usize].trailing_zeros())
    }
}

impl Default for Occupied {
    fn default() -> Self {
        Self { words: [0; (SLOTS / 64) as usize], summary: 0 }
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const MS: u64 = 1_000_000;

    fn ms(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    fn wheel_of_ms() -> Wheel {
        Wheel::new(Duration::from_millis(1))
    }

    /// Everything that fires at this time, in order.
    fn drain(wheel: &mut Wheel, now: Instant) -> Vec<usize> {
        let fired = core::iter::from_fn(|| wheel.expire(now)).collect();
        assert!(wheel.next().is_none_or(|next| next > now), "next {:?} after {now:?}", wheel.next());
        fired
    }

    #[test]
    fn a_key_fires_at_the_first_tick_not_before_its_deadline() {
        let mut wheel = wheel_of_ms();
        wheel.set(3, Instant::from_nanos(5 * MS + 1));
        assert_eq!(wheel.next(), Some(ms(6)));
        assert!(drain(&mut wheel, Instant::from_nanos(6 * MS - 1)).is_empty());
        assert_eq!(drain(&mut wheel, ms(6)), [3]);
        assert_eq!((wheel.next(), wheel.deadline_of(3)), (None, None));
    }

    #[test]
    fn a_key_at_the_start_of_the_clock_fires_there() {
        let mut wheel = wheel_of_ms();
        wheel.set(0, Instant::START);
        assert_eq!(wheel.next(), Some(Instant::START));
        assert_eq!(drain(&mut wheel, Instant::START), [0]);
    }

    #[test]
    fn rearming_later_moves_the_key_when_its_slot_is_met() {
        let mut wheel = wheel_of_ms();
        wheel.set(0, ms(10));
        wheel.set(0, ms(20));
        assert_eq!((wheel.next(), wheel.deadline_of(0)), (Some(ms(10)), Some(ms(20))));
        assert!(drain(&mut wheel, ms(10)).is_empty());
        assert_eq!(wheel.next(), Some(ms(20)));
        assert_eq!(drain(&mut wheel, ms(20)), [0]);
    }

    #[test]
    fn rearming_earlier_is_seen_at_once() {
        let mut wheel = wheel_of_ms();
        wheel.set(0, ms(20));
        wheel.set(0, ms(10));
        assert_eq!(wheel.next(), Some(ms(10)));
        assert_eq!(drain(&mut wheel, ms(10)), [0]);
        assert!(drain(&mut wheel, ms(20)).is_empty());
    }

    #[test]
    fn the_keys_are_as_many_as_links_can_name() {
        assert_eq!(node_of(Wheel::KEY_LIMIT), u32::MAX);
    }

    #[test]
    fn the_same_deadline_again_leaves_a_key_in_its_place() {
        let mut wheel = wheel_of_ms();
        (0..3).for_each(|key| wheel.set(key, ms(5)));
        wheel.set(0, ms(5));
        assert_eq!(drain(&mut wheel, ms(5)), [0, 1, 2]);
    }

    #[test]
    fn cancelling_one_of_a_slot_leaves_the_others() {
        for cancelled in 0..3 {
            let mut wheel = wheel_of_ms();
            (0..3).for_each(|key| wheel.set(key, ms(5)));
            wheel.cancel(cancelled);
            wheel.cancel(cancelled);
            let rest: Vec<usize> = (0..3).filter(|&key| key != cancelled).collect();
            assert_eq!(drain(&mut wheel, ms(5)), rest);
        }
    }

    #[test]
    fn the_last_cancelled_leaves_nothing_to_wait_for() {
        let mut wheel = wheel_of_ms();
        wheel.set(9, ms(5));
        wheel.set(9, Instant::NEVER);
        assert_eq!((wheel.next(), wheel.deadline_of(9)), (None, None));
        wheel.cancel(10_000);
        assert_eq!(wheel.deadline_of(10_000), None);
    }

    #[test]
    fn a_key_used_again_while_the_wheel_is_emptied_waits_for_the_next_tick() {
        let mut wheel = wheel_of_ms();
        wheel.set(0, ms(5));
        assert_eq!(wheel.expire(ms(5)), Some(0));
        wheel.set(0, ms(5));
        wheel.set(1, ms(1));
        assert!(drain(&mut wheel, ms(5)).is_empty());
        assert_eq!(wheel.next(), Some(ms(6)));
        assert_eq!(drain(&mut wheel, ms(6)), [0, 1]);
    }

    #[test]
    fn keys_of_a_met_slot_can_be_cancelled_and_moved_before_they_are_taken() {
        let mut wheel = wheel_of_ms();
        (0..5).for_each(|key| wheel.set(key, ms(5)));
        assert_eq!(wheel.expire(ms(5)), Some(0));
        wheel.cancel(1);
        wheel.set(2, ms(8)); // later: lazily
        wheel.set(3, ms(4)); // earlier, and passed: the next tick
        assert_eq!(wheel.next(), Some(ms(5)), "there is more to take now");
        assert_eq!(drain(&mut wheel, ms(5)), [4]);
        assert_eq!(drain(&mut wheel, ms(6)), [3]);
        assert_eq!(drain(&mut wheel, ms(8)), [2]);
    }

    #[test]
    fn a_deadline_beyond_the_horizon_is_moved_until_it_is_near() {
        let mut wheel = wheel_of_ms();
        let far = ms(3 * u64::from(SLOTS) + 7);
        wheel.set(0, far);
        let mut calls = 0;
        loop {
            let now = wheel.next().unwrap();
            calls += 1;
            if !drain(&mut wheel, now).is_empty() {
                assert_eq!((now, calls), (far, 4));
                break;
            }
        }
    }

    #[test]
    fn a_jump_over_many_turns_fires_what_is_due_and_keeps_the_rest() {
        let mut wheel = wheel_of_ms();
        let jump = 1_000_000_000 * u64::from(SLOTS);
        for key in 0..10 {
            wheel.set(key, ms(key as u64 * 1000));
            wheel.set(key + 10, ms(key as u64 * 1000));
            wheel.set(key + 10, ms(jump + 1 + key as u64)); // lazily: met by the jump, and not due
        }
        assert_eq!(drain(&mut wheel, ms(jump)), (0..10).collect::<Vec<_>>());
        assert_eq!(wheel.next(), Some(ms(jump + 1)));
        assert_eq!(drain(&mut wheel, ms(jump + 5)), [10, 11, 12, 13, 14]);
    }

    #[test]
    fn a_clock_that_goes_back_fires_nothing_early_and_loses_nothing() {
        let mut wheel = wheel_of_ms();
        wheel.set(0, ms(50));
        wheel.set(1, ms(u64::from(SLOTS) + 90));
        assert!(drain(&mut wheel, ms(45)).is_empty());
        assert!(drain(&mut wheel, ms(10)).is_empty());
        wheel.set(2, ms(20));
        assert_eq!(wheel.next(), Some(ms(20)));
        assert_eq!(drain(&mut wheel, ms(20)), [2]);
        assert!(drain(&mut wheel, ms(49)).is_empty());
        assert_eq!(drain(&mut wheel, ms(50)), [0]);
        assert_eq!(drain(&mut wheel, ms(u64::from(SLOTS) + 90)), [1]);
    }

    #[test]
    fn a_clock_that_returns_from_the_far_end_leaves_a_wheel_that_works() {
        let mut wheel = wheel_of_ms();
        wheel.set(0, ms(50));
        assert_eq!(drain(&mut wheel, Instant::from_nanos(u64::MAX)), [0]);
        wheel.set(1, Instant::from_nanos(u64::MAX - 1));
        assert!(drain(&mut wheel, ms(40)).is_empty());
        wheel.set(2, ms(60));
        assert_eq!(drain(&mut wheel, ms(60)), [2]);
        assert_eq!(wheel.deadline_of(1), Some(Instant::from_nanos(u64::MAX - 1)));
    }

    #[test]
    fn every_slot_is_found_from_every_word() {
        for slot in (0..SLOTS).step_by(7).chain([SLOTS - 1]) {
            let mut occupied = Occupied::default();
            occupied.set(slot);
            for from in [0, 1, 63, 64, slot, (slot + 1) % SLOTS, slot & !63, SLOTS - 64, SLOTS - 1] {
                assert_eq!(occupied.first_from(from), Some(slot), "from {from}");
            }
            occupied.clear(slot);
            assert_eq!(occupied.first_from(0), None);
        }
    }

    #[test]
    fn resolutions_at_the_edges_are_taken() {
        let mut finest = Wheel::new(Duration::ZERO);
        finest.set(0, Instant::from_nanos(3));
        assert!(drain(&mut finest, Instant::from_nanos(2)).is_empty());
        assert_eq!(drain(&mut finest, Instant::from_nanos(3)), [0]);
        let mut coarsest = Wheel::new(Duration::MAX);
        coarsest.set(0, Instant::from_nanos(3));
        assert_eq!(coarsest.next(), Some(Instant::NEVER));
        assert_eq!(coarsest.expire(Instant::from_nanos(u64::MAX - 1)), None);
    }

    #[test]
    fn a_key_costs_two_words() {
        assert_eq!((size_of::<u64>(), size_of::<Link>()), (8, 8));
    }

    #[test]
    fn a_key_beyond_the_limit_is_ignored() {
        let mut wheel = wheel_of_ms();
        wheel.set(Wheel::KEY_LIMIT, ms(1));
        wheel.set(usize::MAX, ms(1));
        assert_eq!((wheel.next(), wheel.deadlines.len()), (None, 0));
    }

    #[derive(Clone, Debug)]
    enum Operation {
        /// A deadline so many nanoseconds from now.
        Set(usize, u64),
        /// A deadline that passed so many nanoseconds ago.
        SetPassed(usize, u64),
        Cancel(usize),
        /// The time passes, and `expire` is called whenever `next` says so.
        Pass(u64),
        /// One jump, with one call at its end.
        Jump(u64),
    }

    fn operation() -> impl Strategy<Value = Operation> {
        let horizon = u64::from(SLOTS) * MS;
        let span = prop_oneof![0..3 * MS, 0..200 * MS, 0..3 * horizon];
        let key = 0usize..12;
        prop_oneof![
            6 => (key.clone(), span.clone()).prop_map(|(key, span)| Operation::Set(key, span)),
            1 => (key.clone(), 0..10 * MS).prop_map(|(key, span)| Operation::SetPassed(key, span)),
            1 => key.prop_map(Operation::Cancel),
            3 => span.prop_map(Operation::Pass),
            1 => (0..10 * horizon).prop_map(Operation::Jump),
        ]
    }

    /// What is known of a key: its deadline, and the time from which the wheel had to know that it was due.
    type Model = BTreeMap<usize, (u64, u64)>;

    /// Empties the wheel, and holds what it does against the model. `late` says whether the call was not made in time.
    fn drain_against(wheel: &mut Wheel, model: &mut Model, now: u64, late: bool) {
        for key in drain(wheel, Instant::from_nanos(now)) {
            let (at, due) = model.remove(&key).expect("fires once, and only while it has a deadline");
            assert!(at <= now, "key {key} is early");
            assert!(late || now - due <= MS, "key {key} is {} ns late", now - due);
        }
        for (key, (_, due)) in &*model {
            assert!(due + MS > now, "key {key} did not fire");
        }
        assert_eq!(wheel.next().is_none(), model.is_empty());
    }

    proptest! {
        #[test]
        fn agrees_with_a_model(start in 0..1u64 << 50, operations in prop::collection::vec(operation(), 1..120)) {
            let mut wheel = wheel_of_ms();
            let mut model = Model::new();
            let mut now = start;
            drain_against(&mut wheel, &mut model, now, false);
            for operation in operations {
                match operation {
                    Operation::Set(key, span) => {
                        wheel.set(key, Instant::from_nanos(now + span));
                        model.insert(key, (now + span, now + span));
                    }
                    Operation::SetPassed(key, ago) => {
                        let at = now.saturating_sub(ago);
                        wheel.set(key, Instant::from_nanos(at));
                        model.insert(key, (at, now));
                    }
                    Operation::Cancel(key) => {
                        wheel.cancel(key);
                        model.remove(&key);
                    }
                    Operation::Pass(span) => {
                        let end = now + span;
                        while let Some(wake) = wheel.next().filter(|wake| wake.as_nanos() <= end) {
                            now = now.max(wake.as_nanos());
                            drain_against(&mut wheel, &mut model, now, false);
                        }
                        now = end;
                    }
                    Operation::Jump(span) => {
                        now += span;
                        drain_against(&mut wheel, &mut model, now, true);
                    }
                }
                for key in 0..12 {
                    let at = model.get(&key).map(|&(at, _)| Instant::from_nanos(at));
                    prop_assert_eq!(wheel.deadline_of(key), at);
                }
            }
        }
    }
}
