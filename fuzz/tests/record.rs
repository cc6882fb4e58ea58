//! Seeds from real conversations: what the clients of the simulator's world (`keepwatch_sim::world`) and the watch server say to
//! each other, in the formats of the targets.
//!
//! ```console
//! $ cargo test --release -p keepwatch-fuzz --test record -- --ignored
//! ```
//!
//! writes them as `fuzz/corpus/<target>/recorded-*`; `cargo fuzz cmin` then keeps those that reach something new.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

use keepwatch_sim::world::{self, Options};

/// The worlds that are recorded.
const SEEDS: std::ops::Range<u64> = 0..24;
/// Longer seeds are not looked at by the targets, or cost more than they find.
const LONGEST: usize = 1000;

#[test]
#[ignore = "it writes seeds into the corpora"]
fn conversations_of_the_simulator_become_seeds() {
    let mut written = BTreeSet::new();
    for seed in SEEDS {
        let outcome = world::run(&Options { seed, trace: true, ..Options::default() });
        assert_eq!(outcome.failure, None, "seed {seed}");
        let said: Vec<Said> = outcome.transcript.iter().filter_map(|line| Said::read(line)).collect();
        let mut seeds = vec![("watch_wire", watch_wire(&said))];
        for conversation in conversations(said) {
            seeds.extend(conversation.seeds());
        }
        let short = seeds.into_iter().filter(|(_, bytes)| (4..LONGEST).contains(&bytes.len()));
        for (index, (target, bytes)) in short.enumerate() {
            // The same is said over and over.
            if written.insert((target, bytes.clone())) {
                let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
                fs::write(folder.join(format!("recorded-{seed}-{index}")), bytes).unwrap();
            }
        }
    }
    let targets: BTreeSet<&str> = written.iter().map(|(target, _)| *target).collect();
    assert_eq!(targets.len(), 8, "{targets:?}");
}

// --------------------------------------------------------------------------------------------------- the transcript

/// A line of a transcript: `   2.415000 keeper0    #3 > "GET / HTTP/1.1\r\n…"`.
struct Said {
    at: Duration,
    link: usize,
    what: What,
}

enum What {
    /// By the client, and by the server.
    Sent(Vec<u8>),
    Came(Vec<u8>),
    /// The client ends its side, breaks the connection or closes it.
    Ends,
    Breaks,
    /// Bytes of which the transcript has not all.
    Cut,
}

impl Said {
    fn read(line: &str) -> Option<Self> {
        let (at, rest) = line.trim_start().split_once(' ')?;
        let (_, rest) = rest.trim_start().split_once('#')?;
        let (link, what) = rest.split_once(' ')?;
        let (direction, text) = what.split_once(' ').unwrap_or((what, ""));
        let what = match (direction, text) {
            (">" | "<", text) if text.ends_with(" bytes more") => What::Cut,
            (">", "its end") => What::Ends,
            (">", text) => What::Sent(unescaped(text)?),
            ("<", text) => What::Came(unescaped(text)?),
            ("closed" | "reset", "") => What::Breaks,
            _ => return None,
        };
        Some(Self { at: Duration::from_secs_f64(at.parse().ok()?), link: link.parse().ok()?, what })
    }
}

/// What `escape_ascii` made, in quotes.
fn unescaped(text: &str) -> Option<Vec<u8>> {
    let text = text.strip_prefix('"')?.strip_suffix('"')?;
    let (mut bytes, mut rest) = (Vec::new(), text.bytes());
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'\\' => match rest.next()? {
                b'r' => b'\r',
                b'n' => b'\n',
                b't' => b'\t',
                b'x' => {
                    let digits = [rest.next()?, rest.next()?];
                    u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
                }
                other => other,
            },
            byte => byte,
        });
    }
    Some(bytes)
}

/// Both sides of a connection, as far as the transcript has them, before and behind the change to WebSocket.
#[derive(Default)]
struct Conversation {
    requests: Vec<u8>,
    answers: Vec<u8>,
    upgraded: bool,
    to_server: Vec<u8>,
    to_client: Vec<u8>,
    cut: bool,
}

