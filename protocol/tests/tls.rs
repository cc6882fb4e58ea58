//! TLS behind the driver's one seam: rustls, fed from slices, is all that it takes.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::Duration;

use keepwatch_protocol::driver::{Transform, TransformError, Transformed};
use keepwatch_protocol::{Admission, After, Closed, ConnectionId, Input, Now, Peer, SendQueue, Server, Sink};
use keepwatch_sim::{Client, Sim};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};

/// The whole adapter.
struct Tls(ServerConnection);

impl Tls {
    fn flush(&mut self, wire: &mut SendQueue) {
        struct Wire<'a>(&'a mut SendQueue);
        impl Write for Wire<'_> {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.put(bytes);
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        while self.0.wants_write() && self.0.write_tls(&mut Wire(wire)).is_ok() {}
    }

    fn understand(&mut self, mut bytes: &[u8], plain: &mut Vec<u8>) -> Result<Transformed, TransformError> {
        while !bytes.is_empty() {
            // It takes none once it has seen `close_notify`: what follows that means nothing.
            let taken = self.0.read_tls(&mut bytes).map_err(|_| TransformError)?;
            let state = self.0.process_new_packets().map_err(|_| TransformError)?;
            let from = plain.len();
            plain.resize(from + state.plaintext_bytes_to_read(), 0);
            self.0.reader().read_exact(&mut plain[from..]).map_err(|_| TransformError)?;
            if state.peer_has_closed() || taken == 0 {
                return Ok(Transformed::Ended);
            }
        }
        Ok(Transformed::Open)
    }
}

impl Transform for Tls {
    fn receive(
        &mut self,
        bytes: &[u8],
        plain: &mut Vec<u8>,
        wire: &mut SendQueue,
    ) -> Result<Transformed, TransformError> {
        let result = self.understand(bytes, plain);
        self.flush(wire); // the handshake's next flight, or an alert
        result
    }

    fn send(&mut self, parts: &[&[u8]], wire: &mut SendQueue) -> usize {
        const RECORD: usize = 16 << 10;
        if self.0.is_handshaking() {
            return 0;
        }
        let mut taken = 0;
        for part in parts {
            let part = &part[..part.len().min(RECORD - taken)];
            let written = self.0.writer().write(part).unwrap_or(0);
            taken += written;
            if written < part.len() || taken == RECORD {
                break;
            }
        }
        self.flush(wire);
        taken
    }

    fn finish(&mut self, wire: &mut SendQueue) {
        self.0.send_close_notify();
        self.flush(wire);
    }
}

/// Echoes; ends when the peer does, or when it says `quit`. Greets at once if it is told to.
#[derive(Default)]
struct Echo {
    greeting: Option<&'static [u8]>,
    ready: Vec<ConnectionId>,
    closed: Vec<Closed>,
    received: usize,
}

impl Server for Echo {
    fn open(&mut self, id: ConnectionId, _peer: &Peer, _now: Now) -> Admission {
        self.ready.extend(self.greeting.map(|_| id));
        Admission::Admit
    }

    fn receive(&mut self, _id: ConnectionId, input: &mut Input<'_>, out: &mut SendQueue, _now: Now) -> After {
        if out.over_mark() {
            return After::Open;
        }
        let count = input.len();
        self.received += count;
        let bytes = input.take(count);
        out.put(bytes);
        if input.hung_up() || bytes.ends_with(b"quit") { After::Finish } else { After::Open }
    }

    fn resume(&mut self, _id: ConnectionId, out: &mut SendQueue, _now: Now) -> After {
        out.put(self.greeting.unwrap_or_default());
        After::Open
    }

    fn next_ready(&mut self, _now: Now) -> Option<ConnectionId> {
        self.ready.pop()
    }

    fn closed(&mut self, _id: ConnectionId, why: Closed, _now: Now) {
        self.closed.push(why);
    }
}

struct Certified {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

fn certified() -> Certified {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let certificate: CertificateDer<'static> = made.cert.der().clone();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("its key");
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).expect("a root");
    let server = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate], key);
    let client = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    Certified { server: Arc::new(server.expect("a configuration")), client: Arc::new(client) }
}

/// Both ends of one encrypted connection, in memory.
struct Encrypted {
    sim: Sim<Echo>,
    network: Client,
    client: ClientConnection,
    received: Vec<u8>,
    ended: bool,
}

impl Encrypted {
    fn new(server: Echo) -> Self {
        let Certified { server: server_config, client } = certified();
        let mut sim = Sim::new(server);
        let tls = Tls(ServerConnection::new(server_config).expect("a server"));
        let network = sim.connect_transformed(&Peer::default(), Some(Box::new(tls)));
        let name = ServerName::try_from("localhost").expect("a name");
        let mut client = ClientConnection::new(client, name).expect("a client");
        client.set_buffer_limit(None);
        Self { sim, network, client, received: Vec::new(), ended: false }
    }

    fn say(&mut self, bytes: &[u8]) {
        self.client.writer().write_all(bytes).expect("buffered");
        self.run();
    }

