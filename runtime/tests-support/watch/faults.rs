//! Real faults: a server that is killed, readers that are stopped, buffers that are full, descriptors that are used up.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use keepwatch_watch::client::{Event, Transport as ClientTransport};

use super::client::Client;
use super::follower::{Follower, FollowerProcess, TOLD_CHANGES};
use super::process::{PATIENCE, Process, pause, spawn};
use super::watcher::{Transport, Watch, revision_of};

// ---- A server that is killed ----

/// What was written while one server lived. Its writer is the only one: the revisions follow on one another.
#[derive(Default)]
struct Life {
    start: u64,
    /// Keys and values. Whether the last one was written is not known, if the server died before it said so.
    written: Vec<(String, Vec<u8>)>,
    known: usize,
}

impl Life {
    fn state_at(&self, revision: u64) -> BTreeMap<String, Vec<u8>> {
        self.written[..(revision - self.start) as usize].iter().cloned().collect()
    }
}

/// The server that there is, and what is written to it.
struct World {
    address: SocketAddr,
    lives: Vec<Life>,
}

/// Writes on and on, to whichever server there is.
fn write_on(world: &Mutex<World>, stop: &AtomicBool) {
    let (mut connection, mut number): (Option<(usize, TcpStream)>, u64) = (None, 0);
    while !stop.load(Ordering::Relaxed) {
        let mut now = world.lock().unwrap();
        let life = now.lives.len() - 1;
        if connection.as_ref().is_none_or(|(of, _)| *of != life) {
            let Ok(stream) = TcpStream::connect(now.address) else {
                drop(now);
                pause(Duration::from_millis(5));
                continue;
            };
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.set_nodelay(true).unwrap();
            connection = Some((life, stream));
        }
        number += 1;
        let (key, value) = (format!("app/{}", number % 7), format!("{number}").into_bytes());
        now.lives[life].written.push((key.clone(), value.clone()));
        let expected = now.lives[life].start + now.lives[life].written.len() as u64;
        drop(now);
        let put = connection.as_mut().and_then(|(_, stream)| put(stream, &key, &value));
        let mut now = world.lock().unwrap();
        match put {
            Some(revision) => {
                assert_eq!(revision, expected, "it is the only writer");
                now.lives[life].known += 1;
            }
            // It died: nothing more is written to it.
            None => {
                drop(now);
                while world.lock().unwrap().lives.len() - 1 == life && !stop.load(Ordering::Relaxed) {
                    pause(Duration::from_millis(1));
                }
            }
        }
    }
}

/// The revision, if the server says so.
fn put(stream: &mut TcpStream, key: &str, value: &[u8]) -> Option<u64> {
    let head = format!("PUT /v1/kv/{key} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", value.len());
    stream.write_all(&[head.as_bytes(), value].concat()).ok()?;
    let mut answer = vec![];
    while !answer.ends_with(b"}\n") {
        let mut part = [0; 4096];
        match stream.read(&mut part).ok()? {
            0 => return None,
            count => answer.extend_from_slice(&part[..count]),
        }
    }
    let answer = String::from_utf8(answer).unwrap();
    let (_, revision) = answer.rsplit_once("{\"revision\":").unwrap_or_else(|| panic!("{answer}"));
    Some(revision.trim_end_matches("}\n").parse().unwrap())
}

/// Clients of every transport watch while a writer writes, and the server dies in the midst of it, twice. They find the next
/// one, and what each was told is all that was written, once and in order, but where it was told that something is missing.
#[test]
fn a_server_that_is_killed_is_followed_to_the_next() {
    let mut server = Process::start();
    let start = server.connect().revision();
    let life = Life { start, ..Life::default() };
    let world = Arc::new(Mutex::new(World { address: server.address(), lives: vec![life] }));
    let mut followers: Vec<Follower> = TOLD_CHANGES
        .into_iter()
        .chain([ClientTransport::ShortPoll])
        .map(|transport| {
            let world = Arc::clone(&world);
            Follower::start(transport, move || world.lock().unwrap().address)
        })
        .collect();
    let stop = Arc::new(AtomicBool::new(false));
    let writer = {
        let (world, stop) = (Arc::clone(&world), Arc::clone(&stop));
        spawn(move || write_on(&world, &stop))
    };

    for _ in 0..2 {
        let before = followers.iter().map(|follower| follower.journal.len()).collect::<Vec<_>>();
        for (follower, before) in followers.iter_mut().zip(before) {
            follower.until("it is told changes", |follower| follower.journal.len() > before + 60);
        }
        server.kill();
        let next = Process::start();
        let start = next.connect().revision();
        let mut now = world.lock().unwrap();
        now.address = next.address();
        now.lives.push(Life { start, ..Life::default() });
        drop(now);
        server = next;
        for follower in &mut followers {
            follower.until("it lists again", |follower| {
                follower
                    .journal
                    .iter()
                    .any(|event| matches!(event, Event::Listed(at) if at.as_u64() >= start))
            });
        }
    }
    pause(Duration::from_millis(50));
    stop.store(true, Ordering::Relaxed);
    writer.join().unwrap();

    let world = world.lock().unwrap();
    let last = world.lives.last().unwrap();
    let end = last.state_at(last.start + last.known as u64);
    for follower in &mut followers {
        follower.until("it comes to the state of the server", |follower| follower.state == end);
        let (lived, changes) = judge(follower, &world.lives);
        assert_eq!(lived, BTreeSet::from([0, 1, 2]), "{:?}", follower.transport);
        let states_only = follower.transport == ClientTransport::ShortPoll;
        assert!(states_only || changes > 50, "{:?}: {changes}", follower.transport);
    }
}

