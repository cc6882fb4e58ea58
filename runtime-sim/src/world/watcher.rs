//! Clients that list, watch, lose their connection, resume, and are held to the log of what was committed: every
//! transport that the server speaks.

mod hearing;
mod socket;

use std::fmt::Write as _;
use std::time::Duration;

use keepwatch_protocol::Instant;

use super::check::{Cursor, Known};
use super::core::{Actor, Core, End, LinkId};
use super::faults::Fault;
use super::model::{Entry, Filter};
use super::peer::{self, Blocks, Deflater, Head, Lines, Offer, Piece, Reader, escaped};
use super::writer::KEYS;
use crate::random::Random;

/// How a watcher watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    LongPoll,
    Lines,
    Events,
    /// A WebSocket whose watch is in the URL.
    Messages,
    /// A WebSocket with operations, and two watches.
    Socket,
}

impl Transport {
    pub(super) const ALL: [Self; 5] =
        [Self::LongPoll, Self::Lines, Self::Events, Self::Messages, Self::Socket];

    fn name(self) -> &'static str {
        match self {
            Self::LongPoll => "poll",
            Self::Lines => "lines",
            Self::Events => "sse",
            Self::Messages => "messages",
            Self::Socket => "socket",
        }
    }
}

/// Where a watcher that knows nothing begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Begin {
    /// With a list.
    List,
    /// With what changes from now on.
    Now,
    /// With the state, in the same stream.
    State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    Resting,
    Listing,
    Watching,
    Left,
}

pub(super) struct Watcher {
    random: Random,
    transport: Transport,
    begin: Begin,
    watches: Vec<Watch>,
    doing: Doing,
    link: Option<LinkId>,
    reader: Reader,
    lines: Lines,
    blocks: Blocks,
    head: Option<Head>,
    body: Vec<u8>,
    /// The token of the next page, and the revision that the list is at.
    page: Option<(String, u64)>,
    next: Instant,
    heard: Instant,
    asked: Instant,
    /// Of a long poll.
    wait: Duration,
    /// The most that the server grants.
    hold: Duration,
    patience: Duration,
    /// Operations on a WebSocket whose answer has not come.
    operations: Vec<Operation>,
    next_id: u64,
    closing: bool,
    /// It is a client of HTTP/1.0, and whether one that asks to keep the connection.
    old: Option<bool>,
    speech: Speech,
    /// It ended its side: nothing more can be asked on this connection.
    finished: bool,
}

/// What was asked on a WebSocket.
struct Operation {
    id: u64,
    what: &'static str,
    key: &'static str,
    known: Known,
}

/// How it says its messages on a WebSocket.
#[derive(Default)]
struct Speech {
    /// What it offers.
    offer: Option<Offer>,
    /// What was agreed on; `None`: its messages go as they are.
    deflater: Option<Deflater>,
    /// It was told that there is no memory for what it compresses: it compresses no more.
    is_plain: bool,
    /// In a thousand: how many messages are cut into fragments, with other frames between them.
    fragments: u32,
    /// What its pings said that are not answered.
    pings: Vec<Vec<u8>>,
}

/// One watch. All transports have one, a WebSocket with operations has several.
struct Watch {
    id: u64,
    filter: Filter,
    cursor: Option<Cursor>,
    /// What was known when it was asked for, or for the list before it.
    known: Known,
    /// The state comes first, and these are the keys of it that came.
    state: Option<Vec<Entry>>,
    /// Nothing was said of it since it was asked for.
    fresh: bool,
    listing: bool,
    /// The server may tell of it.
    active: bool,
    /// It was told `compacted` then, before anything else: the state follows, or the watch has ended. Who has several on one
    /// connection learns which by waiting.
    restating: Option<Instant>,
}

