//! The process that the server runs in: it writes, reads and watches through a handle.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use keepwatch_protocol::Instant;
use keepwatch_watch::store::{Condition, Reply};
use keepwatch_watch::{
    Event, Filter as WatchFilter, Handle, Listed, Pending, Revision, Subscription, Unavailable,
};

use super::check::{self, Cursor, Known};
use super::core::{Actor, Core, End, LinkId};
use super::model::{Entry, Filter};
use super::writer::KEYS;
use crate::random::Random;

type Future<T> = Pin<Box<dyn std::future::Future<Output = Result<T, Unavailable>> + Send>>;
type Watched = Result<Subscription, keepwatch_watch::RevisionError>;

pub(super) struct Process {
    random: Random,
    handle: Option<(usize, usize, Handle)>,
    filter: Filter,
    writes: usize,
    write: Option<Future<Reply>>,
    list: Option<(Known, Future<Listed>)>,
    watch: Option<Future<Watched>>,
    subscription: Option<Subscription>,
    cursor: Option<Cursor>,
    /// It reads a few events at a time, with a while between.
    slow: bool,
    next: Instant,
    left: bool,
}

/// How often it looks.
const LOOK: Duration = Duration::from_millis(700);

impl Process {
    pub(super) fn new(mut random: Random, writes: usize) -> Self {
        let filter = match random.below(3) {
            0 => Filter::Key(KEYS[0].to_owned()),
            1 => Filter::Prefix("a/".to_owned()),
            _ => Filter::Prefix(String::new()),
        };
        Self {
            slow: random.chance(300),
            random,
            handle: None,
            filter,
            writes,
            write: None,
            list: None,
            watch: None,
            subscription: None,
            cursor: None,
            next: Instant::START,
            left: false,
        }
    }

    fn step(&mut self, core: &mut Core) -> Result<(), String> {
        let newest = core.model.borrow().newest();
        if self.handle.as_ref().is_none_or(|(generation, ..)| *generation != newest) {
            if core.machines.is_empty() {
                return Ok(());
            }
            let machine = self.random.below(core.machines.len());
            self.handle = Some((newest, machine, core.machines[machine].handle.clone()));
            self.list = None;
        }
        let Some((generation, machine, handle)) = self.handle.clone() else { return Ok(()) };
        self.write(&handle, generation, core)?;
        self.list(&handle, generation, core)?;
        self.watch(&handle, generation, core)?;
        self.read(generation, machine, core)
    }

    fn write(&mut self, handle: &Handle, generation: usize, core: &mut Core) -> Result<(), String> {
        match take(&mut self.write) {
            Some(Ok(Reply::Written { revision, .. } | Reply::Deleted { revision })) => {
                // Of a generation that is gone nobody is told any more.
                let mut model = core.model.borrow_mut();
                let generation = model.generation(generation);
                if generation.find(revision.as_u64()).is_some() {
                    generation.tell(revision.as_u64());
                }
            }
            Some(Ok(Reply::Conflict { .. })) => core.marks.hit("handle: conflict"),
            Some(Err(Unavailable::Gone)) => core.marks.hit("handle: gone"),
            Some(Err(why)) => return Err(format!("a write is refused: {why}")),
            Some(Ok(_)) | None => {}
        }
        if self.write.is_none() && self.writes > 0 && core.accepts {
            self.writes -= 1;
            let key = self.random.one_of(KEYS);
            let known = self
                .cursor
                .as_ref()
                .map_or(Revision::ZERO, |cursor| Revision::new(cursor.revision).unwrap_or_default());
            let condition =
                [Condition::None, Condition::Absent, Condition::Present, Condition::Revision(known)]
                    [self.random.below(4)];
            let pending = if self.random.chance(250) {
                handle.delete_if(key, condition)
            } else {
                let value = format!("process {}", self.writes).repeat(1 + self.random.below(3));
                handle.put_if(key, value.into_bytes(), condition)
            };
            self.write = Some(future(pending));
        }
        Ok(())
    }

    fn list(&mut self, handle: &Handle, generation: usize, core: &mut Core) -> Result<(), String> {
        let known = self.list.as_ref().map(|(known, _)| *known).unwrap_or_default();
        let mut list = self.list.take().map(|(_, list)| list);
        match take(&mut list) {
            Some(Ok(Listed { revision, items })) => {
                let items: Vec<Entry> = items.iter().map(Entry::from).collect();
                let filter = Filter::Prefix(String::new());
                check::list(&filter, generation, revision.as_u64(), &items, known, core)?;
                if self.cursor.is_none() {
                    self.cursor = Some(Cursor::new(&self.filter, generation, revision.as_u64(), core));
                }
            }
            Some(Err(Unavailable::Gone)) => core.marks.hit("handle: gone"),
            Some(Err(why)) => return Err(format!("a list is refused: {why}")),
            None => self.list = list.map(|list| (known, list)),
        }
        if self.list.is_none() && (self.cursor.is_none() || self.random.chance(100)) {
            self.list = Some((Known::called(generation, core), future(handle.list(""))));
        }
        Ok(())
    }