/// Holds what a client was told to what was written. Returns the lives that it saw, and how many changes it was told.
fn judge(follower: &Follower, lives: &[Life]) -> (BTreeSet<usize>, usize) {
    let transport = follower.transport;
    // Where it is: a life, and how much of it was told.
    let (mut at, mut missing, mut changes) = (None, false, 0);
    let mut listing: Option<BTreeMap<String, Vec<u8>>> = None;
    let mut seen = BTreeSet::new();
    for event in &follower.journal {
        match event {
            Event::Listing => listing = Some(BTreeMap::new()),
            Event::Item(item) => {
                let listing = listing.as_mut().expect("a listing is under way");
                assert_eq!(listing.insert(item.key.as_str().into(), item.value.clone()), None, "twice");
            }
            Event::Listed(revision) => {
                let revision = revision.as_u64();
                let life = lives.iter().rposition(|life| life.start <= revision).expect("a server's");
                assert_eq!(
                    listing.take(),
                    Some(lives[life].state_at(revision)),
                    "{transport:?} at {revision}"
                );
                let told = (revision - lives[life].start) as usize;
                if transport == ClientTransport::ShortPoll {
                    assert!(
                        at <= Some((life, told)),
                        "{transport:?} goes back to {life}, {told} from {at:?}"
                    );
                } else {
                    assert!(
                        missing || at.is_none(),
                        "{transport:?} lists again, and nothing is said to be missing"
                    );
                }
                (at, missing) = (Some((life, told)), false);
                seen.insert(life);
            }
            Event::Put(item) => {
                let (life, told) = at.as_mut().expect("it has listed");
                assert!(
                    !missing && listing.is_none(),
                    "{transport:?} is told a change where some are missing"
                );
                let life = &lives[*life];
                assert_eq!(item.revision.as_u64(), life.start + 1 + *told as u64, "{transport:?}");
                let (key, value) = &life.written[*told];
                assert_eq!((item.key.as_str(), &item.value), (key.as_str(), value), "{transport:?}");
                *told += 1;
                changes += 1;
            }
            Event::Compacted(_) => missing = true,
            Event::Bookmark(_) | Event::Transport(_) => {}
            other => panic!("{transport:?}: {other:?}"),
        }
    }
    (seen, changes)
}

// ---- Readers that are stopped ----

fn value(n: usize, size: usize) -> Vec<u8> {
    let mut value = vec![b'v'; size];
    value[..8].copy_from_slice(format!("{n:08}").as_bytes());
    value
}

/// Writes so often, and each time another watcher of each transport is told before it goes on.
fn write_before_others(server: &Process, count: usize, size: usize) -> Vec<u64> {
    let mut others = Transport::ALL.map(|transport| server.watch(transport, &Watch::of("small")));
    let mut client = server.connect();
    (0..count)
        .map(|n| {
            let revision = client.put("app/a", value(n, size));
            let small = client.put("small", n.to_string());
            for other in &mut others {
                assert_eq!(revision_of(&other.change()), small);
            }
            revision
        })
        .collect()
}

fn followers(server: &Process) -> Vec<FollowerProcess> {
    TOLD_CHANGES.into_iter().map(|transport| FollowerProcess::start(transport, server.address())).collect()
}

#[test]
fn a_reader_that_was_stopped_goes_on_where_it_was() {
    if !cfg!(target_os = "linux") {
        return; // which says whether it is stopped
    }
    let server = Process::start();
    let mut followers = followers(&server);
    followers.iter().for_each(FollowerProcess::stop);
    // Far less than the log keeps, and far more than buffers hold.
    let written = write_before_others(&server, 12, 1 << 20);
    for follower in &mut followers {
        assert!(follower.is_told_nothing());
        follower.go_on();
        for revision in &written {
            assert_eq!(follower.told(), format!("put app/a {revision}"), "{:?}", follower.transport);
            assert_eq!(follower.told(), format!("put small {}", revision + 1), "{:?}", follower.transport);
        }
    }
}

