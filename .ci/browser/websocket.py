#!/usr/bin/env python3
"""WebSockets of a real browser, compressed as it offers: with the echo server, and what it says is looked at on the wire.

usage: websocket.py ECHO-BINARY [WATCH-BINARY]     with the second, the watch server is to compress as well

Prints a line for each check. Exit status 0 only if all hold.
"""

import http.client
import json
import os
import signal
import socket
import sys

INTEROP = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../interop")
sys.path += [INTEROP, f"{INTEROP}/websocket"]

from chromium import Chromium
from contents import SIZES, similar, text_of
from relay import Relay
from servers import Server
from wire import CLOSE, TEXT, Wire, eventually

# Opens a WebSocket that keeps what comes, in order; `closed` is what its `close` event says.
OPEN = """
globalThis.open = (url, protocols) => new Promise((resolve) => {
  const socket = new WebSocket(url, protocols);
  socket.binaryType = "arraybuffer";
  const heard = [], waiting = [];
  socket.onmessage = ({ data }) => { if (waiting.length) waiting.shift()(data); else heard.push(data); };
  socket.next = () => heard.length ? Promise.resolve(heard.shift()) : new Promise((next) => { waiting.push(next); });
  socket.closed = new Promise((told) => {
    socket.onclose = ({ code, reason, wasClean }) => { told({ code, reason, wasClean }); resolve({ refused: code }); };
  });
  socket.onopen = () => { globalThis.socket = socket; resolve({ extensions: socket.extensions, protocol: socket.protocol }); };
});
// Sends these, all at once, and says whether the same comes back in the same order.
globalThis.echo = async (messages) => {
  const bytes = (data) => typeof data === "string" ? new TextEncoder().encode(data) : new Uint8Array(data);
  messages.forEach((message) => socket.send(message));
  for (const message of messages) {
    const back = await socket.next();
    const [sent, came] = [bytes(message), bytes(back)];
    if (typeof back === "string" !== (typeof message === "string")) return `another kind: ${back}`;
    if (sent.length !== came.length || sent.some((byte, at) => byte !== came[at])) return `${sent.length} bytes came back as ${came.length}`;
  }
  return "same";
};
globalThis.random = (size) => {
  const bytes = new Uint8Array(size);
  for (let at = 0; at < size; at += 65536) crypto.getRandomValues(bytes.subarray(at, Math.min(at + 65536, size)));
  return bytes;
};
"""


class PageWire(Wire):
    """A Wire for one WebSocket after the other, which has an empty page for every other request: a server asks of a page that it is
    its own."""

    accept = Relay.accept

    def relay(self, client):
        head = b""
        # A browser also makes connections on which it says nothing, in case it needs them.
        while b"\r\n\r\n" not in head and (more := client.recv(65536, socket.MSG_PEEK)):
            if more == head:
                break
            head = more
        if b"upgrade: websocket" in head.lower():
            self.sent, self.received, self.ended = bytearray(), bytearray(), []
            return super().relay(client)
        if head:
            client.recv(65536)
            client.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        client.close()


class Page:
    """An empty page of the server's own origin, in a browser."""

    def __init__(self, browser, server):
        self.browser, self.wire = browser, PageWire(int(server.address.rsplit(":", 1)[1]))
        self.url = f"ws://127.0.0.1:{self.wire.port}"
        browser.open(f"http://127.0.0.1:{self.wire.port}/")
        browser.run(OPEN)

    def open(self, path="/", protocols=()):
        opened = self.browser.run(f"open({json.dumps(self.url + path)}, {json.dumps(protocols)})")
        assert "permessage-deflate" in opened.get("extensions", ""), opened
        assert self.wire.agreed() is not None
        return opened

    def echo(self, messages):
        """Messages as an expression of an array."""
        said = self.browser.run(f"echo({messages})")
        assert said == "same", said

    def close(self, *how):
        self.browser.run(f"socket.close({', '.join(map(json.dumps, how))})")
        return self.closed()

    def closed(self):
        said = self.browser.run("Promise.race([socket.closed, new Promise((late) => setTimeout(late, 10000, 'late'))])")
        eventually(lambda: len(self.wire.ended) == 2, "both ends end the connection")
        assert self.wire.ended[0] == "server", self.wire.ended
        return said


