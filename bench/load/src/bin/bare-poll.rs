//! The least that answers polls: `bare-poll [ADDR:PORT]`. For each poll one `read`, and one `send` of prepared bytes when there
//! is a change behind its revision.
#![forbid(unsafe_code)]

use keepwatch_load::Fault;
use keepwatch_load::bare::{Bare, Change, Streams, send, serve};
use mio::net::TcpStream;

/// The polls that are held, and the changes that they may ask for.
#[derive(Default)]
struct BarePoll {
    held: Vec<(usize, u64)>,
    log: Vec<Change>,
    /// The answer that was made last, and behind which revision it is. Almost everyone wants the same one.
    answer: Vec<u8>,
    behind: u64,
}

impl BarePoll {
    fn prepare(&mut self, since: u64) {
        if self.behind == since && !self.answer.is_empty() {
            return;
        }
        let from = self.log.partition_point(|change| change.revision <= since);
        let events: Vec<&[u8]> = self.log[from..].iter().map(|change| &*change.event).collect();
        let revision = self.log.last().map_or(since, |change| change.revision);
        let body = [format!("{{\"revision\":{revision},\"events\":[").as_bytes(), &events.join(&b','), b"]}"]
            .concat();
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nCache-Control: no-store\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        (self.answer, self.behind) = ([head.as_bytes(), &body].concat(), since);
    }
}

impl Bare for BarePoll {
    fn request(&mut self, slot: usize, stream: &mut TcpStream, request: &[u8]) -> Result<(), Fault> {
        let since = since(request).ok_or("a poll says not since when")?;
        if self.log.last().is_none_or(|change| change.revision <= since) {
            self.held.push((slot, since));
            return Ok(());
        }
        self.prepare(since);
        send(stream, &self.answer)
    }

    fn changes(&mut self, changes: &[Change], streams: &mut Streams) -> Result<(), Fault> {
        self.log.extend(changes.iter().cloned());
        self.answer.clear();
        for (slot, since) in std::mem::take(&mut self.held) {
            self.prepare(since);
            streams.send(slot, &self.answer)?;
        }
        Ok(())
    }

    fn closed(&mut self, slot: usize) {
        self.held.retain(|&(one, _)| one != slot);
    }
}

fn since(request: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(request).ok()?;
    text.split_once("since=")?.1.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

fn main() -> Result<(), Fault> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:0".into());
    serve(address.parse()?, BarePoll::default())
}
