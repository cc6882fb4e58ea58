//! How several runtimes share what one of them accepts.
//!
//! ```text
//!                    ┌─► seat 0: its own             each seat: how many connections it has,
//!   listeners ─► place ─► seat 1: inbox ─► take       those on their way included
//!                    └─► seat 2: inbox ─► take
//! ```
//!
//! A thread of its own would have to be woken for each connection; the runtime that accepts serves as well, and what it hands to
//! another wakes only that one.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

/// A runtime's seat among those that share connections. Dropping it gives the seat up: it is handed none from then on.
#[derive(Debug)]
pub(crate) struct Seat<T> {
    all: Arc<Places<T>>,
    own: usize,
}

#[derive(Debug)]
struct Places<T> {
    places: Box<[Place<T>]>,
    /// The seat that rests until a connection of any is gone, or [`NOBODY`]. Mostly one accepts; of several that rest, the others
    /// have only their own closes, and the end of the rest.
    resting: AtomicUsize,
}

const NOBODY: usize = usize::MAX;

#[derive(Debug)]
struct Place<T> {
    /// Handed over, and not yet taken; `None`: the seat is given up.
    inbox: Mutex<Option<Vec<T>>>,
    /// Whether there is something in it: read without the lock, written under it.
    news: AtomicBool,
    connections: AtomicUsize,
    waker: Waker,
}

impl<T> Seat<T> {
    /// A seat for each of these wakers, which tell their runtimes to [`take`](Self::take).
    pub(crate) fn new(wakers: impl IntoIterator<Item = Waker>) -> Vec<Self> {
        let place = |waker| Place {
            inbox: Mutex::new(Some(Vec::new())),
            news: AtomicBool::new(false),
            connections: AtomicUsize::new(0),
            waker,
        };
        let places: Box<[Place<T>]> = wakers.into_iter().map(place).collect();
        let count = places.len();
        let all = Arc::new(Places { places, resting: AtomicUsize::new(NOBODY) });
        (0..count).map(|own| Self { all: Arc::clone(&all), own }).collect()
    }

    /// Hands a connection to the seat that has the fewest. It is given back if that is this one.
    pub(crate) fn place(&self, connection: T) -> Option<T> {
        let mut connection = connection;
        loop {
            let own = (self.own, self.place_of_own());
            let fewest = self.all.places.iter().enumerate().filter(|(_, place)| !place.is_given_up());
            let (index, place) = fewest.min_by_key(|(_, place)| place.load()).unwrap_or(own);
            place.connections.fetch_add(1, Ordering::Relaxed);
            if index == self.own {
                return Some(connection);
            }
            // It may have been given up since: then there is another that has the fewest.
            connection = place.put(connection)?;
        }
    }

    /// Takes what others handed over.
    pub(crate) fn take(&self) -> Vec<T> {
        let place = self.place_of_own();
        if !place.news.load(Ordering::Acquire) {
            return Vec::new();
        }
        let mut inbox = place.lock();
        place.news.store(false, Ordering::Relaxed);
        inbox.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// This seat has a connection that was not placed.
    pub(crate) fn joined(&self) {
        self.place_of_own().connections.fetch_add(1, Ordering::Relaxed);
    }

    /// So many connections of this seat are gone.
    pub(crate) fn released(&self, count: usize) {
        self.place_of_own().connections.fetch_sub(count, Ordering::Relaxed);
        if self.all.resting.load(Ordering::Relaxed) != NOBODY {
            let resting = self.all.resting.swap(NOBODY, Ordering::AcqRel);
            if let Some(place) = self.all.places.get(resting).filter(|_| resting != self.own) {
                place.waker.wake_by_ref();
            }
        }
    }

    /// This seat has to rest until a connection of any seat is [gone](Self::released), which wakes it. One that went as it began
    /// is missed.
    pub(crate) fn rest(&self) {
        self.all.resting.store(self.own, Ordering::Release);
    }

    /// Whether none is gone since it began to rest.
    pub(crate) fn is_resting(&self) -> bool {
        self.all.resting.load(Ordering::Acquire) == self.own
    }

    fn place_of_own(&self) -> &Place<T> {
        &self.all.places[self.own]
    }
}

impl<T> Drop for Seat<T> {
    fn drop(&mut self) {
        let place = self.place_of_own();
        // Dropped without the lock.
        let _left = place.lock().take();
        place.connections.store(GIVEN_UP, Ordering::Relaxed);
    }
}

/// More connections than there can be.
const GIVEN_UP: usize = usize::MAX / 2;

impl<T> Place<T> {
    fn load(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    fn is_given_up(&self) -> bool {
        self.load() >= GIVEN_UP
    }

    /// Gives it back if the seat is given up.
    fn put(&self, connection: T) -> Option<T> {
        let mut inbox = self.lock();
        let Some(waiting) = inbox.as_mut() else { return Some(connection) };
        waiting.push(connection);
        let had_news = self.news.swap(true, Ordering::Release);
        drop(inbox);
        if !had_news {
            self.waker.wake_by_ref();
        }
        None
    }

    fn lock(&self) -> MutexGuard<'_, Option<Vec<T>>> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Wake;

    use super::*;

    fn seats(count: usize) -> Vec<Seat<char>> {
        Seat::new((0..count).map(|_| Waker::noop().clone()))
    }

    #[test]
    fn the_seat_with_the_fewest_gets_the_next() {
        let seats = seats(3);
        let kept: Vec<char> = "abcdef".chars().filter_map(|name| seats[0].place(name)).collect();
        assert_eq!(kept, ['a', 'd']);
        assert_eq!((seats[1].take(), seats[2].take()), (vec!['b', 'e'], vec!['c', 'f']));
        seats[2].released(2);
        assert_eq!((seats[0].place('g'), seats[0].place('h')), (None, None));
        assert_eq!(seats[2].take(), ['g', 'h']);
        assert_eq!(seats[1].take(), []);
    }

    #[test]
    fn what_was_not_placed_counts() {
        let seats = seats(2);
        seats[0].joined();
        assert_eq!(seats[0].place('a'), None);
        assert_eq!(seats[0].place('b'), Some('b'));
        seats[0].released(2);
        assert_eq!(seats[0].place('c'), Some('c'));
    }

    #[test]
    fn a_seat_alone_keeps_all() {
        let seats = seats(1);
        assert_eq!((seats[0].place('a'), seats[0].place('b')), (Some('a'), Some('b')));
        assert_eq!(seats[0].take(), []);
    }

    #[test]
    fn a_seat_that_is_given_up_gets_none_and_drops_what_waited() {
        let waiting = Arc::new(());
        let mut seats = Seat::new([(); 2].map(|()| Waker::noop().clone()));
        assert!(seats[0].place(Arc::clone(&waiting)).is_some());
        assert!(seats[0].place(Arc::clone(&waiting)).is_none());
        seats.pop();
        assert_eq!(Arc::strong_count(&waiting), 1);
        assert!(seats[0].place(waiting).is_some());
    }

    #[test]
    fn a_runtime_is_woken_once_for_all_that_waits() {
        struct Count(AtomicUsize);
        impl Wake for Count {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let count = Arc::new(Count(AtomicUsize::new(0)));
        let seats = Seat::new([Waker::noop().clone(), Waker::from(Arc::clone(&count))]);
        let woken = || count.0.load(Ordering::Relaxed);
        for name in "abcd".chars() {
            seats[0].place(name);
        }
        assert_eq!((woken(), seats[1].take()), (1, vec!['b', 'd']));
        for name in "ef".chars() {
            seats[0].place(name);
        }
        assert_eq!(woken(), 2);
    }
}
