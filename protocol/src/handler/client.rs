//! A client made of a handler.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::task::Waker;
use core::time::Duration;

use sha1::{Digest as _, Sha1};

use super::slots::Slots;
use super::socket::{Events, Session, Socket, SocketError};
use crate::http1::ClientConfig;
use crate::http1::client::{OwnedResponse, Response};
use crate::input::Input;
use crate::output::{SendQueue, Sink};
use crate::server::{Admission, After, Closed, ConnectionId, Peer, Server};
use crate::time::{Instant, Now};
use crate::websocket::handshake::{Answer, ClientHandshake, Opening, OpeningError};
use crate::websocket::{self, Close, Message, Role};

/// What a client does with whole messages. See the [module](super) for the order of the calls.
pub trait ClientHandler {
    /// Called once, before anything else: see [`Handler::start`](super::Handler::start).
    fn start(&mut self, waker: &Waker) {
        let _ = waker;
    }

    /// A WebSocket is open.
    fn opened(&mut self, socket: &mut Socket<'_>) {
        let _ = socket;
    }

    /// A message came, at most [`Config::message_bytes`](websocket::Config::message_bytes) long.
    fn message(&mut self, message: Message<'_>, socket: &mut Socket<'_>) {
        let _ = (message, socket);
    }

    /// The time has come that was set with [`Socket::wake_at`], or [`next_to_wake`](ClientHandler::next_to_wake) named it.
    fn woken(&mut self, socket: &mut Socket<'_>) {
        let _ = socket;
    }

    /// Names a WebSocket that is to be [`woken`](ClientHandler::woken) now: see
    /// [`Handler::next_to_wake`](super::Handler::next_to_wake).
    fn next_to_wake(&mut self) -> Option<ConnectionId> {
        None
    }

    /// The server answered something else than a WebSocket: a redirect, 401, 404 and so on. The body is whole, unless it has more
    /// than [`refusal_bytes`](WebSocketClientConfig::refusal_bytes) or did not come to its end. The connection is closed.
    fn refused(&mut self, id: ConnectionId, head: &Response<'_>, body: &[u8]) {
        let _ = (id, head, body);
    }

    /// The handshake failed; or what came on an open WebSocket is malformed or too much, or the peer took too long, and
    /// [`closed`](ClientHandler::closed) follows.
    fn failed(&mut self, id: ConnectionId, error: SocketError) {
        let _ = (id, error);
    }

    /// A WebSocket that was [`opened`](ClientHandler::opened) is closed. Once for each.
    fn closed(&mut self, id: ConnectionId, close: Close<'_>) {
        let _ = (id, close);
    }
}

/// What a [`WebSocketClient`] asks for, and its limits and times.
#[derive(Clone, Debug)]
pub struct WebSocketClientConfig {
    /// Host and port, as `Host` says them.
    pub authority: String,
    /// The path, which begins with `/`, and perhaps a query.
    pub target: String,
    /// The subprotocols that are spoken, what is liked best first; [`Socket::protocol`] says what the server chose. Default: none.
    pub protocols: Vec<&'static str>,
    /// Further fields of the request, for example `Origin`, `Authorization`, `Cookie`. Default: none.
    pub fields: Vec<(String, Vec<u8>)>,
    /// How long the whole handshake may take. Default: 10 s.
    pub timeout: Duration,
    /// The most bytes that are kept of the body of an answer that refuses. Default: 64 KiB.
    pub refusal_bytes: usize,
    /// The limits and times of HTTP.
    pub http: ClientConfig,
    /// Those of WebSocket.
    pub websocket: websocket::Config,
}

impl WebSocketClientConfig {
    /// A WebSocket at this path, and perhaps a query, of this host.
    pub fn new(authority: impl Into<String>, target: impl Into<String>) -> Self {
        Self {
            authority: authority.into(),
            target: target.into(),
            protocols: Vec::new(),
            fields: Vec::new(),
            timeout: Duration::from_secs(10),
            refusal_bytes: 64 << 10,
            http: ClientConfig::default(),
            websocket: websocket::Config::default(),
        }
    }

