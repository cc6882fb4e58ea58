"""Makes messages that are hard to frame: from right and wrong parts, and then perhaps changed byte by byte."""

# A part is right most of the time, so that what lies behind it is reached.
METHODS = [b"GET", b"POST", b"PUT", b"HEAD", b"DELETE", b"OPTIONS"]
ODD_METHODS = [b"get", b"PATCH", b"CONNECT", b"TRACE", b"PURGE", b"G ET", b"", b"G@T", b"M-SEARCH", b"PRI"]
TARGETS = [b"/", b"/a", b"/a/b?c=d", b"/%20", b"/a;b"]
ODD_TARGETS = [b"*", b"", b"http://x/a", b"http://x", b"x:80", b"/a b", b"/\x7f", b"/\xc3\xa9", b"a", b"/a#f", b"http://u@x/", b"//a", b"/\""]
VERSIONS = [b"HTTP/1.1"]
ODD_VERSIONS = [b"HTTP/1.0", b"HTTP/1.2", b"HTTP/2.0", b"HTTP/0.9", b"http/1.1", b"HTTP/1.1 ", b"HTTP/1", b"HTTP/11", b"HTTP/1.10", b"HTTPS/1.1", b""]
HOSTS = [b"Host: x", b"host:x", b"Host: x:80", b"Host: 127.0.0.1:8080", b"HOST: [::1]:80"]
ODD_HOSTS = [b"Host:", b"Host: ", b"Host: a, b", b"Host: x/y", b"Host: u@x", b"Host: x y", b"Host: x:y", b"Host: [::1", b"Host: x:70000", b"Host: x:",
             b"Host: x\r\nHost: x", b"Host: x\r\nhost: y", b"Host : x", b"X: y", b" Host: x", b"Host: \xc3\xa9", b"Host:\tx\t"]
FIELDS = [b"Accept: */*", b"X-A: b", b"X-Empty:", b"Cookie: a=b; c=d", b"X-Tab:\ta\tb", b"X-Latin: \xe9", b"Connection: keep-alive",
          b"Expect: 100-continue", b"TE: trailers"]
ODD_FIELDS = [b"Connection: close", b"Connection: , close", b"Connection: a b", b"Connection: Upgrade\r\nUpgrade: websocket", b"Expect: 200-ok",
              b"X-Fold: a\r\n b", b"X-Fold: a\r\n\tb", b"X-Fold: a\r\n ", b"X Space: a", b"X-Space : a", b": a", b"NoColon", b"X-Nul: a\0b", b"X-Cr: a\rb",
              b"X-Lf: a\nX-B: c", b"X-Ctl: a\x01b", b"X-Del: a\x7fb", b"X(a): b", b"X-\xe9: b", b"Upgrade: h2c", b"Connection: upgrade",
              b"Content-Encoding: gzip", b"Trailer: X-T", b"\tX: a", b"X-Cr: a\r", b"Connection: close, keep-alive"]
ODD_LENGTHS = [b"+%d", b"-%d", b"%d,%d", b"%d, %d", b"0%d", b"00000%d", b"0x%d", b"%d ", b" %d", b"%d\t", b"%d;", b"%d 1", b"1 %d", b"%d.0", b"\"%d\"", b"",
               b"%d1", b"18446744073709551616", b"18446744073709551615", b"99999999999999999999999%d", b"%d,", b",%d", b"%d, 7", b"%d\x0b", b"\xa0%d", b"1e1"]
CODINGS = [b"chunked"]
ODD_CODINGS = [b"Chunked", b"CHUNKED", b"gzip, chunked", b"chunked, gzip", b"chunked, chunked", b"identity", b"identity, chunked", b"chunked, identity", b"gzip",
               b"", b" chunked ", b"\tchunked", b"\x0bchunked", b"chunked\x00", b"xchunked", b"chunkedx", b"chunked,", b", chunked", b"chunked;q=1", b"\"chunked\"",
               b"chunked chunked", b"chunked\r\n ", b"\r\n chunked", b"gzip\r\nTransfer-Encoding: chunked", b"chunked\r\nTransfer-Encoding: gzip",
               b"chunked\r\nTransfer-Encoding: chunked", b"c hunked"]
ODD_SIZES = [b"0x%x", b"+%x", b"-%x", b" %x", b"%x ", b"%x\t", b"0%x", b"000000000000000000%x", b"%x;", b"%x;a", b"%x;a=b", b"%x; a = b", b"%x;a=\"b;\\\"c\"", b"%x;a=\"b\r\n", b"%x;=",
             b"%x ;a", b"%xg", b"", b";a", b"%x\n", b"%x\r", b"%x;a\n", b"%x;a\rb", b"%x_0", b"FFFFFFFFFFFFFFFF%x", b"ffffffffffffffff", b"8000000000000000", b"%x;a b", b"%x;\x01", b"%x;a=b;c=d",
             b"%x\0", b"%x;\xe9=a", b"%x,%x"]
