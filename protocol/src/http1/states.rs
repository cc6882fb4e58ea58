//! The states of a [`ServerConnection`](super::ServerConnection), and what each event does in each of them: one table.
//!
//! Two machines run side by side, and the table is of both together.
//!
//! - The **answer** goes from `Idle` (no request) to `Open` (a request waits for its answer) to `Sending` (the answer's
//!   head was put) and back.
//! - The **request** is read meanwhile, and the [`Rest`] says how much of it is to come. It starts with its head and has to
//!   have come to its end, and that end has to be told, before the next one is looked at.
//!
//! What else decides where an answer leads is fixed when its head is put, so `Sending` comes in three kinds: after
//! `Sending` itself the connection goes on; after `Last` it is over; after `Tunnel` it is another protocol's. An answer
//! that begins before the request was read to its end is `Last`: bytes of a body are never taken for a request. Whether
//! they had arrived already makes no difference, so that the same bytes have the same answer however they are split.
//!
//! Three rules fill most of the table:
//!
//! - `recv` reads only in the states without a request and while a body is to come. Everywhere else it does not look at
//!   what is offered, and all events of the input are alike.
//! - A call needs the token of its state, and is [`SendError::Stale`] in all others. A refused call changes nothing.
//! - A fault is answered as long as no answer has begun (`Failed`), and cuts off one that has (`CutOff`). Only an
//!   expectation that cannot be met, in a request without a body, is answered and left behind (`Idle`).
//!
//! Not in the table, as it changes no state: `close_after_this` makes the next answer a last one ([`Event::RespondLast`]);
//! that a peer hung up is told once for each request, and later only that nothing is read; a peer that hung up within its
//! body has no deadline any more.
//!
//! [`next`] is the table. The machine keeps more than a [`State`] (a decoder, deadlines, what is needed of the request), so
//! it does not run on the table; `connection/drive.rs` takes it to every state, applies every event there, and compares. The
//! picture, `states.md`, is printed from the table too: run the tests with `KEEPWATCH_REWRITE=1` after a change.

use super::error::{Fault, SendError};
use super::exchange::{Disposition, Timer};

/// Where a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Not a byte has come.
    New,
    /// The exchange before is over, and nothing of a request has come.
    Idle,
    /// A part of a head has come.
    Head,
    /// A request waits for its answer.
    Open(Rest),
    /// An answer is under way, and the connection goes on after it: the request was read to its end.
    Sending(Rest),
    /// The last answer is under way.
    Last(Rest),
    /// The head of a 2xx to CONNECT was put. Only the token knows it from `Sending` and `Last`.
    Tunnel(Rest),
    /// The answer is complete, and the request's end is still to be told.
    Answered,
    /// Nothing is read or sent any more.
    Over,
    /// The connection is another protocol's.
    Upgraded,
    /// The peer's fault was answered.
    Failed,
    /// The peer's fault came when an answer was under way.
    CutOff,
}

/// What is to come of a request behind its head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    /// A body with a length.
    Length,
    /// A body in chunks.
    Chunked,
    /// Nothing, and that is still to be told.
    Ended,
    /// Nothing, and that was told.
    Told,
}

/// What happens to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// `recv` without a byte.
    Nothing,
    /// The same after `close_after_this`.
    NothingClosing,
    /// `recv` of the beginning of a head.
    PartOfHead,
    /// `recv` of a head without a body.
    HeadOnly,
    /// `recv` of a head with a `Content-Length`.
    HeadLength,
    /// `recv` of a head with a body in chunks.
    HeadChunked,
    /// `recv` of a head that expects what cannot be met, without a body.
    HeadRefused,
    /// The same with a body, after `close_after_this`, or of a client that goes on no longer.
    HeadRefusedLast,
    /// `recv` of bytes of a body that are not its last.
    Data,
    /// `recv` of the last byte of a body; of one in chunks, of its last chunk.
    DataEnd,
    /// `recv` of a trailer section with a field.
    Trailers,
    /// `recv` of what breaks a rule: an unknown version, no chunk size.
    Malformed,
    /// `recv` when the peer has ended its side, without a byte.
    HangUp,
    /// `on_deadline` when the deadline is due, or far in the future if there is none.
    Deadline,
    /// `proceed`, to a client that waits for it if there is a body.
    Proceed,
    /// `inform`.
    Inform,
    /// `respond`, when nothing speaks against going on.
    Respond,
    /// `respond`, after `close_after_this`, or to a client that goes on no longer.
    RespondLast,
    /// `respond` with a 2xx to CONNECT.
    RespondTunnel,
    /// `answer`, which is `respond` and `finish`.
    Answer,
    /// The same of [`RespondLast`](Self::RespondLast).
    AnswerLast,
    /// The same of [`RespondTunnel`](Self::RespondTunnel).
    AnswerTunnel,
    /// `data`.
    SendData,
    /// `finish`, of an answer in chunks.
    Finish,
    /// `upgrade`, of a request that offers it.
    Upgrade,
    /// `respond` with the token of an earlier request.
    StaleExchange,
    /// `finish` with the token of an earlier answer.
    StaleBody,
}

