//! Each rule of the store, and each limit.

use super::*;
use crate::encoding::Encodings;
use crate::log::LogLimits;
use crate::store::Condition;
use crate::view::View;
use std::sync::atomic::AtomicUsize;
use std::task::Wake;

fn revision(number: u64) -> Revision {
    Revision::new(number).unwrap()
}

fn key(text: &str) -> Key {
    Key::new(text, 1024).unwrap()
}

fn put_if(text: &str, value: &str, condition: Condition) -> Operation {
    Operation::Put { key: key(text), value: value.as_bytes().into(), condition }
}

fn put(text: &str, value: &str) -> Operation {
    put_if(text, value, Condition::None)
}

fn delete(text: &str, condition: Condition) -> Operation {
    Operation::Delete { key: key(text), condition }
}

/// An empty store at revision 100.
fn store(limits: StoreLimits) -> MemoryStore {
    MemoryStore::new(revision(100), limits)
}

fn reply(store: &MemoryStore, operation: Operation) -> Reply {
    store.commit(vec![operation])[0]
}

fn written(number: u64) -> Reply {
    Reply::Written { revision: revision(number), created: false, changed: true }
}

fn created(number: u64) -> Reply {
    Reply::Written { revision: revision(number), created: true, changed: true }
}

/// What comes out of a machine, in one line each.
fn poll(machine: &mut MemoryMachine) -> Vec<String> {
    let line = |outcome| match outcome {
        Outcome::Snapshot(Snapshot { revision, position, items }) => {
            let keys: Vec<_> = items.iter().map(|item| item.key.as_str()).collect();
            format!("snapshot r{revision} p{position} {}", keys.join(","))
        }
        Outcome::Batch(batch) => {
            let change = |change: &Change| {
                let kind = if change.value.is_some() { "put" } else { "delete" };
                format!(" {kind} {} r{} c{}", change.key, change.revision, change.created)
            };
            format!("batch p{}{}", batch.first(), batch.changes().iter().map(change).collect::<String>())
        }
        Outcome::Reply(Ticket(ticket), _) => format!("reply {ticket}"),
    };
    std::iter::from_fn(|| machine.poll()).map(line).collect()
}

fn waker() -> (Arc<Woken>, Waker) {
    let woken = Arc::new(Woken(AtomicUsize::new(0)));
    (Arc::clone(&woken), Waker::from(woken))
}

struct Woken(AtomicUsize);