    /// Moves bytes between the client and the network until neither has any.
    fn run(&mut self) {
        loop {
            let mut out = Vec::new();
            while self.client.wants_write() {
                self.client.write_tls(&mut out).expect("written");
            }
            self.network.send(&out);
            self.sim.run().expect("no spinning");
            let came = self.network.receive();
            if out.is_empty() && came.is_empty() {
                return;
            }
            let mut came = &came[..];
            while !came.is_empty() && self.client.read_tls(&mut came).expect("read") > 0 {
                let state = self.client.process_new_packets().expect("a valid record");
                let from = self.received.len();
                self.received.resize(from + state.plaintext_bytes_to_read(), 0);
                self.client.reader().read_exact(&mut self.received[from..]).expect("plaintext");
                self.ended |= state.peer_has_closed();
            }
        }
    }
}

#[test]
fn an_encrypted_conversation_is_echoed_byte_by_byte() {
    let mut pair = Encrypted::new(Echo::default());
    pair.network.deliver_in(&[1]);
    pair.network.accept_in(&[1]);
    pair.say(b"hello");
    assert_eq!(pair.received, b"hello");
    pair.say(b", again");
    assert_eq!(pair.received, b"hello, again");
    assert!(!pair.client.is_handshaking() && !pair.ended);
}

#[test]
fn a_megabyte_goes_each_way_through_short_reads_and_writes() {
    let mut pair = Encrypted::new(Echo::default());
    pair.network.deliver_in(&[1000, 1, 17_000, 333]);
    pair.network.accept_in(&[1500, 3, 16_389, 5]);
    let bytes: Vec<u8> = (0..1 << 20).map(|n: u32| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    pair.say(&bytes);
    assert_eq!(pair.received.len(), bytes.len());
    assert!(pair.received == bytes);
}

#[test]
fn a_client_that_does_not_read_holds_the_server_to_its_mark() {
    let mut pair = Encrypted::new(Echo::default());
    pair.say(b"x");
    pair.network.window(1000);
    pair.network.read_limit(0);
    let bytes = vec![b'y'; 1 << 20];
    pair.client.writer().write_all(&bytes).expect("buffered");
    pair.run();
    assert!(pair.sim.server().received < 512 << 10, "{} taken", pair.sim.server().received);
    pair.network.read_limit(usize::MAX);
    pair.run();
    assert_eq!(pair.received.len(), 1 + bytes.len());
}

#[test]
fn finish_says_close_notify_and_the_peers_is_the_end() {
    let mut pair = Encrypted::new(Echo::default());
    pair.say(b"quit");
    assert_eq!(pair.received, b"quit");
    assert!(pair.ended, "close_notify came");
    assert!(pair.network.is_ended() && !pair.network.is_closed(), "it lingers");
    pair.client.send_close_notify();
    pair.run();
    pair.network.shutdown_write();
    pair.run();
    assert!(pair.network.is_closed() && !pair.network.was_reset());
    assert_eq!(pair.sim.server().closed, [Closed::Finished]);
}

#[test]
fn row_5_17_the_peers_close_notify_ends_the_stream_and_is_answered() {
    let mut pair = Encrypted::new(Echo::default());
    pair.client.writer().write_all(b"last words").expect("buffered");
    pair.run();
    pair.client.send_close_notify();
    pair.run();
    assert_eq!(pair.received, b"last words");
    assert!(pair.ended && pair.network.is_closed());
    assert_eq!(pair.sim.server().closed, [Closed::Finished]);
}

#[test]
fn row_5_17_an_end_without_close_notify_is_an_end_too() {
    let mut pair = Encrypted::new(Echo::default());
    pair.say(b"last words");
    pair.network.shutdown_write();
    pair.run();
    assert_eq!(pair.received, b"last words");
    assert!(pair.network.is_closed());
    assert_eq!(pair.sim.server().closed, [Closed::Finished]);
}

#[test]
fn garbage_instead_of_a_hello_gets_an_alert_and_the_end() {
    let mut pair = Encrypted::new(Echo { greeting: Some(b"welcome"), ..Echo::default() });
    pair.network.send("GET / HTTP/1.1\r\nHost: plain\r\n\r\n");
    pair.sim.run().expect("no spinning");
    let alert = pair.network.receive();
    assert_eq!(alert.len(), 7, "{alert:x?}");
    assert_eq!(alert[..1], [21], "a record of the type alert");
    assert!(pair.network.is_ended());
    assert_eq!(pair.sim.server().closed, [Closed::Failed]);
    pair.sim.advance(Duration::from_secs(6)).expect("no spinning");
    assert!(pair.network.is_closed());
}

#[test]
fn what_the_server_says_during_the_handshake_is_sent_after_it() {
    let mut pair = Encrypted::new(Echo { greeting: Some(b"welcome"), ..Echo::default() });
    pair.sim.run().expect("no spinning");
    assert!(pair.network.receive().is_empty());
    pair.run();
    assert_eq!(pair.received, b"welcome");
}

#[test]
fn a_handshake_that_never_ends_is_not_waited_for() {
    let mut pair = Encrypted::new(Echo { greeting: Some(b"welcome"), ..Echo::default() });
    pair.sim.advance(Duration::from_secs(59)).expect("no spinning");
    assert!(!pair.network.is_closed());
    pair.sim.advance(Duration::from_secs(2)).expect("no spinning");
    assert!(pair.network.is_closed());
    assert_eq!(pair.sim.server().closed, [Closed::WriteStalled]);
}
