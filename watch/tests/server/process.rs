//! The process publishes and watches through its handle.

use keepwatch_sim::Sim;
use keepwatch_watch::store::{Condition, Reply};
use keepwatch_watch::{
    Config, Event, Filter, Handle, Pending, Revision, RevisionError, Subscription, Unavailable, WatchServer,
};

use crate::support::{keeping, level, put, server};

struct Process {
    sim: Sim<WatchServer>,
    handle: Handle,
}

impl Process {
    fn new(config: Config) -> Self {
        let (server, handle) = server(config);
        Self { sim: Sim::new(server), handle }
    }

    fn call<T>(&mut self, call: impl FnOnce(&Handle) -> Pending<T>) -> T {
        let pending = call(&self.handle);
        self.sim.run().unwrap();
        pending.wait().unwrap()
    }

    fn put(&mut self, key: &str, value: &str) -> u64 {
        put(&mut self.sim, &self.handle, key, value)
    }

    fn watch(&mut self, prefix: &str, since: Option<u64>) -> Result<Subscription, RevisionError> {
        let filter = Filter::prefix(prefix, 100).unwrap();
        self.call(|handle| handle.watch(filter, since.and_then(Revision::new)))
    }

    fn heard(&mut self, subscription: &mut Subscription) -> Vec<u64> {
        let mut revisions = Vec::new();
        loop {
            self.sim.run().unwrap();
            let Some(event) = subscription.try_next() else { return revisions };
            match event {
                Event::Change(change) => revisions.push(change.revision.as_u64()),
                Event::Compacted(_) => revisions.push(0),
                other => unreachable!("{other:?}"),
            }
        }
    }

    fn watchers(&mut self) -> u64 {
        level(&mut self.sim, "keepwatch_watchers")
    }
}

#[test]
fn a_value_is_put_got_listed_compared_and_deleted() {
    let mut process = Process::new(Config::default());
    assert_eq!(process.put("a", "1"), 101);
    assert_eq!(process.put("b", "2"), 102);
    let conflict = process.call(|handle| handle.put_if("a", "x".as_bytes(), Condition::Absent));
    assert_eq!(conflict, Reply::Conflict { current: Revision::new(101) });
    let change = process.call(|handle| handle.get("a")).unwrap();
    assert_eq!((change.revision.as_u64(), change.value.as_deref()), (101, Some(&b"1"[..])));
    let listed = process.call(|handle| handle.list(""));
    assert_eq!((listed.revision.as_u64(), listed.items.len()), (102, 2));
    let deleted = process.call(|handle| handle.delete_if("a", Condition::Revision(change.revision)));
    assert_eq!(deleted, Reply::Deleted { revision: Revision::new(103).unwrap() });
    assert_eq!(process.call(|handle| handle.get("a")), None);
    assert_eq!(process.call(|handle| handle.delete("a")), Reply::Missing);
}

#[test]
fn a_read_sees_the_writes_that_were_asked_for_before_it() {
    let mut process = Process::new(Config::default());
    let put = process.handle.put("a", "1".as_bytes());
    let change = process.call(|handle| handle.get("a"));
    assert_eq!(change.unwrap().value.as_deref(), Some(&b"1"[..]));
    assert!(put.wait().is_ok());
}

#[test]
fn a_subscription_hears_of_everything_since_its_revision() {
    let mut process = Process::new(Config::default());
    process.put("a", "1");
    process.put("b", "2");
    let mut since = process.watch("a", Some(100)).unwrap();
    let mut now = process.watch("", None).unwrap();
    process.put("a", "3");
    assert_eq!((process.heard(&mut since), process.heard(&mut now)), (vec![101, 103], vec![103]));
    assert!(matches!(process.watch("", Some(99)), Err(RevisionError::Compacted { .. })));
    assert!(matches!(process.watch("", Some(104)), Err(RevisionError::Ahead { .. })));
}

#[test]
fn a_slow_subscriber_goes_on_where_its_buffer_was_full() {
    let mut process = Process::new(Config::default());
    let mut subscription = process.watch("", None).unwrap();
    for round in 0..1000 {
        process.put("a", &round.to_string());
    }
    let heard = process.heard(&mut subscription);
    assert_eq!(heard, (101..1101).collect::<Vec<_>>());
    process.put("a", "again");
    assert_eq!(process.heard(&mut subscription), [1101]);
}

#[test]
fn a_subscriber_slower_than_the_log_is_told_and_then_nothing() {
    let mut process = Process::new(keeping(10));
    let mut subscription = process.watch("", None).unwrap();
    for round in 0..200 {
        process.put("a", &round.to_string());
    }
    let heard = process.heard(&mut subscription);
    // What lay in its buffer, and then the word.
    let buffered = heard.len() as u64 - 1;
    assert_eq!(heard, (101..101 + buffered).chain([0]).collect::<Vec<_>>());
    assert_eq!((subscription.wait(), process.watchers()), (None, 0));
}

#[test]
fn a_subscription_that_is_dropped_frees_its_watcher() {
    let mut process = Process::new(Config::default());
    let first = process.watch("", None).unwrap();
    let second = process.watch("a", None).unwrap();
    assert_eq!(process.watchers(), 2);
    drop(first);
    process.sim.run().unwrap();
    assert_eq!(process.watchers(), 1);
    // Its place is given to another, who hears nothing of the one before.
    let mut third = process.watch("b", None).unwrap();
    drop(second);
    process.put("b", "1");
    assert_eq!(process.heard(&mut third), [101]);
    assert_eq!(process.watchers(), 1);
}

#[test]
fn a_caller_who_does_not_wait_leaves_nothing() {
    let mut process = Process::new(Config::default());
    drop(process.handle.watch(Filter::prefix("", 1).unwrap(), None));
    process.sim.run().unwrap();
    assert_eq!(process.watchers(), 0);
}

#[test]
fn when_the_server_is_gone_every_call_says_so() {
    let Process { mut sim, handle } = Process::new(Config::default());
    let watch = handle.watch(Filter::prefix("", 1).unwrap(), None);
    sim.run().unwrap();
    let mut subscription = watch.wait().unwrap().unwrap();
    let waiting = handle.get("a");
    drop(sim);
    assert_eq!(waiting.wait(), Err(Unavailable::Gone));
    assert_eq!(handle.get("a").wait(), Err(Unavailable::Gone));
    assert_eq!(subscription.wait(), None);
}

#[test]
fn calls_beyond_the_queue_are_refused_at_once() {
    let mut process = Process::new(Config::default());
    let waiting: Vec<_> = (0..Handle::QUEUE).map(|_| process.handle.get("a")).collect();
    assert_eq!(process.handle.get("a").wait(), Err(Unavailable::Busy));
    process.sim.run().unwrap();
    assert!(waiting.into_iter().all(|pending| pending.wait() == Ok(None)));
}
