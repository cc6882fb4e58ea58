//! The loop: hold so many, publish so much, wait until everyone has everything.

use std::cmp::Ordering;
use std::io::ErrorKind;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use mio::{Events, Interest, Poll, Token};

use crate::Fault;
use crate::options::{Options, PATIENCE};
use crate::process::{Calls, Cpu, resident};
use crate::publisher::Publisher;
use crate::report::{Memory, Report, Window};
use crate::subscriber::{Shared, Watcher};
use crate::value::Wrong;

/// Events taken between two looks at the publisher's answers, so that those do not wait behind ten thousand deliveries.
const EVENTS: usize = 64;
/// Subscribers that are connecting at once: less than any server's backlog.
const CONNECTING: u32 = 200;

const PUBLISHER: Token = Token(usize::MAX - 1);
const PROBER: Token = Token(usize::MAX - 2);

/// Holds, publishes, and says what it cost.
///
/// # Errors
///
/// Someone did not get something once and in order, or the server is gone.
pub fn run<W: Watcher>(options: &Options) -> Result<Report, Fault> {
    let mut load = Load::<W>::new(options)?;
    load.begin()?;
    let memory = load.hold_all()?;
    load.publish(options.warm_up)?;
    let calls = load.count_calls(options.system_calls)?;
    let window = load.publish(options.changes)?;
    load.finish()?;
    let mut answers = histogram()?;
    for publisher in load.publishers {
        answers.add(&publisher.answers)?;
    }
    let probes = load.prober.map(|prober| prober.publisher.answers);
    Ok(Report { options: options.clone(), memory, window, calls, delays: load.delays, answers, probes })
}

struct Load<'o, W> {
    options: &'o Options,
    shared: Shared,
    poll: Poll,
    events: Events,
    subscribers: Vec<W>,
    publishers: Vec<Publisher>,
    prober: Option<Prober>,
    buffer: Vec<u8>,
    /// When each change was due.
    due: Vec<Instant>,
    /// With several writers: the changes in the order that the server gave them, as the first subscribers to be told had it.
    order: Vec<u32>,
    /// All deliveries there were.
    delivered: u64,
    last: Instant,
    /// Microseconds from when a change was due until it was read.
    delays: Histogram<u64>,
}

/// Writes at a rate of its own, whatever else goes on.
struct Prober {
    publisher: Publisher,
    next: Instant,
    pause: Duration,
    count: u32,
}

impl<'o, W: Watcher> Load<'o, W> {
    fn new(options: &'o Options) -> Result<Self, Fault> {
        let (poll, shared) = (Poll::new()?, Shared::new(options));
        let mut publishers = Vec::new();
        for _ in 0..options.writers {
            let mut publisher = Publisher::new(options.server)?;
            poll.registry().register(&mut publisher.stream, PUBLISHER, Interest::READABLE)?;
            publishers.push(publisher);
        }
        Ok(Self {
            options,
            shared,
            poll,
            events: Events::with_capacity(EVENTS),
            subscribers: Vec::with_capacity(options.subscribers as usize),
            publishers,
            prober: None,
            buffer: vec![0; 64 << 10],
            due: Vec::with_capacity(options.all_changes() as usize),
            order: Vec::new(),
            delivered: 0,
            last: Instant::now(),
            delays: histogram()?,
        })
    }

    /// A first write, of a value that is no change: pollers are told its revision.
    fn begin(&mut self) -> Result<(), Fault> {
        self.write_aside(&self.shared.keys.key(0), b"begun")
    }

    /// A write that is no change, and its answer.
    fn write_aside(&mut self, key: &str, value: &'static [u8]) -> Result<(), Fault> {
        self.publishers[0].put(key, value.len(), |out| out.extend(value), Instant::now());
        self.publishers[0].flush()?;
        self.until(Self::is_answered)
    }

    fn is_answered(&self) -> bool {
        self.publishers.iter().all(Publisher::is_answered)
    }

    /// A tenth of them are there before memory is looked at the first time: what a server takes once is not the connections'.
    fn hold_all(&mut self) -> Result<Option<Memory>, Fault> {
        let first = self.options.subscribers.div_ceil(10);
        self.hold(first)?;
        self.rest(Duration::from_millis(300))?;
        let before = self.options.server_pid.map(resident).transpose()?;
        self.hold(self.options.subscribers)?;
        self.rest(Duration::from_millis(700))?;
        let after = self.options.server_pid.map(resident).transpose()?;
        let connections = self.options.subscribers - first;
        Ok(before.zip(after).map(|(before, after)| Memory { connections, before, after }))
    }

