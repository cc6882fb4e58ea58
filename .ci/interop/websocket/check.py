#!/usr/bin/env python3
"""WebSockets between ours and other people's: one list of checks, whichever end is whose.

usage: check.py clients PEER ECHO-SERVER COMMAND..    the peer's client and our server
       check.py servers PEER BINARY:CLIENT COMMAND..  our client and the peer's server

COMMAND starts the peer. All but our servers are driven as lines.py tells; what goes over the wire is looked at as well (wire.py). A
line for each check: `ok`, `NO`, or `--` for what one of the two cannot do. Exit status 0 only if there is no `NO`. With ONLY in the
environment, only the checks with that in their name.
"""

import os
import queue
import random
import signal
import subprocess
import sys
import threading
import traceback

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

from contents import SIZES, similar, text_of
from servers import Server, end
from wire import BINARY, CLOSE, PING, PONG, TEXT, Wire, eventually

RANDOM = random.Random(6455)
KINDS = {"text": TEXT, "binary": BINARY}

# What an end has no way to do, or does not do, and so what is not asked of it.
LACKS = {
    "aiohttp client": {"fragments of the client", "close without a code", "wait for the end"},
    "aiohttp server": {"fragments of the server", "options of the server"},
    # Two break off where they offered a subprotocol and none was chosen, which RFC 6455 section 4.1 does not ask for. Two end the
    # connection as soon as both Close frames went, where section 7.1.1 lets the server be the first.
    "ws client": {"unchosen subprotocol", "wait for the end"},
    "tungstenite client": {"unchosen subprotocol", "deflate"},
    "tungstenite server": {"deflate"},
    "our machine client": {"close without a code"},
    "our mio client": {"close without a code", "fragments of the client", "pings of the client"},
    "our smol client": {"close without a code", "fragments of the client", "pings of the client"},
    "echo-mio server": {"told"},
    "echo-smol server": {"told"},
}


class Peer:
    """A process that is told, and says, what lines.py lists."""

    def __init__(self, command):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.said = queue.Queue()
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self):
        for line in self.process.stdout:
            self.said.put(line.rstrip("\n"))
        self.said.put("ended")

    def tell(self, *words):
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()

    def hear(self, *expected):
        """The rest of what it says next, which begins with one of these words."""
        try:
            word, _, rest = self.said.get(timeout=30).partition(" ")
        except queue.Empty:
            raise AssertionError(f"it never said {expected}") from None
        assert word in expected, f"it said {word} {rest[:200]} and not {expected}"
        return word, *rest.split(" ")

    def end(self):
        end(self.process)


class Side:
    """Who is asked: which client, which server, and what both can do."""

    def __init__(self, direction, peer, ours, command):
        self.direction, self.ours, self.command = direction, ours, command
        names = (peer, os.path.basename(ours)) if direction == "clients" else (f"our {ours.rpartition(':')[2]}", peer)
        self.client_name, self.server_name = names
        self.lacks = LACKS.get(f"{self.client_name} client", set()) | LACKS.get(f"{self.server_name} server", set())
        if "told" not in self.lacks:
            self.lacks.add("ours")
        self.client_command = [*command, "client"] if direction == "clients" else ours.split(":")
        self.client = Peer(self.client_command)
        self.servers = {}

    def server(self, options):
        """Its port, and the server's Peer where it can be told something. There is one for all checks with the same options."""
        if options not in self.servers:
            if self.direction == "clients":
                server = Server(self.ours, "--listen", "127.0.0.1:0")
                self.servers[options] = (int(server.address.rsplit(":", 1)[1]), None, server.process)
            else:
                server = Peer([*self.command, "server", *options])
                address = server.hear("listening")[2]
                self.servers[options] = (int(address.rsplit(":", 1)[1]), server, server.process)
        return self.servers[options]

    def again(self):
        """After a check that failed: nothing of it may reach the next."""
        self.end()
        self.client = Peer(self.client_command)

    def end(self):
        self.client.end()
        for _, _, process in self.servers.values():
            end(process)
        self.servers = {}


