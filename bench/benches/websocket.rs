//! Messages of a client read by a server, and messages framed: beside four other crates, and a copy of the same bytes.
//!
//! Measured in the thread's own processor time. Everyone reads the same masked frames from memory, over and over, in reads of a given size, and copies them into a buffer of
//! its own as a socket's bytes are. The floor does that and nothing else. `in place` is our machine without the read: the
//! frames are masked with zeros, so that they are the same after each round, at the same price.
//!
//! What the others do differs: tungstenite, `tokio-websockets` and `sockudo-ws` give whole messages and check that text is
//! UTF-8, `fastwebsockets` gives frames. Each runs as it is set by default, but for limits and buffers.

use std::cell::Cell;
use std::future::Future;
use std::hint::black_box;
use std::io::{self, Cursor, Read, Write};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use futures_util::{Sink, Stream};
use keepwatch_bench::{CpuTime, Random};
use keepwatch_protocol::websocket::{
    Config, Connection, Event, FrameHead, Message, MessageKind, Opcode, Prepared, Role, mask,
};
use keepwatch_protocol::{Input, Now};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// About as many bytes of frames as a read brings.
const LOT: usize = 64 << 10;
/// What a read brings where the network is quicker than the reader, and a segment of a TCP stream.
const READS: [usize; 2] = [LOT, 1460];

/// Frames that come again and again.
#[derive(Clone)]
struct Lot {
    wire: Rc<[u8]>,
    messages: usize,
}

impl Lot {
    fn new(kind: MessageKind, payload: &[u8], key: Option<[u8; 4]>) -> Self {
        let messages = (LOT / payload.len()).max(1);
        let mut wire = Vec::new();
        let mut random = Random::new(9);
        for _ in 0..messages {
            let key = key.unwrap_or_else(|| (random.below(1 << 32) as u32).to_be_bytes());
            let head = FrameHead::new(true, kind.into(), payload.len() as u64, Some(key));
            wire.extend_from_slice(head.as_ref());
            let start = wire.len();
            wire.extend_from_slice(payload);
            mask::apply(key, 0, &mut wire[start..]);
        }
        Self { wire: wire.into(), messages }
    }

    fn read_in(&self, step: usize) -> Wire {
        Wire { wire: Rc::clone(&self.wire), at: 0, step, lots: Rc::default() }
    }
}

/// A socket on which the lot never ends; what is written to it is gone.
struct Wire {
    wire: Rc<[u8]>,
    at: usize,
    step: usize,
    lots: Rc<Cell<usize>>,
}

impl Wire {
    fn next(&mut self, room: usize) -> &[u8] {
        let end = self.wire.len().min(self.at + self.step.min(room));
        let start = std::mem::replace(&mut self.at, end);
        if end == self.wire.len() {
            self.at = 0;
            self.lots.set(self.lots.get() + 1);
        }
        &self.wire[start..end]
    }
}