    fn watch(&mut self, handle: &Handle, generation: usize, core: &mut Core) -> Result<(), String> {
        let Some((_, machine, _)) = self.handle else { return Ok(()) };
        match take(&mut self.watch) {
            Some(Ok(Ok(subscription))) => {
                core.marks.hit("handle: watched");
                self.subscription = Some(subscription);
            }
            Some(Ok(Err(error))) => {
                core.marks.hit("handle: compacted");
                if let Some(cursor) = self.cursor.take() {
                    let mut model = core.model.borrow_mut();
                    let floor = model.generation(generation).floor_revision(machine);
                    if cursor.generation == generation && cursor.revision >= floor {
                        return Err(format!(
                            "refused at {}, and the floor is {floor}: {error}",
                            cursor.revision
                        ));
                    }
                }
            }
            Some(Err(Unavailable::Gone)) => core.marks.hit("handle: gone"),
            Some(Err(why)) => return Err(format!("a watch is refused: {why}")),
            None => {}
        }
        if let (None, None, Some(cursor)) = (&self.watch, &self.subscription, &self.cursor) {
            let filter = match &self.filter {
                Filter::Key(key) => WatchFilter::key(key, 1024),
                Filter::Prefix(prefix) => WatchFilter::prefix(prefix, 1024),
            };
            let filter = filter.map_err(|error| error.to_string())?;
            self.watch = Some(future(handle.watch(filter, Revision::new(cursor.revision))));
        }
        Ok(())
    }

    fn read(&mut self, generation: usize, machine: usize, core: &mut Core) -> Result<(), String> {
        let most = if self.slow && !core.calm { self.random.below(3) } else { usize::MAX };
        for _ in 0..most {
            let (Some(subscription), Some(cursor)) = (&mut self.subscription, &mut self.cursor) else {
                break;
            };
            if cursor.generation != generation {
                // What is left in it was never read: the process begins anew with the server.
                self.subscription = None;
                self.cursor = None;
                break;
            }
            match subscription.try_next() {
                Some(Event::Change(change)) => cursor.change(&Entry::from(&change), core)?,
                Some(Event::Compacted(_)) => {
                    core.marks.hit("handle: compacted");
                    let mut model = core.model.borrow_mut();
                    let tap = &model.generation(generation).machines[machine];
                    let (floor, snapshots) = (tap.floor, tap.snapshots);
                    if floor == 0 && snapshots == 0 {
                        return Err("compacted, and nothing is gone".into());
                    }
                    self.subscription = None;
                    self.cursor = None;
                }
                _ => break,
            }
        }
        // Who leaves and comes back goes on from where it was.
        if self.subscription.is_some() && self.random.chance(20) && !core.calm {
            self.subscription = None;
        }
        Ok(())
    }
}

fn future<T: Send + 'static>(pending: Pending<T>) -> Future<T> {
    pending.into_future()
}

/// The answer, if it is there; what has answered is over.
fn take<T>(future: &mut Option<Future<T>>) -> Option<Result<T, Unavailable>> {
    let waiting = future.as_mut()?;
    match waiting.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Pending => None,
        Poll::Ready(answer) => {
            *future = None;
            Some(answer)
        }
    }
}

impl Actor for Process {
    fn wake(&mut self, core: &mut Core) {
        if self.left || core.now.instant < self.next {
            return;
        }
        let result = self.step(core);
        core.check(result);
        self.next = core.now.instant + LOOK;
        core.wake_at(self.next);
    }

    fn heard(&mut self, _: LinkId, _: &[u8], _: &mut Core) {}

    fn ended(&mut self, _: LinkId, _: End, _: &mut Core) {}

    fn settled(&self, core: &Core) -> Result<(), String> {
        match &self.cursor {
            None => Err("it knows nothing".into()),
            Some(cursor) => cursor.settled(core),
        }
    }

    fn leave(&mut self, _: &mut Core) {
        self.left = true;
        self.subscription = None;
        self.watch = None;
        self.handle = None;
    }
}
