//! A server that does what a test tells it, and writes down what it was told.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use crate::input::Input;
use crate::output::{Lease, Leases, SendQueue, Sink, Slices};
use crate::server::{Admission, After, Closed, ConnectionId, Fill, Peer, Server};
use crate::time::{Instant, Now};

pub(super) type OnReceive = Box<dyn FnMut(&mut Input<'_>, &mut SendQueue) -> After>;
pub(super) type OnResume = Box<dyn FnMut(&mut SendQueue) -> After>;

/// By default it takes every byte and says nothing.
pub(super) struct Toy {
    pub(super) log: Vec<String>,
    pub(super) on_receive: OnReceive,
    pub(super) on_resume: OnResume,
    /// What `sent` says between two frames.
    pub(super) after_frame: After,
    pub(super) refusal: Option<&'static str>,
    /// Named by `next_ready`, in this order.
    pub(super) ready: VecDeque<ConnectionId>,
    pub(super) bodies: BTreeMap<ConnectionId, Body>,
    pub(super) deadline: Option<Instant>,
    pub(super) drained_by: Option<Instant>,
    /// How often it was asked to lend.
    pub(super) fills: usize,
}

/// Frames to be pulled.
#[derive(Default)]
pub(super) struct Body {
    frames: VecDeque<Arc<[u8]>>,
    /// Bytes of the first frame that were sent.
    offset: usize,
    finished: bool,
    /// How often `fill` says that it is still searching, before it lends anything.
    pub(super) searches: usize,
}

impl Default for Toy {
    fn default() -> Self {
        Self {
            log: Vec::new(),
            on_receive: Box::new(|input, _out| {
                let count = input.len();
                input.take(count);
                After::Open
            }),
            on_resume: Box::new(|_out| After::Open),
            after_frame: After::Open,
            refusal: None,
            ready: VecDeque::new(),
            bodies: BTreeMap::new(),
            deadline: None,
            drained_by: None,
            fills: 0,
        }
    }
}

impl Toy {
    pub(super) fn receiving(
        on_receive: impl FnMut(&mut Input<'_>, &mut SendQueue) -> After + 'static,
    ) -> Self {
        Self { on_receive: Box::new(on_receive), ..Self::default() }
    }

    pub(super) fn resuming(mut self, on_resume: impl FnMut(&mut SendQueue) -> After + 'static) -> Self {
        self.on_resume = Box::new(on_resume);
        self
    }

    /// Sends back what it gets, and finishes when the peer does.
    pub(super) fn echo() -> Self {
        Self::receiving(|input, out| {
            let count = input.len();
            out.put(input.take(count));
            if input.hung_up() { After::Finish } else { After::Open }
        })
    }

    /// Adds a frame to be pulled, and names the connection.
    pub(super) fn push(&mut self, id: ConnectionId, frame: impl AsRef<[u8]>) {
        self.bodies.entry(id).or_default().frames.push_back(Arc::from(frame.as_ref()));
        self.ready.push_back(id);
    }

    fn note(&mut self, id: ConnectionId, what: &str) {
        self.log.push(format!("{}: {what}", id.slot()));
    }

    fn after(&mut self, id: ConnectionId, after: After) -> After {
        if after == After::Finish {
            self.bodies.entry(id).or_default().finished = true;
        }
        after
    }
}

impl Body {
    /// The parts that are due: in a body that is finished, only the rest of a frame that is half sent.
    fn due(&self) -> impl Iterator<Item = (&Arc<[u8]>, usize)> {
        let frames = if self.finished { usize::from(self.offset > 0) } else { usize::MAX };
        let offsets = core::iter::once(self.offset).chain(core::iter::repeat(0));
        self.frames.iter().zip(offsets).take(frames)
    }
}

impl Server for Toy {
    fn open(&mut self, id: ConnectionId, _peer: &Peer, _now: Now) -> Admission {
        self.note(id, "open");
        self.refusal.map_or(Admission::Admit, |bytes| Admission::Refuse(Cow::Borrowed(bytes.as_bytes())))
    }

    fn receive(&mut self, id: ConnectionId, input: &mut Input<'_>, out: &mut SendQueue, _now: Now) -> After {
        let end = if input.hung_up() { " and the end" } else { "" };
        self.note(id, &format!("receive {}{end}", input.bytes().escape_ascii()));
        let after = (self.on_receive)(input, out);
        self.after(id, after)
    }

    fn resume(&mut self, id: ConnectionId, out: &mut SendQueue, _now: Now) -> After {
        self.note(id, "resume");
        let after = (self.on_resume)(out);
        self.after(id, after)
    }

    fn fill<'a>(&'a mut self, id: ConnectionId, to: &mut Slices<'a>, _now: Now) -> Fill {
        self.fills += 1;
        let Some(body) = self.bodies.get_mut(&id) else { return Fill::Nothing };
        if body.searches > 0 {
            body.searches -= 1;
            return Fill::More;
        }
        let mut fill = Fill::Nothing;
        for (frame, offset) in body.due() {
            if !to.push(&frame[offset..]) {
                return Fill::More;
            }
            fill = Fill::All;
        }
        fill
    }

    fn lease(&mut self, id: ConnectionId, to: &mut Leases, _now: Now) -> Fill {
        let Some(body) = self.bodies.get_mut(&id) else { return Fill::Nothing };
        if body.searches > 0 {
            body.searches -= 1;
            return Fill::More;
        }
        let mut fill = Fill::Nothing;
        for (frame, offset) in body.due() {
            if !to.push(Lease::new(Arc::clone(frame), offset..frame.len())) {
                return Fill::More;
            }
            fill = Fill::All;
        }
        fill
    }

    fn sent(&mut self, id: ConnectionId, bytes: usize, _now: Now) -> After {
        let body = self.bodies.get_mut(&id).expect("sent, and nothing was lent");
        body.offset += bytes;
        while let Some(frame) = body.frames.front().filter(|frame| frame.len() <= body.offset) {
            body.offset -= frame.len();
            body.frames.pop_front();
        }
        if body.offset > 0 { After::MidFrame } else { self.after_frame }
    }

    fn next_ready(&mut self, _now: Now) -> Option<ConnectionId> {
        self.ready.pop_front()
    }

    fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    fn on_deadline(&mut self, _now: Now) {
        self.log.push("deadline".into());
        self.deadline = None;
    }

    fn on_wake(&mut self, _now: Now) {
        self.log.push("wake".into());
    }

    fn drain(&mut self, by: Instant, now: Now) {
        let left = by.since(now.instant);
        self.log.push(format!("drain within {}", Duration::as_secs(&left)));
        self.drained_by = Some(by);
    }

    fn closed(&mut self, id: ConnectionId, why: Closed, _now: Now) {
        self.note(id, &format!("closed {why:?}"));
        self.bodies.remove(&id);
    }
}
