#!/usr/bin/env python3
"""What nginx and node answer to our client: client.py CLIENT, which is the example `http1-client`. A line for each check."""

import hashlib
import os
import subprocess
import sys
import tempfile

from servers import Nginx, Server

CLIENT = sys.argv[1]
HERE = os.path.dirname(os.path.abspath(__file__))
LOCATIONS = """
    location /node/ { proxy_pass http://upstream/; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off; }
    location /small/ { client_max_body_size 1k; proxy_pass http://upstream/; }
    location /moved { return 301 /elsewhere; }
"""


class Asked:
    """What our client told of a response, or of several."""

    def __init__(self, method, url, *options, fails=False):
        done = subprocess.run([CLIENT, method, url, *options], capture_output=True, timeout=60)
        self.content, self.told = done.stdout, done.stderr.decode()
        self.lines = self.told.lower().splitlines()
        assert (done.returncode != 0) == fails, f"{method} {url} {options}: status {done.returncode}\n{self.told}"

    def connections(self):
        return sum(line.startswith("* connecting") for line in self.lines)

    def statuses(self):
        return [int(line[2:5]) for line in self.lines if line.startswith("< ") and line[2:5].isdigit() and line[5:6] == " "]

    def field(self, name):
        values = [line.split(":", 1)[1].strip() for line in self.told.splitlines() if line.lower().startswith(f"< {name}:")]
        return values[-1] if values else None


def check(name, condition, asked):
    assert condition, f"not so: {name}\n{asked.told}\n{asked.content[:200]}"


def ok(name):
    print(f"ok  {name}", flush=True)


def against_nginx(node, scratch):
    with Nginx(LOCATIONS, node.address) as nginx:
        url = f"http://{nginx.address}"
        file = os.urandom(1 << 20)
        with open(f"{nginx.root}/file", "wb") as output:
            output.write(file)

        got = Asked("GET", f"{url}/file", "-n", "3")
        check("the same three times", got.content == file * 3 and got.statuses() == [200] * 3 and got.connections() == 1, got)
        ok("nginx: a file of 1 MB, three times on one connection")

        head = Asked("HEAD", f"{url}/file", "-n", "2")
        check("no content", not head.content and head.field("content-length") == "1048576" and head.connections() == 1, head)
        ok("nginx: HEAD, twice on one connection")

        unchanged = Asked("GET", f"{url}/file", "-H", f"If-None-Match: {got.field('etag')}", "-n", "2")
        check("304", unchanged.statuses() == [304, 304] and not unchanged.content and unchanged.connections() == 1, unchanged)
        ok("nginx: 304, twice on one connection")

        part = Asked("GET", f"{url}/file", "-H", "Range: bytes=100-199")
        check("206", part.statuses() == [206] and part.content == file[100:200], part)
        many = Asked("GET", f"{url}/file", "-H", "Range: bytes=0-9,50-59")
        check("206 of several parts", many.statuses() == [206] and file[50:60] in many.content, many)
        ok("nginx: a range, and two")

        for path, status in {"/none": 404, "/moved": 301}.items():
            answer = Asked("GET", url + path, "-n", "2")
            check(f"{status}", answer.statuses() == [status] * 2 and answer.connections() == 1, answer)
        ok("nginx: 404 and 301")

        chunked = Asked("GET", f"{url}/node/chunked", "-n", "3")
        check("in chunks", chunked.field("transfer-encoding") == "chunked" and chunked.connections() == 1, chunked)
        check("whole", chunked.content == node_chunked() * 3, chunked)
        ok("nginx: chunks from node, three times on one connection")

        for how in ("-d", "-c", "-e"):
            echo = Asked("POST", f"{url}/node/echo", how, scratch.some, "-n", "2")
            check(f"echo {how}", echo.content == scratch.content * 2 and echo.connections() == 1, echo)
        ok("nginx: content with a length, in chunks, and after 100 Continue, echoed by node")

        for how in ("-d", "-c", "-e"):
            refused = Asked("POST", f"{url}/small/echo", how, scratch.large)
            check(f"413 {how}", refused.statuses()[-1] == 413, refused)
        ok("nginx: 413 to 16 MB with a length, in chunks, and where 100 Continue is expected")


def node_chunked():
    return "".join(f"part {n}\n" for n in range(100)).encode() + b"x" * 100_000


