//! How other threads stop a runtime.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;
use std::time::Duration;

/// Stops a runtime from anywhere, and all that were [split](Control::another) off it, and says where it listens. What it asks for
/// is remembered until the runtime serves, and does nothing once that has ended. Dropping it stops nothing.
#[derive(Clone, Debug)]
pub struct Handle {
    shared: Arc<Shared>,
}

/// The runtime's side of its [`Handle`]s. Look at it after the waker was woken.
#[derive(Debug)]
pub struct Control {
    shared: Arc<Shared>,
    /// The grace that was taken last.
    taken: u64,
}

#[derive(Debug)]
struct Shared {
    addresses: Box<[SocketAddr]>,
    /// The shortest grace that was asked for, in nanoseconds.
    grace: AtomicU64,
    /// One for each control.
    wakers: Mutex<Vec<Waker>>,
}

/// Nobody asked.
const NONE: u64 = u64::MAX;

impl Handle {
    /// A handle to a runtime that listens on these addresses and is woken by this waker, and the runtime's side of it.
    pub fn new(addresses: impl IntoIterator<Item = SocketAddr>, waker: Waker) -> (Self, Control) {
        let addresses = addresses.into_iter().collect();
        let shared = Shared { addresses, grace: AtomicU64::new(NONE), wakers: Mutex::new(vec![waker]) };
        let shared = Arc::new(shared);
        (Self { shared: Arc::clone(&shared) }, Control { shared, taken: NONE })
    }

    /// Where the runtime listens, in the order of [`Options::listen`](crate::Options::listen), with the ports that the system
    /// chose.
    pub fn local_addresses(&self) -> &[SocketAddr] {
        &self.shared.addresses
    }

    /// Accept no more, say farewell to every peer, and end when all are gone; what is left when the grace is over is closed.
    /// Asked for again, the shorter grace counts.
    pub fn shutdown(&self, grace: Duration) {
        let grace = u64::try_from(grace.as_nanos()).unwrap_or(NONE).min(NONE - 1);
        self.shared.grace.fetch_min(grace, Ordering::Release);
        // Woken without the lock: a waker may do anything.
        let wakers = self.shared.wakers.lock().unwrap_or_else(PoisonError::into_inner).clone();
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Close every connection as it is, and end. The same as a [`shutdown`](Self::shutdown) without grace.
    pub fn abort(&self) {
        self.shutdown(Duration::ZERO);
    }
}

impl Control {
    /// The side of one more runtime, which the same handles stop, and wake by this waker.
    #[must_use]
    pub fn another(&self, waker: Waker) -> Self {
        self.shared.wakers.lock().unwrap_or_else(PoisonError::into_inner).push(waker.clone());
        // Who asked before could not wake it. Whoever asks from here on does.
        if self.shared.grace.load(Ordering::Acquire) != NONE {
            waker.wake();
        }
        Self { shared: Arc::clone(&self.shared), taken: NONE }
    }

    /// Takes the request to stop, if there is a new one: drain for so long, and end.
    pub fn take(&mut self) -> Option<Duration> {
        let grace = self.shared.grace.load(Ordering::Acquire);
        let is_new = grace < self.taken;
        self.taken = grace;
        is_new.then(|| Duration::from_nanos(grace))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    use super::*;

    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_request_wakes_and_is_taken_once() {
        let count = Arc::new(Count(AtomicUsize::new(0)));
        let (handle, mut control) = Handle::new([], Waker::from(Arc::clone(&count)));
        assert_eq!(control.take(), None);
        handle.clone().shutdown(Duration::from_secs(3));
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        assert_eq!(control.take(), Some(Duration::from_secs(3)));
        assert_eq!(control.take(), None);
    }

    #[test]
    fn the_shorter_grace_counts() {
        let (handle, mut control) = Handle::new([], Waker::noop().clone());
        handle.shutdown(Duration::MAX);
        handle.abort();
        handle.shutdown(Duration::from_secs(1));
        assert_eq!(control.take(), Some(Duration::ZERO));
        handle.shutdown(Duration::MAX);
        assert_eq!(control.take(), None);
    }

    #[test]
    fn a_grace_without_end_is_long() {
        let (handle, mut control) = Handle::new([], Waker::noop().clone());
        handle.shutdown(Duration::MAX);
        assert!(control.take() > Some(Duration::from_secs(1 << 32)));
    }

    #[test]
    fn every_runtime_of_a_handle_is_woken_and_told() {
        let counts = [(); 2].map(|()| Arc::new(Count(AtomicUsize::new(0))));
        let [one, two] = counts.clone().map(Waker::from);
        let (handle, mut first) = Handle::new([], one);
        handle.shutdown(Duration::from_secs(3));
        let mut second = first.another(two);
        for control in [&mut first, &mut second] {
            assert_eq!(control.take(), Some(Duration::from_secs(3)));
        }
        handle.abort();
        for control in [&mut first, &mut second] {
            assert_eq!(control.take(), Some(Duration::ZERO));
        }
        // What was asked for before it was there wakes it, too: it would not look otherwise.
        assert_eq!(counts.map(|count| count.0.load(Ordering::Relaxed)), [2, 2]);
    }
}