class Talk:
    """One open connection, through a relay."""

    def __init__(self, side, *, protocols=None, deflate=None, server_options=()):
        self.side, self.client = side, side.client
        port, self.server, self.server_process = side.server(tuple(server_options))
        self.wire = Wire(port)
        options = [f"protocols={protocols}"] if protocols else []
        options += [f"deflate={deflate}"] if deflate is not None else []
        self.client.tell("open", f"ws://127.0.0.1:{self.wire.port}/", *options)
        _, self.protocol, self.knows_deflate = self.client.hear("open")
        self.open = True
        if self.server:
            self.server_opened = self.server.hear("open")
            assert self.knows_deflate in ("?", self.server_opened[2]), (self.server_opened, self.knows_deflate)

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is None and self.open:
            self.close(1000, "")

    def close(self, code, reason):
        """The client closes, and it comes back clean."""
        payload = b"" if code is None else code.to_bytes(2) + reason.encode()
        self.client.tell("close", "-" if code is None else code, reason.encode().hex())
        said = self.client.hear("closed")
        self.ended()
        assert self.wire.control(self.wire.sent, CLOSE) == [payload], "what the client closes with"
        (answer,) = self.wire.control(self.wire.received, CLOSE)
        assert int(said[1] or 0) == (int.from_bytes(answer[:2]) or (1005 if self.side.client_name != "aiohttp" else 0)), (said, answer)
        if self.server:
            heard = self.server.hear("closed")
            unsaid = 0 if self.side.server_name == "aiohttp" else 1005
            assert heard[1:] == (str(unsaid if code is None else code), reason.encode().hex()), heard
        else:
            assert answer == payload[:2], f"the answer to {payload} is {answer}"

    def ended(self):
        self.open = False
        eventually(lambda: len(self.wire.ended) == 2, "both ends end the connection")
        assert self.wire.ended[0] == "server" or "wait for the end" in self.side.lacks, self.wire.ended

    def send(self, kind, content):
        self.client.tell(kind, content.hex())

    def comes_back(self, kind, content):
        said, back = self.client.hear("text", "binary")
        assert said == kind, (said, kind)
        assert bytes.fromhex(back) == content, f"{len(content)} bytes came back as {len(back) // 2}: {back[:100]}"

    def echo(self, kind, content):
        self.send(kind, content)
        self.comes_back(kind, content)

    def answered_pings(self, payloads, asked, answers):
        eventually(lambda: len(self.wire.control(answers, PONG)) >= len(payloads), "the pings are answered")
        assert self.wire.control(asked, PING) == payloads
        assert self.wire.control(answers, PONG) == payloads


# ---- The list ----

CHECKS = []


def check(name, *needs, each=(None,)):
    """Adds a check to the list, once for each of these values, which also complete its name."""
    def add(function):
        CHECKS.extend((name.format(value), set(needs), function, value) for value in each)
        return function
    return add


@check("text and binary of {} bytes", each=SIZES)
def sizes(side, size):
    with Talk(side) as talk:
        talk.echo("text", text_of(size))
        talk.echo("binary", RANDOM.randbytes(size))
        assert talk.wire.agreed() is None and talk.knows_deflate in ("-", "?"), "no extension was offered"


@check("text of every plane of Unicode")
def planes(side, _):
    with Talk(side) as talk:
        for plane in range(17):
            lows = (0, 1, 0x7F, 0x80, 0x7FF, 0x800, 0xD7FF, 0xE000, 0xFEFF, 0xFFFD, 0xFFFE, 0xFFFF)
            talk.echo("text", "".join(chr(plane * 0x10000 + low) for low in lows).encode())
        talk.echo("text", "\ufeffwith a mark in front".encode())