    fn start(
        &self,
        http: &Arc<ClientConfig>,
        nonce: [u8; 16],
        out: &mut impl Sink,
        now: Now,
    ) -> Result<ClientHandshake, OpeningError> {
        let fields: Vec<(&str, &[u8])> =
            self.fields.iter().map(|(name, value)| (&**name, &**value)).collect();
        let opening = Opening {
            protocols: &self.protocols,
            compression: Some(&self.websocket.compression),
            fields: &fields,
            timeout: self.timeout,
            ..Opening::new(&self.authority, &self.target)
        };
        ClientHandshake::start(&opening, Arc::clone(http), nonce, out, now)
    }
}

/// The [`Server`] around a [`ClientHandler`]: on each connection that is made to a server it asks for a WebSocket.
///
/// It is run over outgoing connections, one or several, by what runs a server over those that come: `keepwatch_mio::connect` and
/// `keepwatch_smol::connect`, or a [`Driver`](crate::Driver) that is told of them.
///
/// ```
/// use keepwatch_protocol::handler::{ClientHandler, Socket, WebSocketClient, WebSocketClientConfig};
/// use keepwatch_protocol::websocket::{CloseCode, Message};
///
/// /// Asks one question, and keeps the answer.
/// #[derive(Default)]
/// struct Ask {
///     answer: Option<String>,
/// }
///
/// impl ClientHandler for Ask {
///     fn opened(&mut self, socket: &mut Socket<'_>) {
///         let _closing = socket.send(Message::Text("what time is it?"));
///     }
///
///     fn message(&mut self, message: Message<'_>, socket: &mut Socket<'_>) {
///         self.answer = Some(String::from_utf8_lossy(message.as_bytes()).into_owned());
///         let _closing = socket.close(CloseCode::NORMAL, "");
///     }
/// }
///
/// let seed = [7; 32]; // from the system's random source
/// let config = WebSocketClientConfig::new("example.com", "/clock");
/// let client = WebSocketClient::new(Ask::default(), config, seed)?; // connect([address], options, client)?.into_handler()
/// # drop(client);
/// # Ok::<(), keepwatch_protocol::websocket::handshake::OpeningError>(())
/// ```
pub struct WebSocketClient<H> {
    handler: H,
    settings: Settings,
    entropy: Entropy,
    connections: Slots<Stage>,
}

/// The [`WebSocketClientConfig`], as connections share it.
struct Settings {
    config: WebSocketClientConfig,
    http: Arc<ClientConfig>,
    websocket: Arc<websocket::Config>,
}

/// How far a connection is.
enum Stage {
    /// It is there, and nothing was asked for.
    Made,
    /// The answer is waited for.
    Asked(Box<Asked>),
    Open(Session),
    /// The handler was told that this becomes no WebSocket.
    Over,
}

struct Asked {
    handshake: ClientHandshake,
    /// For the masking keys.
    seed: u64,
    /// What was answered instead of 101, as far as it came.
    refusal: Option<(OwnedResponse, Vec<u8>)>,
}

impl<H: ClientHandler> WebSocketClient<H> {
    /// A client that asks for this. The seed is 32 bytes of entropy, from which each connection gets what it needs: its key, and
    /// the seed of its masking keys.
    ///
    /// # Errors
    ///
    /// This cannot be asked for.
    pub fn new(handler: H, config: WebSocketClientConfig, seed: [u8; 32]) -> Result<Self, OpeningError> {
        let http = Arc::new(config.http.clone());
        config.start(&http, [0; 16], &mut Vec::new(), Now::default())?;
        let websocket = Arc::new(config.websocket.clone());
        let settings = Settings { config, http, websocket };
        Ok(Self { handler, settings, entropy: Entropy { seed, drawn: 0 }, connections: Slots::new() })
    }