#[test]
fn a_reader_that_was_stopped_for_too_long_is_told_so_and_lists_again() {
    if !cfg!(target_os = "linux") {
        return;
    }
    let server = Process::start();
    let mut followers = followers(&server);
    followers.iter().for_each(FollowerProcess::stop);
    let written = write_before_others(&server, 80, 1 << 20);
    let last = written.last().unwrap();
    for follower in &mut followers {
        follower.go_on();
        let mut expected =
            written.iter().flat_map(|revision| [("app/a", *revision), ("small", revision + 1)]);
        // What was under way already, in order; then the word that the rest is gone.
        loop {
            match follower.told() {
                told if told == "compacted" => break,
                told => {
                    let (key, revision) = expected.next().expect("it is told that some are gone");
                    assert_eq!(told, format!("put {key} {revision}"), "{:?}", follower.transport);
                }
            }
        }
        assert!(expected.count() > 100, "{:?}", follower.transport);
        assert_eq!(follower.told(), format!("item app/a {last}"));
        assert_eq!(follower.told(), format!("item small {}", last + 1));
        assert_eq!(follower.told(), "listed");
    }
    let revision = server.connect().put("app/a", "small again");
    for mut follower in followers {
        assert_eq!(follower.told(), format!("put app/a {revision}"), "{:?}", follower.transport);
    }
}

// ---- Buffers that are full ----

/// 60 readers of 80 MiB that read nothing would be 4.8 GiB if the server held what each has not read.
#[test]
fn readers_that_do_not_read_share_one_log() {
    const READERS: usize = 60;
    if !cfg!(target_os = "linux") {
        return;
    }
    let server = Process::start();
    let mut readers: Vec<_> = (0..READERS)
        .map(|n| {
            let transport = Transport::STREAMS[n % Transport::STREAMS.len()];
            (transport, server.watch(transport, &Watch::of("app/")))
        })
        .collect();
    let written = write_before_others(&server, 80, 1 << 20);
    // The log and the frames of it have 64 MiB each; values and what is under way come on top.
    let most = server.most_memory();
    assert!(most < 400 << 20, "it held {} MiB", most >> 20);
    // Half of them leave without having read; the others go on, and are told that they missed something.
    let rest = readers.split_off(READERS / 2);
    drop(readers);
    for (transport, mut reader) in rest {
        let (mut next, mut told) = (written.iter(), reader.change());
        while told["type"] != "compacted" {
            assert_eq!(Some(&revision_of(&told)), next.next(), "{transport:?}");
            told = reader.change();
        }
    }
    assert_eq!(server.connect().get("/healthz").status, 200);
}

/// The binaries wait for it for 60 s; how it is with less is tested in `sockets.rs`.
#[test]
#[ignore = "takes more than a minute"]
fn a_reader_that_never_reads_is_given_up() {
    let server = Process::start();
    let watching = |client: &mut Client| {
        let metrics = client.get("/metrics").text();
        metrics.lines().find_map(|line| line.strip_prefix("keepwatch_watchers ")).unwrap().to_owned()
    };
    let mut client = server.connect();
    let readers = Transport::STREAMS.map(|transport| server.watch(transport, &Watch::of("app/")));
    assert_eq!(watching(&mut client), readers.len().to_string());
    for n in 0..20 {
        client.put("app/a", value(n, 1 << 20));
    }
    for _ in 0..70 {
        pause(Duration::from_secs(1));
        client.get("/healthz");
    }
    assert_eq!(watching(&mut client), "0");
}

// ---- Descriptors that are used up ----

/// 64 of them, and 100 who want one: those who have one are served as before, nothing spins, and who waited is served when
/// others leave.
#[test]
fn without_descriptors_those_who_are_there_are_served() {
    if !cfg!(target_os = "linux") {
        return;
    }
    let server = Process::with_descriptors(64);
    let mut watchers = Transport::ALL.map(|transport| server.watch(transport, &Watch::of("")));
    let mut client = server.connect();
    client.put("a", "0");
    for watcher in &mut watchers {
        watcher.change();
    }
    let crowd: Vec<Client> = (0..100).map(|_| server.connect()).collect();
    let mut late = server.connect();
    late.request("GET", "/healthz", &[], b"");

    let before = server.processor_time();
    for n in 0..20 {
        let revision = client.put("a", format!("{n}, as before"));
        for watcher in &mut watchers {
            assert_eq!(revision_of(&watcher.change()), revision);
        }
        pause(Duration::from_millis(50));
    }
    assert!(server.descriptors() >= 60, "they are used up: {}", server.descriptors());
    let used = server.processor_time().saturating_sub(before);
    assert!(used < Duration::from_millis(500), "{used:?} of a second");

    drop(crowd);
    assert_eq!(late.response().status, 200);
    let revision = server.connect().put("a", "and all is well");
    for watcher in &mut watchers {
        assert_eq!(revision_of(&watcher.change()), revision);
    }
}
