#!/usr/bin/env python3
"""What a held watcher costs in resident memory of the server, over real sockets.

    cargo build --release -p keepwatch-mio -p keepwatch-smol
    bench/resident.py target/release/watch-mio target/release/watch-smol [--watchers 5000] [--limits]

Starts each server anew for each transport and each way to name keys, opens a few watchers so that what is made once is made,
and then so many more; states how much the resident memory grew for each, as /proc/PID/smaps_rollup has it. After that all are
told of a change, if they share a key, and it is measured again: what was only in use for a moment has to be given back.
With --limits it fails where a figure is above what is promised.
"""

import argparse
import re
import resource
import selectors
import socket
import subprocess
import sys
import time
import urllib.request

TRANSPORTS = ["websocket", "sse", "chunked", "long-poll"]
LIMITS = {"mio": {"shared": 300, "distinct": 420}, "smol": {"shared": 600, "distinct": 720}}
WARM = 64


def request(transport, key):
    path, fields = f"/v1/watch?key={key}", {"Host": "localhost"}
    if transport == "websocket":
        fields |= {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
                   "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
    elif transport == "sse":
        fields["Accept"] = "text/event-stream"
    elif transport == "chunked":
        fields["Accept"] = "application/x-ndjson"
    else:
        path += "&wait=60s"
    lines = [f"GET {path} HTTP/1.1"] + [f"{name}: {value}" for name, value in fields.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def key_of(keys, number):
    return "one-shared-key-0" if keys == "shared" else f"key-{number:012d}"


def memory(pid):
    text = open(f"/proc/{pid}/smaps_rollup").read()
    return int(re.search(r"^Rss:\s+(\d+) kB", text, re.M)[1]) * 1024


def watchers(url):
    text = urllib.request.urlopen(url + "/metrics").read().decode()
    return int(re.search(r"^\w*watchers (\d+)", text, re.M)[1])


class Server:
    def __init__(self, binary):
        command = [binary, "--listen", "127.0.0.1:0", "--connections", "1000000"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.url = re.search(r"http://\S+", self.process.stdout.readline())[0]
        self.address = ("127.0.0.1", int(self.url.rsplit(":", 1)[1]))
        self.open = []

    def hold(self, transport, keys, count):
        goal = len(self.open) + count
        while len(self.open) < goal:
            number = len(self.open)
            connection = socket.create_connection(self.address)
            connection.sendall(request(transport, key_of(keys, number)))
            self.open.append(connection)
            if transport != "long-poll":
                connection.recv(4096)
        while watchers(self.url) < goal:
            time.sleep(0.05)
        time.sleep(0.3)

    def change(self, key):
        put = urllib.request.Request(f"{self.url}/v1/kv/{key}", data=str(time.time()).encode(), method="PUT")
        urllib.request.urlopen(put).read()

    def heard(self):
        """Reads what every watcher was told."""
        with selectors.DefaultSelector() as selector:
            for connection in self.open:
                selector.register(connection, selectors.EVENT_READ)
            left = len(self.open)
            while left:
                for key, _ in selector.select():
                    key.fileobj.recv(4096)
                    selector.unregister(key.fileobj)
                    left -= 1
        time.sleep(0.5)

    def end(self):
        self.process.kill()
        self.process.wait()
        for connection in self.open:
            connection.close()


def measure(binary, transport, keys, count):
    server = Server(binary)
    try:
        server.hold(transport, keys, WARM)
        before = memory(server.process.pid)
        server.hold(transport, keys, count)
        held = (memory(server.process.pid) - before) / count
        told = None
        if keys == "shared" and transport != "long-poll":
            server.change(key_of(keys, 0))
            server.heard()
            told = (memory(server.process.pid) - before) / count
        return held, told
    finally:
        server.end()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("binaries", nargs="+")
    parser.add_argument("--watchers", type=int, default=5000)
    parser.add_argument("--transports", nargs="+", default=TRANSPORTS)
    parser.add_argument("--limits", action="store_true")
    arguments = parser.parse_args()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    print(f"{'runtime':8}{'transport':12}{'keys':10}{'held':>8}{'told':>8}   resident bytes per watcher of {arguments.watchers}")
    above = 0
    for binary in arguments.binaries:
        runtime = binary.rsplit("-", 1)[1]
        for keys in ["shared", "distinct"]:
            for transport in arguments.transports:
                held, told = measure(binary, transport, keys, arguments.watchers)
                limit = LIMITS.get(runtime, {}).get(keys)
                bad = limit is not None and max(held, told or 0) > limit
                above += bad
                print(f"{runtime:8}{transport:12}{keys:10}{held:8.0f}{f'{told:.0f}' if told else '-':>8}"
                      f"{f'   above {limit}' if bad else ''}", flush=True)
    sys.exit(1 if above and arguments.limits else 0)


if __name__ == "__main__":
    main()
