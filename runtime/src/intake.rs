//! Where a runtime's connections come from: its listeners, and the runtime that shares what it accepts.
//!
//! ```text
//!   listeners ─► accepted ─► the seat that has the fewest: its own ─┐
//!                              └─► another's ─► its inbox           ├─► keep
//!                                    another's ─► its own inbox ────┘
//! ```

use std::io;
use std::task::Waker;

use keepwatch_protocol::Instant;

use crate::accept::Listeners;
use crate::share::Seat;

/// What a runtime takes connections from: listeners `L`, which give connections `T`, and other runtimes that
/// [share](Self::share) what they accept.
#[derive(Debug)]
pub struct Intake<L, T> {
    listeners: Listeners<L>,
    seat: Option<Seat<T>>,
    /// Others' closes have been asked for, as accepting rests.
    rests: bool,
}

impl<L, T> Intake<L, T> {
    /// From these listeners, which may have connections waiting.
    pub fn new(listeners: impl IntoIterator<Item = L>) -> Self {
        Self { listeners: Listeners::new(listeners), seat: None, rests: false }
    }

    /// From now on each of these gets a share of what any of them accepts. The wakers tell their runtimes to take a
    /// [`turn`](Self::turn). Where none listens there is nothing to share, and none waits for it.
    pub fn share<'a>(all: impl IntoIterator<Item = (&'a mut Self, Waker)>)
    where
        L: 'a,
        T: 'a,
    {
        let (intakes, wakers): (Vec<&mut Self>, Vec<Waker>) = all.into_iter().unzip();
        if intakes.iter().all(|intake| intake.listeners.is_empty()) {
            return;
        }
        for (intake, seat) in intakes.into_iter().zip(Seat::new(wakers)) {
            intake.seat = Some(seat);
        }
    }

    /// The system says that this listener, by its place in the order, may have connections waiting.
    pub fn ready(&mut self, index: usize) {
        self.listeners.ready(index);
    }

    /// Gives `keep` the connections of this runtime: those that others handed to it, then of those that `accept` gives the ones
    /// that are not handed to others. At most so many are accepted. `keep` says whether it kept one, which counts until it is
    /// [`released`](Self::released).
    pub fn turn(
        &mut self,
        accepts: usize,
        now: Instant,
        mut accept: impl FnMut(&L) -> io::Result<T>,
        mut keep: impl FnMut(T) -> bool,
    ) {
        let Self { listeners, seat, rests } = self;
        let seat = seat.as_ref();
        let mut keep = |connection| {
            if !keep(connection) {
                seat.inspect(|seat| seat.released(1));
            }
        };
        seat.map(Seat::take).unwrap_or_default().into_iter().for_each(&mut keep);
        if *rests && seat.is_some_and(|seat| !seat.is_resting()) {
            listeners.released();
            *rests = false;
        }
        for _ in 0..accepts {
            let Some(accepted) = listeners.accept(now, &mut accept) else { break };
            let own = match seat {
                None => Some(accepted),
                Some(seat) => seat.place(accepted),
            };
            own.map(&mut keep);
        }
        // Asked for once in a rest: whoever closes one takes the request away, which is what the next turn sees.
        if listeners.rests(now) && !*rests {
            seat.inspect(|seat| seat.rest());
        }
        *rests = listeners.rests(now);
    }

    /// One more is there that was not [accepted](Self::turn), but made.
    pub fn joined(&self) {
        self.seat.as_ref().inspect(|seat| seat.joined());
    }

    /// So many connections of this runtime are closed: what accepting was short of may be there again, here or at the one that
    /// accepts.
    pub fn released(&mut self, count: usize) {
        if count > 0 {
            self.listeners.released();
            self.seat.as_ref().inspect(|seat| seat.released(count));
        }
    }

    /// Whether the next turn may have something without waiting.
    pub fn is_ready(&self, now: Instant) -> bool {
        self.listeners.is_ready(now)
    }

    /// When the next turn is to be, after accepting had to rest.
    pub fn deadline(&self) -> Option<Instant> {
        self.listeners.deadline()
    }

    /// Whether nothing will come: it listens nowhere, and has no share in what others accept.
    pub fn is_empty(&self) -> bool {
        self.listeners.is_empty() && self.seat.is_none()
    }

    /// Closes the listeners. Connections that wait in them are refused by the system; what others hand over still comes.
    pub fn close(&mut self) {
        self.listeners.close();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::io::ErrorKind;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    /// What waits at a listener; `None`: there are no descriptors.
    type Waiting = VecDeque<Option<char>>;

    /// Runtimes that share, and how often each was woken.
    struct All<const COUNT: usize> {
        waiting: Waiting,
        intakes: [Intake<(), char>; COUNT],
        woken: [Arc<Count>; COUNT],
    }

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl<const COUNT: usize> All<COUNT> {
        /// The first listens, and this waits there.
        fn new(waiting: impl IntoIterator<Item = Option<char>>) -> Self {
            let mut listeners = Some(()).into_iter();
            let mut intakes = [(); COUNT].map(|()| Intake::new(listeners.next()));
            let woken = [(); COUNT].map(|()| Arc::<Count>::default());
            Intake::share(intakes.iter_mut().zip(woken.iter().cloned().map(Waker::from)));
            Self { waiting: waiting.into_iter().collect(), intakes, woken }
        }

        /// What this one keeps in its turn.
        fn turn(&mut self, index: usize, accepts: usize, millis: u64) -> String {
            self.turn_of(index, accepts, millis, |_| true)
        }

        fn turn_of(
            &mut self,
            index: usize,
            accepts: usize,
            millis: u64,
            keeps: impl Fn(char) -> bool,
        ) -> String {
            let mut kept = String::new();
            let accept = |&(): &()| match self.waiting.pop_front() {
                None => Err(ErrorKind::WouldBlock.into()),
                Some(None) => Err(io::Error::from_raw_os_error(24)),
                Some(Some(name)) => Ok(name),
            };
            self.intakes[index].turn(accepts, Instant::from_millis(millis), accept, |name| {
                let keeps = keeps(name);
                kept.extend(keeps.then_some(name));
                keeps
            });
            kept
        }

        fn woken(&self) -> [usize; COUNT] {
            self.woken.each_ref().map(|woken| woken.0.load(Ordering::Relaxed))
        }
    }

    #[test]
    fn each_gets_its_share() {
        let mut all = All::<2>::new("abcde".chars().map(Some));
        assert_eq!((all.turn(0, 4, 0).as_str(), all.turn(1, 4, 0).as_str()), ("ac", "bd"));
        assert_eq!(all.woken(), [0, 1]);
        all.intakes[1].released(2);
        // One that is accepted for another counts in the turn.
        assert_eq!((all.turn(0, 1, 0).as_str(), all.turn(1, 1, 0).as_str()), ("", "e"));
    }

    #[test]
    fn one_that_is_not_kept_does_not_count() {
        let mut all = All::<2>::new("abcd".chars().map(Some));
        assert_eq!(all.turn_of(0, 4, 0, |name| name != 'a'), "bd");
        assert_eq!(all.turn_of(1, 4, 0, |_| false), "");
        all.waiting.extend("efgh".chars().map(Some));
        all.intakes[0].ready(0);
        assert_eq!((all.turn(0, 4, 0).as_str(), all.turn(1, 4, 0).as_str()), ("g", "efh"));
    }

    #[test]
    fn a_close_on_any_ends_the_rest_of_the_one_that_accepts() {
        for closing in [0, 1, 2] {
            let mut all = All::<3>::new([Some('a'), Some('b'), Some('c'), None, Some('d')]);
            assert_eq!([0, 1, 2].map(|index| all.turn(index, 9, 0)), ["a", "b", "c"]);
            let before = all.woken();
            assert_eq!(all.turn(0, 9, 50), "", "it rests");
            all.intakes[closing].released(1);
            assert_eq!(all.woken()[0] - before[0], usize::from(closing != 0));
            all.turn(0, 9, 51);
            assert!(all.waiting.is_empty());
        }
    }

    #[test]
    fn a_close_while_none_rests_wakes_none() {
        let mut all = All::<2>::new([Some('a'), Some('b')]);
        all.turn(0, 9, 0);
        all.intakes[1].released(1);
        assert_eq!(all.woken(), [0, 1]);
    }

    #[test]
    fn a_rest_that_begins_again_is_ended_again() {
        let mut all = All::<2>::new([Some('a'), Some('b'), None, None, Some('c')]);
        all.turn(0, 9, 0);
        for (millis, waiting) in [(1, 1), (2, 0)] {
            all.intakes[1].released(1);
            all.turn(0, 9, millis);
            assert_eq!(all.waiting.len(), waiting);
        }
    }

    #[test]
    fn where_none_listens_none_waits_for_others() {
        let mut intakes: [Intake<(), char>; 2] = [(); 2].map(|()| Intake::new([]));
        Intake::share(intakes.iter_mut().map(|intake| (intake, Waker::noop().clone())));
        assert!(intakes.iter().all(Intake::is_empty));
        let mut all = All::<2>::new([]);
        all.intakes[0].close();
        assert!(!all.intakes.iter().any(Intake::is_empty), "what was handed over may be on its way");
    }
}
