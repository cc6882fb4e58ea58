//! Who is let in, and who has to go for it.

use keepwatch_protocol::Peer;
use keepwatch_sim::{Client, Sim};
use keepwatch_watch::{Config, WatchServer};

use crate::support::{config, get, nothing_is_left, server, shared};

fn sim(config: Config) -> Sim<WatchServer> {
    Sim::new(server(config).0)
}

fn ask(sim: &mut Sim<WatchServer>, client: &Client, target: &str) -> String {
    client.send(get(target));
    sim.run().unwrap();
    String::from_utf8(client.receive()).unwrap()
}

fn is_served(sim: &mut Sim<WatchServer>, client: &Client) -> bool {
    ask(sim, client, "/healthz").starts_with("HTTP/1.1 200 ")
}

fn is_refused(sim: &mut Sim<WatchServer>, client: &Client) -> bool {
    sim.run().unwrap();
    String::from_utf8(client.receive()).unwrap().starts_with("HTTP/1.1 503 ")
}

fn ends(sim: &mut Sim<WatchServer>, client: &Client) -> bool {
    sim.run().unwrap();
    client.is_ended()
}

#[test]
fn whoever_is_idle_longest_makes_room() {
    let mut sim = sim(config(|config| config.connections = 4));
    let clients = [(); 3].map(|()| sim.connect());
    assert!(clients.iter().all(|client| is_served(&mut sim, client)));
    let next = sim.connect();
    assert_eq!([0, 1, 2].map(|index| ends(&mut sim, &clients[index])), [true, false, false]);
    assert!(is_served(&mut sim, &next));
}

#[test]
fn whoever_was_used_since_is_spared() {
    let mut sim = sim(config(|config| config.connections = 4));
    let clients = [(); 3].map(|()| sim.connect());
    assert!(clients.iter().all(|client| is_served(&mut sim, client)));
    assert!(is_served(&mut sim, &clients[0]));
    sim.connect();
    assert_eq!([0, 1, 2].map(|index| ends(&mut sim, &clients[index])), [false, true, false]);
}

#[test]
fn one_that_is_refused_makes_an_idle_one_go_for_the_next() {
    let mut sim = sim(config(|config| config.connections = 4));
    // All come at once: none is idle while there is room.
    let clients = [(); 4].map(|()| sim.connect());
    assert!(clients.iter().all(|client| is_served(&mut sim, client)));
    let fifth = sim.connect();
    assert!(is_refused(&mut sim, &fifth));
    assert_eq!([0, 1, 2, 3].map(|index| ends(&mut sim, &clients[index])), [true, false, false, false]);
    let sixth = sim.connect();
    assert!(is_served(&mut sim, &sixth));
}

#[test]
fn whoever_has_asked_for_more_is_not_idle() {
    const REQUESTS: usize = 800;
    let mut sim = sim(config(|config| config.connections = 2));
    let slow = sim.connect();
    slow.read_limit(0);
    slow.window(1000);
    slow.send(get("/v1/kv/none").repeat(REQUESTS));
    sim.run().unwrap();
    // The first looks at it, the second would close it.
    for _ in 0..2 {
        let next = sim.connect();
        sim.run().unwrap();
        next.reset();
        sim.run().unwrap();
    }
    slow.read_limit(usize::MAX);
    sim.run().unwrap();
    let answers = String::from_utf8(slow.receive()).unwrap();
    assert_eq!(answers.matches("HTTP/1.1 404 ").count(), REQUESTS);
}

#[test]
fn whoever_waits_for_something_stays() {
    let mut sim = sim(config(|config| config.connections = 4));
    let clients = [(); 4].map(|()| sim.connect());
    for (client, target) in clients.iter().zip(["/v1/watch?prefix=", "/hello", "/count", "/v1/watch?prefix="])
    {
        assert!(is_served(&mut sim, client)); // it was idle once
        ask(&mut sim, client, target);
    }
    let fifth = sim.connect();
    assert!(is_refused(&mut sim, &fifth));
    assert!(!clients.iter().any(|client| ends(&mut sim, client)));
}

#[test]
fn a_request_that_comes_as_it_is_closed_is_the_last() {
    let mut sim = sim(config(|config| config.connections = 2));
    let idle = sim.connect();
    assert!(is_served(&mut sim, &idle));
    let next = sim.connect();
    let answer = ask(&mut sim, &idle, "/healthz");
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("\r\nConnection: close\r\n"), "{answer}");
    assert!(idle.is_ended());
    // One that comes later crosses the end of the stream.
    assert_eq!(ask(&mut sim, &idle, "/healthz"), "");
    assert!(is_served(&mut sim, &next));
    for client in [idle, next] {
        client.shutdown_write();
    }
    sim.run().unwrap();
    nothing_is_left(&mut sim);
}

