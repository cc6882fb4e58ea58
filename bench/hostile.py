#!/usr/bin/env python3
"""What readers who ask for much and read nothing make the server hold, over real sockets.

    cargo build --release -p keepwatch-mio
    bench/hostile.py target/release/watch-mio [--buffers 16MiB] [--connections 200] [--seconds 20] [--limits]

Fills the server with a state, opens connections that each ask for something large (pages of a list, values, the state of a watch,
changes, lists on a WebSocket), send half of an upload or of a head, or pipeline, and read nothing. Meanwhile every value is written again and again, so that
what they are owed is no longer part of the state. Says the highest resident memory, and the sum of docs/operating.md that it has to
be below; then all leave, and nothing may be held for them any more. With --limits it fails where this is not so.
"""

import argparse
import json
import os
import re
import resource
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

KIB, MIB = 1 << 10, 1 << 20
UNITS = {"KiB": KIB, "MiB": MIB, "GiB": MIB << 10}
UPGRADE = ("Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
           "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n")
# The terms of docs/operating.md: what there is in any case, what each thread makes at a time, and each connection.
BASE, THREAD, CONNECTION = 16 * MIB, 24 * MIB, 512 * KIB
VALUE = MIB


def size(text):
    digits, unit = re.fullmatch(r"(\d+)(KiB|MiB|GiB)", text).groups()
    return int(digits) * UNITS[unit]


def get(target, fields=""):
    return f"GET {target} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n".encode()


def says(message):
    text = json.dumps(message).encode()
    length = bytes([0x80 | len(text)]) if len(text) < 126 else bytes([0xfe]) + struct.pack(">H", len(text))
    return b"\x81" + length + bytes(4) + text


def value(number):
    """Text and bytes by turns, each unlike the ones before."""
    return f"{number:032d}".encode() * (VALUE // 32) if number % 2 else os.urandom(VALUE)


def attack(number, keys):
    everything = "/v1/watch?prefix="
    upload = f"PUT /v1/kv/upload{number} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {MIB}\r\n\r\n"
    return [
        lambda: get("/v1/kv"),
        lambda: get(f"/v1/kv/k{number % keys}"),
        lambda: get(everything + "&initial=true", "Accept: application/x-ndjson\r\n"),
        lambda: get(everything, "Accept: text/event-stream\r\n"),
        lambda: get(everything, UPGRADE),
        lambda: get("/v1/watch", UPGRADE) + b"".join(says({"op": "list", "id": id}) for id in range(20)),
        lambda: get("/v1/watch", UPGRADE) + b"".join(
            says({"op": "watch", "id": id, "prefix": "", "initial": True}) for id in range(20)),
        lambda: get(everything + "&wait=60s"),
        # Not so many that nobody else can write.
        lambda: (upload.encode() + bytes(MIB * 9 // 10)) if number % 44 == 8 else get("/v1/kv"),
        lambda: get("/", f"X: {'x' * 15_000}\r\n" * 4)[:-2],
        lambda: get("/v1/kv/small") * 800,
    ][number % 11]()


class Server:
    def __init__(self, binary, arguments):
        command = [binary, "--listen", "127.0.0.1:0", "--buffers", arguments.buffers, "--log", "1MiB",
                   "--compression-budget", "0", "--threads", str(arguments.threads)]
        print(" ".join(command), flush=True)
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.url = re.search(r"http://\S+", self.process.stdout.readline())[0]
        self.address = ("127.0.0.1", int(self.url.rsplit(":", 1)[1]))

    def memory(self, what="Rss"):
        text = open(f"/proc/{self.process.pid}/smaps_rollup").read()
        return int(re.search(rf"^{what}:\s+(\d+) kB", text, re.M)[1]) * KIB

    def metrics(self):
        text = urllib.request.urlopen(self.url + "/metrics").read().decode()
        return {name: int(level) for name, level in re.findall(r"^keepwatch_(\w+) (\d+)$", text, re.M)}

    def put(self, key, value):
        request = urllib.request.Request(f"{self.url}/v1/kv/{key}", data=value, method="PUT")
        while True:
            try:
                return urllib.request.urlopen(request).read()
            except urllib.error.HTTPError as error:
                if error.code != 503:
                    raise
                self.refused += 1
                time.sleep(0.05)

    refused = 0


def send(connection, data):
    connection.setblocking(False)
    try:
        connection.send(data)
    except (BlockingIOError, ConnectionError):
        pass


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("binary")
    parser.add_argument("--buffers", default="16MiB")
    parser.add_argument("--connections", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--state", default="20MiB")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--limits", action="store_true")
    arguments = parser.parse_args()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    server = Server(arguments.binary, arguments)
    stop = threading.Event()
    peak = {}
    try:
        keys = size(arguments.state) // VALUE
        for key in range(keys):
            server.put(f"k{key}", value(key))
        server.put("small", b"s" * 8000)
        print(f"a state of {keys} values of {VALUE // MIB} MiB: {server.memory() / MIB:.0f} MiB resident", flush=True)

        def write():
            written = 0
            while not stop.is_set():
                server.put(f"k{written % keys}", value(keys + written))
                written += 1
                time.sleep(0.01)
            peak["written"] = written

        writer = threading.Thread(target=write)
        writer.start()
        hostile = []
        end = time.time() + arguments.seconds
        while time.time() < end:
            for _ in range(10):
                if len(hostile) < arguments.connections:
                    connection = socket.socket()
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                    connection.connect(server.address)
                    send(connection, attack(len(hostile), keys))
                    hostile.append(connection)
            now = server.metrics() | {"resident": server.memory()}
            for name, level in now.items():
                peak[name] = max(peak.get(name, 0), level)
            time.sleep(0.05)
        stop.set()
        writer.join()
        for connection in hostile:
            connection.close()
        time.sleep(1)
        left = server.metrics().get("buffered_bytes")
        after = server.memory()
    finally:
        stop.set()
        server.process.kill()
        server.process.wait()
    buffers = size(arguments.buffers)
    terms = {
        "what there is in any case": BASE,
        "state and log, as /metrics says": peak["state_bytes"],
        "frames, as /metrics says": peak["encoded_bytes"],
        "buffers": buffers,
        "made at a time": THREAD * arguments.threads,
        f"{arguments.connections} connections": CONNECTION * arguments.connections,
    }
    for name, bytes in terms.items():
        print(f"{bytes / MIB:8.1f} MiB  {name}")
    bound = sum(terms.values())
    held = peak.get("buffered_bytes", 0)
    print(f"{bound / MIB:8.1f} MiB  the sum; resident at most {peak['resident'] / MIB:.1f} MiB, {after / MIB:.1f} MiB when they were gone")
    print(f"{held / MIB:8.1f} MiB  of the buffers held at most, {left} bytes when they were gone; "
          f"{peak['written']} writes meanwhile, {server.refused} told to come later, {peak.get('buffers_exhausted_total')} refused or put off in all")
    good = peak["resident"] <= bound and held <= buffers and left == 0
    sys.exit(1 if arguments.limits and not good else 0)


if __name__ == "__main__":
    main()