impl Woken {
    fn times(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn the_default_limits_are_those_that_are_documented() {
    let limits = StoreLimits {
        key_bytes: 1024,
        value_bytes: 1_048_576,
        keys: 1_000_000,
        bytes: 1_073_741_824,
        queued: 65_536,
        queued_bytes: 33_554_432,
        inbox_bytes: 67_108_864,
    };
    assert_eq!(StoreLimits::default(), limits);
}

#[test]
fn the_first_outcome_is_a_snapshot() {
    let store = store(StoreLimits::default());
    let mut first = store.machine();
    assert_eq!(poll(&mut first), ["snapshot r100 p0 "]);
    store.commit(vec![put("b", "1"), put("a", "1"), put("b", "2")]);
    assert_eq!(poll(&mut store.machine()), ["snapshot r103 p3 a,b"]);
}

#[test]
fn what_was_submitted_before_the_first_poll_follows_the_snapshot() {
    let store = store(StoreLimits::default());
    let mut machine = store.machine();
    machine.submit(Ticket(1), put("a", "1")).unwrap();
    assert_eq!(poll(&mut machine), ["snapshot r100 p0 ", "batch p0 put a r101 c101", "reply 1"]);
}

#[test]
fn the_operations_of_a_turn_are_one_batch_and_their_replies_come_behind_it() {
    let store = store(StoreLimits::default());
    let mut machine = store.machine();
    poll(&mut machine);
    machine.submit(Ticket(7), put("a", "1")).unwrap();
    machine.submit(Ticket(8), put("a", "1")).unwrap();
    machine.submit(Ticket(9), delete("a", Condition::None)).unwrap();
    let batch = "batch p0 put a r101 c101 delete a r102 c101";
    assert_eq!(poll(&mut machine), [batch, "reply 7", "reply 8", "reply 9"]);
}

#[test]
fn a_write_on_one_machine_is_there_in_the_next_poll_of_another() {
    let store = store(StoreLimits::default());
    let (mut a, mut b) = (store.machine(), store.machine());
    let mut view = View::new(Encodings::new(), LogLimits::default());
    a.submit(Ticket(1), put("k", "v")).unwrap();
    poll(&mut a);
    while let Some(outcome) = b.poll() {
        match outcome {
            Outcome::Snapshot(snapshot) => _ = view.restore(snapshot),
            Outcome::Batch(batch) => view.apply(batch).unwrap(),
            Outcome::Reply(..) => unreachable!("b wrote nothing"),
        }
    }
    assert_eq!(view.get("k").unwrap().value.as_deref(), Some(&b"v"[..]));
}

#[test]
fn batches_of_others_come_before_the_machines_own() {
    let store = store(StoreLimits::default());
    let (mut a, mut b) = (store.machine(), store.machine());
    poll(&mut a);
    poll(&mut b);
    b.submit(Ticket(1), put("b", "")).unwrap();
    a.submit(Ticket(1), put("a", "")).unwrap();
    poll(&mut a);
    assert_eq!(poll(&mut b), ["batch p0 put a r101 c101", "batch p1 put b r102 c102", "reply 1"]);
    assert_eq!(poll(&mut a), ["batch p1 put b r102 c102"]);
}

#[test]
fn the_bytes_that_are_there_already_are_no_change() {
    let store = store(StoreLimits::default());
    let mut machine = store.machine();
    poll(&mut machine);
    assert_eq!(reply(&store, put("a", "1")), created(101));
    poll(&mut machine);
    let same = Reply::Written { revision: revision(101), created: false, changed: false };
    assert_eq!(reply(&store, put("a", "1")), same);
    assert_eq!(poll(&mut machine), [""; 0]);
    assert_eq!(reply(&store, put("a", "2")), written(102));
}

#[test]
fn a_condition_is_checked_before_the_bytes_are_compared() {
    let store = store(StoreLimits::default());
    reply(&store, put("a", "1"));
    let conflict = Reply::Conflict { current: Some(revision(101)) };
    assert_eq!(reply(&store, put_if("a", "1", Condition::Absent)), conflict);
    assert_eq!(reply(&store, put_if("a", "1", Condition::Revision(revision(100)))), conflict);
}

#[test]
fn each_condition_holds_when_it_says_so() {
    let at = revision(101);
    let holds = |condition: Condition| [None, Some(at), Some(revision(102))].map(|r| condition.holds(r));
    assert_eq!(holds(Condition::None), [true, true, true]);
    assert_eq!(holds(Condition::Revision(at)), [false, true, false]);
    assert_eq!(holds(Condition::Present), [false, true, true]);
    assert_eq!(holds(Condition::Absent), [true, false, false]);
}

#[test]
fn compare_and_swap_writes_once() {
    let store = store(StoreLimits::default());
    assert_eq!(reply(&store, put_if("a", "1", Condition::Absent)), created(101));
    let swap = |value| put_if("a", value, Condition::Revision(revision(101)));
    assert_eq!(reply(&store, swap("2")), written(102));
    assert_eq!(reply(&store, swap("3")), Reply::Conflict { current: Some(revision(102)) });
    let gone = put_if("none", "1", Condition::Present);
    assert_eq!(reply(&store, gone), Reply::Conflict { current: None });
}

#[test]
fn deletes_say_what_they_found() {
    let store = store(StoreLimits::default());
    reply(&store, put("a", "1"));
    assert_eq!(reply(&store, delete("b", Condition::None)), Reply::Missing);
    assert_eq!(reply(&store, delete("b", Condition::Absent)), Reply::Missing);
    assert_eq!(reply(&store, delete("b", Condition::Present)), Reply::Conflict { current: None });
    let other = Condition::Revision(revision(100));
    assert_eq!(reply(&store, delete("a", other)), Reply::Conflict { current: Some(revision(101)) });
    assert_eq!(reply(&store, delete("a", Condition::Present)), Reply::Deleted { revision: revision(102) });
    assert_eq!(store.revision(), revision(102));
}

#[test]
fn a_key_that_comes_back_is_created_again() {
    let store = store(StoreLimits::default());
    let mut machine = store.machine();
    poll(&mut machine);
    store.commit(vec![put("a", "1"), put("a", "2"), delete("a", Condition::None), put("a", "3")]);
    let batch = "batch p0 put a r101 c101 put a r102 c101 delete a r103 c101 put a r104 c104";
    assert_eq!(poll(&mut machine), [batch]);
}

#[test]
fn limits_are_told_and_change_nothing() {
    let limits = StoreLimits { key_bytes: 3, value_bytes: 4, keys: 2, ..StoreLimits::default() };
    let store = store(limits);
    assert_eq!(store.limits(), &limits);
    store.commit(vec![put("a", "1"), put("b", "1")]);
    let full = |why| Reply::Full { why };
    assert_eq!(reply(&store, put("abcd", "1")), full(Full::KeyBytes { max: 3 }));
    assert_eq!(reply(&store, put("a", "12345")), full(Full::ValueBytes { max: 4 }));
    assert_eq!(reply(&store, put("c", "1")), full(Full::Keys { max: 2 }));
    assert_eq!(store.revision(), revision(102));
    assert_eq!(reply(&store, put("a", "1234")), written(103), "a full store still changes its keys");
    reply(&store, delete("a", Condition::None));
    assert_eq!(reply(&store, put("abc", "1")), created(105), "and has room again after a delete");
}

#[test]
fn the_limit_of_bytes_counts_what_is_there_now() {
    let one = item_bytes(&Change {
        key: key("a"),
        revision: revision(1),
        created: revision(1),
        value: Some([0; 100].into()),
    });
    let store = store(StoreLimits { bytes: 2 * one, ..StoreLimits::default() });
    let value = "x".repeat(100);
    store.commit(vec![put("a", &value), put("b", &value)]);
    let full = Reply::Full { why: Full::Bytes { max: 2 * one } };
    assert_eq!(reply(&store, put("c", "")), full);
    assert_eq!(reply(&store, put("a", &"x".repeat(101))), full);
    assert_eq!(reply(&store, put("a", &"y".repeat(100))), written(103));
    reply(&store, delete("a", Condition::None));
    assert_eq!(reply(&store, put("c", &value)), created(105));
    assert_eq!(reply(&store, put("d", "")), full);
}

#[test]
fn an_item_costs_its_change_and_its_key_a_second_time() {
    let change = Change { key: key("a"), revision: revision(1), created: revision(1), value: None };
    assert_eq!(item_bytes(&change), change.bytes() + size_of::<Key>());
}

#[test]
fn an_operation_costs_itself_and_its_texts() {
    assert_eq!(put("abc", "value").bytes(), size_of::<Operation>() + 8);
    assert_eq!(delete("abc", Condition::None).bytes(), size_of::<Operation>() + 3);
}

#[test]
fn when_the_revisions_are_used_up_nothing_is_written() {
    let last = Revision::new(Revision::MAX.as_u64() - 1).unwrap();
    let store = MemoryStore::new(last, StoreLimits::default());
    assert_eq!(
        store.commit(vec![put("a", "1"), put("b", "1"), put("a", "1"), delete("a", Condition::None)]),
        [
            Reply::Written { revision: Revision::MAX, created: true, changed: true },
            Reply::Full { why: Full::Revisions },
            Reply::Written { revision: Revision::MAX, created: false, changed: false },
            Reply::Full { why: Full::Revisions },
        ]
    );
}

#[test]
fn a_machine_that_submits_too_much_in_a_turn_is_told_busy() {
    let store = store(StoreLimits { queued: 2, queued_bytes: 1000, ..StoreLimits::default() });
    let mut machine = store.machine();
    poll(&mut machine);
    machine.submit(Ticket(1), put("a", "1")).unwrap();
    machine.submit(Ticket(2), put("b", "1")).unwrap();
    assert_eq!(machine.submit(Ticket(3), put("c", "1")), Err(Busy));
    assert_eq!(poll(&mut machine), ["batch p0 put a r101 c101 put b r102 c102", "reply 1", "reply 2"]);
    for _ in 0..20 {
        machine.submit(Ticket(3), put("c", &"x".repeat(500))).unwrap();
        poll(&mut machine);
    }
    let large = "x".repeat(2000);
    assert_eq!(machine.submit(Ticket(4), put("a", &large)), Ok(()), "a single one is always taken");
    assert_eq!(machine.submit(Ticket(5), put("b", "")), Err(Busy));
}

#[test]
fn what_a_machine_submits_in_a_turn_may_have_just_so_many_bytes() {
    let one = put("a", "1").bytes();
    let store = store(StoreLimits { queued_bytes: 3 * one, ..StoreLimits::default() });
    let mut machine = store.machine();
    for ticket in 0..3 {
        assert_eq!(machine.submit(Ticket(ticket), put("a", "1")), Ok(()));
    }
    assert_eq!(machine.submit(Ticket(3), put("a", "1")), Err(Busy));
}

#[test]
fn batches_that_just_fit_wait_for_a_machine() {
    let change =
        Change { key: key("a"), revision: revision(1), created: revision(1), value: Some([0].into()) };
    let one = Batch::new(Position::START, vec![change]).unwrap().bytes();
    let store = store(StoreLimits { inbox_bytes: 2 * one, ..StoreLimits::default() });
    let mut slow = store.machine();
    poll(&mut slow);
    reply(&store, put("a", "1"));
    reply(&store, put("a", "2"));
    assert_eq!(poll(&mut slow), ["batch p0 put a r101 c101", "batch p1 put a r102 c101"]);
    for value in ["3", "4", "5"] {
        reply(&store, put("a", value));
    }
    assert_eq!(poll(&mut slow), ["snapshot r105 p5 a"]);
}

#[test]
fn a_machine_that_does_not_poll_gets_a_snapshot_instead_of_what_it_missed() {
    let store = store(StoreLimits { inbox_bytes: 1000, ..StoreLimits::default() });
    let mut slow = store.machine();
    poll(&mut slow);
    for number in 0..100 {
        reply(&store, put("a", &number.to_string()));
        let held = lock(&store.shared).port_mut(slow.port).unwrap().inbox.len();
        assert!(held < 10, "{held} batches wait");
    }
    slow.submit(Ticket(1), put("b", "")).unwrap();
    assert_eq!(poll(&mut slow), ["snapshot r200 p100 a", "batch p100 put b r201 c201", "reply 1"]);
    reply(&store, put("a", "again"));
    assert_eq!(poll(&mut slow), ["batch p101 put a r202 c101"], "from then on it has batches again");
}

#[test]
fn a_machine_that_polls_never_falls_behind() {
    let store = store(StoreLimits { inbox_bytes: 1000, ..StoreLimits::default() });
    let mut machine = store.machine();
    poll(&mut machine);
    for number in 0..100 {
        reply(&store, put("a", &number.to_string()));
        let created = 101;
        assert_eq!(poll(&mut machine), [format!("batch p{number} put a r{} c{created}", number + 101)]);
    }
}

#[test]
fn the_others_are_woken_once_until_they_poll() {
    let store = store(StoreLimits::default());
    let (mut a, mut b) = (store.machine(), store.machine());
    let ((a_woken, a_waker), (b_woken, b_waker)) = (waker(), waker());
    a.start(&a_waker);
    b.start(&b_waker);
    assert_eq!((a_woken.times(), b_woken.times()), (1, 1), "the snapshot waits");
    poll(&mut a);
    poll(&mut b);
    for ticket in 0..3 {
        a.submit(Ticket(ticket), put("a", &ticket.to_string())).unwrap();
        poll(&mut a);
    }
    assert_eq!((a_woken.times(), b_woken.times()), (1, 2));
    poll(&mut b);
    reply(&store, put("b", ""));
    assert_eq!((a_woken.times(), b_woken.times()), (2, 3));
}

#[test]
fn nobody_is_woken_when_nothing_changed() {
    let store = store(StoreLimits::default());
    let mut machine = store.machine();
    let (woken, waker) = waker();
    poll(&mut machine);
    machine.start(&waker);
    reply(&store, delete("none", Condition::None));
    assert_eq!(woken.times(), 0);
}

#[test]
fn a_poll_with_nothing_to_do_takes_no_lock() {
    let store = store(StoreLimits::default());
    let mut machine = store.machine();
    poll(&mut machine);
    let held = lock(&store.shared);
    assert!(machine.poll().is_none(), "it would wait for ever");
    drop(held);
}

#[test]
fn a_machine_that_leaves_gives_its_place_to_the_next() {
    let store = store(StoreLimits::default());
    drop(store.machine());
    let mut next = store.machine();
    assert_eq!(lock(&store.shared).ports.len(), 1);
    assert_eq!(poll(&mut next), ["snapshot r100 p0 "]);
}

#[test]
fn one_copy_of_a_keys_text_is_shared_by_all_its_changes() {
    let store = store(StoreLimits::default());
    let mut machine = store.machine();
    poll(&mut machine);
    store.commit(vec![put("a", "1"), put("a", "2"), delete("a", Condition::None)]);
    let Some(Outcome::Batch(batch)) = machine.poll() else { unreachable!("a batch waits") };
    let text = |index: usize| batch.changes()[index].key.as_str().as_ptr();
    assert_eq!([text(1), text(2)], [text(0), text(0)]);
}

#[test]
fn machines_on_threads_of_their_own_end_with_the_same_state() {
    const WRITES: u64 = 300;
    let store = store(StoreLimits { inbox_bytes: 4000, ..StoreLimits::default() });
    let turn = |machine: &mut MemoryMachine, view: &mut View| {
        let mut replies = 0;
        while let Some(outcome) = machine.poll() {
            match outcome {
                Outcome::Snapshot(snapshot) => _ = view.restore(snapshot),
                Outcome::Batch(batch) => view.apply(batch).unwrap(),
                Outcome::Reply(_, Reply::Written { revision, .. }) => {
                    assert!(view.revision() >= revision, "a reply came before its batch");
                    replies += 1;
                }
                Outcome::Reply(_, reply) => unreachable!("{reply:?}"),
            }
        }
        replies
    };
    let mut machines: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = ["a", "b", "c"]
            .into_iter()
            .map(|name| {
                let mut machine = store.machine();
                scope.spawn(move || {
                    let mut view = View::new(Encodings::new(), LogLimits::default());
                    let mut replies = 0;
                    for ticket in 0..WRITES {
                        let key = if ticket % 2 == 0 { name } else { "all" };
                        machine.submit(Ticket(ticket), put(key, &format!("{name}{ticket}"))).unwrap();
                        if ticket % 3 == 0 {
                            replies += turn(&mut machine, &mut view);
                        }
                    }
                    replies += turn(&mut machine, &mut view);
                    assert_eq!(replies, WRITES);
                    (machine, view)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for (machine, view) in &mut machines {
        turn(machine, view);
        let state: Vec<_> = view.list("", None, view.revision()).unwrap().cloned().collect();
        assert_eq!(state, lock(&store.shared).snapshot().items);
        assert_eq!(view.revision().as_u64(), 100 + 3 * WRITES);
    }
}

#[test]
fn stores_and_machines_pass_between_threads() {
    fn assert_shared<T: Send + Sync>() {}
    fn assert_moved<T: Send>() {}
    assert_shared::<MemoryStore>();
    assert_moved::<MemoryMachine>();
    assert_moved::<View>();
}