/// What the caller is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Says {
    NeedMore,
    Paused,
    Request,
    Data,
    Trailers,
    EndOfRequest,
    HungUp,
    Closed,
    /// The machine refused the request, and goes on.
    RefusedRequest,
    /// An error of `recv`.
    Fault(Fault),
    /// The error of `recv` that came before.
    SameFault,
    /// By `on_deadline`.
    Expired(Timer),
    /// By `on_deadline`: nothing.
    NotDue,
    /// By a call that did what it is for.
    Done,
    /// By a call that was refused.
    Refused(SendError),
}

/// What an event does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Next {
    pub says: Says,
    /// Whether bytes were put.
    pub puts: bool,
    pub state: State,
}

/// The table: what this event does in this state. None if there is no such event, as the same bytes are another one there.
pub(super) const fn next(state: State, event: Event) -> Option<Next> {
    use Event as E;
    use Rest::{Chunked, Ended, Length, Told};
    use State::{Answered, CutOff, Failed, Head, Idle, Last, New, Open, Over, Sending, Tunnel, Upgraded};
    const QUIET: bool = false;
    const PUTS: bool = true;
    let (says, puts, state) = match (state, event) {
        // The time for the next step is over.
        (New, E::Deadline) => (Says::Expired(Timer::FirstByte), QUIET, Over),
        (Idle | Answered, E::Deadline) => (Says::Expired(Timer::KeepAlive), QUIET, Over),
        (Head, E::Deadline) => (Says::Expired(Timer::Head), PUTS, Failed),
        (Open(Length | Chunked), E::Deadline) => (Says::Expired(Timer::Body), PUTS, Failed),
        (Last(Length | Chunked), E::Deadline) => (Says::Expired(Timer::Body), QUIET, CutOff),
        (Open(Ended | Told), E::Deadline) => (Says::Expired(Timer::Handler), PUTS, Failed),
        (_, E::Deadline) => (Says::NotDue, QUIET, state),

        // The answer.
        (Open(Length | Chunked), E::Proceed) => (Says::Done, PUTS, state),
        (Open(Ended | Told), E::Proceed) => (Says::Done, QUIET, state),
        (Open(_), E::Inform) => (Says::Done, PUTS, state),
        (Open(rest @ (Length | Chunked)), E::Respond | E::RespondLast) => (Says::Done, PUTS, Last(rest)),
        (Open(rest @ (Ended | Told)), E::Respond) => (Says::Done, PUTS, Sending(rest)),
        (Open(rest @ (Ended | Told)), E::RespondLast) => (Says::Done, PUTS, Last(rest)),
        (Open(rest @ (Ended | Told)), E::RespondTunnel) => (Says::Done, PUTS, Tunnel(rest)),
        (Open(Ended | Told), E::Upgrade) => (Says::Done, PUTS, Upgraded),
        (Open(Length | Chunked), E::RespondTunnel | E::Upgrade) => {
            (Says::Refused(SendError::RequestUnread), QUIET, state)
        }
        (Sending(_) | Last(_), E::SendData) => (Says::Done, PUTS, state),
        (Tunnel(_), E::SendData) => (Says::Done, QUIET, state),
        (Sending(Told), E::Finish) => (Says::Done, PUTS, Idle),
        (Sending(_), E::Finish) => (Says::Done, PUTS, Answered),
        (Last(_), E::Finish) => (Says::Done, PUTS, Over),
        (Tunnel(_), E::Finish) => (Says::Done, QUIET, Upgraded),
        (_, E::Answer) => return both(state, E::Respond, E::Finish),
        (_, E::AnswerLast) => return both(state, E::RespondLast, E::Finish),
        (_, E::AnswerTunnel) => return both(state, E::RespondTunnel, E::Finish),
        (
            _,
            E::Proceed
            | E::Inform
            | E::Respond
            | E::RespondLast
            | E::RespondTunnel
            | E::SendData
            | E::Finish
            | E::Upgrade
            | E::StaleExchange
            | E::StaleBody,
        ) => (Says::Refused(SendError::Stale), QUIET, state),

        // From here on it is `recv`. Before and within a head:
        (New | Idle, E::NothingClosing | E::HangUp) => (Says::Closed, QUIET, Over),
        (New | Idle | Head, E::Nothing | E::NothingClosing) => (Says::NeedMore, QUIET, state),
        (New | Idle | Head, E::PartOfHead) => (Says::NeedMore, QUIET, Head),
        (New | Idle | Head, E::HeadOnly) => (Says::Request, QUIET, Open(Ended)),
        (New | Idle | Head, E::HeadLength) => (Says::Request, QUIET, Open(Length)),
        (New | Idle | Head, E::HeadChunked) => (Says::Request, QUIET, Open(Chunked)),
        (New | Idle | Head, E::HeadRefused) => (Says::RefusedRequest, PUTS, Idle),
        (New | Idle | Head, E::HeadRefusedLast) => (Says::Fault(Fault::Expectation), PUTS, Failed),
        (New | Idle | Head, E::Malformed) => (Says::Fault(Fault::Version), PUTS, Failed),
        (Head, E::HangUp) => (Says::Fault(Fault::Incomplete), PUTS, Failed),
        (New | Idle | Head, E::Data | E::DataEnd | E::Trailers) => return None,

        // Within a body:
        (Open(Length | Chunked) | Last(Length | Chunked), E::Nothing | E::NothingClosing) => {
            (Says::NeedMore, QUIET, state)
        }
        (Open(Length | Chunked) | Last(Length | Chunked), E::Data) => (Says::Data, QUIET, state),
        (Open(Length), E::DataEnd) => (Says::Data, QUIET, Open(Ended)),
        (Last(Length), E::DataEnd) => (Says::Data, QUIET, Last(Ended)),
        (Open(Chunked), E::DataEnd) => (Says::EndOfRequest, QUIET, Open(Told)),
        (Last(Chunked), E::DataEnd) => (Says::EndOfRequest, QUIET, Last(Told)),
        (Open(Chunked), E::Trailers) => (Says::Trailers, QUIET, Open(Ended)),
        (Last(Chunked), E::Trailers) => (Says::Trailers, QUIET, Last(Ended)),
        (Open(Chunked), E::Malformed) => (Says::Fault(Fault::ChunkSize), PUTS, Failed),
        (Last(Chunked), E::Malformed) => (Says::Fault(Fault::ChunkSize), QUIET, CutOff),
        (Open(Length | Chunked), E::HangUp) => (Says::Fault(Fault::Incomplete), PUTS, Failed),
        // The answer that is under way is the last, and the peer may want it.
        (Last(Length | Chunked), E::HangUp) => (Says::HungUp, QUIET, state),
        (
            Open(Length | Chunked) | Last(Length | Chunked),
            E::PartOfHead
            | E::HeadOnly
            | E::HeadLength
            | E::HeadChunked
            | E::HeadRefused
            | E::HeadRefusedLast
            | E::Trailers
            | E::Malformed,
        ) => return None,

        // Nothing is read: the request's end is told, and then nothing but that its peer has gone.
        (Open(Ended), _) => (Says::EndOfRequest, QUIET, Open(Told)),
        (Sending(Ended), _) => (Says::EndOfRequest, QUIET, Sending(Told)),
        (Last(Ended), _) => (Says::EndOfRequest, QUIET, Last(Told)),
        (Tunnel(Ended), _) => (Says::EndOfRequest, QUIET, Tunnel(Told)),
        (Answered, _) => (Says::EndOfRequest, QUIET, Idle),
        (Open(Told) | Sending(Told) | Last(Told) | Tunnel(Told), E::HangUp) => (Says::HungUp, QUIET, state),
        (Open(Told) | Sending(Told) | Last(Told) | Tunnel(Told), _) => (Says::Paused, QUIET, state),
        (Over, _) => (Says::Closed, QUIET, Over),
        (Upgraded, _) => (Says::Paused, QUIET, Upgraded),
        (Failed | CutOff, _) => (Says::SameFault, QUIET, state),

        // There are no such states: see `State::Sending`, `State::Tunnel`.
        (Sending(Length | Chunked) | Tunnel(Length | Chunked), _) => return None,
    };
    Some(Next { says, puts, state })
}

