//! The process's own calls and subscriptions, on the machine's side.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

use super::core::{Core, Writer};
use super::watcher::{self, Owner, Watcher};
use crate::handle::{
    Answer, Delivered, Event, Listed, Queue, Request, Subscriber, Subscription, Unavailable,
};
use crate::index::{Filter, WatcherId};
use crate::key::Revision;
use crate::log::RevisionError;
use crate::store::{Operation, Reply, Store};

pub(super) struct Publishing {
    queue: Arc<Queue>,
    subscriptions: Vec<Option<Subscribed>>,
    free: Vec<u32>,
    /// Those that may have something to deliver, and may stand here more than once.
    due: VecDeque<u32>,
}

struct Subscribed {
    watcher: WatcherId,
    subscriber: Subscriber,
}

impl Publishing {
    /// Events for one subscription before others have their turn.
    const STEP: usize = 256;

    pub(super) fn new(queue: Arc<Queue>) -> Self {
        Self { queue, subscriptions: Vec::new(), free: Vec::new(), due: VecDeque::new() }
    }

    pub(super) fn start(&self, waker: &Waker) {
        self.queue.start(waker);
    }

    /// The subscription's watcher is behind.
    pub(super) fn ready(&mut self, id: u32) {
        self.due.push_back(id);
    }
}

impl Drop for Publishing {
    fn drop(&mut self) {
        self.queue.close();
    }
}

impl<S: Store> Core<S> {
    /// Does the calls that wait. Returns whether there were any.
    pub(super) fn serve_process(&mut self) -> bool {
        if !self.publishing.queue.has_news() {
            return false;
        }
        for id in self.publishing.queue.drained() {
            self.publishing.due.push_back(id);
        }
        for request in self.publishing.queue.take() {
            match request {
                Request::Write { operation, reply } => self.write(operation, reply),
                // A read sees every write that was asked for before it: those are settled first.
                Request::Get { key, reply } => {
                    self.settle_store();
                    reply.send(self.view.get(&key).cloned());
                }
                Request::List { prefix, reply } => {
                    self.settle_store();
                    let revision = self.view.revision();
                    let items = self.view.list(&prefix, None, revision);
                    let items = items.map(|items| items.cloned().collect()).unwrap_or_default();
                    reply.send(Listed { revision, items });
                }
                Request::Watch { filter, since, reply } => {
                    self.settle_store();
                    reply.send(self.subscribe(filter, since));
                }
            }
        }
        true
    }

    fn write(&mut self, operation: Operation, reply: Answer<Reply>) {
        if let Err((_, Writer::Process(reply))) = self.submit(operation, Writer::Process(reply)) {
            reply.refuse(Unavailable::Busy);
        }
    }

    fn subscribe(&mut self, filter: Filter, since: Option<Revision>) -> Result<Subscription, RevisionError> {
        let at = match since {
            Some(revision) => self.view.log().position_after(revision)?,
            None => self.view.log().head(),
        };
        let id = self.publishing.free.pop().unwrap_or(self.publishing.subscriptions.len() as u32);
        let (subscription, subscriber) = Subscription::new(id, Arc::clone(&self.publishing.queue));
        let watcher = Watcher::new(Owner::Subscription(id), at, self.view.log().head());
        // There are at most 2^32 watchers; one more subscription than that ends at once.
        let subscribed = watcher
            .and_then(|watcher| self.index.add(filter, watcher).ok())
            .map(|watcher| Subscribed { watcher, subscriber });
        if self.publishing.subscriptions.len() <= id as usize {
            self.publishing.subscriptions.push(None);
        }
        self.publishing.subscriptions[id as usize] = subscribed;
        self.publishing.ready(id);
        Ok(subscription)
    }

    /// Delivers to subscriptions that are behind, a bounded number of events to each.
    pub(super) fn serve_subscriptions(&mut self) {
        for _ in 0..self.publishing.due.len() {
            let Some(id) = self.publishing.due.pop_front() else { break };
            match self.serve_subscription(id) {
                Served::UpToDate => {}
                Served::More => self.publishing.due.push_back(id),
                Served::Over => {
                    let gone = self.publishing.subscriptions.get_mut(id as usize).and_then(Option::take);
                    if let Some(gone) = gone {
                        self.index.remove(gone.watcher);
                        self.publishing.free.push(id);
                    }
                }
            }
        }
        if !self.publishing.due.is_empty() {
            // Others have their turn first.
            self.publishing.queue.wake();
        }
    }

    fn serve_subscription(&mut self, id: u32) -> Served {
        let Some(Some(Subscribed { watcher, subscriber })) = self.publishing.subscriptions.get(id as usize)
        else {
            return Served::UpToDate;
        };
        if subscriber.is_gone() {
            return Served::Over;
        }
        let Some(from) = watcher::behind(&self.index, *watcher) else { return Served::UpToDate };
        let Some(changes) = self.view.log().changes(from) else {
            return match subscriber.send(Event::Compacted(self.view.revision())) {
                Delivered::Full => Served::UpToDate,
                Delivered::Yes | Delivered::Gone => Served::Over,
            };
        };
        let (mut at, mut served) = (from, Served::UpToDate);
        for (position, change) in changes {
            if position.since(from) >= Publishing::STEP as u64 {
                served = Served::More;
                break;
            }
            if self.index.matches(*watcher, &change.key) {
                match subscriber.send(Event::Change(change.clone())) {
                    Delivered::Yes => {}
                    // It is served again when its reader made room.
                    Delivered::Full => break,
                    Delivered::Gone => return Served::Over,
                }
            }
            at = position.plus(1);
        }
        let head = self.view.log().head();
        if let Some(watcher) = self.index.get_mut(*watcher) {
            watcher.seen(at, head);
        }
        served
    }
}

/// What serving a subscription came to.
enum Served {
    UpToDate,
    More,
    Over,
}