impl Watcher {
    pub(super) fn new(mut random: Random, transport: Transport, hold: Duration, patience: Duration) -> Self {
        let begin = match (transport, random.below(4)) {
            (Transport::LongPoll, _) | (_, 0 | 1) => Begin::List,
            (_, 2) => Begin::Now,
            _ => Begin::State,
        };
        let watches = if transport == Transport::Socket { 2 } else { 1 };
        let watches = (0..watches).map(|index| {
            let filter = match random.below(3) {
                0 => Filter::Key(random.one_of(KEYS).to_owned()),
                _ => Filter::Prefix(random.one_of(&["", "a/", "b", "a/\u{e9}", "none"]).to_owned()),
            };
            Watch {
                id: 1 + index,
                filter,
                cursor: None,
                known: Known::default(),
                state: None,
                fresh: true,
                listing: false,
                active: false,
                restating: None,
            }
        });
        let watches = watches.collect();
        let streams = matches!(transport, Transport::LongPoll | Transport::Lines | Transport::Events);
        let old = (streams && random.chance(200)).then(|| random.chance(500));
        let speech = Speech {
            offer: random.chance(650).then(|| Offer::draw(&mut random)),
            fragments: random.one_of(&[0, 100, 500]),
            ..Speech::default()
        };
        Self {
            watches,
            old,
            speech,
            random,
            transport,
            begin,
            doing: Doing::Resting,
            link: None,
            reader: Reader::new(),
            lines: Lines::default(),
            blocks: Blocks::default(),
            head: None,
            body: Vec::new(),
            page: None,
            next: Instant::START,
            heard: Instant::START,
            asked: Instant::START,
            wait: Duration::ZERO,
            hold,
            patience,
            operations: Vec::new(),
            next_id: 10,
            closing: false,
            finished: false,
        }
    }

    // ---- Asking ----

    fn rest(&mut self, millis: usize, core: &mut Core) {
        self.doing = Doing::Resting;
        self.next = core.now.instant + Duration::from_millis(1 + self.random.below(millis) as u64);
        core.wake_at(self.next);
    }

    /// The connection is of no use any more.
    fn drop_link(&mut self) {
        self.link = None;
        self.head = None;
        self.body.clear();
        self.operations.clear();
        self.closing = false;
        self.finished = false;
        self.speech.deflater = None;
        self.speech.pings.clear();
    }

    fn link(&mut self, core: &mut Core) -> LinkId {
        if let (Some(link), true) = (self.link, self.finished) {
            core.close(link);
            self.link = None;
        }
        match self.link {
            Some(link) => link,
            None => {
                self.drop_link();
                self.reader = Reader::new();
                *self.link.insert(core.connect())
            }
        }
    }

    /// Asks for what is next: the state, its next page, the changes.
    fn ask(&mut self, core: &mut Core) {
        let link = self.link(core);
        for watch in &mut self.watches {
            watch.restating = None;
        }
        if let Some(cursor) = &mut self.watches[0].cursor {
            cursor.begin(link, core);
        }
        (self.heard, self.asked) = (core.now.instant, core.now.instant);
        self.lines = Lines::default();
        self.blocks = Blocks::default();
        let socket = matches!(self.transport, Transport::Messages | Transport::Socket);
        let lists = self.begin == Begin::List && self.watches[0].cursor.is_none();
        let request = if self.transport == Transport::Socket {
            self.doing = Doing::Watching;
            format!("GET /v1/watch HTTP/1.1\r\nHost: sim\r\n{}\r\n", self.upgrade())
        } else if lists {
            self.doing = Doing::Listing;
            self.list_request()
        } else {
            self.doing = Doing::Watching;
            let target = self.watch_target();
            let fields = match self.transport {
                Transport::LongPoll => String::new(),
                Transport::Lines => "Accept: application/x-ndjson\r\n".into(),
                Transport::Events => "Accept: text/event-stream\r\n".into(),
                Transport::Messages | Transport::Socket => self.upgrade(),
            };
            let mut fields = fields;
            let mut target = target;
            if let (Transport::Events, Some(cursor), true) =
                (self.transport, &self.watches[0].cursor, self.random.chance(700))
            {
                let _infallible = write!(fields, "Last-Event-ID: {}\r\n", cursor.revision);
            } else if let Some(cursor) = &self.watches[0].cursor {
                let _infallible = write!(target, "&since={}", cursor.revision);
            }
            if self.watches[0].cursor.is_some() {
                core.marks.hit(&format!("{}: resumed", self.transport.name()));
            }
            let version = self.version();
            format!("GET {target} {version}{fields}\r\n")
        };
        if self.page.is_none() {
            self.watches[0].known = Known::behind(link, request.len(), core);
        }
        if self.transport == Transport::Socket || self.transport == Transport::Messages && !lists {
            self.reader.ask_to_upgrade(self.speech.offer);
        } else {
            self.reader.ask(peer::Asked { old: self.old.is_some(), ..peer::Asked::default() });
        }
        core.send(link, request.as_bytes());
        let mut random = self.random.clone();
        if !socket && core.strikes(Fault::HalfClose, &mut random) {
            core.finish(link);
            self.finished = true;
        }
        self.random = random;
        core.wake_at(core.now.instant + self.patience());
    }

