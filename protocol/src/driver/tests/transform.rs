//! The seam for TLS, with a toy in its place.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use super::bench::{Bench, Way, each_way};
use super::toy::Toy;
use crate::driver::{Transform, TransformError, Transformed};
use crate::output::{SendQueue, Sink, Slices};
use crate::server::{After, Fill};

/// Swaps upper and lower case. Sends `hello` when it was greeted with `?` and nothing before; takes `.` for the peer's end,
/// answers `~` with `~`, and cannot understand `#`. Its own bytes are in brackets.
pub(super) struct Swap {
    greeted: bool,
    record: usize,
}

impl Swap {
    pub(super) fn boxed() -> Box<dyn Transform> {
        Box::new(Self { greeted: false, record: 5 })
    }
}

fn swap(byte: u8) -> u8 {
    if byte.is_ascii_alphabetic() { byte ^ 0x20 } else { byte }
}

impl Transform for Swap {
    fn receive(
        &mut self,
        bytes: &[u8],
        plain: &mut Vec<u8>,
        wire: &mut SendQueue,
    ) -> Result<Transformed, TransformError> {
        for &byte in bytes {
            match byte {
                b'?' => {
                    self.greeted = true;
                    wire.put(b"[hello]");
                }
                b'~' => wire.put(b"[~]"),
                b'.' => return Ok(Transformed::Ended),
                b'#' => {
                    wire.put(b"[alert]");
                    return Err(TransformError);
                }
                byte => plain.push(swap(byte)),
            }
        }
        Ok(Transformed::Open)
    }

    fn send(&mut self, parts: &[&[u8]], wire: &mut SendQueue) -> usize {
        assert!(!parts.is_empty(), "nothing to send");
        if !self.greeted {
            return 0;
        }
        let record: Vec<u8> = parts.concat().into_iter().take(self.record).map(swap).collect();
        wire.put(&record);
        record.len()
    }

    fn finish(&mut self, wire: &mut SendQueue) {
        wire.put(b"[bye]");
    }
}

#[test]
fn bytes_are_transformed_in_both_directions() {
    for size in 1..=12 {
        for way in Way::ALL {
            let mut bench = Bench::new(way, Toy::echo());
            let id = bench.connect_transformed(Some(Swap::boxed()));
            bench.socket(id).read_size = size;
            bench.socket(id).write_size = size;
            bench.arrive(id, "?some text that is longer");
            bench.end(id);
            assert_eq!(bench.take_written(id), "[hello]some text that is longer[bye]", "{size} {way:?}");
            assert!(bench.log().iter().any(|line| line.contains('S')), "the server saw the other case");
            assert!(bench.is_closed(id));
        }
    }
}

#[test]
fn what_waits_for_the_handshake_is_sent_after_it() {
    each_way(|way| {
        let mut bench = Bench::new(way, Toy::default());
        let id = bench.connect_transformed(Some(Swap::boxed()));
        bench.server().push(id, "<frame>");
        bench.run();
        assert_eq!(bench.take_written(id), "");
        bench.arrive(id, "?");
        assert_eq!(bench.take_written(id), "[hello]<FRAME>");
    });
}

#[test]
fn finish_waits_for_the_handshake() {
    each_way(|way| {
        let mut bench = Bench::new(way, Toy::receiving(|_input, _out| After::Open));
        let id = bench.connect_transformed(Some(Swap::boxed()));
        bench.server().on_resume = Box::new(|out| {
            out.put(b"farewell");
            After::Finish
        });
        bench.server().ready.push_back(id);
        bench.run();
        assert_eq!(bench.socket(id).shutdowns, 0);
        bench.arrive(id, "?");
        assert_eq!(bench.take_written(id), "[hello]FAREWELL[bye]", "{way:?}");
        assert_eq!(bench.socket(id).shutdowns, 1);
    });
}

#[test]
fn a_refusal_waits_for_the_handshake() {
    each_way(|way| {
        let mut bench = Bench::new(way, Toy { refusal: Some("full"), ..Toy::default() });
        let id = bench.connect_transformed(Some(Swap::boxed()));
        bench.arrive(id, "?ignored");
        assert_eq!(bench.take_written(id), "[hello]FULL[bye]");
        assert_eq!(bench.log(), ["0: open"]);
    });
}

#[test]
fn a_peer_that_ends_before_the_handshake_is_not_waited_for() {
    each_way(|way| {
        let mut bench = Bench::new(
            way,
            Toy::default().resuming(|out| {
                out.put(b"farewell");
                After::Finish
            }),
        );
        let id = bench.connect_transformed(Some(Swap::boxed()));
        bench.server().ready.push_back(id);
        bench.run();
        bench.end(id);
        assert!(bench.is_closed(id), "{way:?}");
        assert_eq!(bench.log(), ["0: open", "0: resume", "0: closed Failed"]);
    });
}

#[test]
fn a_peer_that_never_ends_the_handshake_stalls() {
    each_way(|way| {
        let mut bench = Bench::new(way, Toy::default());
        let id = bench.connect_transformed(Some(Swap::boxed()));
        bench.server().push(id, "<frame>");
        bench.run();
        for _ in 0..61 {
            bench.pass_secs(1);
            if !bench.is_closed(id) {
                bench.arrive(id, "drip");
            }
        }
        assert!(bench.is_closed(id), "{way:?}");
        assert!(bench.log().contains(&String::from("0: closed WriteStalled")));
    });
}