ENDS = [b"\r\n"]
ODD_ENDS = [b"\n", b"\r", b"", b"\r\r\n", b"\n\r", b"\r\n\r\n", b" \r\n", b"\r\n "]
TRAILERS = [b"", b"X-T: a\r\n", b"X-T: a\r\nX-U: b\r\n"]
ODD_TRAILERS = [b"X-T: a\n", b"X T: a\r\n", b"X-T : a\r\n", b" X-T: a\r\n", b"X-T: a\r\n b\r\n", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"Host: y\r\n",
                b"X-T: \0\r\n", b"NoColon\r\n", b"\r\n", b"\n", b": a\r\n"]
PAYLOADS = [b"", b"a", b"hello", b"0\r\n\r\n", b"GET /b HTTP/1.1\r\nHost: x\r\n\r\n", b"\r\n", bytes(range(256)), b"5\r\nhello\r\n0\r\n\r\n", b"x" * 300]
BYTES = [b"\r", b"\n", b"\r\n", b" ", b"\t", b":", b";", b",", b"\0", b"0", b"1", b"a", b"\x0b", b"\xff", b"\x7f", b"=", b"\"", b"chunked", b"Content-Length: 3\r\n",
         b"Transfer-Encoding: chunked\r\n"]


def make(chance):
    """A message, which may be several requests."""
    # How often a part is odd differs from message to message: most have about one odd part.
    odd = chance.choice([0.0, 0.01, 0.02, 0.05, 0.05, 0.1])
    message = b"".join(request(chance, odd) for _ in range(chance.choice([1, 1, 2, 2, 3])))
    for _ in range(chance.choice([0, 0, 0, 0, 1, 1, 3])):
        message = changed(chance, message)
    return message


def request(chance, odd):
    def one(right, wrong, likely=1.0):
        return chance.choice(wrong) if chance.random() < odd * likely else chance.choice(right)

    def end():
        return one(ENDS, ODD_ENDS, 0.3)

    payload = chance.choice(PAYLOADS)
    fields = [one(HOSTS, ODD_HOSTS)] + [one(FIELDS, ODD_FIELDS) for _ in range(chance.choice([0, 0, 1, 2]))]
    framing = chance.choice(["none", "length", "length", "chunked", "chunked", "chunked"])
    if chance.random() < odd * 0.5:
        framing = chance.choice(["both", "twice"])
    body = b""
    if framing in ("length", "both", "twice"):
        body = payload
        name = one([b"Content-Length:", b"Content-Length: ", b"content-length: "], [b"Content-Length : ", b"Content-Length:\t", b"Content_Length: ", b"Content-Length\0:"])
        fields.append(name + filled(one([b"%d"], ODD_LENGTHS), len(payload)))
        if framing == "twice":
            fields.append(b"Content-Length: " + filled(one([b"%d"], ODD_LENGTHS, 2), len(payload)))
    if framing in ("chunked", "both"):
        name = one([b"Transfer-Encoding: ", b"transfer-encoding:"], [b"Transfer-Encoding : ", b"Transfer-Encoding:\t", b"Transfer_Encoding: ", b"Transfer-Encoding\x0b: "])
        fields.append(name + one(CODINGS, ODD_CODINGS, 2))
        body = chunks(chance, payload, one)
    chance.shuffle(fields)
    lead = one([b""], [b"\r\n", b"\n", b"\r", b"\r\n\r\n", b" ", b"\r\n" * 6], 0.5)
    space = one([b" "], [b"  ", b"\t", b"", b" \r\n"], 0.3)
    line = one(METHODS, ODD_METHODS) + space + one(TARGETS, ODD_TARGETS) + space + one(VERSIONS, ODD_VERSIONS)
    head = lead + line + end() + b"".join(field + end() for field in fields) + end()
    return head + body


def chunks(chance, payload, one):
    made = []
    while payload or chance.random() < 0.05:
        size = chance.choice([1, 2, 5, 16, 300])
        part, payload = payload[:size], payload[size:]
        if not part:
            break
        size = filled(one([b"%x", b"%X" if chance.random() < 0.1 else b"%x", b"%x;a=b" if chance.random() < 0.1 else b"%x"], ODD_SIZES), len(part))
        made.append(size + one(ENDS, ODD_ENDS, 0.5) + part + one(ENDS, ODD_ENDS, 0.5))
    last = filled(one([b"%x", b"%x", b"00%x"], ODD_SIZES, 0.7), 0)
    return b"".join(made) + last + one(ENDS, ODD_ENDS, 0.5) + one(TRAILERS, ODD_TRAILERS) + one(ENDS, ODD_ENDS, 0.5)


def filled(pattern, number):
    """The number wherever the pattern has a place for it."""
    return pattern.replace(b"%d", b"%d" % number).replace(b"%x", b"%x" % number).replace(b"%X", b"%X" % number)


def changed(chance, message):
    at = chance.randrange(len(message) + 1)
    until = min(len(message), at + chance.choice([1, 1, 1, 2, 8]))
    match chance.randrange(6):
        case 0:
            return message[:at] + message[until:]
        case 1 | 2:
            return message[:at] + chance.choice(BYTES) + message[at:]
        case 3:
            return message[:at] + chance.choice(BYTES) + message[until:]
        case 4:
            return message[:at]
        case _:
            lines = message.split(b"\r\n")
            line = chance.choice(lines)
            lines.insert(chance.randrange(len(lines) + 1), line)
            return b"\r\n".join(lines)
