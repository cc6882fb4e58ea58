//! The room behind `/hello`: lines that are said once, to whoever reads then, on every machine.
//!
//! It shares nothing with the store: a line has no key and no revision, and nobody can come back to it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Waker;

/// Where the lines of one machine reach the readers of all.
#[derive(Clone, Debug, Default)]
pub(crate) struct Room(Arc<Mutex<Vec<Weak<Inbox>>>>);

#[derive(Debug, Default)]
struct Inbox {
    /// Whether there may be lines: a look costs no lock.
    news: AtomicBool,
    content: Mutex<Content>,
}

#[derive(Debug, Default)]
struct Content {
    lines: VecDeque<Arc<[u8]>>,
    lost: u64,
    waker: Option<Waker>,
}

impl Room {
    /// A machine's place in the room, which keeps so many lines for readers who are behind.
    pub(crate) fn join(&self, keep: usize) -> Member {
        let inbox = Arc::new(Inbox::default());
        let mut members = lock(&self.0);
        members.retain(|member| member.strong_count() > 0);
        members.push(Arc::downgrade(&inbox));
        Member { room: self.clone(), inbox, lines: VecDeque::new(), first: 0, keep: keep.max(1) }
    }
}

/// A machine's place in the room, and the lines that its readers may still have to read.
#[derive(Debug)]
pub(crate) struct Member {
    room: Room,
    inbox: Arc<Inbox>,
    lines: VecDeque<Arc<[u8]>>,
    /// The number of the first line that is kept. Numbers are dense, and this machine's own.
    first: u64,
    keep: usize,
}

impl Member {
    pub(crate) fn start(&self, waker: &Waker) {
        lock(&self.inbox.content).waker = Some(waker.clone());
    }

    /// Says a line to every reader on every machine; here at the next [`Member::poll`].
    pub(crate) fn say(&self, line: &str) {
        let line: Arc<[u8]> = Arc::from(line.as_bytes());
        let mut wakers = Vec::new();
        for member in lock(&self.room.0).iter().filter_map(Weak::upgrade) {
            let mut content = lock(&member.content);
            if content.lines.len() >= self.keep {
                content.lines.pop_front();
                content.lost += 1;
            }
            content.lines.push_back(Arc::clone(&line));
            member.news.store(true, Ordering::Release);
            if !Arc::ptr_eq(&member, &self.inbox) {
                wakers.extend(content.waker.clone());
            }
        }
        // Without a lock: a waker may do anything.
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Takes what was said. Returns whether there was anything.
    pub(crate) fn poll(&mut self) -> bool {
        if !self.inbox.news.swap(false, Ordering::Acquire) {
            return false;
        }
        let mut content = lock(&self.inbox.content);
        let lost = std::mem::take(&mut content.lost);
        if lost > 0 {
            // Lines in front of these are missing: their numbers are passed over.
            self.first += lost + self.lines.len() as u64;
            self.lines.clear();
        }
        self.lines.append(&mut content.lines);
        drop(content);
        while self.lines.len() > self.keep {
            self.lines.pop_front();
            self.first += 1;
        }
        true
    }

    /// The number that the next line will have.
    pub(crate) fn end(&self) -> u64 {
        self.first + self.lines.len() as u64
    }

    /// The line with that number: `None` if it is not said yet, an error if it is not kept any more.
    pub(crate) fn line(&self, number: u64) -> Result<Option<&[u8]>, Missed> {
        let index = number.checked_sub(self.first).ok_or(Missed)?;
        let index = usize::try_from(index).unwrap_or(usize::MAX);
        Ok(self.lines.get(index).map(|line| &**line))
    }
}

/// The reader was too slow: lines that it has not read are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Missed;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_line_reaches_every_machine() {
        let room = Room::default();
        let (mut a, mut b) = (room.join(8), room.join(8));
        assert!(!a.poll() && !b.poll());
        a.say("id: haha\n");
        assert!(a.poll() && b.poll() && !b.poll());
        assert_eq!(a.line(0), Ok(Some(&b"id: haha\n"[..])));
        assert_eq!((b.line(0), b.line(1), b.end()), (Ok(Some(&b"id: haha\n"[..])), Ok(None), 1));
    }

    #[test]
    fn a_reader_that_is_too_slow_is_told() {
        let mut member = Room::default().join(2);
        for line in ["1", "2", "3"] {
            member.say(line);
            member.poll();
        }
        assert_eq!((member.line(0), member.line(1)), (Err(Missed), Ok(Some(&b"2"[..]))));
    }

    #[test]
    fn a_machine_that_does_not_look_keeps_no_more_than_the_others() {
        let room = Room::default();
        let (a, mut b) = (room.join(2), room.join(2));
        for line in ["1", "2", "3", "4", "5"] {
            a.say(line);
        }
        assert!(b.poll());
        assert_eq!(
            (b.line(2), b.line(3), b.line(4), b.line(5)),
            (Err(Missed), Ok(Some(&b"4"[..])), Ok(Some(&b"5"[..])), Ok(None))
        );
    }

    #[test]
    fn a_line_has_its_number_however_many_before_it_are_lost() {
        let room = Room::default();
        let (a, mut b) = (room.join(2), room.join(2));
        a.say("0");
        a.say("1");
        assert!(b.poll());
        for line in ["2", "3", "4", "5", "6"] {
            a.say(line);
        }
        assert!(b.poll());
        let kept = [b.line(4), b.line(5), b.line(6), b.line(7)];
        assert_eq!(kept, [Err(Missed), Ok(Some(&b"5"[..])), Ok(Some(&b"6"[..])), Ok(None)]);
        assert_eq!(b.end(), 7);
    }

    #[test]
    fn a_line_wakes_the_other_machines_and_not_the_one_that_says_it() {
        let room = Room::default();
        let (a, b) = (room.join(8), room.join(8));
        let woken = [&a, &b].map(|member| {
            let woken = Arc::new(Woken::default());
            member.start(&Waker::from(Arc::clone(&woken)));
            woken
        });
        a.say("id: haha\n");
        assert_eq!(woken.map(|woken| woken.0.load(Ordering::Relaxed)), [0, 1]);
    }

    #[test]
    fn who_left_has_no_place_any_more() {
        let room = Room::default();
        drop(room.join(8));
        let _stays = room.join(8);
        assert_eq!(lock(&room.0).len(), 1);
    }
}