@check("messages in fragments, cut inside letters, empty ones too, with pings between them", "fragments of the client")
def fragments(side, _):
    text = "a\u00e9\u20ac\U0001d11e!".encode()
    large = RANDOM.randbytes(1 << 20)
    with Talk(side) as talk:
        talk.client.tell("text-parts", ",".join(text[at:at + 1].hex() for at in range(len(text))))
        talk.comes_back("text", text)
        talk.client.tell("text-parts", f",{text.hex()},!70696e67,,{text.hex()},!21,{text.hex()}")
        talk.comes_back("text", text * 3)
        talk.client.tell("binary-parts", ",".join(large[at:at + 10_000].hex() for at in range(0, len(large), 10_000)))
        talk.comes_back("binary", large)
        talk.answered_pings([b"ping", b"!"], talk.wire.sent, talk.wire.received)
        assert sum(not frame.fin for frame in talk.wire.frames(talk.wire.sent)) >= 8 + 4 + 104, "they went in fragments"


@check("the client's pings are answered with their payload", "pings of the client")
def pings(side, _):
    payloads = [b"", b"ping", bytes(range(125))]
    with Talk(side) as talk:
        for payload in payloads:
            talk.client.tell("ping", payload.hex())
        talk.echo("text", b"behind them")
        talk.answered_pings(payloads, talk.wire.sent, talk.wire.received)


@check("the server's pings are answered with their payload", "told")
def pings_of_the_server(side, _):
    payloads = [b"", b"ping", bytes(range(125))]
    with Talk(side) as talk:
        for payload in payloads:
            talk.server.tell("ping", payload.hex())
        talk.answered_pings(payloads, talk.wire.received, talk.wire.sent)
        talk.echo("text", b"behind them")


@check("messages that the server sends in fragments", "told", "fragments of the server")
def fragments_of_the_server(side, _):
    text = "a\u00e9\u20ac\U0001d11e!".encode()
    with Talk(side) as talk:
        talk.server.tell("text-parts", ",".join(text[at:at + 1].hex() for at in range(len(text))))
        talk.comes_back("text", text)
        talk.server.tell("binary-parts", f",{text.hex()},!70696e67,,{text.hex()}")
        talk.comes_back("binary", text * 2)
        talk.answered_pings([b"ping"], talk.wire.received, talk.wire.sent)


REASONS = [(1000, ""), (1000, "done"), (1001, "going away"), (3000, "\u20ac" * 41), (4999, "r" * 123)]
CLOSES = [(code, len(reason.encode()), reason) for code, reason in REASONS]


@check("the client closes with {0[0]} and a reason of {0[1]} bytes", each=CLOSES)
def client_closes(side, how):
    with Talk(side) as talk:
        talk.echo("text", b"before")
        talk.close(how[0], how[2])


@check("the client closes without a code", "close without a code")
def client_closes_without(side, _):
    with Talk(side) as talk:
        talk.close(None, "")


@check("the server closes with {0[0]} and a reason of {0[1]} bytes", "told", each=CLOSES)
def server_closes(side, how):
    code, _, reason = how
    with Talk(side) as talk:
        talk.echo("text", b"before")
        talk.server.tell("close", code, reason.encode().hex())
        assert talk.client.hear("closed")[1:] == (str(code), reason.encode().hex())
        talk.ended()
        assert talk.wire.control(talk.wire.sent, CLOSE) == [code.to_bytes(2)], "our client answers with the same code"
        assert talk.server.hear("closed")[1] == ("1000" if side.server_name == "aiohttp" else str(code))


@check("a message that is too large: 1009", "ours")
def too_large(side, _):
    with Talk(side) as talk:
        talk.send("binary", bytes((16 << 20) + 1))
        closed = talk.client.hear("closed")
        talk.open = False
        (said,) = talk.wire.control(talk.wire.received, CLOSE)
        assert closed[1:] == ("1009", said[2:].hex()), (closed, said)


@check("200 messages at once come back in order")
def pipelined(side, _):
    messages = [("text", text_of(n * 37)) if n % 2 else ("binary", RANDOM.randbytes(n * 53)) for n in range(200)]
    with Talk(side) as talk:
        for message in messages:
            talk.send(*message)
        for message in messages:
            talk.comes_back(*message)