    fn list_request(&mut self) -> String {
        let prefix = match &self.watches[0].filter {
            Filter::Key(key) => key,
            Filter::Prefix(prefix) => prefix,
        };
        let mut target = format!("/v1/kv?prefix={}", escaped(prefix));
        if self.random.chance(500) {
            let _infallible = write!(target, "&limit={}", 1 + self.random.below(3));
        }
        match &self.page {
            Some((token, _)) => {
                let _infallible = write!(target, "&continue={}", escaped(token));
            }
            None => self.watches[0].state = Some(Vec::new()),
        }
        format!("GET {target} {}\r\n", self.version())
    }

    /// The end of the request line, and what goes with it.
    fn version(&self) -> &'static str {
        match self.old {
            None => "HTTP/1.1\r\nHost: sim\r\n",
            Some(false) => "HTTP/1.0\r\n",
            Some(true) => "HTTP/1.0\r\nConnection: keep-alive\r\n",
        }
    }

    /// The fields of an upgrade: now and then the offer stands behind one that nobody knows.
    fn upgrade(&mut self) -> String {
        let Some(offer) = &self.speech.offer else { return UPGRADE.into() };
        let before =
            self.random.one_of(&["", "x-webkit-nothing, ", "permessage-deflate; server_max_window_bits=8, "]);
        format!("{UPGRADE}Sec-WebSocket-Extensions: {before}{}\r\n", offer.element())
    }

    fn watch_target(&mut self) -> String {
        let watch = &mut self.watches[0];
        let mut target = match &watch.filter {
            Filter::Key(key) => format!("/v1/watch?key={}", escaped(key)),
            Filter::Prefix(prefix) => format!("/v1/watch?prefix={}", escaped(prefix)),
        };
        watch.fresh = true;
        watch.active = true;
        watch.state = None;
        if self.begin == Begin::State {
            target.push_str("&initial=true");
            if watch.cursor.is_none() {
                watch.state = Some(Vec::new());
            }
        }
        if self.transport == Transport::LongPoll {
            self.wait = Duration::from_millis(self.random.one_of(&[0, 300, 4000, 90_000]));
            let _infallible = write!(target, "&wait={}ms", self.wait.as_millis());
        }
        target
    }

    /// Silence for longer than this is the server's fault, or the connection is dead.
    fn patience(&self) -> Duration {
        match self.doing {
            Doing::Listing => Duration::from_secs(5),
            _ => self.patience,
        }
    }
}

/// What an upgrade asks.
pub(super) const UPGRADE: &str = "Upgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

