#!/usr/bin/env python3
"""Watches a server from a real browser, through everything that a browser can speak.

usage: check.py BINARY OUT     BINARY is watch-mio or watch-smol; screenshots go into the folder OUT

Prints a line for each check. Exit status 0 only if all hold.
"""

import base64
import http.client
import json
import os
import signal
import subprocess
import sys

from chromium import Chromium, wait_until
from relay import Relay

BINARY = bytes(range(256)) * 3 + b"\xff"
TEXT = 'two lines\r\n and "quotes", \\, \u2028, \U0001f440, \u00e9, a NUL \0.'

# Watches a key from a revision in four ways, and gives the text of the first put that each is told of.
WATCH = """
const watchAll = (key, since) => {
  const url = new URL(`/v1/watch?${new URLSearchParams({ key, since })}`, location);
  const isPut = (text) => JSON.parse(text).type === "put";
  const ready = [], told = {};
  told.eventSource = new Promise((resolve, reject) => {
    const source = new EventSource(url);
    ready.push(new Promise((open) => { source.onopen = open; }));
    source.onerror = reject;
    source.addEventListener("put", ({ data }) => { source.close(); resolve(data); });
  });
  told.webSocket = new Promise((resolve, reject) => {
    const socket = new WebSocket(String(url).replace("http", "ws"));
    ready.push(new Promise((open) => { socket.onopen = open; }));
    socket.onerror = reject;
    socket.onmessage = ({ data }) => { if (isPut(data)) { socket.close(); resolve(data); } };
  });
  const stream = fetch(url, { headers: { Accept: "application/x-ndjson" } });
  ready.push(stream);
  told.stream = stream.then(async ({ body }) => {
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    for (let text = ""; ;) {
      const { done, value } = await reader.read();
      if (done) throw new Error("the stream ended");
      text += value;
      const line = text.split("\\n").slice(0, -1).find(isPut);
      if (line) { reader.cancel(); return line; }
    }
  });
  told.longPoll = fetch(`${url}&wait=20s`).then(async (response) => {
    const text = await response.text();
    return text.slice(text.indexOf("[") + 1, text.lastIndexOf("]"));
  });
  return { told, ready: Promise.all(ready) };
};
"""


