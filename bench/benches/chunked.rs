//! Taking a chunked body apart: this crate's decoder, two other ways, and a copy of the payload as the floor.
//!
//! The others are given what they need to be correct on these bodies, and no more: the loop around httparse reads sizes with
//! `parse_chunk_size`, which is laxer than RFC 9112; `chunked_transfer` copies into a buffer, since it is a `Read`.

use std::hint::black_box;
use std::io::Read;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use keepwatch_protocol::Input;
use keepwatch_protocol::http1::Limits;
use keepwatch_protocol::http1::chunked::{Chunk, ChunkHead, Decoder};

/// A body of so many bytes in chunks of one size.
fn body(payload: usize, chunk: usize) -> Vec<u8> {
    let mut wire = Vec::new();
    for start in (0..payload).step_by(chunk) {
        let length = chunk.min(payload - start);
        wire.extend_from_slice(ChunkHead::new(length).as_bytes());
        wire.extend((start..start + length).map(|at| b'a' + (at % 26) as u8));
        wire.extend_from_slice(b"\r\n");
    }
    wire.extend_from_slice(b"0\r\n\r\n");
    wire
}

/// In place: the payload is borrowed from the input.
fn ours(wire: &mut [u8]) -> usize {
    let (limits, mut decoder, mut input) = (Limits::default(), Decoder::new(), Input::new(wire));
    let mut length = 0;
    loop {
        match decoder.decode(&mut input, &limits) {
            Ok(Chunk::Data(data)) => length += black_box(data).len(),
            Ok(Chunk::End) => return length,
            other => unreachable!("{other:?}"),
        }
    }
}

/// Borrowed too, a slice for each chunk.
fn httparse_loop(mut wire: &[u8]) -> usize {
    let mut length = 0;
    while let Ok(httparse::Status::Complete((head, size))) = httparse::parse_chunk_size(wire) {
        let size = size as usize;
        let (data, rest) = wire[head..].split_at(size);
        length += black_box(data).len();
        assert_eq!(&rest[..2], b"\r\n");
        wire = &rest[2..];
        if size == 0 {
            return length;
        }
    }
    unreachable!("the body is whole")
}

/// Copied into a buffer.
fn chunked_transfer(wire: &[u8], buffer: &mut [u8]) -> usize {
    let mut decoder = chunked_transfer::Decoder::new(wire);
    let mut length = 0;
    loop {
        match decoder.read(buffer) {
            Ok(0) => return length,
            Ok(count) => length += black_box(&buffer[..count]).len(),
            Err(error) => unreachable!("{error}"),
        }
    }
}

fn chunked(criterion: &mut Criterion) {
    for (name, payload, chunk) in
        [("16 KiB", 1 << 20, 16 * 1024), ("100 bytes", 1 << 16, 100), ("1 byte", 1 << 12, 1)]
    {
        let wire = body(payload, chunk);
        let mut buffer = vec![0; payload];
        assert_eq!(ours(&mut wire.clone()), payload);
        assert_eq!(httparse_loop(&wire), payload);
        assert_eq!(chunked_transfer(&wire, &mut buffer), payload);

        let mut group = criterion.benchmark_group(format!("chunked/{name}"));
        group.throughput(Throughput::Bytes(payload as u64));
        group.sample_size(30).warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3));
        group.bench_function("keepwatch", |bench| {
            // A fresh body each time, as small chunks are moved together in it.
            bench.iter_batched_ref(|| wire.clone(), |wire| ours(wire), BatchSize::LargeInput);
        });
        group.bench_function("httparse loop", |bench| {
            bench.iter_batched_ref(|| wire.clone(), |wire| httparse_loop(wire), BatchSize::LargeInput);
        });
        group.bench_function("chunked_transfer", |bench| {
            bench.iter_batched_ref(
                || wire.clone(),
                |wire| chunked_transfer(wire, &mut buffer),
                BatchSize::LargeInput,
            );
        });
        group.bench_function("memcpy of the payload", |bench| {
            let target = &mut vec![0; payload][..];
            bench.iter_batched_ref(
                || wire.clone(),
                |wire| target.copy_from_slice(black_box(&wire[..payload])),
                BatchSize::LargeInput,
            );
        });
        group.finish();
    }
}

criterion_group!(benches, chunked);
criterion_main!(benches);
