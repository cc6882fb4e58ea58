#!/usr/bin/env python3
"""What http.client, requests and a bare socket send, to a watch server or to the echo server: python.py ADDRESS watch|echo.

A line for each check.
"""

import http.client
import os
import re
import socket
import sys

import requests

address, kind = sys.argv[1:]
host, port = address.split(":")
PATH = "/v1/kv/interop/python" if kind == "watch" else "/any/path"
URL = f"http://{address}{PATH}"
SOME, LARGE = os.urandom(50_000), os.urandom(1_000_000)


def ok(name):
    print(f"ok  {name}", flush=True)


def by_http_client():
    connection = http.client.HTTPConnection(host, int(port), timeout=30)
    connection.connect()
    used = connection.sock

    def ask(method, body=None, chunked=False, headers={}):
        connection.request(method, PATH, body, headers, encode_chunked=chunked)
        response = connection.getresponse()
        return response, response.read()

    ways = {
        "with a length": (SOME, {}),
        "in chunks": ((SOME[at:at + 999] for at in range(0, len(SOME), 999)), {"Transfer-Encoding": "chunked"}),
        "without content": (b"", {}),
    }
    for name, (body, headers) in ways.items():
        response, content = ask("PUT", body, bool(headers), headers)
        assert response.status in (200, 201), (name, response.status, content)
        if kind == "watch":
            response, content = ask("GET")
        assert response.status == 200 and content == (SOME if name != "without content" else b""), name
        assert connection.sock is used, "on one connection"
        ok(f"http.client: PUT {name}")
    ask("PUT", SOME)
    response, content = ask("HEAD")
    assert response.status == 200 and not content and response.getheader("content-length") == ("50000" if kind == "watch" else "0")
    assert ask("GET")[0].status == 200 and connection.sock is used
    ok("http.client: HEAD, and a GET behind it on the same connection")
    connection.close()


def by_requests():
    def came_back(name, session, sent, **how):
        response = session.put(URL, timeout=30, **how)
        assert response.status_code in (200, 201), (name, response.status_code, response.text[:200])
        if kind == "watch":
            response = session.get(URL, timeout=30)
        assert response.content == sent, name
        ok(f"requests: {name}")

    with requests.Session() as session:
        came_back("PUT with a length", session, SOME, data=SOME)
        came_back("PUT of a generator", session, SOME, data=(SOME[at:at + 4321] for at in range(0, len(SOME), 4321)))
        came_back("PUT of a generator of 1 MB", session, LARGE, data=(LARGE[at:at + 4321] for at in range(0, len(LARGE), 4321)))
        came_back("PUT of an empty generator", session, b"", data=(part for part in []))
    with requests.Session() as session:
        for _ in range(50):
            assert session.get(URL, timeout=30).status_code == 200
        pools = session.adapters["http://"].poolmanager.pools
        pool = pools[next(iter(pools.keys()))]
        assert (pool.num_connections, pool.num_requests) == (1, 50), (pool.num_connections, pool.num_requests)
        ok("requests: 50 GETs on one connection")
        if kind == "watch":
            session.put(URL, LARGE, timeout=30)
            with session.get(URL, timeout=30, stream=True) as response:
                assert b"".join(response.iter_content(1000)) == LARGE
            ok("requests: 1 MB read in parts")
            for name, body in {"with a length": bytes(16 << 20), "of a generator": (bytes(1 << 16) for _ in range(256))}.items():
                assert session.put(URL, body, timeout=30).status_code == 413
                ok(f"requests: a PUT of 16 MB {name} is refused with 413, although it is sent without waiting")


def pipelined():
    """Requests of every kind in one packet, and then byte by byte."""
    put = b"PUT %s HTTP/1.1\r\nHost: x\r\n" % PATH.encode()
    get = b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % PATH.encode()
    packet = (
        put + b"Content-Length: 3\r\n\r\none" + get
        + put + b"Transfer-Encoding: chunked\r\n\r\n2;x=y\r\ntw\r\n1\r\no\r\n0\r\nX-T: t\r\n\r\n" + get
        + b"HEAD %s HTTP/1.1\r\nHost: x\r\n\r\n" % PATH.encode() + get * 100
        + b"GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % PATH.encode() + get
    )
    for name, parts in {"in one packet": [packet], "byte by byte": [packet[n:n + 1] for n in range(len(packet))]}.items():
        with socket.create_connection((host, int(port)), timeout=30) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for part in parts:
                connection.sendall(part)
            came = b""
            while part := connection.recv(1 << 16):
                came += part
        contents = []
        for number in range(106):
            head, _, came = came.partition(b"\r\n\r\n")
            assert re.match(rb"HTTP/1\.1 20[01] ", head), (name, number, head)
            length = int(re.search(rb"content-length: (\d+)", head, re.I)[1])
            length = 0 if number == 4 else length
            contents.append(came[:length])
            came = came[length:]
        assert not came, f"nothing behind the last: {came[:100]}"
        if kind == "watch":
            assert contents[1] == b"one" and contents[3] == b"two" and contents[5:] == [b"two"] * 101, contents[:6]
        else:
            assert contents == [b"one", b"", b"two"] + [b""] * 103, contents[:6]
        ok(f"a socket: 107 pipelined requests {name}, the last behind a close: 106 answers in order")


by_http_client()
by_requests()
pipelined()