    /// The handler.
    pub fn handler(&mut self) -> &mut H {
        &mut self.handler
    }

    /// The handler, when all is over.
    pub fn into_handler(self) -> H {
        self.handler
    }

    fn note_deadline(&mut self, id: ConnectionId, out: &SendQueue, now: Now) {
        let deadline = match self.connections.get(id) {
            Some(Stage::Asked(asked)) => asked.handshake.deadline(),
            Some(Stage::Open(session)) => session.deadline(out, now),
            Some(Stage::Made | Stage::Over) | None => None,
        };
        self.connections.set_deadline(id, deadline, now.instant);
    }
}

impl<H: ClientHandler> Server for WebSocketClient<H> {
    fn start(&mut self, waker: &Waker, _: Now) {
        self.handler.start(waker);
    }

    fn open(&mut self, id: ConnectionId, _: &Peer, _: Now) -> Admission {
        self.connections.insert(id, Stage::Made);
        self.connections.make_ready(id);
        Admission::Admit
    }

    fn receive(&mut self, id: ConnectionId, input: &mut Input<'_>, out: &mut SendQueue, now: Now) -> After {
        let Self { handler, settings, entropy, connections } = self;
        let Some(stage) = connections.get(id) else { return After::Abort };
        let mut after = stage.ask(settings, entropy, out, now);
        if after == After::Open {
            if let Some(mut session) = stage.receive_answer(handler, settings, id, input, now) {
                session.opened(&mut AsEvents(handler), id, out, now);
                *stage = Stage::Open(session);
            }
            after = match stage {
                // The bytes behind the answer are the WebSocket's.
                Stage::Open(session) => session.receive(&mut AsEvents(handler), id, input, out, now),
                Stage::Made | Stage::Asked(_) => After::Open,
                Stage::Over => After::Abort,
            };
        }
        self.note_deadline(id, out, now);
        after
    }

    fn resume(&mut self, id: ConnectionId, out: &mut SendQueue, now: Now) -> After {
        let Self { handler, settings, entropy, connections } = self;
        let draining = connections.is_draining();
        let Some(stage) = connections.get(id) else { return After::Abort };
        let after = match stage {
            Stage::Open(session) => session.resume(&mut AsEvents(handler), id, out, now),
            // What was not asked for yet, or not answered, is given up: closed() says so.
            _ if draining => After::Abort,
            Stage::Made => stage.ask(settings, entropy, out, now),
            Stage::Asked(asked) => match asked.handshake.on_deadline(now) {
                Some(error) => {
                    stage.give_up(SocketError::Handshake(error), handler, id);
                    After::Abort
                }
                None => After::Open,
            },
            Stage::Over => After::Abort,
        };
        if let (true, Stage::Open(session)) = (draining, stage) {
            session.say_farewell(out, now);
        }
        self.note_deadline(id, out, now);
        after
    }

    fn next_ready(&mut self, _: Now) -> Option<ConnectionId> {
        self.connections.next_ready().or_else(|| {
            let id = self.handler.next_to_wake()?;
            if let Some(Stage::Open(session)) = self.connections.get(id) {
                session.wake_now();
            }
            Some(id)
        })
    }

    fn deadline(&self) -> Option<Instant> {
        self.connections.deadline()
    }

    fn on_deadline(&mut self, now: Now) {
        self.connections.expire(now.instant);
    }

    fn drain(&mut self, _: Instant, _: Now) {
        self.connections.drain();
    }

    fn closed(&mut self, id: ConnectionId, _: Closed, _: Now) {
        match self.connections.remove(id) {
            Some(Stage::Open(mut session)) => session.gone(&mut AsEvents(&mut self.handler), id),
            Some(mut stage) => stage.give_up(SocketError::Lost, &mut self.handler, id),
            None => {}
        }
    }
}

