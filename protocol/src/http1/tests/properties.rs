//! What holds for every input.

use proptest::collection::vec;
use proptest::prelude::*;

use super::head::Layout;
use super::scan::Scan;
use super::*;

/// The parts that heads are made of, good ones and bad ones.
fn head() -> impl Strategy<Value = String> {
    let line = prop_oneof![
        10 => Just("GET / HTTP/1.1\r\n"),
        1 => Just("POST http://a/b?c HTTP/1.0\r\n"),
        1 => Just("GET /\u{e9} HTTP/1.1\r\n"),
        1 => Just("GET  / HTTP/1.1\r\n"),
        1 => Just("GET / HTTP/1.3\r\n"),
        1 => Just("GET / HTTP/1.1\n"),
        1 => Just("\r\nOPTIONS * HTTP/1.1\r\n"),
    ];
    let field = prop_oneof![
        10 => "[A-Za-z-]{1,8}:[ \t]{0,2}[ -~\t]{0,8}\r\n",
        5 => Just("Host: x\r\n".to_string()),
        1 => "[!-~]{1,3}:? ?[\\x00-\\xff]{0,4}\r?\n",
        1 => Just("Content-Length: 5\r\n".to_string()),
        1 => Just("Transfer-Encoding: chunked\r\n".to_string()),
        1 => Just("Connection: close, upgrade\r\n".to_string()),
        1 => Just(" folded\r\n".to_string()),
    ];
    let end = prop_oneof![9 => Just("\r\n"), 1 => Just("\n"), 1 => Just("")];
    (line, vec(field, 0..5), end).prop_map(|(line, fields, end)| format!("{line}{}{end}", fields.concat()))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn both_ways_of_reading_a_head_agree(head in head(), flip in any::<Option<(prop::sample::Index, u8)>>()) {
        let mut bytes = head.into_bytes();
        if let Some((at, byte)) = flip {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let limits = Limits::default();
        let scanned = Layout::with_scan(&bytes, &mut Scan::request(), &limits);
        match Layout::with_httparse(&bytes, &limits) {
            Some(Ok(found)) => prop_assert_eq!(scanned, Ok(Some(found))),
            Some(Err(fault)) => prop_assert_eq!(scanned, Err(fault)),
            // It leaves higher minor versions, and all that is wrong or not whole.
            None => if let Ok(Some(_)) = scanned {
                prop_assert!(!bytes.windows(10).any(|part| part == b"HTTP/1.1\r\n" || part == b"HTTP/1.0\r\n"));
            },
        }
        let mut scan = Scan::request();
        let in_parts = (1..=bytes.len())
            .map(|end| Layout::with_scan(&bytes[..end], &mut scan, &limits))
            .find(|result| *result != Ok(None));
        prop_assert_eq!(in_parts.unwrap_or(Ok(None)), scanned);
    }

    #[test]
    fn every_split_of_any_bytes_gives_the_same(head in head(), tail in vec(any::<u8>(), 0..20)) {
        split_with(&[head.as_bytes(), &tail].concat(), &Config::default());
    }

    #[test]
    fn every_split_of_any_chunks_gives_the_same(
        parts in vec(prop_oneof![
            4 => Just("1\r\na\r\n"),
            4 => Just("A;x=\"y\"\r\n0123456789\r\n"),
            2 => Just("0\r\n\r\n"),
            2 => Just("0\r\nX: y\r\n\r\n"),
            1 => Just("00"),
            1 => Just(" ;a"),
            1 => Just("\r\n"),
            1 => Just("\n"),
            1 => Just("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
        ], 0..8),
    ) {
        split_with(chunked(&parts.concat()).as_bytes(), &Config::default());
    }

    #[test]
    fn chunks_come_back_as_they_were_sent(
        parts in vec((vec(any::<u8>(), 0..40), prop_oneof![Just(""), Just(";a"), Just(" ; a = \"\\\"\" ")]), 0..12),
        lengths in vec(1_usize..30, 1..5),
    ) {
        let mut wire = Vec::new();
        let mut payload = Vec::new();
        for (part, extension) in parts {
            let head = chunked::ChunkHead::new(part.len());
            if let Some(size) = head.as_bytes().strip_suffix(b"\r\n") {
                wire.extend_from_slice(size);
                wire.extend_from_slice(extension.trim_end().as_bytes());
                wire.extend_from_slice(b"\r\n");
                wire.extend_from_slice(&part);
                wire.extend_from_slice(b"\r\n");
            }
            payload.extend(part);
        }
        wire.extend_from_slice(b"0\r\n\r\nrest");
        let (limits, mut decoder, mut received) = (Limits::default(), chunked::Decoder::new(), Vec::new());
        let (mut taken, mut offered, mut lengths) = (0, 0, lengths.into_iter().cycle());
        loop {
            let mut input = Input::new(&mut wire[taken..offered]);
            let chunk = decoder.decode(&mut input, &limits).unwrap();
            let consumed = input.consumed();
            match chunk {
                chunked::Chunk::Data(data) => received.extend_from_slice(data),
                chunked::Chunk::End => {
                    taken += consumed;
                    break;
                }
                chunked::Chunk::NeedMore => {
                    prop_assert!(offered < wire.len());
                    offered = wire.len().min(offered + lengths.next().unwrap());
                }
                chunked::Chunk::Trailers(fields) => prop_assert!(false, "{fields:?}"),
            }
            taken += consumed;
        }
        prop_assert_eq!(&wire[taken..], b"rest");
        prop_assert_eq!(received, payload);
    }

    #[test]
    fn any_calls_keep_what_was_promised(steps in vec((0_u8..14, 0_u64..40), 1..80)) {
        let wire = [
            &b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"[..],
            b"POST /b HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 30\r\n\r\n",
            &[b'b'; 30],
            b"HEAD /c HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
            b"PUT /d HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: y\r\n\r\n",
            b"GET /e HTTP/1.0\r\n\r\nnot a request\r\n",
        ]
        .concat();
        let mut connection = ServerConnection::new(Arc::default(), Now::default());
        let (mut taken, mut offered, mut now) = (0, 0, Now::default());
        let (mut exchanges, mut bodies) = (Vec::new(), Vec::new());
        let (mut requests, mut finals, mut ended) = (0, 0, false);
        for (step, amount) in steps {
            let mut out = Vec::new();
            let mut may_answer = true;
            match step {
                0..=5 => {
                    offered = wire.len().min(offered + amount as usize);
                    let mut bytes = wire[taken..offered].to_vec();
                    let mut input = if step == 5 { Input::last(&mut bytes) } else { Input::new(&mut bytes) };
                    match connection.recv(&mut input, &mut out, now) {
                        Ok(Event::Request(_, exchange)) => {
                            requests += 1;
                            exchanges.push(exchange);
                        }
                        Ok(Event::Closed) => prop_assert_eq!(connection.disposition(), Disposition::Finish),
                        Ok(Event::Data(data)) => prop_assert!(!data.is_empty()),
                        Ok(_) => prop_assert!(out.is_empty()),
                        Err(error) => prop_assert_eq!(
                            connection.disposition(),
                            if error.answered { Disposition::Finish } else { Disposition::Abort }
                        ),
                    }
                    taken += input.consumed();
                }
                6 => {
                    now = now.later(core::time::Duration::from_secs(amount));
                    let expired = connection.on_deadline(&mut out, now);
                    prop_assert!(connection.deadline().is_none_or(|deadline| deadline > now.instant));
                    prop_assert!(expired.is_none() || connection.wants_close());
                }
                7 => connection.close_after_this(),
                8 => {
                    if let Some(exchange) = exchanges.last() {
                        let _ = connection.proceed(exchange, &mut out);
                        let _ = connection.inform(exchange, StatusCode::EARLY_HINTS, &[], &mut out);
                    }
                    may_answer = false;
                }
                9 | 10 => if let Some(exchange) = exchanges.pop() {
                    let length = [BodyLength::Empty, BodyLength::Known(amount), BodyLength::Unknown];
                    let head = ResponseHead { status: StatusCode::OK, fields: &[], length: length[(amount % 3) as usize] };
                    match connection.respond(exchange, &head, &mut out, now) {
                        Ok(body) => bodies.push(body),
                        Err(refused) => prop_assert_eq!((refused.error, out.len()), (SendError::Stale, 0)),
                    }
                },
                11 => if let Some(body) = bodies.last_mut() {
                    let before = connection.disposition();
                    let sent = connection.data(body, &[b'x'; 64][..amount as usize], &mut out);
                    prop_assert!(sent.is_ok() || out.is_empty());
                    prop_assert_eq!(connection.disposition(), before);
                    out.clear();
                },
                12 => if let Some(body) = bodies.pop() {
                    if let Err(refused) = connection.finish(body, &mut out, now) {
                        prop_assert!(out.is_empty());
                        bodies.push(refused.token);
                    }
                    out.clear();
                },
                _ => if let Some(exchange) = exchanges.pop() {
                    let result = connection.upgrade(exchange, &[], &mut out, now);
                    prop_assert!(result.is_ok() || out.is_empty());
                },
            }
            let text = core::str::from_utf8(&out).unwrap();
            finals += usize::from(may_answer) * text.matches("HTTP/1.1 ").count();
            // At most one answer for each request, and one more for what was none.
            prop_assert!(finals <= requests + 1, "{} for {}", finals, requests);
            prop_assert!(!ended || out.is_empty(), "{text} after the end");
            ended = connection.disposition() != Disposition::Open;
            prop_assert!(!ended || connection.deadline().is_none());
        }
    }
}
