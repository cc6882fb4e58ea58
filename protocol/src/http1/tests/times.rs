//! Deadlines.

use core::time::Duration;

use super::*;
use crate::time::Instant;

/// A connection, and a clock.
struct Clocked {
    connection: ServerConnection,
    out: Vec<u8>,
    now: Now,
    exchange: Option<Exchange>,
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

impl Clocked {
    fn new() -> Self {
        let now = Now::default().later(seconds(1000));
        Self { connection: ServerConnection::new(Arc::default(), now), out: Vec::new(), now, exchange: None }
    }

    /// Gives bytes that are all taken, or looked at again with those before.
    fn receive(&mut self, bytes: &str) -> &mut Self {
        let mut bytes = bytes.as_bytes().to_vec();
        let mut input = Input::new(&mut bytes);
        loop {
            match self.connection.recv(&mut input, &mut self.out, self.now).unwrap() {
                Event::NeedMore | Event::Paused | Event::Closed => return self,
                Event::Request(_, exchange) => self.exchange = Some(exchange),
                _ => {}
            }
        }
    }

    fn answer(&mut self) -> &mut Self {
        let head = ResponseHead::empty(StatusCode::OK, &[]);
        let exchange = self.exchange.take().unwrap();
        self.connection.answer(exchange, &head, b"", &mut self.out, self.now).unwrap();
        self.out.clear();
        self
    }

    fn wait(&mut self, time: Duration) -> &mut Self {
        self.now = self.now.later(time);
        self
    }