/// One call that does what two do.
const fn both(state: State, first: Event, second: Event) -> Option<Next> {
    match next(state, first) {
        Some(Next { says: Says::Done, puts, state }) => match next(state, second) {
            Some(last) => Some(Next { puts: puts || last.puts, ..last }),
            None => None,
        },
        refused => refused,
    }
}

/// Every state there is.
pub(super) const STATES: [State; 20] = [
    State::New,
    State::Idle,
    State::Head,
    State::Open(Rest::Length),
    State::Open(Rest::Chunked),
    State::Open(Rest::Ended),
    State::Open(Rest::Told),
    State::Sending(Rest::Ended),
    State::Sending(Rest::Told),
    State::Last(Rest::Length),
    State::Last(Rest::Chunked),
    State::Last(Rest::Ended),
    State::Last(Rest::Told),
    State::Tunnel(Rest::Ended),
    State::Tunnel(Rest::Told),
    State::Answered,
    State::Over,
    State::Upgraded,
    State::Failed,
    State::CutOff,
];

/// Every event there is.
pub(super) const EVENTS: [Event; 27] = [
    Event::Nothing,
    Event::NothingClosing,
    Event::PartOfHead,
    Event::HeadOnly,
    Event::HeadLength,
    Event::HeadChunked,
    Event::HeadRefused,
    Event::HeadRefusedLast,
    Event::Data,
    Event::DataEnd,
    Event::Trailers,
    Event::Malformed,
    Event::HangUp,
    Event::Deadline,
    Event::Proceed,
    Event::Inform,
    Event::Respond,
    Event::RespondLast,
    Event::RespondTunnel,
    Event::Answer,
    Event::AnswerLast,
    Event::AnswerTunnel,
    Event::SendData,
    Event::Finish,
    Event::Upgrade,
    Event::StaleExchange,
    Event::StaleBody,
];

