//! Publishing and watching from the same process: the server is a part of a program, and this is its other side.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use async_channel::{Receiver, Sender};

use crate::change::Change;
use crate::index::Filter;
use crate::key::{Key, KeyError, Revision};
use crate::log::RevisionError;
use crate::store::{Condition, Operation, Reply};

/// Puts, gets, deletes and watches keys of a watch server from any thread of the process that runs it.
///
/// Each call is queued for the server's machine and completes when the machine comes to it: it can be awaited by any
/// executor, or waited for with [`Pending::wait`] (but not on the thread that serves). At most [`Handle::QUEUE`] calls wait;
/// more are refused at once. When the server is gone, every call says [`Unavailable::Gone`].
#[derive(Clone, Debug)]
pub struct Handle(Arc<Queue>);

/// The calls that wait for the machine.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    news: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    calls: VecDeque<Request>,
    /// Subscriptions whose reader made room.
    drained: Vec<u32>,
    waker: Option<Waker>,
    closed: bool,
}

#[derive(Debug)]
pub(crate) enum Request {
    Write { operation: Operation, reply: Answer<Reply> },
    Get { key: Key, reply: Answer<Option<Change>> },
    List { prefix: String, reply: Answer<Listed> },
    Watch { filter: Filter, since: Option<Revision>, reply: Answer<Result<Subscription, RevisionError>> },
}

/// The keys under a prefix, at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The moment: a watch since this revision sees every later change.
    pub revision: Revision,
    /// The change that gave each key its value, in the order of the keys.
    pub items: Vec<Change>,
}

impl Handle {
    /// The most calls that wait for the machine.
    pub const QUEUE: usize = 4096;

    pub(crate) fn new() -> (Self, Arc<Queue>) {
        let queue = Arc::new(Queue::default());
        (Self(Arc::clone(&queue)), queue)
    }

    /// Gives a key a value.
    pub fn put(&self, key: &str, value: impl Into<Arc<[u8]>>) -> Pending<Reply> {
        self.put_if(key, value, Condition::None)
    }

    /// Gives a key a value if the condition holds: compare and swap.
    pub fn put_if(&self, key: &str, value: impl Into<Arc<[u8]>>, condition: Condition) -> Pending<Reply> {
        self.write(key, |key| Operation::Put { key, value: value.into(), condition })
    }

    /// Removes a key.
    pub fn delete(&self, key: &str) -> Pending<Reply> {
        self.delete_if(key, Condition::None)
    }

    /// Removes a key if the condition holds.
    pub fn delete_if(&self, key: &str, condition: Condition) -> Pending<Reply> {
        self.write(key, |key| Operation::Delete { key, condition })
    }

    /// The change that gave the key its value; `None` if it does not exist. It sees every write that anyone was told of.
    pub fn get(&self, key: &str) -> Pending<Option<Change>> {
        match Key::new(key, usize::MAX) {
            Ok(key) => self.ask(|reply| Request::Get { key, reply }),
            Err(error) => Pending::refused(Unavailable::Key(error)),
        }
    }

    /// All keys that begin with the prefix, and their values.
    pub fn list(&self, prefix: &str) -> Pending<Listed> {
        self.ask(|reply| Request::List { prefix: prefix.to_owned(), reply })
    }

    /// The changes of what the filter names, from those with a greater revision than `since` on, or from now on. A
    /// [`RevisionError`] says that nothing can be told since that revision: list, and watch since what the list says.
    pub fn watch(
        &self,
        filter: Filter,
        since: Option<Revision>,
    ) -> Pending<Result<Subscription, RevisionError>> {
        self.ask(|reply| Request::Watch { filter, since, reply })
    }

    fn write(&self, key: &str, operation: impl FnOnce(Key) -> Operation) -> Pending<Reply> {
        match Key::new(key, usize::MAX) {
            Ok(key) => self.ask(|reply| Request::Write { operation: operation(key), reply }),
            Err(error) => Pending::refused(Unavailable::Key(error)),
        }
    }

    fn ask<T>(&self, request: impl FnOnce(Answer<T>) -> Request) -> Pending<T> {
        let (sender, receiver) = async_channel::bounded(1);
        let mut state = lock(&self.0.state);
        if state.closed {
            return Pending::refused(Unavailable::Gone);
        }
        if state.calls.len() >= Self::QUEUE {
            return Pending::refused(Unavailable::Busy);
        }
        state.calls.push_back(request(Answer(sender)));
        self.0.notify(state);
        Pending { receiver, refused: None }
    }
}

impl Queue {
    pub(crate) fn start(&self, waker: &Waker) {
        let mut state = lock(&self.state);
        state.waker = Some(waker.clone());
        if !state.calls.is_empty() {
            // Asked before there was anyone to wake.
            self.notify(state);
        }
    }

    /// The calls that wait now: those that come meanwhile have another turn.
    pub(crate) fn take(&self) -> VecDeque<Request> {
        std::mem::take(&mut lock(&self.state).calls)
    }

    /// The subscriptions whose readers made room since the last time.
    pub(crate) fn drained(&self) -> Vec<u32> {
        std::mem::take(&mut lock(&self.state).drained)
    }

    /// Whether there may be anything since the last time.
    pub(crate) fn has_news(&self) -> bool {
        self.news.swap(false, Ordering::Acquire)
    }

    /// No call is taken from now on, and those that wait are told.
    pub(crate) fn close(&self) {
        let mut state = lock(&self.state);
        state.closed = true;
        let calls = std::mem::take(&mut state.calls);
        // Whoever waits is woken by this, and may call again.
        drop(state);
        drop(calls);
    }