    /// Nothing happens before so many seconds are over, and then this.
    fn expires(&mut self, after: Duration, timer: Timer, then: Disposition, status: &str) {
        let due = self.now.instant + after;
        assert_eq!(self.connection.deadline(), Some(due));
        let just_before = Instant::from_nanos(due.as_nanos() - 1);
        self.now.instant = just_before;
        assert_eq!(self.connection.on_deadline(&mut self.out, self.now), None);
        self.now.instant = due;
        let expired = self.connection.on_deadline(&mut self.out, self.now).unwrap();
        assert_eq!((expired.timer, expired.then), (timer, then));
        assert_eq!(expired.answered, !status.is_empty());
        assert_eq!(self.connection.deadline(), None);
        assert_eq!(self.connection.on_deadline(&mut self.out, Now::new(Instant::NEVER, self.now.unix)), None);
        let out = core::str::from_utf8(&self.out).unwrap();
        let start = if status.is_empty() { String::new() } else { format!("HTTP/1.1 {status} ") };
        assert!(out.starts_with(&start) && out.is_empty() == status.is_empty(), "{out}");
        assert_eq!(self.connection.disposition(), then);
    }
}

const FINISH: Disposition = Disposition::Finish;

#[test]
fn row_5_10_no_byte_of_a_first_request_closes_without_a_word() {
    Clocked::new().expires(seconds(10), Timer::FirstByte, FINISH, "");
    // Empty lines are no request, and extend nothing.
    Clocked::new().wait(seconds(3)).receive("\r\n\r\n").expires(seconds(7), Timer::FirstByte, FINISH, "");
}

#[test]
fn rows_5_10_and_5_22_a_part_of_a_head_is_408() {
    let mut clocked = Clocked::new();
    clocked.wait(seconds(5)).receive("G").wait(seconds(4)).receive("GET / HT");
    clocked.expires(seconds(6), Timer::Head, FINISH, "408");
}

#[test]
fn rows_5_10_and_5_22_a_slow_body_is_408() {
    let head = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n";
    Clocked::new().receive(head).expires(seconds(20), Timer::Body, FINISH, "408");
    // 1280 bytes are worth 10 seconds of the rate; then 30 idle seconds are the shorter.
    let mut clocked = Clocked::new();
    clocked.receive(head).wait(seconds(10)).receive(&"b".repeat(1280));
    clocked.expires(seconds(20), Timer::Body, FINISH, "408");
    let mut clocked = Clocked::new();
    clocked.receive(head).receive(&"b".repeat(12800)).expires(seconds(30), Timer::Body, FINISH, "408");
}

#[test]
fn a_slow_body_behind_a_response_head_is_cut_off() {
    let mut clocked = Clocked::new();
    clocked.receive("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
    let head = ResponseHead::stream(StatusCode::OK, &[]);
    let exchange = clocked.exchange.take().unwrap();
    let _body = clocked.connection.respond(exchange, &head, &mut clocked.out, clocked.now).unwrap();
    clocked.out.clear();
    clocked.expires(seconds(20), Timer::Body, Disposition::Abort, "");
}

#[test]
fn row_5_10_an_idle_connection_is_closed_without_a_word() {
    let get = get("");
    let mut clocked = Clocked::new();
    clocked.receive(&get).wait(seconds(9)).answer().expires(seconds(75), Timer::KeepAlive, FINISH, "");
    let mut clocked = Clocked::new();
    clocked.receive(&get).answer().wait(seconds(74)).receive("G");
    clocked.expires(seconds(10), Timer::Head, FINISH, "408");
}

#[test]
fn rows_4_4_and_5_10_a_dropped_exchange_is_500_in_the_end() {
    let mut clocked = Clocked::new();
    clocked.receive(&get("")).exchange = None;
    clocked.expires(seconds(600), Timer::Handler, FINISH, "500");
    // The time runs from the end of the request, not from its head.
    let mut clocked = Clocked::new();
    clocked.receive("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n").wait(seconds(19)).receive("x");
    clocked.expires(seconds(600), Timer::Handler, FINISH, "500");
}

#[test]
fn a_deadlines_answer_to_head_has_no_content() {
    let head = "HEAD / HTTP/1.1\r\nHost: x\r\n\r\n";
    for (request, has_content) in [(head, false), (&*get(""), true)] {
        let mut clocked = Clocked::new();
        clocked.receive(request).expires(seconds(600), Timer::Handler, FINISH, "500");
        assert_eq!(clocked.out.ends_with(b"}"), has_content, "{request}");
    }
    // What did not come to its end is not known to be HEAD, whatever came before.
    let mut clocked = Clocked::new();
    clocked.receive(head).answer().receive("G").expires(seconds(10), Timer::Head, FINISH, "408");
    assert!(clocked.out.ends_with(b"}"));
}

#[test]
fn an_answer_under_way_has_no_deadline() {
    let mut clocked = Clocked::new();
    clocked.receive(&get(""));
    let head = ResponseHead::stream(StatusCode::OK, &[]);
    let exchange = clocked.exchange.take().unwrap();
    let body = clocked.connection.respond(exchange, &head, &mut clocked.out, clocked.now).unwrap();
    assert_eq!(clocked.connection.deadline(), None);
    clocked.wait(seconds(10_000));
    clocked.connection.finish(body, &mut clocked.out, clocked.now).unwrap();
    assert_eq!(clocked.connection.deadline(), Some(clocked.now.instant + seconds(75)));
}

#[test]
fn an_answer_before_the_end_is_told_starts_the_idle_time() {
    let mut clocked = Clocked::new();
    let mut wire = NEXT.to_vec();
    let event = clocked.connection.recv(&mut Input::new(&mut wire), &mut clocked.out, clocked.now);
    let Ok(Event::Request(_, exchange)) = event else { panic!() };
    clocked.exchange = Some(exchange);
    clocked.answer();
    assert!(clocked.connection.is_idle());
    clocked.expires(seconds(75), Timer::KeepAlive, FINISH, "");
}

#[test]
fn row_5_24_a_deadline_ends_the_connection_for_good() {
    for (before, wait, fault) in [
        ("G", 10, Fault::HeadTimeout),
        ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n", 20, Fault::BodyTimeout),
        (&*chunked("5\r\nhel"), 30, Fault::BodyTimeout),
    ] {
        let mut clocked = Clocked::new();
        clocked.receive(before).wait(seconds(wait));
        clocked.connection.on_deadline(&mut clocked.out, clocked.now).unwrap();
        clocked.out.clear();
        let mut wire = NEXT.to_vec();
        let error =
            clocked.connection.recv(&mut Input::new(&mut wire), &mut clocked.out, clocked.now).unwrap_err();
        assert_eq!((error.fault, error.answered, &clocked.out[..]), (fault, true, &b""[..]));
    }
}

#[test]
fn row_4_1_a_client_that_waits_for_100_does_not_wait_for_ever() {
    let mut clocked = Clocked::new();
    clocked.receive(&get("Expect: 100-continue\r\nContent-Length: 5\r\n"));
    clocked.expires(seconds(20), Timer::Body, FINISH, "408");
}

#[test]
fn without_a_least_rate_a_body_may_come_as_slowly_as_it_never_stops() {
    let (mut config, mut now) = (Config::default(), Now::default());
    config.timeouts.body_rate = 0;
    let idle = config.timeouts.body_idle;
    let mut connection = ServerConnection::new(Arc::new(config), now);
    let mut head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n".to_vec();
    let event = connection.recv(&mut Input::new(&mut head), &mut Vec::new(), now);
    assert!(matches!(event, Ok(Event::Request(..))));
    for _ in 0..999 {
        now = now.later(idle.saturating_sub(seconds(1)));
        assert_eq!(connection.on_deadline(&mut Vec::new(), now), None);
        let mut byte = *b"x";
        let event = connection.recv(&mut Input::new(&mut byte), &mut Vec::new(), now);
        assert!(matches!(event, Ok(Event::Data(data)) if data == b"x"));
        assert_eq!(connection.deadline(), Some(now.instant + idle));
    }
}