    fn hold(&mut self, count: u32) -> Result<(), Fault> {
        while (self.subscribers.len() as u32) < count {
            let from = self.subscribers.len();
            for number in from as u32..count.min(from as u32 + CONNECTING) {
                let key = self.shared.keys.key(number);
                let mut subscriber = W::new(number, &key, self.publishers[0].revision, &self.shared)?;
                subscriber.register(self.poll.registry(), Token(number as usize))?;
                self.subscribers.push(subscriber);
            }
            self.until(|load| load.subscribers[from..].iter().all(W::is_held))?;
            // A poll that is held says nothing; but who is served behind it knows that it was read.
            self.write_aside("load/nobody", b"held")?;
        }
        Ok(())
    }

    /// Publishes so many changes, as the options say, and returns when everyone has them and all is quiet.
    fn publish(&mut self, changes: u32) -> Result<Window, Fault> {
        self.delays.reset();
        self.publishers.iter_mut().for_each(|publisher| publisher.answers.reset());
        self.prober = self.begin_to_probe()?;
        let (cpu, own, delivered) = (self.cpu()?, Cpu::of(std::process::id())?, self.delivered);
        let start = Instant::now();
        self.last = start;
        match self.options.rate {
            Some(rate) => self.at_rate(changes, rate, start)?,
            None => self.in_bursts(changes)?,
        }
        let used = Cpu::of(std::process::id())?.since(own);
        // What a server does behind the last delivery: reading the polls that come back.
        self.rest(Duration::from_millis(30))?;
        Ok(Window {
            changes,
            deliveries: self.delivered - delivered,
            seconds: (self.last - start).as_secs_f64(),
            server: self.cpu()?.zip(cpu).map(|(after, before)| after.since(before)),
            load: used,
        })
    }

    fn in_bursts(&mut self, changes: u32) -> Result<(), Fault> {
        let mut left = changes;
        while left > 0 {
            let burst = left.min(self.options.burst);
            left -= burst;
            let due = Instant::now();
            for _ in 0..burst {
                self.put(due);
            }
            self.flush()?;
            let wanted = self.wanted();
            self.until(|load| load.delivered >= wanted && load.is_answered())?;
        }
        Ok(())
    }

    fn at_rate(&mut self, changes: u32, rate: f64, start: Instant) -> Result<(), Fault> {
        for number in 0..changes {
            let due = start + Duration::from_secs_f64(f64::from(number) / rate);
            while Instant::now() < due {
                self.turn(Duration::ZERO)?;
            }
            self.put(due);
            self.flush()?;
        }
        let wanted = self.wanted();
        self.until(|load| load.delivered >= wanted && load.is_answered())
    }

    fn put(&mut self, due: Instant) {
        let change = self.due.len() as u32;
        let key = self.shared.keys.key(change % self.shared.step);
        let values = &self.shared.values;
        let writer = change as usize % self.publishers.len();
        self.publishers[writer].put(&key, values.bytes(), |out| values.put(change, out), due);
        self.due.push(due);
    }

    fn flush(&mut self) -> Result<(), Fault> {
        self.publishers.iter_mut().try_for_each(Publisher::flush)
    }

    /// All deliveries that there are to be.
    fn wanted(&self) -> u64 {
        self.due.len() as u64 * self.options.audience()
    }

    fn begin_to_probe(&mut self) -> Result<Option<Prober>, Fault> {
        if self.options.probe <= 0.0 {
            return Ok(None);
        }
        let mut publisher = Publisher::new(self.options.server)?;
        self.poll.registry().register(&mut publisher.stream, PROBER, Interest::READABLE)?;
        let pause = Duration::from_secs_f64(1.0 / self.options.probe);
        Ok(Some(Prober { publisher, next: Instant::now(), pause, count: 0 }))
    }

    fn count_calls(&mut self, changes: u32) -> Result<Option<f64>, Fault> {
        let Some(pid) = self.options.server_pid.filter(|_| changes > 0) else { return Ok(None) };
        let calls = Calls::begin(pid)?;
        let window = self.publish(changes)?;
        let calls = calls.end()?;
        Ok(calls.map(|calls| calls as f64 / window.deliveries as f64))
    }

    /// Waits for what should not come, and looks whether everyone has everything.
    fn finish(&mut self) -> Result<(), Fault> {
        self.rest(Duration::from_millis(200))?;
        let all = self.due.len() as u32;
        for (number, subscriber) in self.subscribers.iter().enumerate() {
            let (first, step) = (self.shared.first(number as u32), self.shared.step);
            let next = first + all.saturating_sub(first).div_ceil(step) * step;
            if subscriber.next() != next {
                return Err(format!("{number} is at {}, not at {next}", subscriber.next()).into());
            }
        }
        if self.delivered != self.wanted() { Err("a delivery was counted twice".into()) } else { Ok(()) }
    }