impl State {
    /// What is to become of a connection in this state.
    pub(super) const fn disposition(self) -> Disposition {
        match self {
            Self::Over | Self::Failed => Disposition::Finish,
            Self::CutOff => Disposition::Abort,
            Self::Upgraded => Disposition::Upgraded,
            _ => Disposition::Open,
        }
    }
}

impl Event {
    /// Whether the event is one of the input.
    pub(super) const fn is_recv(self) -> bool {
        matches!(
            self,
            Self::Nothing
                | Self::NothingClosing
                | Self::PartOfHead
                | Self::HeadOnly
                | Self::HeadLength
                | Self::HeadChunked
                | Self::HeadRefused
                | Self::HeadRefusedLast
                | Self::Data
                | Self::DataEnd
                | Self::Trailers
                | Self::Malformed
                | Self::HangUp
        )
    }

    /// The event in the picture.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Nothing => "no byte",
            Self::NothingClosing => "no byte, closing",
            Self::PartOfHead => "part of a head",
            Self::HeadOnly => "head without a body",
            Self::HeadLength => "head with `Content-Length`",
            Self::HeadChunked => "head with chunks",
            Self::HeadRefused => "head with an unmet expectation",
            Self::HeadRefusedLast => "unmet expectation with a body, or closing",
            Self::Data => "content",
            Self::DataEnd => "last of the content",
            Self::Trailers => "trailers",
            Self::Malformed => "malformed bytes",
            Self::HangUp => "end of input",
            Self::Deadline => "deadline",
            Self::Proceed => "`proceed`",
            Self::Inform => "`inform`",
            Self::Respond => "`respond`",
            Self::RespondLast => "`respond`, closing",
            Self::RespondTunnel => "`respond` to CONNECT",
            Self::Answer => "`answer`",
            Self::AnswerLast => "`answer`, closing",
            Self::AnswerTunnel => "`answer` to CONNECT",
            Self::SendData => "`data`",
            Self::Finish => "`finish`",
            Self::Upgrade => "`upgrade`",
            Self::StaleExchange => "`respond`, stale",
            Self::StaleBody => "`finish`, stale",
        }
    }
}