def ok(what):
    print(f"ok  {what}", flush=True)


def echoes(browser, server):
    page = Page(browser, server)
    opened = page.open()
    ok(f"the extension is agreed on: {opened['extensions']}")

    for size in SIZES:
        page.echo(f"[{json.dumps(text_of(size).decode())}, random({size}), new Uint8Array({size})]")
    for sent in page.wire.messages(page.wire.sent), page.wire.messages(page.wire.received):
        assert [len(message.content) for message in sent] == [size for size in SIZES for _ in range(3)]
        assert sent[-1].compressed and len(sent[-1].payload) < 20_000 and sent[-3].compressed
    assert page.close(1000) == {"code": 1000, "reason": "", "wasClean": True}
    ok("text, random and empty binary messages of 0 bytes to 1 MiB come back, and close with 1000 is clean")

    page.open()
    for messages in similar(50)[:25], similar(50)[25:]:
        page.echo(json.dumps([message.decode() for message in messages]))
    for side, sent in ("Chromium", page.wire.messages(page.wire.sent)), ("server", page.wire.messages(page.wire.received)):
        assert [(message.kind, message.content) for message in sent] == [(TEXT, message) for message in similar(50)]
        on_wire, whole = sum(len(message.payload) for message in sent), sum(len(message.content) for message in sent)
        assert all(message.compressed for message in sent) and on_wire < 0.4 * whole, f"{side}: {whole} bytes as {on_wire}"
        ok(f"50 similar messages in a row: {whole} bytes as {on_wire} from the {side}")
    assert page.close(4000, "done \u20ac") == {"code": 4000, "reason": "", "wasClean": True}
    assert page.wire.control(page.wire.sent, CLOSE) == [b"\x0f\xa0" + "done \u20ac".encode()]
    ok("close with 4000 and a reason is clean")

    planes = [chr(plane * 0x10000 + low) for plane in range(17) for low in (0x41, 0x7FF, 0xE000, 0xFFFD)]
    page.open()
    page.echo(json.dumps(["".join(planes), *planes, "\ufeff"]))
    page.echo("Array.from({ length: 200 }, (_, n) => n % 2 ? 'x'.repeat(n * 37) : random(n * 53))")
    page.close(1000)
    ok("text of every plane, and 200 messages at once")

    other = f"ws://{server.address}/"
    assert browser.run(f"open({json.dumps(other)})") == {"refused": 1006}
    ok("a page of another origin is refused")

    page.open()
    server.process.send_signal(signal.SIGTERM)
    assert page.closed() == {"code": 1001, "reason": "", "wasClean": True}
    assert server.process.wait(10) == 0
    ok("the server stops: 1001, clean")


def watches(browser, server):
    """50 puts, which a watcher is told of."""
    # Each is longer than what the server begins to compress at.
    values = [f"the state of number {n}, which is long, and always the same but for its number; " * 10 for n in range(50)]
    page = Page(browser, server)
    page.open("/v1/watch?prefix=")
    for n, value in enumerate(values):
        connection = http.client.HTTPConnection(server.address, timeout=10)
        connection.request("PUT", f"/v1/kv/check/{n % 7}", value)
        assert connection.getresponse().status in (200, 201)
        connection.close()
    told = browser.run("""(async () => {
      const told = [];
      while (told.length < 50) {
        const event = JSON.parse(await socket.next());
        if (event.type === "put") told.push(event.value);
      }
      return told;
    })()""")
    assert told == values, told
    sent = page.wire.messages(page.wire.received)
    on_wire, whole = sum(len(message.payload) for message in sent), sum(len(message.content) for message in sent)
    assert on_wire < 0.8 * whole, f"{whole} bytes as {on_wire}"
    page.close(1000)
    ok(f"the watch server tells of 50 puts: {whole} bytes as {on_wire}")


def main():
    with Chromium() as browser:
        with Server(sys.argv[1], "--listen", "127.0.0.1:0") as server:
            echoes(browser, server)
        if len(sys.argv) > 2:
            with Server(sys.argv[2], "--listen", "127.0.0.1:0") as server:
                watches(browser, server)
        assert not browser.exceptions, browser.exceptions
    ok("no script threw")


if __name__ == "__main__":
    main()
