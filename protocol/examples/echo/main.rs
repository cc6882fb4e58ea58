//! A conversation with a whole server, in memory: a [`Driver`] around the echo machine, and no socket, clock or thread.
//!
//! The same machine is served over sockets by `echo-tokio`, which knows only the [`Server`](keepwatch_protocol::Server) trait.
//! Where parts need not go back as they come, [`handler`](keepwatch_protocol::handler) makes an echo server in a tenth of the
//! lines: `echo-mio` and `echo-smol` are whole programs with it.
#![expect(clippy::print_stdout, reason = "printing is what it is for")]

mod machine;

use std::time::Duration;

use keepwatch_protocol::{ConnectionId, Driver, DriverConfig, Now, Peer, Slices};

fn main() {
    let mut now = Now::default();
    let mut driver = Driver::new(machine::Echo::new(), DriverConfig::default());
    let Some(client) = driver.accept(&Peer::default(), now) else { return };

    say(&mut driver, client, "POST / HTTP/1.1\r\nHost: example\r\nContent-Length: 5\r\n\r\nhe", now);
    println!("   (the rest comes a second later, with two more requests behind it)");
    now = now.later(Duration::from_secs(1));
    say(
        &mut driver,
        client,
        "lloPUT /second HTTP/1.1\r\nHost: example\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n\
         3\r\nwor\r\n2\r\nld\r\n0\r\n\r\n\
         GET /third HTTP/1.1\r\nHost: example\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        now,
    );
    println!(
        "   (it is a WebSocket now: a message in one frame, one in two with a ping between, a farewell)"
    );
    say(&mut driver, client, b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", now);
    say(&mut driver, client, b"\x01\x82\0\0\0\0fr\x89\x81\0\0\0\0?\x80\x86\0\0\0\0agment", now);
    say(&mut driver, client, b"\x88\x82\0\0\0\0\x03\xe8", now);
    driver.ended(client, now);
    say(&mut driver, client, b"", now);
}

/// What a runtime does, with printing in place of a socket: gives the bytes to the driver, and does what that wants.
fn say(driver: &mut Driver<machine::Echo>, client: ConnectionId, bytes: impl AsRef<[u8]>, now: Now) {
    let mut bytes = bytes.as_ref().to_vec();
    show("->", &bytes);
    driver.received(client, &mut bytes, now);
    while let Some(id) = driver.next_ready(now) {
        while driver.wants(id).write {
            let mut slices = Slices::new(usize::MAX);
            driver.fill(id, &mut slices, now);
            let written = slices.len();
            show("<-", &slices.parts().concat());
            driver.wrote(id, written, now);
        }
        if driver.wants(id).shutdown {
            println!("<- (no more)");
            driver.shut_down(id);
        }
        if driver.wants(id).close {
            println!("   (closed)");
            driver.release(id);
        }
    }
}

fn show(arrow: &str, bytes: &[u8]) {
    for line in bytes.split_inclusive(|&byte| byte == b'\n') {
        println!("{arrow} {}", line.escape_ascii());
    }
}