    /// Has the machine called again soon.
    pub(crate) fn wake(&self) {
        self.notify(lock(&self.state));
    }

    /// Wakes without the lock: a waker may do anything, even call.
    fn notify(&self, state: MutexGuard<'_, State>) {
        self.news.store(true, Ordering::Release);
        let waker = state.waker.clone();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// What a call will say. A future, or to be waited for.
#[derive(Debug)]
#[must_use = "the call is done whether or not its answer is awaited, but it may have failed"]
pub struct Pending<T> {
    receiver: Receiver<Result<T, Unavailable>>,
    refused: Option<Unavailable>,
}

impl<T> Pending<T> {
    fn refused(why: Unavailable) -> Self {
        let (_, receiver) = async_channel::bounded(1);
        Self { receiver, refused: Some(why) }
    }

    /// Waits for the answer on this thread. Never on the thread that serves: it would wait for itself.
    ///
    /// # Errors
    ///
    /// [`Unavailable`]: the call was not done. What a store refuses (a condition, a limit) is no error of the call but its
    /// [`Reply`].
    pub fn wait(self) -> Result<T, Unavailable> {
        match self.refused {
            Some(why) => Err(why),
            None => self.receiver.recv_blocking().unwrap_or(Err(Unavailable::Gone)),
        }
    }
}

impl<T: Send + 'static> IntoFuture for Pending<T> {
    type Output = Result<T, Unavailable>;
    type IntoFuture = std::pin::Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            match self.refused {
                Some(why) => Err(why),
                None => self.receiver.recv().await.unwrap_or(Err(Unavailable::Gone)),
            }
        })
    }
}

/// Why a call was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unavailable {
    /// The server is gone.
    Gone,
    /// Too many calls wait.
    Busy,
    /// That is no key.
    Key(KeyError),
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone => f.write_str("the server is gone"),
            Self::Busy => f.write_str("too many calls wait for the server"),
            Self::Key(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Unavailable {}

/// Where the machine puts an answer. Dropped without one, the caller is told that the server is gone.
#[derive(Debug)]
pub(crate) struct Answer<T>(Sender<Result<T, Unavailable>>);

impl<T> Answer<T> {
    pub(crate) fn send(self, answer: T) {
        // Nobody may be waiting any more.
        let _unheard = self.0.try_send(Ok(answer));
    }

    pub(crate) fn refuse(self, why: Unavailable) {
        let _unheard = self.0.try_send(Err(why));
    }
}

/// What a subscription says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A key was written or deleted.
    Change(Change),
    /// Changes up to this revision are missing: the reader was slower than the log is long. List, then watch since what the
    /// list says. Nothing follows.
    Compacted(Revision),
}

/// A watch from the same process. It is a cursor into the log with a small buffer in front: a reader that is slow costs no
/// more memory than that, and delays nobody. Dropping it ends it.
#[derive(Debug)]
pub struct Subscription {
    id: u32,
    receiver: Receiver<Event>,
    full: Arc<AtomicBool>,
    queue: Arc<Queue>,
}

impl Subscription {
    /// How many events wait in front of the log.
    pub(crate) const BUFFER: usize = 64;

    pub(crate) fn new(id: u32, queue: Arc<Queue>) -> (Self, Subscriber) {
        let (sender, receiver) = async_channel::bounded(Self::BUFFER);
        let full = Arc::new(AtomicBool::new(false));
        (Self { id, receiver, full: Arc::clone(&full), queue }, Subscriber { sender, full })
    }

    /// The next event; `None` after the last. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Event> {
        let event = self.receiver.recv().await.ok();
        self.made_room();
        event
    }

    /// Waits for the next event on this thread; `None` after the last. Never on the thread that serves.
    pub fn wait(&mut self) -> Option<Event> {
        let event = self.receiver.recv_blocking().ok();
        self.made_room();
        event
    }

    /// The next event if it is there already.
    pub fn try_next(&mut self) -> Option<Event> {
        let event = self.receiver.try_recv().ok();
        self.made_room();
        event
    }

    fn made_room(&self) {
        if self.receiver.len() <= Self::BUFFER / 2 && self.full.swap(false, Ordering::AcqRel) {
            let mut state = lock(&self.queue.state);
            state.drained.push(self.id);
            self.queue.notify(state);
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.receiver.close();
        let mut state = lock(&self.queue.state);
        if !state.closed {
            state.drained.push(self.id);
            self.queue.notify(state);
        }
    }
}

/// The machine's side of a [`Subscription`].
#[derive(Debug)]
pub(crate) struct Subscriber {
    sender: Sender<Event>,
    full: Arc<AtomicBool>,
}

/// What became of an event for a subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivered {
    Yes,
    /// There is no room: the machine hears when there is.
    Full,
    /// Nobody reads any more.
    Gone,
}

impl Subscriber {
    pub(crate) fn send(&self, event: Event) -> Delivered {
        match self.sender.try_send(event) {
            Ok(()) => Delivered::Yes,
            Err(async_channel::TrySendError::Closed(_)) => Delivered::Gone,
            Err(async_channel::TrySendError::Full(event)) => {
                self.full.store(true, Ordering::Release);
                // The reader may have made room just before it could see that it was needed.
                match self.sender.try_send(event) {
                    Ok(()) => Delivered::Yes,
                    Err(async_channel::TrySendError::Full(_)) => Delivered::Full,
                    Err(async_channel::TrySendError::Closed(_)) => Delivered::Gone,
                }
            }
        }
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.sender.is_closed()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