#[test]
fn row_5_17_the_transformed_end_is_the_end() {
    each_way(|way| {
        let mut bench = Bench::new(way, Toy::echo());
        let id = bench.connect_transformed(Some(Swap::boxed()));
        bench.arrive(id, "?last.");
        assert_eq!(bench.take_written(id), "[hello]last[bye]");
        assert!(bench.is_closed(id));
    });
}

#[test]
fn what_cannot_be_understood_gets_the_alert_and_nothing_else() {
    for greeting in ["", "?"] {
        each_way(|way| {
            let mut bench = Bench::new(way, Toy::echo());
            let id = bench.connect_transformed(Some(Swap::boxed()));
            bench.socket(id).room = 0;
            bench.arrive(id, greeting);
            bench.arrive(id, "#");
            bench.arrive(id, "more#");
            bench.make_room(id, usize::MAX);
            let hello = if greeting.is_empty() { "" } else { "[hello]" };
            assert_eq!(bench.take_written(id), String::from(hello) + "[alert]");
            assert_eq!(bench.socket(id).shutdowns, 1);
            assert_eq!(bench.log(), ["0: open", "0: closed Failed"]);
            bench.end(id);
            assert!(bench.is_closed(id));
        });
    }
}

#[test]
fn bytes_in_front_of_what_cannot_be_understood_are_offered() {
    each_way(|way| {
        let mut bench = Bench::new(way, Toy::default());
        let id = bench.connect_transformed(Some(Swap::boxed()));
        bench.arrive(id, "?ok#");
        assert_eq!(bench.log(), ["0: open", "0: receive OK", "0: closed Failed"]);
    });
}

#[test]
fn a_frame_is_completed_through_a_transformation() {
    for room in 8..20 {
        for way in Way::ALL {
            let mut bench = Bench::new(way, Toy::receiving(|_input, _out| After::Finish));
            let id = bench.connect_transformed(Some(Swap::boxed()));
            bench.socket(id).room = room;
            bench.server().on_receive = Box::new(|_input, _out| After::Open);
            bench.arrive(id, "?");
            bench.server().push(id, "<frame>");
            bench.server().push(id, "<frame>");
            bench.run();
            bench.server().on_receive = Box::new(|_input, _out| After::Finish);
            bench.arrive(id, "x");
            bench.make_room(id, usize::MAX);
            let written = bench.take_written(id);
            let frames = written.strip_prefix("[hello]").and_then(|rest| rest.strip_suffix("[bye]"));
            assert!(matches!(frames, Some("" | "<FRAME>" | "<FRAME><FRAME>")), "{written} {room} {way:?}");
        }
    }
}

#[test]
fn a_peer_that_makes_the_transformation_talk_and_does_not_read_is_not_read_from() {
    each_way(|way| {
        let mut bench = Bench::with_config(way, Toy::default(), |config| config.output_mark = 9);
        let id = bench.connect_transformed(Some(Swap::boxed()));
        bench.socket(id).room = 0;
        bench.socket(id).read_size = 1;
        bench.arrive(id, "~".repeat(100));
        assert_eq!(bench.socket(id).incoming.len(), 96, "four answers are over the mark");
        bench.make_room(id, usize::MAX);
        assert_eq!(bench.take_written(id), "[~]".repeat(100));
    });
}

#[test]
fn an_aborted_connection_says_no_farewell() {
    each_way(|way| {
        let mut bench = Bench::new(way, Toy::receiving(|_input, _out| After::Abort));
        let id = bench.connect_transformed(Some(Swap::boxed()));
        bench.arrive(id, "?x");
        assert!(bench.is_closed(id));
        assert_eq!(bench.take_written(id), "");
    });
}

#[test]
fn no_record_is_made_while_another_waits() {
    each_way(|way| {
        let mut bench = Bench::new(way, Toy::echo());
        let id = bench.connect_transformed(Some(Swap::boxed()));
        bench.arrive(id, "?");
        bench.socket(id).room = 0;
        bench.arrive(id, "records of five");
        for _ in 0..4 {
            bench.make_room(id, 1);
        }
        assert_eq!(bench.driver.buffered().output, 15 - 5, "one byte of the first waits");
    });
}

#[test]
fn a_record_of_a_part_leaves_more() {
    let mut bench = Bench::new(Way::Fills, Toy::echo());
    let id = bench.connect_transformed(Some(Swap::boxed()));
    bench.arrive(id, "?");
    bench.driver.received(id, &mut b"two-thirds".to_vec(), bench.now);
    let lent = [(); 2].map(|()| {
        let mut slices = Slices::new(100);
        let fill = bench.driver.fill(id, &mut slices, bench.now);
        let bytes = slices.len();
        bench.driver.wrote(id, bytes, bench.now);
        (fill, bytes)
    });
    assert_eq!(lent, [(Fill::More, 5), (Fill::All, 5)]);
}

#[test]
fn finish_does_not_wait_for_a_frame_that_its_server_forgot() {
    each_way(|way| {
        let mut bench = Bench::new(way, Toy::receiving(|_input, _out| After::Finish));
        let id = bench.connect_transformed(Some(Swap::boxed()));
        bench.arrive(id, "?");
        bench.socket(id).room = 3;
        bench.server().push(id, "<body>");
        bench.run();
        bench.driver.received(id, &mut [b'x'], bench.now);
        bench.server().bodies.clear();
        bench.make_room(id, usize::MAX);
        // Once more for those that the last fill made ready, as a runtime would.
        bench.run();
        assert_eq!(bench.take_written(id), "[hello]<BODY[bye]", "{way:?}");
        assert_eq!(bench.socket(id).shutdowns, 1);
    });
}