#[test]
fn one_address_has_its_share() {
    let mut sim = sim(config(|config| config.connections_per_address = 2));
    let [one, other] = [7, 8].map(|last| Peer::at(([10, 0, 0, last], 80).into()));
    let first = [(); 2].map(|()| sim.connect_from(&one));
    let third = sim.connect_from(&one);
    sim.run().unwrap();
    let answer = String::from_utf8(third.receive()).unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("\r\nRetry-After: 10\r\n"), "{answer}");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert_eq!(body, "{\"error\":\"too many connections of one address: try later\"}\n");
    assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())));
    let elsewhere = sim.connect_from(&other);
    assert!(is_served(&mut sim, &elsewhere));
    first[0].shutdown_write();
    sim.run().unwrap();
    let again = sim.connect_from(&one);
    assert!(is_served(&mut sim, &again));
}

#[test]
fn the_limit_is_of_all_machines() {
    let shared = shared(config(|config| config.connections = 1));
    let [mut one, mut two] = [1, 2].map(|seed| Sim::new(shared.machine(seed).0));
    let first = one.connect();
    assert!(is_served(&mut one, &first));
    let second = two.connect();
    assert!(is_refused(&mut two, &second));
    // A machine that is gone holds no places.
    drop(one);
    let third = two.connect();
    assert!(is_served(&mut two, &third));
}

#[test]
fn whoever_is_idle_on_another_machine_makes_room() {
    let shared = shared(config(|config| config.connections = 4));
    let [mut one, mut two] = [1, 2].map(|seed| Sim::new(shared.machine(seed).0));
    let clients = [(); 3].map(|()| two.connect());
    assert!(clients.iter().all(|client| is_served(&mut two, client)));
    let next = one.connect();
    assert!(is_served(&mut one, &next));
    assert_eq!([0, 1, 2].map(|index| ends(&mut two, &clients[index])), [true, false, false]);
}

#[test]
fn one_that_is_refused_makes_one_of_another_machine_go_for_the_next() {
    let shared = shared(config(|config| config.connections = 2));
    let [mut one, mut two] = [1, 2].map(|seed| Sim::new(shared.machine(seed).0));
    // All come at once: none is idle while there is room.
    let clients = [(); 2].map(|()| two.connect());
    assert!(clients.iter().all(|client| is_served(&mut two, client)));
    let third = one.connect();
    assert!(is_refused(&mut one, &third));
    assert_eq!([0, 1].map(|index| ends(&mut two, &clients[index])), [true, false]);
    let fourth = one.connect();
    assert!(is_served(&mut one, &fourth));
}

#[test]
fn as_many_go_on_another_machine_as_have_come() {
    let shared = shared(config(|config| config.connections = 64));
    let [mut one, mut two] = [1, 2].map(|seed| Sim::new(shared.machine(seed).0));
    let clients: Vec<Client> = (0..60).map(|_| two.connect()).collect();
    assert!(clients.iter().all(|client| is_served(&mut two, client)));
    let _newcomers = [(); 3].map(|()| one.connect()); // one place in sixteen was left
    two.run().unwrap();
    assert_eq!(clients.iter().filter(|client| client.is_ended()).count(), 3);
}

#[test]
fn a_machine_whose_idle_ones_are_in_use_again_asks_the_next() {
    let shared = shared(config(|config| config.connections = 4));
    let [mut one, mut two, mut three] = [1, 2, 3].map(|seed| Sim::new(shared.machine(seed).0));
    let busy = [(); 2].map(|()| two.connect());
    for client in &busy {
        assert!(is_served(&mut two, client)); // it was idle once
        ask(&mut two, client, "/v1/watch?prefix=");
    }
    let idle = three.connect();
    assert!(is_served(&mut three, &idle));
    let next = one.connect();
    assert!(is_served(&mut one, &next));
    assert!(!busy.iter().any(|client| ends(&mut two, client)));
    assert!(ends(&mut three, &idle));
}

#[test]
fn nobody_goes_for_one_that_has_gone() {
    let shared = shared(config(|config| config.connections = 4));
    let [mut one, mut two] = [1, 2].map(|seed| Sim::new(shared.machine(seed).0));
    let clients = [(); 3].map(|()| two.connect());
    assert!(clients.iter().all(|client| is_served(&mut two, client)));
    let next = one.connect();
    next.reset();
    one.run().unwrap();
    assert!(!clients.iter().any(|client| ends(&mut two, client)));
}