def against_node(node, upgrading, scratch):
    url = f"http://{node.address}"
    chunked = Asked("GET", f"{url}/chunked", "-n", "3")
    check("chunks", chunked.content == node_chunked() * 3 and chunked.connections() == 1, chunked)
    check("trailers", sum(line == "< trailer x-sum: 42" for line in chunked.lines) == 3, chunked)
    ok("node: chunks and trailer fields, three times on one connection")

    hints = Asked("GET", f"{url}/hints", "-n", "2")
    check("103 and 102", hints.statuses() == [103, 102, 200] * 2 and hints.content == b"hintedhinted" and hints.connections() == 1, hints)
    ok("node: 103 Early Hints and 102 Processing, then 200, twice on one connection")

    for how, framing in {"-d": "length", "-c": "chunked", "-e": "length"}.items():
        echo = Asked("POST", f"{url}/echo", how, scratch.some, "-n", "3")
        check(f"echo {how}", echo.content == scratch.content * 3 and echo.connections() == 1, echo)
        check("framing", echo.field("x-framing") == framing and echo.field("x-digest") == hashlib.sha256(scratch.content).hexdigest(), echo)
        check("100 Continue", echo.statuses() == ([100, 200] if how == "-e" else [200]) * 3, echo)
    ok("node: content with a length, in chunks, and after 100 Continue, three times on one connection")

    big = Asked("POST", f"{url}/echo", "-c", scratch.large)
    check("16 MB", hashlib.sha256(big.content).hexdigest() == big.field("x-digest") and len(big.content) == 16 << 20, big)
    ok("node: 16 MB in chunks")

    no = Asked("POST", f"{url}/no-continue", "-e", scratch.some, "-n", "2")
    check("417", no.statuses() == [417, 417] and no.content == b"nono" and no.connections() == 2, no)
    ok("node: 417 instead of 100 Continue, and then another connection")

    early = Asked("POST", f"{url}/refused", "-d", scratch.large)
    check("403", early.statuses() == [403] and early.content == b"refused", early)
    ok("node: 403 while 16 MB are on their way")

    closed = Asked("GET", f"{url}/close", "-n", "2")
    check("up to the end", closed.content == b"up to the end" * 2 and closed.connections() == 2 and "closedelimited" in closed.lines[-1], closed)
    ok("node: content up to the end of the connection")

    for path, failure in {"/cut": "truncatedlength", "/cut-chunked": "truncatedchunks"}.items():
        cut = Asked("GET", url + path, fails=True)
        check("cut", cut.content == b"not all" and failure in cut.told.lower(), cut)
    ok("node: content that was cut off is told from what is whole")

    for path, status in {"/nothing": 204, "/unchanged": 304, "/none": 404}.items():
        answer = Asked("GET", url + path, "-n", "2")
        check(f"{status}", answer.statuses() == [status] * 2 and not answer.content and answer.connections() == 1, answer)
    head = Asked("HEAD", f"{url}/hints", "-n", "2")
    check("HEAD", head.statuses() == [103, 102, 200] * 2 and not head.content and head.connections() == 1, head)
    ok("node: 204, 304, 404 and HEAD, each twice on one connection")

    declined = Asked("GET", f"{url}/hints", "-u", "chat", "-n", "2")
    check("declined", declined.statuses() == [103, 102, 200] * 2 and declined.content == b"hinted" * 2 and declined.connections() == 1, declined)
    ok("node: an upgrade that is declined, twice on one connection")
    upgraded = Asked("GET", f"http://{upgrading.address}/", "-u", "websocket, chat")
    check("101", upgraded.statuses() == [101] and not upgraded.content and "upgraded" in upgraded.lines[-1], upgraded)
    other = Asked("GET", f"http://{upgrading.address}/", "-u", "websocket", fails=True)
    check("not offered", "unexpectedupgrade" in other.told.lower(), other)
    ok("node: an upgrade that is taken, and one that was not offered")


class Scratch:
    """Files to send."""

    def __init__(self, folder):
        self.content = os.urandom(200_000)
        self.some, self.large = f"{folder}/some", f"{folder}/large"
        for path, content in ((self.some, self.content), (self.large, os.urandom(16 << 20))):
            with open(path, "wb") as file:
                file.write(content)


def main():
    origin = ("node", f"{HERE}/origin.mjs")
    with tempfile.TemporaryDirectory() as folder, Server(*origin) as node, Server(*origin, "upgrades") as upgrading:
        scratch = Scratch(folder)
        against_nginx(node, scratch)
        against_node(node, upgrading, scratch)


if __name__ == "__main__":
    main()