@check("a subprotocol is offered and not chosen", "unchosen subprotocol")
def protocol_not_chosen(side, _):
    with Talk(side, protocols="chat,superchat") as talk:
        assert talk.wire.fields(talk.wire.sent, "sec-websocket-protocol") in (["chat,superchat"], ["chat, superchat"])
        assert talk.protocol == "-" and not talk.wire.fields(talk.wire.received, "sec-websocket-protocol")
        talk.echo("text", b"without one")


@check("a subprotocol is offered and chosen", "told")
def protocol_chosen(side, _):
    with Talk(side, protocols="chat,superchat", server_options=["protocol=superchat"]) as talk:
        assert talk.protocol == talk.server_opened[1] == "superchat"
        talk.echo("text", b"with it")


# ---- permessage-deflate ----

NO_TAKEOVER = ("server_no_context_takeover", "client_no_context_takeover")
BITS = range(9, 16)
OFFERS = ["", "client_max_window_bits", *NO_TAKEOVER, ";".join(NO_TAKEOVER)]
OFFERS += [f"server_max_window_bits={bits};client_max_window_bits={bits}" for bits in BITS]
OFFERS += [f"server_max_window_bits={bits};{';'.join(NO_TAKEOVER)}" for bits in (9, 15)]
# Ways of asking: by the client's offer, and by a server that wants it so, whose client offers what is needed for that.
ASKED = [(offer, "") for offer in OFFERS]
WANTED = [("client_max_window_bits", wish) for wish in OFFERS if "bits;" not in wish and not wish.endswith("bits")]
WORDS = [RANDOM.randbytes(RANDOM.randrange(2, 9)).hex() for _ in range(400)]


def deflated(side, ask=("", "")):
    """A connection with this offer of the client, to a server that has these options; what was agreed on is right."""
    offer, options = ask
    talk = Talk(side, deflate=offer, server_options=() if side.direction == "clients" else [f"deflate={options}"])
    agreed = talk.wire.agreed()
    assert agreed is not None and talk.knows_deflate in ("deflate", "?"), f"it is agreed on: {agreed}, {talk.knows_deflate}"
    offered = dict(part.strip().partition("=")[::2] for part in ";".join(talk.wire.fields(talk.wire.sent, "sec-websocket-extensions")).split(";"))
    assert "server_no_context_takeover" not in offered or "server_no_context_takeover" in agreed, agreed
    for name in ("server_max_window_bits", "client_max_window_bits"):
        assert name not in agreed or 8 <= agreed[name] <= 15 and (name in offered or name.startswith("server")), agreed
        if offered.get(name):
            assert agreed.get(name, 15) <= int(offered[name]) or name not in agreed and name.startswith("client"), f"{agreed} for {offer}"
    wanted = {part.partition("=")[0] for part in options.split(";") if part}
    assert wanted <= agreed.keys(), f"{agreed} from {options}"
    return talk


def check_wire(talk, messages):
    """Both directions carried these messages, each sender with what was agreed on. Gives both."""
    wire = talk.wire
    both = wire.messages(wire.sent), wire.messages(wire.received)
    for sent in both:
        assert [(message.kind, message.content) for message in sent] == [(KINDS[kind], content) for kind, content in messages]
    return both


def contents(side, ask):
    words = " ".join(RANDOM.choices(WORDS, k=10_000)).encode()
    far = RANDOM.randbytes(20_000)
    messages = [("text", b"hello"), ("text", b""), ("binary", b"\0"), ("text", words), ("binary", RANDOM.randbytes(5_000)), ("text", b""),
                ("binary", far + far + far[:300]), ("text", text_of(1 << 20)), ("binary", RANDOM.randbytes(1 << 20)), ("text", b"hello"),
                ("text", words)]
    with deflated(side, ask) as talk:
        for message in messages:
            talk.echo(*message)
        for sent in check_wire(talk, messages):
            # In a window of 9 bits few of the words are found again.
            for at, share in {3: 1, 7: 0.1, -1: 1}.items():
                message = sent[at]
                assert message.compressed and len(message.payload) < share * len(message.content), f"{len(message.content)} as {len(message.payload)}"