    /// Takes turns until it is so.
    fn until(&mut self, is_so: impl Fn(&Self) -> bool) -> Result<(), Fault> {
        let (mut since, mut delivered) = (Instant::now(), self.delivered);
        while !is_so(self) {
            self.turn(Duration::from_millis(100))?;
            if self.delivered > delivered {
                (since, delivered) = (Instant::now(), self.delivered);
            } else if since.elapsed() > PATIENCE {
                let (held, wanted) =
                    (self.subscribers.iter().filter(|one| one.is_held()).count(), self.wanted());
                return Err(format!(
                    "nothing comes: {held} are held, {delivered} of {wanted} changes were delivered"
                )
                .into());
            }
        }
        Ok(())
    }

    fn rest(&mut self, time: Duration) -> Result<(), Fault> {
        let until = Instant::now() + time;
        while Instant::now() < until {
            self.turn(Duration::from_millis(10))?;
        }
        Ok(())
    }

    /// Waits for events, but no longer than this, and takes some of them.
    fn turn(&mut self, wait: Duration) -> Result<(), Fault> {
        let wait = if self.prober.is_some() { Duration::ZERO } else { wait };
        match self.poll.poll(&mut self.events, Some(wait)) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error.into()),
            _ => {}
        }
        for event in &self.events {
            let token = event.token();
            let Some(subscriber) = self.subscribers.get_mut(token.0) else { continue };
            let (now, due) = (Instant::now(), &self.due);
            let (delays, delivered, order) = (&mut self.delays, &mut self.delivered, &mut self.order);
            let (step, alone) = (self.shared.step, self.publishers.len() == 1);
            let came = |change: u32, next: &mut u32| {
                if alone { in_order(change, *next) } else { in_one_order(change, *next, order) }?;
                *next += step;
                *delivered += 1;
                let due = due.get(change as usize).ok_or(Wrong("a change came that was not published"))?;
                delays.saturating_record(now.saturating_duration_since(*due).as_micros() as u64);
                Ok(())
            };
            let received =
                subscriber.receive(&mut self.buffer, (self.poll.registry(), token), &self.shared, came);
            received.map_err(|error| format!("subscriber {}: {error}", token.0))?;
            self.last = now;
        }
        for publisher in &mut self.publishers {
            publisher.receive(&mut self.buffer)?;
        }
        if let Some(prober) = &mut self.prober {
            prober.probe(&mut self.buffer)?;
        }
        Ok(())
    }

    fn cpu(&self) -> Result<Option<Cpu>, Fault> {
        self.options.server_pid.map(Cpu::of).transpose()
    }
}

/// The change has to be the next one.
#[inline]
fn in_order(change: u32, next: u32) -> Result<(), Wrong> {
    match change.cmp(&next) {
        Ordering::Less => Err(Wrong("a change came twice")),
        Ordering::Greater => Err(Wrong("a change was left out, or is another's")),
        Ordering::Equal => Ok(()),
    }
}

/// The change has to be the one that others were told at this place. The first one to be told decides, unless that change has a
/// place already.
fn in_one_order(change: u32, place: u32, order: &mut Vec<u32>) -> Result<(), Wrong> {
    match order.get(place as usize) {
        Some(&other) if other == change => Ok(()),
        Some(_) => Err(Wrong("changes came in another order than to others")),
        // It can only have changed places with what was published together with it.
        None if order.iter().rev().take(1000).any(|&other| other == change) => {
            Err(Wrong("a change came twice"))
        }
        None => {
            order.push(change);
            Ok(())
        }
    }
}

/// Microseconds, up to a minute.
pub fn histogram() -> Result<Histogram<u64>, Fault> {
    Ok(Histogram::new_with_max(60_000_000, 3)?)
}

impl Prober {
    fn probe(&mut self, buffer: &mut [u8]) -> Result<(), Fault> {
        self.publisher.receive(buffer)?;
        while self.next <= Instant::now() {
            let value = format!("{:08}", self.count);
            self.publisher.put("load/nobody", value.len(), |out| out.extend(value.as_bytes()), self.next);
            self.publisher.flush()?;
            self.count += 1;
            self.next += self.pause;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_writer_has_one_order() {
        assert!(in_order(3, 3).is_ok());
        assert!(in_order(2, 3).is_err());
        assert!(in_order(4, 3).is_err());
    }

    #[test]
    fn several_writers_have_the_order_of_whoever_was_told_first() {
        let mut order = Vec::new();
        for (change, place, is_right) in
            [(1, 0, true), (0, 1, true), (1, 0, true), (0, 0, false), (1, 2, false), (2, 2, true)]
        {
            assert_eq!(in_one_order(change, place, &mut order).is_ok(), is_right, "{change} at {place}");
        }
    }
}
