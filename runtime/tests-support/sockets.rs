//! What a runtime must do, tested through real sockets. Each runtime's `tests/sockets.rs` includes this file and the echo
//! machine, says how it is run, and calls `suite!`.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

use std::borrow::Cow;
use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroUsize;
use std::process::{self, Command, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::task::Waker;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use keepwatch_protocol::handler::{
    ClientHandler, Handler, HandlerServer, Request, Socket, SocketError, WebSocketClient,
    WebSocketClientConfig,
};
use keepwatch_protocol::http1::StatusCode;
use keepwatch_protocol::http1::client::Response;
use keepwatch_protocol::websocket::{Close, CloseCode, Message};
use keepwatch_protocol::{
    Admission, After, Closed, ConnectionId, Input, Instant, Now, Peer, SendQueue, Server, Sink,
};
use keepwatch_runtime::{Handle, Options};

/// A runtime, as these tests use it.
pub(crate) trait Runs {
    type Runtime: Send + 'static;
    fn bind(options: Options) -> io::Result<(Self::Runtime, Handle)>;
    fn split(runtime: Self::Runtime, count: NonZeroUsize) -> io::Result<Vec<Self::Runtime>>;
    fn run<S: Server>(runtime: Self::Runtime, server: S) -> io::Result<S>;

    fn serve(runtime: Self::Runtime, server: impl Server) -> io::Result<()> {
        Self::run(runtime, server).map(drop)
    }
}

/// A server on a thread of its own. Dropped, it is aborted, and must then end well.
pub(crate) struct Running {
    pub(crate) handle: Handle,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Running {
    pub(crate) fn start<R: Runs>(server: impl Server + Send + 'static) -> Self {
        let (runtime, handle) = R::bind(Options::new([([127, 0, 0, 1], 0).into()])).unwrap();
        Self { handle, thread: Some(spawn(move || R::serve(runtime, server))) }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.handle.local_addresses()[0]
    }

    pub(crate) fn connect(&self) -> TcpStream {
        connect(self.address())
    }

    /// Waits until the server has ended by itself.
    pub(crate) fn join(&mut self) {
        self.thread.take().unwrap().join().unwrap().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !thread::panicking() && self.thread.is_some() {
            self.handle.abort();
            self.join();
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "a test's server runs beside the test")]
pub(crate) fn spawn<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    thread::spawn(body)
}

/// A connection that gives up reading and writing instead of waiting for ever.
pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Gives back every byte, and says how connections ended.
pub(crate) struct Echo(pub(crate) Sender<Closed>);

impl Echo {
    pub(crate) fn new() -> (Self, Receiver<Closed>) {
        let (sender, receiver) = mpsc::channel();
        (Self(sender), receiver)
    }
}

impl Server for Echo {
    fn open(&mut self, _id: ConnectionId, peer: &Peer, _now: Now) -> Admission {
        assert!(peer.address.is_some_and(|address| address.ip().is_loopback()));
        Admission::Admit
    }

    fn receive(&mut self, _: ConnectionId, input: &mut Input<'_>, out: &mut SendQueue, _now: Now) -> After {
        while !input.is_empty() && !out.over_mark() {
            out.put(input.take(1 << 10));
        }
        if input.hung_up() && input.is_empty() { After::Finish } else { After::Open }
    }

    fn resume(&mut self, _id: ConnectionId, _out: &mut SendQueue, _now: Now) -> After {
        After::Open
    }

    fn closed(&mut self, _id: ConnectionId, why: Closed, _now: Now) {
        let _nobody_asks = self.0.send(why);
    }
}

/// Answers the first byte with a refusal, whatever else is under way.
struct Refuses;

impl Server for Refuses {
    fn open(&mut self, _id: ConnectionId, _peer: &Peer, _now: Now) -> Admission {
        Admission::Admit
    }

    fn receive(&mut self, _: ConnectionId, input: &mut Input<'_>, out: &mut SendQueue, _now: Now) -> After {
        if input.is_empty() {
            return After::Abort;
        }
        out.put(b"too large");
        After::Finish
    }

    fn resume(&mut self, _id: ConnectionId, _out: &mut SendQueue, _now: Now) -> After {
        After::Abort
    }

    fn closed(&mut self, _id: ConnectionId, _why: Closed, _now: Now) {}
}

/// Lets nobody in.
struct Full;

impl Server for Full {
    fn open(&mut self, _id: ConnectionId, _peer: &Peer, _now: Now) -> Admission {
        Admission::Refuse(Cow::Borrowed(b"no"))
    }

    fn receive(&mut self, _: ConnectionId, _: &mut Input<'_>, _: &mut SendQueue, _now: Now) -> After {
        After::Abort
    }

    fn resume(&mut self, _id: ConnectionId, _out: &mut SendQueue, _now: Now) -> After {
        After::Abort
    }

    fn closed(&mut self, _id: ConnectionId, _why: Closed, _now: Now) {}
}

/// Holds connections, and ends each with a word: when it is woken, when its time has come, or when it drains.
struct Holds {
    wakers: Sender<Waker>,
    hold: Option<Duration>,
    held: Vec<ConnectionId>,
    due: Option<Instant>,
    word: &'static [u8],
    ready: VecDeque<ConnectionId>,
    closed: Sender<Closed>,
}

impl Holds {
    fn new(hold: Option<Duration>) -> (Self, Receiver<Waker>, Receiver<Closed>) {
        let (wakers, waker) = mpsc::channel();
        let (closed, why) = mpsc::channel();
        let held = Self { wakers, hold, held: vec![], due: None, word: b"", ready: VecDeque::new(), closed };
        (held, waker, why)
    }

    fn end_all(&mut self, word: &'static [u8]) {
        self.word = word;
        self.ready.extend(self.held.drain(..));
    }
}

impl Server for Holds {
    fn start(&mut self, waker: &Waker, _now: Now) {
        self.wakers.send(waker.clone()).unwrap();
    }

    fn open(&mut self, id: ConnectionId, _peer: &Peer, now: Now) -> Admission {
        self.held.push(id);
        self.due = self.hold.map(|hold| now.instant + hold);
        Admission::Admit
    }

    fn receive(&mut self, _: ConnectionId, input: &mut Input<'_>, out: &mut SendQueue, _now: Now) -> After {
        out.put(input.take(usize::MAX));
        After::Open
    }

    fn resume(&mut self, _id: ConnectionId, out: &mut SendQueue, _now: Now) -> After {
        out.put(self.word);
        After::Finish
    }

    fn next_ready(&mut self, _now: Now) -> Option<ConnectionId> {
        self.ready.pop_front()
    }

    fn deadline(&self) -> Option<Instant> {
        self.due
    }

    fn on_deadline(&mut self, now: Now) {
        assert!(self.due <= Some(now.instant));
        self.due = None;
        self.end_all(b"late");
    }

    fn on_wake(&mut self, _now: Now) {
        // A wake-up may be for the handle's sake: only what it is about counts.
        if self.hold.is_none() && !self.held.is_empty() {
            self.end_all(b"woken");
        }
    }

    fn drain(&mut self, _by: Instant, _now: Now) {
        self.end_all(b"bye");
    }

    fn closed(&mut self, id: ConnectionId, why: Closed, _now: Now) {
        self.held.retain(|held| *held != id);
        let _nobody_asks = self.closed.send(why);
    }
}

/// A connection that is known to be accepted and served.
fn held(running: &Running) -> TcpStream {
    let mut client = running.connect();
    client.write_all(b"!").unwrap();
    client.read_exact(&mut [0]).unwrap();
    client
}

fn rest(client: &mut TcpStream) -> String {
    let mut rest = String::new();
    client.read_to_string(&mut rest).unwrap();
    rest
}

pub(crate) fn bytes_come_back<R: Runs>() {
    let running = Running::start::<R>(Echo::new().0);
    let mut client = running.connect();
    for message in [&b"a"[..], b"bcd", &[7; 5000]] {
        client.write_all(message).unwrap();
        let mut back = vec![0; message.len()];
        client.read_exact(&mut back).unwrap();
        assert_eq!(back, message);
    }
}

pub(crate) fn many_connections_are_kept_apart<R: Runs>() {
    let running = Running::start::<R>(Echo::new().0);
    let mut clients: Vec<TcpStream> = (0..300).map(|_| running.connect()).collect();
    for (n, client) in clients.iter_mut().enumerate() {
        client.write_all(&n.to_be_bytes()).unwrap();
    }
    for (n, client) in clients.iter_mut().enumerate() {
        let mut back = [0; size_of::<usize>()];
        client.read_exact(&mut back).unwrap();
        assert_eq!(usize::from_be_bytes(back), n);
    }
}

pub(crate) fn a_slow_reader_gets_every_byte<R: Runs>() {
    let running = Running::start::<R>(Echo::new().0);
    let sent: Vec<u8> = (0..1u32 << 20).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let mut reader = running.connect();
    let mut writer = reader.try_clone().unwrap();
    let bytes = sent.clone();
    let writing = spawn(move || {
        for part in bytes.chunks(1999) {
            writer.write_all(part).unwrap();
        }
        writer.shutdown(Shutdown::Write).unwrap();
    });
    let mut back = Vec::new();
    let mut part = [0; 777];
    loop {
        match reader.read(&mut part).unwrap() {
            0 => break,
            count => back.extend_from_slice(&part[..count]),
        }
        if back.len() % 7 == 0 {
            thread::yield_now();
        }
    }
    writing.join().unwrap();
    assert!(back == sent, "{} bytes of {} came back", back.len(), sent.len());
}

/// The reader takes nothing until the writer is stopped by it: the server must stop reading, too, and go on later.
pub(crate) fn a_reader_that_stops_stops_the_writer<R: Runs>() {
    let running = Running::start::<R>(Echo::new().0);
    let mut client = running.connect();
    client.set_nonblocking(true).unwrap();
    let mut sent = 0;
    let mut idle = 0;
    while idle < 20 {
        match client.write(&[b'x'; 16 << 10]) {
            Ok(count) => {
                idle = 0;
                sent += count;
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                idle += 1;
                pause(10);
            }
        }
        assert!(sent < 256 << 20, "nothing stops the writer");
    }
    client.set_nonblocking(false).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(io::copy(&mut client, &mut io::sink()).unwrap(), sent as u64);
}

/// The buffers of both sides are full, and stay so: after a while that is the end of it, and others are served all along.
pub(crate) fn a_reader_that_never_reads_is_given_up<R: Runs>() {
    let (echo, closed) = Echo::new();
    let mut options = Options::new([([127, 0, 0, 1], 0).into()]);
    options.driver.write_stall = Duration::from_millis(300);
    let (runtime, handle) = R::bind(options).unwrap();
    let running = Running { handle, thread: Some(spawn(move || R::serve(runtime, echo))) };
    let mut client = running.connect();
    let mut other = held(&running);
    let writing = spawn(move || {
        let written = (0..1 << 14).try_for_each(|_| client.write_all(&[b'x'; 16 << 10]));
        (client, written)
    });
    let mut turns = 0;
    let why = loop {
        if let Ok(why) = closed.try_recv() {
            break why;
        }
        other.write_all(b"?").unwrap();
        other.read_exact(&mut [0]).unwrap();
        pause(5);
        turns += 1;
        assert!(turns < 4000, "nothing gives it up");
    };
    assert_eq!(why, Closed::WriteStalled);
    let (_client, written) = writing.join().unwrap();
    assert!(written.is_err(), "its connection is closed");
}

pub(crate) fn a_half_closed_peer_still_gets_its_answer<R: Runs>() {
    let (echo, closed) = Echo::new();
    let running = Running::start::<R>(echo);
    let mut client = running.connect();
    client.write_all(b"last words").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rest(&mut client), "last words");
    assert_eq!(closed.recv_timeout(PATIENCE), Ok(Closed::Finished));
}

pub(crate) fn an_early_answer_outlives_the_upload<R: Runs>() {
    let running = Running::start::<R>(Refuses);
    let mut client = running.connect();
    client.write_all(&vec![0; 4 << 20]).unwrap();
    assert_eq!(rest(&mut client), "too large");
}

pub(crate) fn a_reset_is_a_failure<R: Runs>() {
    let (echo, closed) = Echo::new();
    let running = Running::start::<R>(echo);
    let client = held(&running);
    socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
    assert_eq!(closed.recv_timeout(PATIENCE), Ok(Closed::Failed));
    held(&running); // it serves on
}

pub(crate) fn shutdown_says_farewell_and_ends<R: Runs>() {
    let (holds, _waker, closed) = Holds::new(Some(PATIENCE * 10));
    let mut running = Running::start::<R>(holds);
    let mut client = held(&running);
    running.handle.shutdown(PATIENCE);
    assert_eq!(rest(&mut client), "bye");
    assert_eq!(TcpStream::connect(running.address()).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    drop(client);
    running.join();
    assert_eq!(closed.recv(), Ok(Closed::Finished));
}

pub(crate) fn shutdown_ends_although_a_peer_stays<R: Runs>() {
    let mut running = Running::start::<R>(Echo::new().0);
    let mut client = held(&running);
    running.handle.shutdown(Duration::from_millis(50));
    running.join();
    assert_eq!(client.read(&mut [0]).unwrap_or(0), 0);
}

pub(crate) fn abort_ends_at_once<R: Runs>() {
    let (holds, _waker, closed) = Holds::new(Some(PATIENCE * 10));
    let mut running = Running::start::<R>(holds);
    let mut client = held(&running);
    running.handle.abort();
    running.join();
    assert_eq!(client.read(&mut [0]).unwrap_or(0), 0, "an abort says nothing");
    assert_eq!(closed.recv(), Ok(Closed::Drained));
}

pub(crate) fn a_stop_asked_for_before_serving_counts<R: Runs>() {
    let (runtime, handle) = R::bind(Options::new([([127, 0, 0, 1], 0).into()])).unwrap();
    handle.shutdown(PATIENCE);
    R::serve(runtime, Echo::new().0).unwrap();
}

pub(crate) fn a_stop_asked_for_before_splitting_counts_for_all<R: Runs>() {
    let (runtime, handle) = R::bind(Options::new([([127, 0, 0, 1], 0).into()])).unwrap();
    handle.shutdown(PATIENCE);
    let (ended, all) = mpsc::channel();
    for runtime in R::split(runtime, NonZeroUsize::new(3).unwrap()).unwrap() {
        let ended = ended.clone();
        spawn(move || ended.send(R::serve(runtime, Echo::new().0).is_ok()));
    }
    for _ in 0..3 {
        assert_eq!(all.recv_timeout(PATIENCE), Ok(true));
    }
}

pub(crate) fn another_thread_wakes_the_server<R: Runs>() {
    let (holds, waker, _closed) = Holds::new(None);
    let running = Running::start::<R>(holds);
    let waker = waker.recv_timeout(PATIENCE).unwrap();
    for _ in 0..50 {
        let mut client = held(&running);
        (0..3).for_each(|_| waker.wake_by_ref());
        assert_eq!(rest(&mut client), "woken");
    }
}

pub(crate) fn a_deadline_fires<R: Runs>() {
    let (holds, _waker, _closed) = Holds::new(Some(Duration::from_millis(30)));
    let running = Running::start::<R>(holds);
    for _ in 0..3 {
        assert_eq!(rest(&mut running.connect()), "late");
    }
}

pub(crate) fn every_address_is_served<R: Runs>() {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let (runtime, handle) = R::bind(Options::new([any, any, any])).unwrap();
    let mut running = Running { handle, thread: Some(spawn(move || R::serve(runtime, Echo::new().0))) };
    for &address in running.handle.local_addresses() {
        let mut client = connect(address);
        client.write_all(b"?").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(rest(&mut client), "?");
    }
    running.handle.shutdown(PATIENCE);
    running.join();
}

/// Requests behind each other, an upgrade, a message in two frames and a farewell, all sent at once.
pub(crate) fn a_conversation_changes_its_protocol<R: Runs>(echo: impl Server + Send + 'static) {
    let running = Running::start::<R>(echo);
    let mut client = running.connect();
    let mut sent = b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello\
        POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nwor\r\n2\r\nld\r\n0\r\n\r\n\
        GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        .to_vec();
    sent.extend(b"\x01\x82\0\0\0\0fr\x80\x86\0\0\0\0agment\x88\x82\0\0\0\0\x03\xe8");
    client.write_all(&sent).unwrap();
    let mut all = Vec::new();
    client.read_to_end(&mut all).unwrap();
    let (frames, heads) = all.split_last_chunk::<16>().map(|(heads, frames)| (frames, heads)).unwrap();
    assert_eq!(frames, b"\x01\x02fr\x80\x06agment\x88\x02\x03\xe8");
    let heads = String::from_utf8_lossy(heads);
    let lines: Vec<&str> = heads.lines().filter(|line| !line.starts_with("Date: ")).collect();
    assert_eq!(
        lines,
        [
            "HTTP/1.1 200 OK",
            "Content-Type: text/plain",
            "Content-Length: 5",
            "",
            "helloHTTP/1.1 200 OK",
            "Content-Type: application/octet-stream",
            "Content-Length: 5",
            "",
            "worldHTTP/1.1 101 Switching Protocols",
            "Upgrade: websocket",
            "Connection: upgrade",
            "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
            "",
        ]
    );
}

/// Content that is far larger than what is kept of it goes through a reader that is slower than the writer.
pub(crate) fn large_content_streams_back<R: Runs>(echo: impl Server + Send + 'static) {
    const BYTES: usize = 4 << 20;
    let running = Running::start::<R>(echo);
    let mut reader = running.connect();
    let mut writer = reader.try_clone().unwrap();
    let writing = spawn(move || {
        write!(writer, "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {BYTES}\r\n\r\n").unwrap();
        writer.write_all(&vec![b'x'; BYTES]).unwrap();
    });
    let mut all = Vec::new();
    let mut part = [0; 9000];
    loop {
        match reader.read(&mut part).unwrap() {
            0 => break,
            count => all.extend_from_slice(&part[..count]),
        }
    }
    writing.join().unwrap();
    assert!(all.ends_with(b"\r\n0\r\n\r\n"), "the content ends");
    all.retain(|&byte| byte == b'x'); // there is none in a head, nor in a hexadecimal number
    assert_eq!(all.len(), BYTES);
}

/// A process that has 40 descriptors serves 100 connections that are all open from the start: as some end, others
/// are accepted.
pub(crate) fn running_out_of_descriptors_is_survived<R: Runs>() {
    let server = Child::with_few_descriptors("with_few_descriptors");
    let clients: Vec<TcpStream> = (0..100).map(|_| connect(server.address)).collect();
    for mut client in clients {
        client.write_all(b"!").unwrap();
        client.read_exact(&mut [0]).unwrap();
    }
}

/// A process that has 40 descriptors refuses 100 connections that all stay: each hears of it.
pub(crate) fn those_who_are_refused_do_not_take_all_descriptors<R: Runs>() {
    let server = Child::with_few_descriptors("refusing_with_few_descriptors");
    let mut clients = Vec::new();
    for _ in 0..100 {
        let mut client = connect(server.address);
        assert_eq!(rest(&mut client), "no");
        clients.push(client);
    }
}

/// A test of this program that runs as a process of its own, with 40 descriptors, and is always ended.
struct Child {
    process: process::Child,
    address: SocketAddr,
}

impl Child {
    fn with_few_descriptors(test: &str) -> Self {
        let mut process = Command::new("sh")
            .args(["-c", "ulimit -n 40 && exec \"$0\" \"$@\""])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", test, "--ignored", "--nocapture"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines().map(Result::unwrap);
        let address = lines.find_map(|line| Some(line.split_once("listening on ")?.1.to_owned()));
        Self { process, address: address.unwrap().parse().unwrap() }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

/// The process of the first of the tests above.
pub(crate) fn serve_with_few_descriptors<R: Runs>() {
    let (runtime, handle) = R::bind(Options::new([([127, 0, 0, 1], 0).into()])).unwrap();
    println!("listening on {}", handle.local_addresses()[0]);
    R::serve(runtime, Echo::new().0).unwrap();
}

/// And that of the second: nothing but their number ends the waits for peers.
pub(crate) fn refuse_with_few_descriptors<R: Runs>() {
    let mut options = Options::new([([127, 0, 0, 1], 0).into()]);
    options.driver.lingering = 8;
    (options.driver.linger, options.driver.linger_idle) = (10 * PATIENCE, 10 * PATIENCE);
    let (runtime, handle) = R::bind(options).unwrap();
    println!("listening on {}", handle.local_addresses()[0]);
    R::serve(runtime, Full).unwrap();
}

/// What a client is told: what was said, and how it ended.
#[derive(Default)]
pub(crate) struct Heard {
    /// Sent when it opens.
    say: Vec<Vec<u8>>,
    /// Farewell is said after so many messages.
    until: usize,
    /// Told when one opens.
    opened: Option<Sender<()>>,
    pub(crate) messages: Vec<Vec<u8>>,
    refused: Option<(u16, Vec<u8>)>,
    failed: Vec<SocketError>,
    pub(crate) clean: Vec<bool>,
}

impl Heard {
    pub(crate) fn saying(say: Vec<Vec<u8>>) -> Self {
        Self { until: say.len(), say, ..Self::default() }
    }

    fn waiting_for(until: usize) -> Self {
        Self { until, ..Self::default() }
    }
}

impl ClientHandler for Heard {
    fn opened(&mut self, socket: &mut Socket<'_>) {
        if let Some(opened) = &self.opened {
            opened.send(()).unwrap();
        }
        for message in &self.say {
            socket.send(Message::Binary(message)).unwrap();
        }
    }

    fn message(&mut self, message: Message<'_>, socket: &mut Socket<'_>) {
        self.messages.push(message.as_bytes().to_vec());
        if self.messages.len() == self.until {
            socket.close(CloseCode::NORMAL, "").unwrap();
        }
    }

    fn refused(&mut self, _: ConnectionId, head: &Response<'_>, body: &[u8]) {
        self.refused = Some((head.code(), body.to_vec()));
    }

    fn failed(&mut self, _: ConnectionId, error: SocketError) {
        self.failed.push(error);
    }

    fn closed(&mut self, _: ConnectionId, close: Close<'_>) {
        self.clean.push(close.clean);
    }
}

pub(crate) fn client(handler: Heard) -> WebSocketClient<Heard> {
    WebSocketClient::new(handler, WebSocketClientConfig::new("localhost", "/"), [7; 32]).unwrap()
}

/// Runs a client over connections to these addresses until they are gone.
fn talk<R: Runs>(addresses: &[SocketAddr], handler: Heard) -> io::Result<Heard> {
    Ok(try_to_connect::<R, _>(addresses, client(handler), PATIENCE)?.into_handler())
}

fn try_to_connect<R: Runs, S: Server>(
    addresses: &[SocketAddr],
    server: S,
    connect_timeout: Duration,
) -> io::Result<S> {
    let mut options = Options { connect: addresses.to_vec(), connect_timeout, ..Options::default() };
    // The server answers before it has read a message to its end, and reads no more until that is taken.
    options.driver.output_mark = 4 << 20;
    let (runtime, _handle) = R::bind(options)?;
    R::run(runtime, server)
}

/// Messages come back, small and larger than all buffers, and both sides say farewell.
pub(crate) fn a_client_talks_and_says_farewell<R: Runs>(echo: impl Server + Send + 'static) {
    let running = Running::start::<R>(echo);
    let say = vec![b"a".to_vec(), vec![], vec![7; 1 << 20], b"z".to_vec()];
    let heard = talk::<R>(&[running.address()], Heard::saying(say.clone())).unwrap();
    // A message that the server gave back in parts is one.
    assert!(heard.messages == say, "{:?}", heard.messages.iter().map(Vec::len).collect::<Vec<_>>());
    assert_eq!((heard.clean, heard.failed.len()), (vec![true], 0));
}

pub(crate) fn a_client_hears_why_it_was_refused<R: Runs>() {
    let running = Running::start::<R>(HandlerServer::new(NoSockets));
    let heard = talk::<R>(&[running.address()], Heard::default()).unwrap();
    assert_eq!(heard.refused, Some((404, b"no sockets here".to_vec())));
    assert_eq!((heard.clean.len(), heard.failed.len()), (0, 0));
}

struct NoSockets;

impl Handler for NoSockets {
    fn request(&mut self, _: Request<'_>) -> keepwatch_protocol::handler::Response {
        keepwatch_protocol::handler::Response::new(StatusCode::NOT_FOUND).with_body("no sockets here")
    }
}

pub(crate) fn a_refused_connection_is_an_error<R: Runs>() {
    let free = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap(); // nobody listens any more
    let error = talk::<R>(&[free], Heard::default()).map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    assert!(error.to_string().contains(&free.to_string()), "{error}");
}

/// One whose queue of connections is full answers to no more of them.
pub(crate) fn a_connection_that_is_not_made_in_time_is_an_error<R: Runs>() {
    if !cfg!(target_os = "linux") {
        return; // others refuse instead, or have longer queues
    }
    let full = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    full.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    full.listen(0).unwrap();
    let address = full.local_addr().unwrap().as_socket().unwrap();
    let _fills_it = TcpStream::connect(address).unwrap();
    let error =
        try_to_connect::<R, _>(&[address], Echo::new().0, Duration::from_millis(50)).map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
}

pub(crate) fn connecting_nowhere_is_an_error<R: Runs>() {
    let error = try_to_connect::<R, _>(&[], Echo::new().0, PATIENCE).map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

pub(crate) fn one_runtime_listens_and_connects<R: Runs>() {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let far = TcpListener::bind(any).unwrap();
    let options = Options { connect: vec![far.local_addr().unwrap()], ..Options::new([any]) };
    let (runtime, handle) = R::bind(options).unwrap();
    let mut running = Running { handle, thread: Some(spawn(move || R::serve(runtime, Echo::new().0))) };
    let mut came = held(&running);
    let (mut made, _) = far.accept().unwrap();
    for peer in [&mut made, &mut came] {
        peer.write_all(b"?").unwrap();
        peer.read_exact(&mut [0]).unwrap();
    }
    drop((made, came));
    drop(held(&running)); // it goes on without those that it made
    running.handle.shutdown(PATIENCE);
    running.join();
}

/// One that has three connections, and would keep them for ever.
pub(crate) fn a_client_can_be_stopped<R: Runs>(echo: impl Server + Send + 'static) {
    let running = Running::start::<R>(echo);
    let (opened, all_open) = mpsc::channel();
    let client = client(Heard { opened: Some(opened), ..Heard::default() });
    let options = Options { connect: vec![running.address(); 3], ..Options::default() };
    let (runtime, handle) = R::bind(options).unwrap();
    let talking = spawn(move || R::run(runtime, client).unwrap().into_handler());
    (0..3).for_each(|_| all_open.recv_timeout(PATIENCE).unwrap());
    handle.shutdown(PATIENCE);
    assert_eq!(talking.join().unwrap().clean, [true; 3]);
}

/// Each of its runtimes ends by itself, as one that is not split does; the first has all connections.
pub(crate) fn a_client_that_is_split_ends<R: Runs>(echo: impl Server + Send + 'static) {
    let running = Running::start::<R>(echo);
    for count in [1, 3] {
        let options = Options { connect: vec![running.address()], ..Options::default() };
        let (runtime, _handle) = R::bind(options).unwrap();
        let (ended, all) = mpsc::channel();
        for runtime in R::split(runtime, NonZeroUsize::new(count).unwrap()).unwrap() {
            let (ended, client) = (ended.clone(), client(Heard::saying(vec![b"a".to_vec()])));
            spawn(move || ended.send(R::run(runtime, client).unwrap().into_handler().messages.len()));
        }
        let messages: usize = (0..count).map(|_| all.recv_timeout(PATIENCE).unwrap()).sum();
        assert_eq!(messages, 1);
    }
}

/// By time, on each connection from its own start.
pub(crate) fn numbers_are_pushed<R: Runs>(numbers: impl Server + Send + 'static) {
    let running = Running::start::<R>(numbers);
    let heard = talk::<R>(&[running.address()], Heard { until: 3, ..Heard::saying(vec![b"echo".to_vec()]) });
    assert_eq!(heard.unwrap().messages, [&b"echo"[..], b"1", b"2"]);
    let heard = talk::<R>(&[running.address()], Heard::waiting_for(1)).unwrap();
    assert_eq!((heard.messages, heard.clean), (vec![b"1".to_vec()], vec![true]));
}

#[allow(clippy::disallowed_methods, reason = "a client waits to see that nothing happens")]
fn pause(millis: u64) {
    thread::sleep(Duration::from_millis(millis));
}

/// All of the above for one runtime.
macro_rules! suite {
    ($runs:ty: $($name:ident)*) => {
        $(#[test]
        fn $name() {
            support::$name::<$runs>();
        })*

        #[test]
        fn a_conversation_changes_its_protocol() {
            support::a_conversation_changes_its_protocol::<$runs>(machine::Echo::new());
        }

        #[test]
        fn large_content_streams_back() {
            support::large_content_streams_back::<$runs>(machine::Echo::new());
        }

        #[test]
        fn a_client_talks_and_says_farewell() {
            support::a_client_talks_and_says_farewell::<$runs>(machine::Echo::new());
        }

        #[test]
        fn a_client_can_be_stopped() {
            support::a_client_can_be_stopped::<$runs>(machine::Echo::new());
        }

        #[test]
        fn a_client_that_is_split_ends() {
            support::a_client_that_is_split_ends::<$runs>(machine::Echo::new());
        }

        #[test]
        fn numbers_are_pushed() {
            use keepwatch_protocol::handler::HandlerServer;
            support::numbers_are_pushed::<$runs>(HandlerServer::new(numbers::Numbers::default()));
        }

        #[test]
        #[ignore = "runs only as a process of another test"]
        fn with_few_descriptors() {
            support::serve_with_few_descriptors::<$runs>();
        }

        #[test]
        #[ignore = "runs only as a process of another test"]
        fn refusing_with_few_descriptors() {
            support::refuse_with_few_descriptors::<$runs>();
        }
    };
    ($runs:ty) => {
        suite! { $runs:
            bytes_come_back
            many_connections_are_kept_apart
            a_slow_reader_gets_every_byte
            a_reader_that_stops_stops_the_writer
            a_reader_that_never_reads_is_given_up
            a_half_closed_peer_still_gets_its_answer
            an_early_answer_outlives_the_upload
            a_reset_is_a_failure
            shutdown_says_farewell_and_ends
            shutdown_ends_although_a_peer_stays
            abort_ends_at_once
            a_stop_asked_for_before_serving_counts
            a_stop_asked_for_before_splitting_counts_for_all
            another_thread_wakes_the_server
            a_deadline_fires
            every_address_is_served
            running_out_of_descriptors_is_survived
            those_who_are_refused_do_not_take_all_descriptors
            a_client_hears_why_it_was_refused
            a_refused_connection_is_an_error
            a_connection_that_is_not_made_in_time_is_an_error
            connecting_nowhere_is_an_error
            one_runtime_listens_and_connects
        }
    };
}