def takeover(side, ask):
    messages = [("text", content) for content in similar(50)]
    with deflated(side, ask) as talk:
        for message in messages[:25]:
            talk.echo(*message)
        for message in messages[25:]:
            talk.send(*message)
        for message in messages[25:]:
            talk.comes_back(*message)
        for end_, sent in zip(("client", "server"), check_wire(talk, messages)):
            without = f"{end_}_no_context_takeover"
            # A client that offers to do without does so, whether or not that is confirmed.
            if without not in talk.wire.agreed() and not (end_ == "client" and without in ask[0]):
                on_wire, whole = (sum(map(len, parts)) for parts in ([m.payload for m in sent[5:]], [m.content for m in sent[5:]]))
                assert all(message.compressed for message in sent) and on_wire < 0.4 * whole, f"{end_}: {whole} bytes as {on_wire}"


for what, function in {"small, empty, compressible and random messages": contents, "50 similar messages in a row": takeover}.items():
    check("deflate, offered {0[0]!r}: " + what, "deflate", each=ASKED)(function)
    check("deflate, wanted by the server {0[1]!r}: " + what, "deflate", "told", "options of the server", each=WANTED)(function)


@check("deflate: messages in fragments, with pings between them", "deflate", "fragments of the client")
def compressed_fragments(side, _):
    words = " ".join(RANDOM.choices(WORDS, k=10_000)).encode()
    with deflated(side) as talk:
        parts = [words[at:at + 9_000].hex() for at in range(0, len(words), 9_000)]
        talk.client.tell("text-parts", ",".join(f"!{n:02x},{part}" for n, part in enumerate(parts)))
        talk.comes_back("text", words)
        talk.echo("text", words)
        check_wire(talk, [("text", words)] * 2)
        talk.answered_pings([bytes([n]) for n in range(len(parts))], talk.wire.sent, talk.wire.received)


@check("deflate: 200 messages at once come back in order", "deflate")
def compressed_pipelined(side, _):
    messages = [("text", text_of(n * 37)) if n % 2 else ("binary", RANDOM.randbytes(n * 53)) for n in range(200)]
    with deflated(side) as talk:
        for message in messages:
            talk.send(*message)
        for message in messages:
            talk.comes_back(*message)
        check_wire(talk, messages)


@check("deflate: a message that is too large only when inflated: 1009", "deflate", "ours")
def too_large_inflated(side, _):
    with deflated(side) as talk:
        talk.send("binary", bytes((16 << 20) + 1))
        assert talk.client.hear("closed")[1] == "1009"
        talk.open = False
        assert len(talk.wire.sent) < 1 << 20


@check("the server stops: 1001", "ours")
def stops(side, _):
    """The last, since it ends the server."""
    with Talk(side) as talk:
        talk.echo("text", b"before")
        talk.server_process.send_signal(signal.SIGTERM)
        closed = talk.client.hear("closed")
        assert closed[1:] == ("1001", ""), closed
        talk.ended()
        assert talk.wire.control(talk.wire.received, CLOSE) == [b"\x03\xe9"]
        assert talk.server_process.wait(10) == 0


def main():
    direction, peer, ours, *command = sys.argv[1:]
    side = Side(direction, peer, ours, command)
    only, fine = os.environ.get("ONLY", ""), True
    try:
        for title, needs, function, value in CHECKS:
            if only not in title:
                continue
            title = f"{side.client_name} -> {side.server_name}: {title}"
            if missing := needs & side.lacks:
                if not missing & {"told", "ours", "deflate"}:
                    print(f"--  {title}: it lacks {', '.join(missing)}", flush=True)
                continue
            try:
                function(side, value)
            except Exception as error:  # each check is counted, whatever becomes of it
                fine = False
                where = next(frame for frame in reversed(traceback.extract_tb(error.__traceback__)) if frame.filename == __file__)
                print(f"NO  {title}: {error!r} at line {where.lineno}: {where.line}", flush=True)
                side.again()
            else:
                print(f"ok  {title}", flush=True)
    finally:
        side.end()
    sys.exit(not fine)


if __name__ == "__main__":
    main()