impl Stage {
    /// Writes the request, if that was not done.
    fn ask(&mut self, settings: &Settings, entropy: &mut Entropy, out: &mut SendQueue, now: Now) -> After {
        if let Self::Made = self {
            let (nonce, seed) = entropy.draw();
            let started = settings.config.start(&settings.http, nonce, out, now);
            // What can be wrong with it was found when the client was made.
            let Ok(handshake) = started else { return After::Abort };
            *self = Self::Asked(Box::new(Asked { handshake, seed, refusal: None }));
        }
        After::Open
    }

    /// Reads the answer, if it is waited for. Returns the WebSocket, when that is open.
    fn receive_answer(
        &mut self,
        handler: &mut impl ClientHandler,
        settings: &Settings,
        id: ConnectionId,
        input: &mut Input<'_>,
        now: Now,
    ) -> Option<Session> {
        let Self::Asked(asked) = self else { return None };
        let Settings { config, websocket, .. } = settings;
        let error = loop {
            match asked.handshake.recv(input, now) {
                Ok(Answer::NeedMore) => return None,
                Ok(Answer::Opened(agreed)) => {
                    let role = Role::Client;
                    return Some(Session::new(agreed, &config.protocols, role, websocket, asked.seed, now));
                }
                Ok(Answer::Refused(head)) => asked.refusal = Some((head.to_owned(), Vec::new())),
                Ok(Answer::Body(bytes)) => {
                    let Some((_, body)) = &mut asked.refusal else { continue };
                    let room = config.refusal_bytes.saturating_sub(body.len());
                    body.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
                    if bytes.len() > room {
                        break SocketError::Lost; // by us: the answer says more
                    }
                }
                Ok(Answer::End) => break SocketError::Lost,
                Err(error) => break SocketError::Handshake(error),
            }
        };
        self.give_up(error, handler, id);
        None
    }

    /// This becomes no WebSocket: the handler is told what was answered instead, or else the error.
    fn give_up(&mut self, error: SocketError, handler: &mut impl ClientHandler, id: ConnectionId) {
        match core::mem::replace(self, Self::Over) {
            Self::Asked(asked) => match asked.refusal {
                Some((head, body)) => handler.refused(id, &head.as_response(), &body),
                None => handler.failed(id, error),
            },
            Self::Made => handler.failed(id, error),
            Self::Open(_) | Self::Over => {}
        }
    }
}

/// As many numbers as there are connections, from one seed.
struct Entropy {
    seed: [u8; 32],
    drawn: u64,
}

impl Entropy {
    /// The key's bytes, and the seed of the masking keys: who sees the one cannot tell the other.
    fn draw(&mut self) -> ([u8; 16], u64) {
        self.drawn += 1;
        let hash = |purpose: u8| -> [u8; 20] {
            let hash = Sha1::new().chain_update(self.seed).chain_update(self.drawn.to_be_bytes());
            hash.chain_update([purpose]).finalize().into()
        };
        let mut nonce = [0; 16];
        nonce.iter_mut().zip(hash(0)).for_each(|(to, from)| *to = from);
        let mut seed = [0; 8];
        seed.iter_mut().zip(hash(1)).for_each(|(to, from)| *to = from);
        (nonce, u64::from_be_bytes(seed))
    }
}

/// A handler, as a WebSocket sees it.
struct AsEvents<'h, H>(&'h mut H);

impl<H: ClientHandler> Events for AsEvents<'_, H> {
    fn opened(&mut self, socket: &mut Socket<'_>) {
        self.0.opened(socket);
    }

    fn message(&mut self, message: Message<'_>, socket: &mut Socket<'_>) {
        self.0.message(message, socket);
    }

    fn woken(&mut self, socket: &mut Socket<'_>) {
        self.0.woken(socket);
    }

    fn failed(&mut self, id: ConnectionId, error: SocketError) {
        self.0.failed(id, error);
    }

    fn closed(&mut self, id: ConnectionId, close: Close<'_>) {
        self.0.closed(id, close);
    }
}
