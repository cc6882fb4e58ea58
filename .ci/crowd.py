#!/usr/bin/env python3
"""A crowd at a watch server: crowd.py WATCH-BINARY [CONNECTIONS] [OPTION..]. A line for each check.

So many connections (16,000, for which both sides need as many descriptors; a quarter of them for each transport, from many
addresses) watch one key. They are told of some
changes, each once and in order. Then the server is told to end while all hold: every one of them is sent away as its transport
has it, without a reset, and spread over the time.
"""

import re
import resource
import selectors
import signal
import socket
import sys
import time
import urllib.error
import urllib.request

sys.path.insert(0, f"{sys.path[0]}/interop")
from servers import Server  # noqa: E402

TRANSPORTS = ["websocket", "sse", "lines", "poll"]
KEY = "crowd/key"
CHANGES = 3
FIELDS = {
    "websocket": "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                 "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
    "sse": "Accept: text/event-stream\r\n",
    "lines": "Accept: application/x-ndjson\r\n",
    "poll": "",
}
# A Close of the client: masked, with a key of zeros, 1001.
CLOSE = bytes([0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe9])


class Client:
    def __init__(self, address, number):
        self.transport = TRANSPORTS[number % len(TRANSPORTS)]
        self.socket = socket.create_connection(address, source_address=(f"127.0.{1 + number % 200}.1", 0))
        self.socket.setblocking(False)
        self.head = True
        self.text = b""
        self.told = 0
        self.revision = None
        self.farewell = False
        self.ended = None
        self.watch()

    def watch(self):
        query = ""
        if self.transport == "poll":
            query = "&wait=60s" + (f"&since={self.revision}" if self.revision else "")
        self.socket.sendall(f"GET /v1/watch?key={KEY}{query} HTTP/1.1\r\nHost: x\r\n{FIELDS[self.transport]}\r\n".encode())

    def read(self, now):
        """Returns whether it is to be read from again."""
        try:
            data = self.socket.recv(65536)
        except ConnectionError as error:
            raise AssertionError(f"{self.transport}: {error}, behind {self.text[-200:]!r}") from error
        if not data:
            assert self.farewell, f"{self.transport} ended without a farewell, behind {self.text[-200:]!r}"
            self.ended = now
            return False
        self.text += data
        if self.transport == "poll":
            self.read_answer()
        else:
            self.read_stream()
        return True

    def read_answer(self):
        head, found, body = self.text.partition(b"\r\n\r\n")
        length = re.search(rb"Content-Length: (\d+)", head) if found else None
        if not length or len(body) < int(length[1]):
            return
        assert head.startswith(b"HTTP/1.1 200 "), head
        assert len(body) == int(length[1]), "more than one answer"
        self.text = b""
        self.revision = int(re.match(rb'{"revision":(\d+),', body)[1])
        self.changes(body)
        self.farewell = b"Connection: close" in head
        if not self.farewell:
            self.watch()

    def read_stream(self):
        if self.head:
            head, found, rest = self.text.partition(b"\r\n\r\n")
            if not found:
                return
            assert head.startswith((b"HTTP/1.1 200 ", b"HTTP/1.1 101 ")), head
            self.head, self.text = False, rest
        # Whole changes; what is cut stays.
        self.text = self.text[self.changes(self.text):]
        if self.transport == "websocket":
            self.farewell = self.text[-4:-2] == b"\x88\x02" or b"\x03\xe9" in self.text[-125:]
            if self.farewell:
                self.socket.sendall(CLOSE)
        else:
            self.farewell = self.text.endswith(b"0\r\n\r\n") and (self.transport == "lines" or b"retry: " in self.text)

    def changes(self, text):
        end = 0
        for change in re.finditer(rb'"value":"change (\d+)"}', text):
            assert int(change[1]) == self.told + 1, f"{self.transport}: {change[1]} behind {self.told}"
            self.told, end = self.told + 1, change.end()
        return end


class Crowd:
    def __init__(self, server, count):
        host, port = server.address.rsplit(":", 1)
        self.url = f"http://{server.address}"
        self.selector = selectors.DefaultSelector()
        self.clients = []
        for number in range(count):
            client = Client((host, int(port)), number)
            self.clients.append(client)
            self.selector.register(client.socket, selectors.EVENT_READ, client)
            if number % 256 == 255:
                self.read(0)
        self.until("held", lambda: self.watchers() == count, 60)

    def watchers(self):
        text = urllib.request.urlopen(f"{self.url}/metrics").read().decode()
        return int(re.search(r"^\w*watchers (\d+)", text, re.M)[1])

    def put(self, value):
        put = urllib.request.Request(f"{self.url}/v1/kv/{KEY}", data=value.encode(), method="PUT")
        urllib.request.urlopen(put).read()

    def read(self, timeout):
        for key, _ in self.selector.select(timeout):
            if not key.data.read(time.monotonic()):
                self.selector.unregister(key.fileobj)
                key.fileobj.close()

    def until(self, what, done, timeout):
        end = time.monotonic() + timeout
        while not done():
            assert time.monotonic() < end, f"not {what} within {timeout} s"
            self.read(0.1)


def told(crowd):
    for number in range(1, CHANGES + 1):
        crowd.put(f"change {number}")
        left = crowd.clients

        def done():
            nonlocal left
            left = [client for client in left if client.told < number]
            return not left
        crowd.until(f"told of change {number}", done, 60)
    # Polls are there again before the end.
    crowd.until("held again", lambda: crowd.watchers() == len(crowd.clients), 60)
    print(f"ok  {len(crowd.clients)} watchers told of {CHANGES} changes, each once and in order", flush=True)


def sent_away(crowd, process):
    process.send_signal(signal.SIGTERM)
    began = time.monotonic()
    crowd.until("ended", lambda: not crowd.selector.get_map(), 20)
    status = process.wait(10)
    took = time.monotonic() - began
    assert status == 0 and took < 7, f"it ended with {status} after {took:.1f} s"
    ends = [int((client.ended - began) * 10) for client in crowd.clients]
    tenths = [ends.count(tenth) for tenth in range(max(ends) + 1)]
    # Evenly over four seconds, forty tenths; what is read late comes in heaps.
    assert max(tenths) < len(ends) / 8, f"too many at once: {tenths}"
    print(f"ok  all sent away within {took:.1f} s: in each tenth {tenths}", flush=True)


def main():
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    binary, count, options = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 16_000, sys.argv[3:]
    assert most >= count + 100, f"only {most} descriptors: ulimit -Hn"
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    # So many that nobody between two polls is closed to make room.
    with Server(binary, "--listen", "127.0.0.1:0", "--connections", str(2 * count), *options) as server:
        crowd = Crowd(server, count)
        told(crowd)
        sent_away(crowd, server.process)


if __name__ == "__main__":
    main()