impl Read for Wire {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let bytes = self.next(to.len());
        to[..bytes.len()].copy_from_slice(bytes);
        Ok(bytes.len())
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(black_box(bytes).len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let room = to.remaining();
        to.put_slice(self.next(room));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(black_box(bytes).len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Nothing here ever waits.
fn now<F: Future>(future: F) -> F::Output {
    ready(pin!(future).poll(&mut Context::from_waker(Waker::noop())))
}

fn ready<T>(poll: Poll<T>) -> T {
    match poll {
        Poll::Ready(value) => value,
        Poll::Pending => unreachable!("the bytes are there"),
    }
}

/// A server's machine, whose caller keeps what it leaves in front of what it reads next.
struct Ours {
    connection: Connection,
    wire: Wire,
    buffer: Vec<u8>,
    held: usize,
}

impl Ours {
    fn new(wire: Wire) -> Self {
        let connection = Connection::new(Role::Server, Arc::new(Config::default()), 7, Now::default());
        Self { connection, wire, buffer: vec![0; 2 * LOT], held: 0 }
    }

    /// One lot, read and received.
    fn read(&mut self) -> usize {
        let (mut messages, lots) = (0, self.wire.lots.get());
        while self.wire.lots.get() == lots {
            let bytes = self.wire.next(LOT);
            let end = self.held + bytes.len();
            self.buffer[self.held..end].copy_from_slice(bytes);
            let mut input = Input::new(&mut self.buffer[..end]);
            messages += receive(&mut self.connection, &mut input);
            let consumed = input.consumed();
            self.buffer.copy_within(consumed..end, 0);
            self.held = end - consumed;
        }
        messages
    }
}

fn receive(connection: &mut Connection, input: &mut Input<'_>) -> usize {
    let mut messages = 0;
    loop {
        match connection.recv(input, &mut Vec::new(), Now::default()) {
            Ok(Event::Data { bytes, last, .. }) => {
                messages += usize::from(!black_box(bytes).is_empty() && last)
            }
            Ok(Event::NeedMore) => return messages,
            other => unreachable!("{other:?}"),
        }
    }
}

fn decode(criterion: &mut Criterion<CpuTime>) {
    let ascii = "What is held for you is told to you. ".repeat(30);
    let mixed = "Keepwatch: κόσμε, Grüße, ещё раз, 日本語のテキスト, 😀 and so on. ".repeat(1000);
    let mixed = &mixed[..mixed.floor_char_boundary(LOT)];
    for (name, kind, payload) in [
        ("binary 64 B", MessageKind::Binary, &[0x5a; 64][..]),
        ("binary 1 KiB", MessageKind::Binary, &[0x5a; 1024]),
        ("binary 64 KiB", MessageKind::Binary, &[0x5a; LOT]),
        ("text 64 B ASCII", MessageKind::Text, &ascii.as_bytes()[..64]),
        ("text 1 KiB ASCII", MessageKind::Text, &ascii.as_bytes()[..1024]),
        ("text 64 KiB mixed", MessageKind::Text, mixed.as_bytes()),
    ] {
        let lot = Lot::new(kind, payload, None);
        for step in READS {
            let mut group = criterion.benchmark_group(format!("websocket/{name}/reads of {step}"));
            group.throughput(Throughput::Elements(lot.messages as u64));
            group.sample_size(20);
            group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
            if step == LOT {
                in_place(&mut group, kind, payload);
            }
            in_reads(&mut group, &lot, step);
            group.finish();
        }
    }
}

fn in_place(group: &mut BenchmarkGroup<'_, CpuTime>, kind: MessageKind, payload: &[u8]) {
    let lot = Lot::new(kind, payload, Some([0; 4]));
    let mut wire = lot.wire.to_vec();
    let mut connection = Connection::new(Role::Server, Arc::new(Config::default()), 7, Now::default());
    group.bench_function("keepwatch, in place", |bench| {
        bench.iter(|| {
            let messages = receive(&mut connection, &mut Input::new(black_box(&mut wire)));
            assert_eq!(messages, lot.messages);
        });
    });
}

fn in_reads(group: &mut BenchmarkGroup<'_, CpuTime>, lot: &Lot, step: usize) {
    let messages = lot.messages;
    group.bench_function("memcpy", |bench| {
        let (mut wire, mut buffer) = (lot.read_in(step), vec![0; LOT]);
        let lots = Rc::clone(&wire.lots);
        bench.iter(|| {
            let before = lots.get();
            while lots.get() == before {
                let bytes = wire.next(LOT);
                black_box(&mut buffer[..bytes.len()]).copy_from_slice(bytes);
            }
        });
    });
    group.bench_function("keepwatch", |bench| {
        let mut ours = Ours::new(lot.read_in(step));
        bench.iter(|| assert_eq!(ours.read(), messages));
    });
    group.bench_function("tungstenite", |bench| {
        let wire = lot.read_in(step);
        let mut socket =
            tungstenite::WebSocket::from_raw_socket(wire, tungstenite::protocol::Role::Server, None);
        bench.iter(|| {
            for _ in 0..messages {
                black_box(socket.read().expect("a message"));
            }
        });
    });
    group.bench_function("fastwebsockets", |bench| {
        let mut socket =
            fastwebsockets::WebSocket::after_handshake(lot.read_in(step), fastwebsockets::Role::Server);
        bench.iter(|| {
            for _ in 0..messages {
                black_box(now(socket.read_frame()).expect("a frame"));
            }
        });
    });
    group.bench_function("tokio-websockets", |bench| {
        let mut socket = tokio_websockets::ServerBuilder::new().serve(lot.read_in(step));
        bench.iter(|| {
            for _ in 0..messages {
                let mut context = Context::from_waker(Waker::noop());
                let message = ready(Pin::new(&mut socket).poll_next(&mut context));
                black_box(message.expect("a message").expect("it is valid"));
            }
        });
    });
    group.bench_function("sockudo-ws", |bench| {
        let mut protocol = sockudo_ws::protocol::Protocol::new(sockudo_ws::Role::Server, 1 << 20, 1 << 20);
        let (mut wire, mut buffer, mut found) = (lot.read_in(step), BytesMut::new(), Vec::new());
        let lots = Rc::clone(&wire.lots);
        bench.iter(|| {
            let (mut count, before) = (0, lots.get());
            while lots.get() == before {
                buffer.extend_from_slice(wire.next(LOT));
                protocol.process_into(&mut buffer, &mut found).expect("it is valid");
                count += black_box(&found).len();
            }
            assert_eq!(count, messages);
        });
    });
}

/// Sizes of payloads to be framed.
const SIZES: [usize; 3] = [64, 1 << 10, 64 << 10];

/// A server's frame: its head, as the payload can be written from where it is; and where a crate copies it, the whole.
fn encode_server(criterion: &mut Criterion<CpuTime>) {
    for size in SIZES {
        let mut group = criterion.benchmark_group(format!("websocket/server frame/{size}"));
        group.sample_size(20);
        group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
        let server = Connection::new(Role::Server, Arc::new(Config::default()), 7, Now::default());
        group.bench_function("keepwatch, head", |bench| {
            bench.iter(|| FrameHead::new(true, Opcode::Binary, black_box(size) as u64, None));
        });
        group.bench_function("keepwatch, head, if it may be sent", |bench| {
            bench.iter(|| server.frame_head(MessageKind::Binary, black_box(size) as u64).expect("open"));
        });
        group.bench_function("tungstenite, head", |bench| {
            use tungstenite::protocol::frame::{
                FrameHeader,
                coding::{Data, OpCode},
            };
            let head = FrameHeader { opcode: OpCode::Data(Data::Binary), ..FrameHeader::default() };
            let mut out = [0; 16];
            bench.iter(|| head.format(black_box(size) as u64, &mut Cursor::new(black_box(&mut out[..]))));
        });
        let payload = vec![0x5a; size];
        group.bench_function("fastwebsockets, head", |bench| {
            let mut frame = fastwebsockets::Frame::binary(fastwebsockets::Payload::Borrowed(&payload));
            let mut out = [0; 16];
            bench.iter(|| black_box(&mut frame).fmt_head(black_box(&mut out)));
        });
        group.bench_function("keepwatch, prepared", |bench| {
            bench.iter(|| Prepared::new(Message::Binary(black_box(&payload))));
        });
        group.bench_function("sockudo-ws, whole", |bench| {
            let mut protocol =
                sockudo_ws::protocol::Protocol::new(sockudo_ws::Role::Server, 1 << 20, 1 << 20);
            let message = sockudo_ws::Message::binary(Bytes::from(payload.clone()));
            let mut out = BytesMut::with_capacity(2 * LOT);
            bench.iter(|| {
                out.clear();
                protocol.encode_message(&message, &mut out)
            });
        });
        group.finish();
    }
}

/// A client's frame, masked, in a buffer; and masking alone, in place.
fn encode_client(criterion: &mut Criterion<CpuTime>) {
    for size in SIZES {
        let mut group = criterion.benchmark_group(format!("websocket/client frame/{size}"));
        group.sample_size(20);
        group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
        let payload = vec![0x5a; size];
        let shared = Bytes::from(payload.clone());
        group.bench_function("memcpy", |bench| {
            let mut out = Vec::with_capacity(2 * LOT);
            bench.iter(|| {
                out.clear();
                out.extend_from_slice(black_box(&payload));
                black_box(&mut out);
            });
        });
        group.bench_function("keepwatch", |bench| {
            let mut client = Connection::new(Role::Client, Arc::new(Config::default()), 7, Now::default());
            let mut out = Vec::with_capacity(2 * LOT);
            bench.iter(|| {
                out.clear();
                client.send(MessageKind::Binary, black_box(&payload), &mut out).expect("open");
                black_box(&mut out);
            });
        });
        group.bench_function("tungstenite", |bench| {
            let wire = Lot::new(MessageKind::Binary, &[0], None).read_in(1);
            let role = tungstenite::protocol::Role::Client;
            let mut socket = tungstenite::WebSocket::from_raw_socket(wire, role, None);
            bench.iter(|| socket.send(tungstenite::Message::Binary(shared.clone())).expect("open"));
        });
        group.bench_function("tokio-websockets", |bench| {
            let wire = Lot::new(MessageKind::Binary, &[0], None).read_in(1);
            let mut socket = tokio_websockets::ClientBuilder::new().take_over(wire);
            bench.iter(|| {
                let mut context = Context::from_waker(Waker::noop());
                let message = tokio_websockets::Message::binary(shared.clone());
                Pin::new(&mut socket).start_send(message).expect("open");
                ready(Pin::new(&mut socket).poll_flush(&mut context)).expect("open");
            });
        });
        group.bench_function("sockudo-ws", |bench| {
            let mut protocol =
                sockudo_ws::protocol::Protocol::new(sockudo_ws::Role::Client, 1 << 20, 1 << 20);
            let message = sockudo_ws::Message::binary(shared.clone());
            let mut out = BytesMut::with_capacity(2 * LOT);
            bench.iter(|| {
                out.clear();
                protocol.encode_message(&message, &mut out)
            });
        });
        group.bench_function("mask alone, keepwatch", |bench| {
            let mut bytes = payload.clone();
            bench.iter(|| mask::apply(black_box([1, 2, 3, 4]), 0, black_box(&mut bytes)));
        });
        group.bench_function("mask alone, sockudo-ws", |bench| {
            let mut bytes = payload.clone();
            bench.iter(|| sockudo_ws::simd::apply_mask(black_box(&mut bytes), black_box([1, 2, 3, 4])));
        });
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(CpuTime);
    targets = decode, encode_server, encode_client
}
criterion_main!(benches);
