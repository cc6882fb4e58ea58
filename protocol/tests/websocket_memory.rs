//! What the WebSocket machine allocates: next to nothing, and in steady state nothing at all.
//!
//! Memory is counted by thread, so that the tests can run together.
#![expect(unsafe_code, reason = "an allocator that counts can only be written so")]
#![expect(clippy::unwrap_used, clippy::cast_possible_wrap, reason = "all of this is a test")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use keepwatch_protocol::websocket::{
    Assembler, Config, Connection, Event, FrameHead, Message, MessageKind, Opcode, Prepared, Role, mask,
};
use keepwatch_protocol::{Input, Now, SendQueue, Sink};

struct Counting;

thread_local! {
    /// Allocations made, bytes held, and the most that were held.
    static COUNTS: Cell<(usize, i64, i64)> = const { Cell::new((0, 0, 0)) };
}

fn count(allocations: usize, allocated: usize, freed: usize) {
    let bytes = allocated as i64 - freed as i64;
    // Without a destructor it is there until the thread is gone.
    COUNTS.with(|counts| {
        let (made, held, most) = counts.get();
        counts.set((made + allocations, held + bytes, most.max(held + bytes)));
    });
}

// SAFETY: every call is handed to the system's allocator as it came; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(1, layout.size(), 0);
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count(0, 0, layout.size());
        // SAFETY: as above.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(1, size, layout.size());
        // SAFETY: as above.
        unsafe { System.realloc(block, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The allocations that it makes, and the most bytes that it holds at a time beyond those held before.
fn measure(work: impl FnOnce()) -> (usize, usize) {
    let (made, held, _) = COUNTS.get();
    COUNTS.set((made, held, held));
    work();
    let (now_made, _, most) = COUNTS.get();
    (now_made - made, usize::try_from(most - held).unwrap())
}

fn allocations(work: impl FnOnce()) -> usize {
    measure(work).0
}

const BOTH: [Role; 2] = [Role::Server, Role::Client];
/// How much is streamed; all of it where the optimizer helps.
const STREAMED: u64 = if cfg!(debug_assertions) { 32 << 20 } else { 1 << 30 };

fn connection(role: Role, config: Config) -> Connection {
    Connection::new(role, Arc::new(config), 1, Now::default())
}

fn unlimited() -> Config {
    Config { message_bytes: u64::MAX, ..Config::default() }
}

fn frame(receiver: Role, fin: bool, opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let key = (receiver == Role::Server).then_some([1, 2, 3, 4]);
    let mut payload = payload.to_vec();
    mask::apply(key.unwrap_or_default(), 0, &mut payload);
    [FrameHead::new(fin, opcode, payload.len() as u64, key).as_ref(), &payload].concat()
}

/// Gives `said` to the machine, which answers into `out`; returns the bytes of data that came of it.
fn receive(connection: &mut Connection, said: &mut [u8], out: &mut impl Sink) -> u64 {
    let mut received = 0;
    let mut input = Input::new(said);
    loop {
        match connection.recv(&mut input, out, Now::default()).unwrap() {
            Event::NeedMore => break,
            Event::Data { bytes, .. } => received += bytes.len() as u64,
            _ => {}
        }
    }
    assert!(input.is_empty());
    received
}

/// Streams one message from one machine to the other, part by part. Returns the most that both held, and made.
fn stream(sender: &mut Connection, receiver: &mut Connection, part: &[u8]) -> (usize, usize) {
    let mut wire = Vec::with_capacity(2 * part.len() + 1024);
    let mut answers = Vec::with_capacity(1024);
    measure(|| {
        let (mut sent, mut received) = (0, 0);
        while sent < STREAMED {
            wire.clear();
            sent += part.len() as u64;
            sender.send_part(MessageKind::Binary, part, sent >= STREAMED, &mut wire).unwrap();
            received += receive(receiver, &mut wire, &mut answers);
        }
        assert_eq!(received, STREAMED);
    })
}

#[test]
fn row_streaming_a_message_of_any_length_takes_no_memory() {
    for role in BOTH {
        let mut sender = connection(role, unlimited());
        let mut receiver = connection(role.other(), unlimited());
        let (_, most) = stream(&mut sender, &mut receiver, &vec![7; 64 << 10]);
        assert_eq!(most, 0);
    }
}

#[test]
fn row_ping_flood_two_million_pings_take_no_memory() {
    for role in BOTH {
        let mut pings = frame(role, true, Opcode::Ping, b"?").repeat(1_000_000);
        let mut connection = connection(role, Config::default());
        let mut out = Vec::with_capacity(1024);
        let (made, most) = measure(|| assert_eq!(receive(&mut connection, &mut pings, &mut out), 0));
        assert!(made <= 2 && most < 512, "{made} allocations, {most} bytes");
        assert!(out.len() < 200, "pongs: {} bytes", out.len());
    }
}

#[test]
fn row_ping_flood_who_never_reads_is_not_read_from() {
    let mut connection = connection(Role::Server, Config::default());
    let mut out = SendQueue::new(16 << 10);
    let read = frame(Role::Server, true, Opcode::Ping, &[0; 125]).repeat(30);
    let mut reads = 0;
    while !out.over_mark() {
        receive(&mut connection, &mut read.clone(), &mut out);
        reads += 1;
    }
    assert!(reads < 20 && out.len() < (16 << 10) + 30 * 127);
}

#[test]
fn nothing_is_allocated_for_a_message() {
    for role in BOTH {
        let mut connection = connection(role, Config::default());
        let said = [
            frame(role, true, Opcode::Text, &[b'x'; 1000]),
            frame(role, false, Opcode::Text, &[b'x'; 1000]),
            frame(role, true, Opcode::Ping, b"?"),
            frame(role, true, Opcode::Continuation, &[b'x'; 1000]),
            frame(role, true, Opcode::Pong, b"?"),
        ]
        .concat();
        let (mut buffer, mut out) = (said.clone(), Vec::with_capacity(16 << 10));
        let mut round = || {
            out.clear();
            buffer.copy_from_slice(&said);
            assert_eq!(receive(&mut connection, &mut buffer, &mut out), 3000);
            connection.send_text("an answer", &mut out).unwrap();
            connection.send(MessageKind::Binary, &[0; 3000], &mut out).unwrap();
            connection.send_part(MessageKind::Text, b"in ", false, &mut out).unwrap();
            connection.send_part(MessageKind::Text, b"parts", true, &mut out).unwrap();
            connection.ping(b"?", &mut out, Now::default()).unwrap();
        };
        round();
        assert_eq!(allocations(|| (0..100).for_each(|_| round())), 0);
    }
}

#[test]
fn nothing_is_allocated_for_a_message_that_is_put_together() {
    let mut connection = connection(Role::Server, Config::default());
    let mut assembler = Assembler::new(1 << 20);
    let said = [
        frame(Role::Server, false, Opcode::Text, &[b'x'; 5000]),
        frame(Role::Server, true, Opcode::Continuation, &[b'x'; 5000]),
    ]
    .concat();
    let mut buffer = said.clone();
    let mut out = Vec::new();
    let mut round = || {
        buffer.copy_from_slice(&said);
        let mut input = Input::new(&mut buffer);
        loop {
            match connection.recv(&mut input, &mut out, Now::default()).unwrap() {
                Event::NeedMore => panic!("there is a message"),
                Event::Data { kind, bytes, first, last } => {
                    if let Some(message) = assembler.push(kind, &bytes, first, last).unwrap() {
                        return assert_eq!(message.as_bytes().len(), 10_000);
                    }
                }
                _ => {}
            }
        }
    };
    round();
    assert_eq!(allocations(|| (0..100).for_each(|_| round())), 0);
}

#[test]
fn row_prepared_nothing_is_allocated_for_a_reader_of_a_broadcast() {
    let readers: Vec<Connection> = (0..100).map(|_| connection(Role::Server, Config::default())).collect();
    let prepared = Prepared::new(Message::Text("news"));
    let broadcast = || {
        for reader in &readers {
            drop(Arc::clone(prepared.for_connection(reader).unwrap()));
        }
    };
    assert_eq!(allocations(broadcast), 0);
}

#[cfg(feature = "deflate")]
mod deflated {
    use keepwatch_protocol::websocket::Compression;
    use keepwatch_protocol::websocket::deflate::{DeflateConfig, Terms};

    use super::*;

    const OFFER: &str = "permessage-deflate; client_max_window_bits";

    fn held() -> i64 {
        COUNTS.get().1
    }

    fn settings(takeover: bool) -> DeflateConfig {
        let terms = Terms { send_takeover: takeover, receive_takeover: takeover, ..Terms::default() };
        DeflateConfig { terms, ..DeflateConfig::default() }
    }

    fn deflating(role: Role, compression: &Compression, config: Config) -> Connection {
        let agreed = match role {
            Role::Server => compression.answer([OFFER]).unwrap(),
            Role::Client => {
                let offer = compression.offer().unwrap();
                let (_, answer) = Terms::default().answer([offer.field()]).unwrap();
                offer.accept([&*answer]).unwrap().unwrap()
            }
        };
        connection(role, Config { compression: compression.clone(), ..config }).with_deflate(agreed)
    }

    #[test]
    fn a_connection_that_has_agreed_and_sits_idle_takes_nothing() {
        let compression = Compression::deflate(settings(false));
        let config = Arc::new(Config { compression: compression.clone(), ..Config::default() });
        let open = || {
            let agreed = compression.answer([OFFER]).unwrap();
            Connection::new(Role::Server, Arc::clone(&config), 1, Now::default()).with_deflate(agreed)
        };
        let before = held();
        let idle = [(); 100].map(|()| open());
        assert_eq!((held() - before, size_of_val(&idle)), (0, 6400));
    }

    #[test]
    fn what_is_counted_is_what_is_allocated() {
        for bits in 9..=15 {
            for memory_level in 1..=9 {
                let terms = Terms { send_window_bits: bits, ..Terms::default() };
                let deflate = DeflateConfig { terms, memory_level, ..settings(true) };
                let before = held();
                let compression = Compression::deflate(deflate);
                let mut server = deflating(Role::Server, &compression, Config::default());
                let mut out = Vec::with_capacity(1024);
                server.send_text(&"text ".repeat(1000), &mut out).unwrap();
                let mut hello = *b"\xc1\x87\0\0\0\0\xf2\x48\xcd\xc9\xc9\x07\x00";
                assert_eq!(receive(&mut server, &mut hello, &mut out), 5);
                drop(out);
                let allocated = usize::try_from(held() - before).unwrap();
                let counted = compression.memory();
                assert!(allocated <= counted + 1024, "{bits} {memory_level}: {allocated} of {counted}");
                assert!(counted <= allocated + (16 << 10), "{bits} {memory_level}: {allocated} of {counted}");
            }
        }
    }

    #[test]
    fn row_streaming_a_compressed_message_of_any_length_takes_its_states() {
        for takeover in [true, false] {
            let sends = Compression::deflate(settings(takeover));
            let receives = Compression::deflate(settings(takeover));
            let mut sender = deflating(Role::Server, &sends, unlimited());
            let mut receiver = deflating(Role::Client, &receives, unlimited());
            let (_, most) = stream(&mut sender, &mut receiver, &vec![7; 64 << 10]);
            let states = sends.memory() + receives.memory();
            assert!(most < states + (1 << 10), "{most} bytes, of which {states} are for states");
            assert!(states < 1 << 20);
        }
    }

    #[test]
    fn row_bomb_takes_no_more_than_its_state() {
        // A gigabyte of zeros, as far as it is read.
        let mut bomb = Vec::new();
        let peers = Compression::deflate(DeflateConfig { level: 9, ..settings(false) });
        let mut peer = deflating(Role::Client, &peers, Config::default());
        let zeros = vec![0; 1 << 20];
        for index in 0..16 {
            peer.send_part(MessageKind::Binary, &zeros, index == 15, &mut bomb).unwrap();
        }
        assert!(bomb.len() < 64 << 10);
        let compression = Compression::deflate(settings(false));
        let mut server = deflating(Role::Server, &compression, Config::default());
        let mut out = Vec::with_capacity(1024);
        let mut received = 0;
        let (_, most) = measure(|| {
            let mut input = Input::new(&mut bomb);
            let error = loop {
                match server.recv(&mut input, &mut out, Now::default()) {
                    Ok(Event::Data { bytes, .. }) => received += bytes.len(),
                    Ok(other) => panic!("{other:?}"),
                    Err(error) => break error,
                }
            };
            assert_eq!(error.code().get(), 1009);
        });
        assert_eq!(received, 1 << 20, "the limit, and not a byte more");
        assert!(most < 80 << 10, "{most}");
    }

    #[test]
    fn nothing_is_allocated_for_a_compressed_message() {
        for takeover in [true, false] {
            for role in BOTH {
                let ours = Compression::deflate(settings(takeover));
                let theirs = Compression::deflate(settings(takeover));
                let mut connection = deflating(role, &ours, Config::default());
                let mut peer = deflating(role.other(), &theirs, Config::default());
                let text = "a message that is worth it; ".repeat(100);
                let (mut said, mut answers) = (Vec::with_capacity(8192), Vec::with_capacity(8192));
                let mut round = || {
                    said.clear();
                    answers.clear();
                    peer.send_text(&text, &mut said).unwrap();
                    for last in [false, true] {
                        peer.send_part(MessageKind::Text, text.as_bytes(), last, &mut said).unwrap();
                    }
                    let received = receive(&mut connection, &mut said, &mut answers);
                    assert_eq!(received, 3 * text.len() as u64);
                    connection.send_text(&text, &mut answers).unwrap();
                    assert!(answers.len() < 1000);
                };
                round();
                assert_eq!(allocations(|| (0..100).for_each(|_| round())), 0, "{takeover} {role:?}");
            }
        }
    }

    #[test]
    fn row_prepared_a_broadcast_is_compressed_once() {
        let compression = Compression::deflate(settings(false));
        let readers: Vec<Connection> =
            (0..100).map(|_| deflating(Role::Server, &compression, Config::default())).collect();
        let prepared = Prepared::new(Message::Text(&"news ".repeat(1000)));
        let broadcast = || {
            for reader in &readers {
                assert!(Arc::clone(prepared.for_connection(reader).unwrap()).len() < 200);
            }
        };
        broadcast();
        assert_eq!(allocations(broadcast), 0);
    }
}
