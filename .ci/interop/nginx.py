#!/usr/bin/env python3
"""nginx as a proxy in front of a watch server: nginx.py WATCH-BINARY. A line for each check."""

import http.client
import json
import sys
import threading
import time

from servers import Nginx, Server

PROXY = """
    location / { proxy_pass http://upstream; proxy_http_version 1.1; proxy_set_header Connection ""; %s }
"""


def ask(address, method, path, body=None, headers={}):
    connection = http.client.HTTPConnection(address, timeout=40)
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def revision(address):
    return json.loads(ask(address, "GET", "/v1/kv?prefix=")[1])["revision"]


def too_large(watch, how, name):
    """The server answers, and closes, long before nginx has sent all. If it closed without care, nginx would say 502."""
    with Nginx(PROXY % how, watch.address) as nginx:
        body = bytes(16 << 20)
        statuses = [ask(nginx.address, "PUT", "/v1/kv/interop/nginx", body)[0] for _ in range(50)]
        assert statuses == [413] * 50, f"{name}: {sorted((s, statuses.count(s)) for s in set(statuses))}\n{nginx.errors()[-2000:]}"
        print(f"ok  50 PUTs of 16 MB through nginx, {name}: 413 each time", flush=True)


def goes_through(nginx):
    sent = bytes(range(256)) * 3000
    status, _ = ask(nginx.address, "PUT", "/v1/kv/interop/nginx", sent)
    assert status in (200, 201), status
    assert ask(nginx.address, "PUT", "/v1/kv/interop/parts", iter([sent[:1000], sent[1000:]]))[0] in (200, 201)
    for path in ("nginx", "parts"):
        assert ask(nginx.address, "GET", f"/v1/kv/interop/{path}") == (200, sent)
    head = ask(nginx.address, "HEAD", "/v1/kv/interop/nginx")
    assert head == (200, b""), head
    for _ in range(200):
        assert ask(nginx.address, "GET", "/v1/kv/interop/nginx") == (200, sent)
    print("ok  PUT, PUT in chunks, HEAD and 200 GETs of 768 kB through nginx's kept connections", flush=True)


def long_polls(nginx, number=20):
    since = revision(nginx.address)
    told = [None] * number

    def poll(at):
        told[at] = ask(nginx.address, "GET", f"/v1/watch?key=interop/poll&since={since}&wait=20s")

    threads = [threading.Thread(target=poll, args=(at,), daemon=True) for at in range(number)]
    for thread in threads:
        thread.start()
    time.sleep(1)
    assert told == [None] * number, "all are held"
    began = time.monotonic()
    assert ask(nginx.address, "PUT", "/v1/kv/interop/poll", b"now")[0] in (200, 201)
    for thread in threads:
        thread.join(30)
    took = time.monotonic() - began
    for status, body in told:
        (event,) = json.loads(body)["events"]
        assert status == 200 and event["value"] == "now" and event["key"] == "interop/poll", body
    assert took < 5, f"told after {took} s"
    print(f"ok  {number} long polls at once through nginx: all told after one put", flush=True)


def server_sent_events(nginx):
    since = revision(nginx.address)
    connection = http.client.HTTPConnection(nginx.address, timeout=20)
    connection.request("GET", f"/v1/watch?key=interop/sse&since={since}", headers={"Accept": "text/event-stream"})
    response = connection.getresponse()
    assert response.status == 200 and response.getheader("content-type").startswith("text/event-stream"), response.getheaders()
    heard, ids = [], []
    for number in range(20):
        put = json.loads(ask(nginx.address, "PUT", "/v1/kv/interop/sse", f"{number}".encode())[1])["revision"]
        # Told before the next is put: nothing is held back.
        while len(heard) <= number:
            line = readline(response)
            if line.startswith(b"id:"):
                ids.append(int(line[3:]))
            if line.startswith(b"data:"):
                event = json.loads(line[5:])
                if event["type"] == "put":
                    heard.append(event["value"])
                    assert event["revision"] == put, (event, put)
    connection.close()
    assert heard == [f"{number}" for number in range(20)] and ids == sorted(ids)
    print("ok  server-sent events through nginx: 20 puts, each told before the next", flush=True)


def readline(response):
    line = b""
    while not line.endswith(b"\n"):
        byte = response.read(1)
        assert byte, "the stream goes on"
        line += byte
    return line


def main():
    with Server(sys.argv[1], "--listen", "127.0.0.1:0") as watch:
        too_large(watch, "proxy_request_buffering on;", "that buffers requests")
        too_large(watch, "proxy_request_buffering off;", "that does not")
        with Nginx(PROXY % "proxy_buffering off; proxy_read_timeout 60s;", watch.address) as nginx:
            goes_through(nginx)
            long_polls(nginx)
            server_sent_events(nginx)


if __name__ == "__main__":
    main()