fn conversations(said: Vec<Said>) -> Vec<Conversation> {
    let mut all: BTreeMap<usize, Conversation> = BTreeMap::new();
    for Said { link, what, .. } in said {
        let it = all.entry(link).or_default();
        match what {
            _ if it.cut => {}
            What::Sent(bytes) if it.upgraded => it.to_server.extend(bytes),
            What::Sent(bytes) => it.requests.extend(bytes),
            What::Came(bytes) if it.upgraded => it.to_client.extend(bytes),
            What::Came(bytes) => {
                it.answers.extend(bytes);
                let switched = find(&it.answers, b"HTTP/1.1 101 ");
                if let Some(end) =
                    switched.and_then(|at| Some(at + find(&it.answers[at..], b"\r\n\r\n")? + 4))
                {
                    it.upgraded = true;
                    it.to_client = it.answers.split_off(end);
                }
            }
            What::Cut => it.cut = true,
            What::Ends | What::Breaks => {}
        }
    }
    all.into_values().collect()
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

// -------------------------------------------------------------------------------------------------- formats of targets

impl Conversation {
    fn seeds(&self) -> Vec<(&'static str, Vec<u8>)> {
        let mut seeds = Vec::new();
        let count = self.requests.windows(9).filter(|window| window == b" HTTP/1.1").count();
        if !self.requests.is_empty() {
            // Everything comes, everything is taken, and is answered in one way or another.
            let plan: Vec<u8> = (0..count.min(20))
                .flat_map(|number| [0x01, 0x03, 0x1a + 16 * (number % 4) as u8, 0x0c])
                .collect();
            seeds.push(("server_connection", [&[4, plan.len() as u8], &plan[..], &self.requests].concat()));
        }
        if !self.answers.is_empty() {
            let head = u8::from(self.requests.starts_with(b"HEAD"));
            seeds.push((
                "client_connection",
                [&[8, count.min(20) as u8], &vec![head; count.min(20)][..], &self.answers].concat(),
            ));
        }
        if let Some(body) = body(&self.answers) {
            seeds.push(("chunked", [&[3], body].concat()));
            if let Some(stream) =
                unchunked(body).filter(|_| find(&self.answers, b"text/event-stream").is_some())
            {
                seeds.push(("sse", [&[1, 7], &stream[..]].concat()));
            }
        }
        if self.upgraded {
            let heads = [(&self.requests, "GET"), (&self.answers, "101")];
            seeds.extend(heads.map(|(bytes, first)| ("websocket_handshake", handshake(bytes, first))));
        }
        for (role, stream) in [(0, &self.to_server), (1, &self.to_client)] {
            // The defaults, with times; a few bytes at a time.
            let mut script = vec![role | 2 | 4 | 8, 15 | 0x40, 9];
            for part in stream.chunks(15) {
                script.push(part.len() as u8);
                script.extend(part);
            }
            if !stream.is_empty() {
                seeds.push(("websocket_connection", script));
                seeds.push(("websocket_frames", stream[..stream.len().min(16)].to_vec()));
            }
        }
        seeds
    }
}

/// The chunked body of the last answer.
fn body(answers: &[u8]) -> Option<&[u8]> {
    let at = find(answers, b"Transfer-Encoding: chunked\r\n")?;
    Some(&answers[at + find(&answers[at..], b"\r\n\r\n")? + 4..])
}

/// Its content, as far as it is whole.
fn unchunked(mut body: &[u8]) -> Option<Vec<u8>> {
    let mut content = Vec::new();
    while let Some(end) = find(body, b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&body[..end]).ok()?, 16).ok()?;
        let Some(data) = body.get(end + 2..end + 2 + size).filter(|_| size > 0) else { break };
        content.extend(data);
        body = body.get(end + 4 + size..).unwrap_or_default();
    }
    Some(content)
}

/// Lines `name: value` behind a first word. The answer to a key becomes the one that fits.
fn handshake(head: &[u8], first: &str) -> Vec<u8> {
    // The last head is that of the upgrade.
    let text = String::from_utf8_lossy(head);
    let last = text.trim_end().rsplit("\r\n\r\n").next().unwrap_or_default().to_owned();
    let mut lines = vec![first.to_owned()];
    for line in last.split("\r\n").skip(1) {
        let is_accept = line.starts_with("Sec-WebSocket-Accept");
        lines.push(if is_accept { "Sec-WebSocket-Accept: $".to_owned() } else { line.to_owned() });
    }
    lines.join("\n").into_bytes()
}

/// The beginning of a world, with four connections at a time.
fn watch_wire(said: &[Said]) -> Vec<u8> {
    let mut script = vec![0, 5];
    let mut seats: [Option<usize>; 4] = [None; 4];
    let mut upgraded = BTreeSet::new();
    let (mut next, mut at) = (0, Duration::ZERO);
    for Said { at: now, link, what } in said {
        let seat = seats.iter().position(|seat| *seat == Some(*link)).unwrap_or_else(|| {
            next = (next + 1) % seats.len();
            seats[next] = Some(*link);
            next
        }) as u8;
        let begun = script.len();
        // The pauses that there are: seconds, and a few.
        match now.saturating_sub(at).as_secs() {
            0 => {}
            1 => script.push(0xa3),
            2..5 => script.push(0xa4),
            5..10 => script.push(0xa5),
            _ => script.push(0xa6),
        }
        at = *now;
        match what {
            What::Sent(bytes) if upgraded.contains(link) => match message(bytes) {
                Some(text) => script.extend([&[0x60 | seat, text.len() as u8], &text[..]].concat()),
                None => return script,
            },
            What::Sent(bytes) => {
                for part in from_zero(bytes).chunks(255) {
                    script.extend([&[seat, part.len() as u8], part].concat());
                }
            }
            What::Came(bytes) => {
                if bytes.starts_with(b"HTTP/1.1 101 ") {
                    upgraded.insert(*link);
                }
            }
            What::Ends => script.push(0xd0 | seat),
            What::Breaks => script.push(0xdc | seat),
            What::Cut => {}
        }
        if script.len() >= LONGEST {
            script.truncate(begun);
            break;
        }
    }
    script
}

/// The text of a client's frame that is short, alone and whole.
fn message(frame: &[u8]) -> Option<Vec<u8>> {
    let [0x81, length, key @ ..] = frame else { return None };
    let (key, payload) = key.split_first_chunk::<4>()?;
    let text: Vec<u8> = payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
    (usize::from(length & 0x7f) == text.len()).then(|| from_zero(&text))
}

/// The world's revisions begin at a time in microseconds that is a whole number of milliseconds, the target's at 0.
fn from_zero(bytes: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (number, after) = rest.split_at(digits.max(1));
        if digits == 15 {
            let number = number[12..].iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0'));
            text.extend(number.to_string().bytes());
        } else {
            text.extend(number);
        }
        rest = after;
    }
    text
}