impl Actor for Watcher {
    fn wake(&mut self, core: &mut Core) {
        match self.doing {
            Doing::Left => {}
            Doing::Resting => {
                if core.now.instant >= self.next {
                    self.ask(core);
                }
            }
            Doing::Listing | Doing::Watching => {
                let until = self.heard + self.patience();
                if core.now.instant < until {
                    if self.transport == Transport::Socket && !self.closing && self.random.chance(300) {
                        if self.head.as_ref().is_some_and(|head| head.status == 101) && !core.calm {
                            self.dabble(core);
                        }
                        let soon =
                            core.now.instant + Duration::from_millis(1 + self.random.below(5000) as u64);
                        return core.wake_at(soon.min(until));
                    }
                    return core.wake_at(until);
                }
                if let Some(link) = self.link {
                    if core.is_prompt(link, self.heard) {
                        return core.fail(format!("#{link}: nothing was heard for {:?}", self.patience()));
                    }
                    core.reset(link);
                }
                self.page = None;
                self.drop_link();
                self.rest(1000, core);
            }
        }
    }

    fn heard(&mut self, link: LinkId, bytes: &[u8], core: &mut Core) {
        if self.link != Some(link) || self.doing == Doing::Left {
            return;
        }
        self.heard = core.now.instant;
        let waited = |at: Instant| core.now.instant.since(at) > Duration::from_secs(1);
        if self.watches.iter().any(|watch| watch.restating.is_some_and(waited)) {
            core.reset(link);
            self.drop_link();
            return self.rest(500, core);
        }
        if self.transport == Transport::Socket && self.random.chance(100) {
            core.wake_at(core.now.instant + Duration::from_millis(self.random.below(3000) as u64));
        }
        self.reader.push(bytes);
        loop {
            match self.reader.next() {
                Ok(None) => return,
                Ok(Some(piece)) => {
                    if let Err(problem) = self.piece(piece, link, core) {
                        return core.fail(format!("#{link}: {problem}"));
                    }
                }
                Err(problem) => return core.fail(format!("#{link}: {problem}")),
            }
        }
    }

    fn ended(&mut self, link: LinkId, how: End, core: &mut Core) {
        if self.link != Some(link) {
            return;
        }
        if how == End::Finished && self.reader.is_to_end() && self.doing != Doing::Left {
            let is_whole = serde_json::from_slice::<serde_json::Value>(&self.body).is_ok();
            if self.doing != Doing::Listing || is_whole {
                let result = self.piece(Piece::End, link, core);
                core.check(result);
                if self.link != Some(link) {
                    return;
                }
            }
        }
        // A drain ends what is between two answers; who ended its own side waits for none.
        let is_owed = self.reader.is_owed() && !self.finished && self.doing != Doing::Left && core.accepts;
        let heard_of = core.was_asked(link, self.asked) && core.is_prompt(link, core.opened(link));
        if how == End::Finished && is_owed && heard_of {
            core.fail(format!("#{link}: it was asked, and ended without an answer"));
        }
        // A list whose revision left the log breaks off.
        let may_cut = self.doing == Doing::Listing;
        let prompt = core.is_prompt(link, core.opened(link));
        if self.speech.is_plain {
            // Another time there may be memory again.
            self.speech.is_plain = core.calm || self.random.chance(800);
        }
        if how == End::Finished && !self.reader.is_between() && prompt && !may_cut {
            core.fail(format!("#{link}: an answer is cut"));
        }
        let left = self.doing == Doing::Left;
        self.page = None;
        self.drop_link();
        if !left {
            self.rest(if core.calm { 500 } else { 4000 }, core);
        }
    }

    fn calm(&mut self, core: &mut Core) {
        if self.doing == Doing::Resting {
            self.rest(1000, core);
        }
    }

    fn settled(&self, core: &Core) -> Result<(), String> {
        for watch in &self.watches {
            match &watch.cursor {
                None => return Err(format!("{:?} of {:?}: it knows nothing", watch.filter, self.transport)),
                Some(cursor) => cursor.settled(core)?,
            }
        }
        Ok(())
    }

    fn leave(&mut self, core: &mut Core) {
        self.doing = Doing::Left;
        if let Some(link) = self.link {
            let upgraded = self.head.as_ref().is_some_and(|head| head.status == 101);
            if upgraded && !self.closing && self.random.chance(700) {
                self.closing = true;
                self.say(8, &1000_u16.to_be_bytes(), link, core);
            }
            core.close(link);
        }
    }
}