class Server:
    def __init__(self, binary, port=0):
        self.process = subprocess.Popen([binary, "--listen", f"127.0.0.1:{port}"], stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        assert line.startswith("listening on http://127.0.0.1:"), f"no ready line but {line!r}"
        self.port = int(line.rsplit(":", 1)[1])

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=15)

    def request(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request(method, path, body)
        response = connection.getresponse()
        read = response.read()
        connection.close()
        assert response.status in (200, 201), f"{method} {path}: {response.status} {read}"
        return json.loads(read)

    def put(self, key, value):
        return self.request("PUT", f"/v1/kv/{key}", value)["revision"]

    def now(self):
        return self.request("GET", "/v1/kv?prefix=")["revision"]


def every_transport(browser, server):
    """One put is told by all four in the same bytes."""
    browser.open(f"http://127.0.0.1:{server.port}/healthz")
    browser.run(WATCH + "globalThis.watchAll = watchAll;")
    for name, value in (("binary", BINARY), ("text", TEXT.encode())):
        since = server.now()
        key = f"check/{name}"
        sent = base64.b64encode(value).decode()
        told = browser.run(f"""(async () => {{
          const {{ told, ready }} = watchAll({json.dumps(key)}, {since});
          await ready;
          const body = Uint8Array.from(atob({json.dumps(sent)}), (c) => c.charCodeAt(0));
          const put = await fetch("/v1/kv/{key}", {{ method: "PUT", body }});
          const late = new Promise((_, reject) => setTimeout(() => reject(new Error("not told in 10 s")), 10000));
          const events = await Promise.race([late, Promise.all(Object.values(told))]);
          const read = new Uint8Array(await (await fetch("/v1/kv/{key}")).arrayBuffer());
          return {{ put: await put.json(), names: Object.keys(told), events, same: read.join() === body.join() }};
        }})()""")
        assert told["same"], "what was read is what was put"
        assert len(set(told["events"])) == 1 and len(told["events"]) == 4, f"told differently: {told}"
        event = json.loads(told["events"][0])
        heard = base64.b64decode(event["value64"]) if name == "binary" else event["value"].encode()
        assert ("value64" in event) == (name == "binary")
        assert heard == value, "what was told is what was put"
        assert event["revision"] == told["put"]["revision"] and event["key"] == key
        print(f"ok  a {name} put: the same {len(told['events'][0])} bytes by {', '.join(told['names'])}")


def resumes(browser, server):
    """An EventSource whose connection is lost goes on where it was: nothing twice, nothing missing."""
    relay = Relay(server.port)
    browser.open(f"http://127.0.0.1:{relay.port}/healthz")
    since = server.now()
    browser.run(f"""globalThis.heard = [];
      const source = new EventSource("/v1/watch?key=check/resume&since={since}");
      for (const type of ["put", "compacted"]) source.addEventListener(type, ({{ data, lastEventId }}) => {{
        heard.push([lastEventId, JSON.parse(data)]);
      }});
      new Promise((resolve) => {{ source.onopen = resolve; }})""")
    revisions = [server.put("check/resume", b"before")]
    wait_until(lambda: browser.run("heard.length") == 1, "the first put")
    relay.cut()
    revisions += [server.put("check/resume", f"meanwhile {n}".encode()) for n in range(3)]
    relay.open.set()
    wait_until(lambda: browser.run("heard.length") >= 4, "what happened meanwhile", 30)
    asked = f"last-event-id: {revisions[0]}".encode()
    assert asked in relay.sent.lower(), f"reconnected with {relay.sent!r}"
    revisions.append(server.put("check/resume", b"after"))
    wait_until(lambda: browser.run("heard.length") >= 5, "the last put")
    heard = browser.run("heard")
    assert [event["revision"] for _, event in heard] == revisions, heard
    assert [int(last) for last, _ in heard] == revisions, heard
    print(f"ok  an EventSource that was cut off asked with Last-Event-ID and was told of {len(heard)} changes, each once")


def outlives_a_restart(browser, server, binary):
    """A server that was started again has another history: the EventSource is told, and goes on by itself."""
    browser.open(f"http://127.0.0.1:{server.port}/healthz")
    since = server.now()
    browser.run(f"""globalThis.heard = [];
      const source = new EventSource("/v1/watch?key=check/restart&since={since}");
      for (const type of ["put", "compacted"]) source.addEventListener(type, ({{ data }}) => heard.push(JSON.parse(data)));
      new Promise((resolve) => {{ source.onopen = resolve; }})""")
    server.put("check/restart", b"before")
    wait_until(lambda: browser.run("heard.length") == 1, "the put before")
    status = server.stop()
    assert status == 0, f"drained with status {status}"
    server = Server(binary, server.port)
    try:
        wait_until(lambda: browser.run("heard.length") >= 2, "the browser reconnects", 40)
        told = browser.run("heard[1]")
        assert told["type"] == "compacted", told
        revision = server.put("check/restart", b"after")
        wait_until(lambda: browser.run("heard.length") >= 3, "the put after", 40)
        heard = browser.run("heard.slice(2)")
        assert [event["revision"] for event in heard] == [revision], heard
    except BaseException:
        server.stop()
        raise
    print("ok  an EventSource whose server drained and came back was told `compacted`, and of the next put")
    return server


def page(browser, server, binary, out):
    """The page at / shows what was put in all five cards; also when the server was started again."""
    def live():
        return browser.run("document.querySelectorAll('article[data-state=live]').length") == 5

    def all_show(text):
        shown = browser.run("[...document.querySelectorAll('article .value')].map((value) => value.textContent)")
        return shown == [text] * 5

    def put_in_page(text):
        browser.run(f"document.querySelector('#value').value = {json.dumps(text)}")
        browser.click("#form button[type=submit]")
        wait_until(lambda: all_show(text), f"five cards show {text!r}", 40)

    name = os.path.basename(binary)
    browser.open(f"http://127.0.0.1:{server.port}/")
    wait_until(live, "five live cards")
    binary_value = bytes(range(192, 256))  # short enough to be shown whole
    server.put("demo/a", binary_value)
    wait_until(lambda: all_show("base64:" + base64.b64encode(binary_value).decode()), "five cards show what is binary")
    print("ok  the page shows a binary put in five cards")
    put_in_page("put with a click")
    browser.screenshot(f"{out}/{name}.png")
    print("ok  the page shows a put of its own in five cards")
    status = server.stop()
    assert status == 0, f"drained with status {status}"
    server = Server(binary, server.port)
    try:
        wait_until(live, "five live cards after a restart", 60)
        put_in_page("put after a restart")
        browser.screenshot(f"{out}/{name}-restarted.png")
    except BaseException:
        browser.screenshot(f"{out}/{name}-failed.png")
        server.stop()
        raise
    print("ok  the page goes on when the server was started again")
    return server


def main():
    binary, out = sys.argv[1:]
    os.makedirs(out, exist_ok=True)
    server = Server(binary)
    try:
        with Chromium() as browser:
            every_transport(browser, server)
            resumes(browser, server)
            server = outlives_a_restart(browser, server, binary)
            server = page(browser, server, binary, out)
            assert not browser.exceptions, browser.exceptions
            print("ok  no script threw")
    finally:
        status = server.stop()
    assert status == 0, f"ended with status {status}"
    print("ok  SIGTERM ends it with status 0")


if __name__ == "__main__":
    main()
