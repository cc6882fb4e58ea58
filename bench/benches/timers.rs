//! Deadlines of 100,000 held connections: the lazy wheel, an ordered set, and a heap that is lazy too.
//!
//! Each is given what a server needs: one deadline for each key, which can be moved, cancelled, and asked for. `rearm` is what
//! happens all the time; `fire` walks the clock to each next deadline until all have fired.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::time::Duration;

use criterion::{
    BatchSize, BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime,
};
use keepwatch_bench::Random;
use keepwatch_protocol::Instant;
use keepwatch_protocol::timer::Wheel;

const KEYS: usize = 100_000;
const RESOLUTION: Duration = Duration::from_millis(10);
const MILLISECOND: u64 = 1_000_000;

/// What is compared.
trait Timers: Clone {
    const NAME: &str;
    fn new() -> Self;
    fn set(&mut self, key: usize, at: u64);
    fn next(&mut self) -> Option<u64>;
    fn expire(&mut self, now: u64) -> Option<usize>;
}

impl Timers for Wheel {
    const NAME: &str = "wheel";

    fn new() -> Self {
        Wheel::new(RESOLUTION)
    }

    fn set(&mut self, key: usize, at: u64) {
        Wheel::set(self, key, Instant::from_nanos(at));
    }

    fn next(&mut self) -> Option<u64> {
        Wheel::next(self).map(Instant::as_nanos)
    }

    fn expire(&mut self, now: u64) -> Option<usize> {
        Wheel::expire(self, Instant::from_nanos(now))
    }
}

/// Every deadline in order; moving one is a removal and an insertion.
#[derive(Clone)]
struct Ordered {
    deadlines: Vec<u64>,
    order: BTreeSet<(u64, u32)>,
}

impl Timers for Ordered {
    const NAME: &str = "BTreeSet";

    fn new() -> Self {
        Self { deadlines: vec![u64::MAX; KEYS], order: BTreeSet::new() }
    }

    fn set(&mut self, key: usize, at: u64) {
        let old = std::mem::replace(&mut self.deadlines[key], at);
        self.order.remove(&(old, key as u32));
        self.order.insert((at, key as u32));
    }

    fn next(&mut self) -> Option<u64> {
        self.order.first().map(|&(at, _)| at)
    }

    fn expire(&mut self, now: u64) -> Option<usize> {
        let &(at, key) = self.order.first().filter(|&&(at, _)| at <= now)?;
        self.order.remove(&(at, key));
        self.deadlines[key as usize] = u64::MAX;
        Some(key as usize)
    }
}

/// One entry for each key, as early as its deadline or earlier; moved when it comes to the top. Moving a deadline to an
/// earlier time would need a second entry; it is not measured here, and not done.
#[derive(Clone)]
struct LazyHeap {
    deadlines: Vec<u64>,
    heap: BinaryHeap<Reverse<(u64, u32)>>,
}

impl Timers for LazyHeap {
    const NAME: &str = "BinaryHeap, lazy";

    fn new() -> Self {
        Self { deadlines: vec![u64::MAX; KEYS], heap: BinaryHeap::new() }
    }

    fn set(&mut self, key: usize, at: u64) {
        if std::mem::replace(&mut self.deadlines[key], at) == u64::MAX {
            self.heap.push(Reverse((at, key as u32)));
        }
    }

    fn next(&mut self) -> Option<u64> {
        self.heap.peek().map(|&Reverse((at, _))| at)
    }

    fn expire(&mut self, now: u64) -> Option<usize> {
        loop {
            let mut top = self.heap.peek_mut().filter(|top| top.0.0 <= now)?;
            let key = top.0.1;
            let at = self.deadlines[key as usize];
            if at <= now {
                self.deadlines[key as usize] = u64::MAX;
                std::collections::binary_heap::PeekMut::pop(top);
                return Some(key as usize);
            }
            top.0.0 = at; // it sinks when the borrow ends
        }
    }
}

/// Deadlines 30 to 60 seconds ahead, set in some order: connections come and are used in no order.
fn armed<T: Timers>(order: &[usize], ahead: &[u64]) -> T {
    let mut timers = T::new();
    for &key in order {
        timers.set(key, ahead[key]);
    }
    timers
}

fn fire<T: Timers>(timers: &mut T) -> usize {
    let mut fired = 0;
    while let Some(now) = timers.next() {
        while timers.expire(now).is_some() {
            fired += 1;
        }
    }
    assert_eq!(fired, KEYS);
    fired
}

fn measure<T: Timers>(group: &mut BenchmarkGroup<'_, WallTime>, operation: &str) {
    let mut random = Random::new(7);
    let order = random.order(KEYS);
    let ahead: Vec<u64> = (0..KEYS).map(|_| (30_000 + random.below(30_000)) * MILLISECOND).collect();
    let later: Vec<u64> = ahead.iter().map(|at| at + random.below(15_000) * MILLISECOND).collect();
    let rearm = |timers: &mut T| order.iter().rev().for_each(|&key| timers.set(key, later[key]));
    let fresh: T = armed(&order, &ahead);
    let mut rearmed = fresh.clone();
    rearm(&mut rearmed);
    match operation {
        "arm" => group.bench_function(T::NAME, |bench| {
            bench.iter_with_large_drop(|| armed::<T>(&order, &ahead));
        }),
        "rearm" => group.bench_function(T::NAME, |bench| {
            bench.iter_batched_ref(|| fresh.clone(), rearm, BatchSize::LargeInput);
        }),
        _ => group.bench_function(T::NAME, |bench| {
            // After one re-arming each: the price of having been lazy is paid here.
            bench.iter_batched_ref(|| rearmed.clone(), fire, BatchSize::LargeInput);
        }),
    };
}

fn timers(criterion: &mut Criterion) {
    for operation in ["arm", "rearm", "fire"] {
        let mut group = criterion.benchmark_group(format!("timers/{operation}"));
        group.throughput(Throughput::Elements(KEYS as u64));
        group.sample_size(20).warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3));
        measure::<Wheel>(&mut group, operation);
        measure::<LazyHeap>(&mut group, operation);
        measure::<Ordered>(&mut group, operation);
        group.finish();
    }
}

criterion_group!(benches, timers);
criterion_main!(benches);
