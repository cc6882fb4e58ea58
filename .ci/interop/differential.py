#!/usr/bin/env python3
"""Holds the server's machine of HTTP/1.1 against two other parsers: h11, and llhttp by way of httptools.

usage: differential.py JUDGE [--count N] [--seed S] [--show MESSAGE]

JUDGE is the example `http1-judge`. Messages are made from parts that are right and parts that are not, and some are then changed
byte by byte. All three read the same bytes, and the outcome is compared: which requests there are, with their method, target and
content; and what then comes: nothing (idle), a request without its end (partial), the end of the connection (closed), or a refusal.

A message on which all three agree needs no explanation. Any other needs one in EXPLAINED, below. Exit status 0 only if all have it.
"""

import argparse
import collections
import json
import random
import re
import struct
import subprocess
import sys

import h11
import httptools

from explained import EXPLAINED, Case
from messages import make

# ---- What each makes of a message: [(method, target, content)..], then, and for a refusal: why ----


def ours(judge, messages):
    """Through one process, a batch at a time so that neither pipe fills."""
    with subprocess.Popen([judge], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        said = process.communicate(b"".join(struct.pack(">I", len(m)) + m for m in messages), timeout=120)[0]
    assert process.returncode == 0, f"the judge ended with {process.returncode}"
    lines = said.splitlines()
    assert len(lines) == len(messages), f"{len(lines)} outcomes of {len(messages)} messages"
    for line in lines:
        outcome = json.loads(line)
        requests = [(r["method"], r["target"], bytes.fromhex(r["body"])) for r in outcome["requests"]]
        then, why = outcome["then"], ""
        if "status" in outcome:
            then, why = "refused", then
        yield requests, then, why, outcome["requests"][-1]["end"] if requests else 0


def by_h11(message):
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    if message:  # nothing would be the end of the connection
        connection.receive_data(message)
    requests, current = [], None
    try:
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Request):
                current = [event.method.decode(), event.target.decode("latin-1"), b""]
            elif isinstance(event, h11.Data):
                current[2] += event.data
            elif isinstance(event, h11.EndOfMessage):
                requests.append(tuple(current))
                current = None
                connection.send(h11.Response(status_code=404, headers=[("Content-Length", "0")]))
                connection.send(h11.EndOfMessage())
                if connection.our_state is h11.MUST_CLOSE:
                    return requests, "closed", ""
                connection.start_next_cycle()
            elif event is h11.NEED_DATA:
                idle = current is None and not connection.trailing_data[0].strip(b"\r\n")
                return requests, "idle" if idle else "partial", ""
            else:
                return requests, "closed", ""
    except h11.RemoteProtocolError as error:
        return requests, "refused", str(error)


def by_llhttp(message):
    """An upgrade is declined: what follows is read as the next request. But httptools passes over the content of a request that
    asks for one (it comes first: RFC 9110, section 7.8), and so has no say from there on."""
    requests, closed, begun = [], False, False

    class Told:
        def on_message_begin(self):
            nonlocal begun
            begun = True
            self.url, self.body, self.has_content = b"", b"", False

        def on_url(self, url):
            self.url += url

        def on_header(self, name, value):
            self.has_content |= name.lower() in (b"content-length", b"transfer-encoding")

        def on_body(self, body):
            self.body += body

        def on_message_complete(self):
            nonlocal begun, closed
            begun = False
            requests.append((parser.get_method().decode(), self.url.decode("latin-1"), self.body))
            closed = not parser.should_keep_alive()

    rest = message
    while True:
        told = Told()
        parser = httptools.HttpRequestParser(told)
        try:
            parser.feed_data(rest)
        except httptools.HttpParserUpgrade as upgrade:
            if told.has_content:
                return requests[:-1], "silent", ""
            rest = rest[upgrade.args[0]:]
            if not closed and rest:
                continue
        except httptools.HttpParserError as error:
            # It reads on, in order to complain.
            if closed and "Data after" in str(error):
                return requests, "closed", ""
            return requests, "refused", str(error)
        return requests, "closed" if closed else "partial" if begun else "idle", ""


# ---- Comparing ----


def agrees(mine, theirs):
    """Whether both mean the same. Who is silent has no say in what follows."""
    if theirs[1] == "silent":
        return mine[0][:len(theirs[0])] == theirs[0]
    return mine[:2] == theirs[:2]


def relation(mine, theirs):
    """How the two differ, at the first request of which they do."""
    (requests, then, *_), (their_requests, their_then, *_) = mine, theirs
    both = min(len(requests), len(their_requests))
    if requests[:both] != their_requests[:both]:
        return "another request"
    if len(requests) < len(their_requests):
        their_then = "request"
    elif len(requests) > len(their_requests):
        then = "request"
    match then, their_then:
        case "refused", "partial":
            return "we refuse sooner"
        case "partial", "refused":
            return "it refuses sooner"
        case "refused", _:
            return "we refuse"
        case _, "refused":
            return "it refuses"
    return f"we have {then}, it has {their_then}"


def explain(case, who):
    """The first entry that says so, or None."""
    how = relation(case.mine, case.theirs)
    of = case.mine[2] if how.startswith("we refuse") else case.theirs[2]
    for entry in EXPLAINED:
        of_us = not how.startswith("we refuse") or entry.of == of
        if entry.who in (who, "either") and re.fullmatch(entry.how, how) and of_us and re.search(entry.of, of):
            if entry.evidence(case):
                return entry
    return None


def takes(mine, theirs):
    """Whether the other has all of our requests, or stopped before without a word against the next."""
    both = min(len(mine[0]), len(theirs[0]))
    return mine[0][:both] == theirs[0][:both] and (both == len(mine[0]) or theirs[1] in ("closed", "silent"))


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("judge")
    arguments.add_argument("--count", type=int, default=20_000)
    arguments.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    arguments.add_argument("--show", type=int, help="the outcomes of the message with this number, and no others")
    arguments = arguments.parse_args()
    print(f"seed {arguments.seed}, {arguments.count} messages; h11 {h11.__version__}, httptools {httptools.__version__}", flush=True)

    chance = random.Random(arguments.seed)
    messages = [make(chance) for _ in range(arguments.count)]
    if arguments.show is not None:
        messages = [messages[arguments.show]]
    agreed = alone = refused = requests = 0
    used, unexplained = collections.Counter(), collections.defaultdict(list)
    for number, (message, mine) in enumerate(zip(messages, ours(arguments.judge, messages))):
        outcomes = {"h11": by_h11(message), "llhttp": by_llhttp(message)}
        if arguments.show is not None:
            print(message, "ours", mine, *outcomes.items(), sep="\n")
        requests += len(mine[0])
        refused += mine[1] == "refused"
        cases = {who: Case(message, message[mine[3]:], mine, theirs) for who, theirs in outcomes.items()}
        # What is taken by us alone is refused by each of them for a reason of its own, which has to be explained below.
        alone += not any(takes(mine, theirs) for theirs in outcomes.values())
        agreed += all(agrees(mine, theirs) for theirs in outcomes.values())
        for who, theirs in outcomes.items():
            if agrees(mine, theirs):
                continue
            entry = explain(cases[who], who)
            how = relation(mine, theirs)
            if entry:
                used[entry] += 1
            else:
                why = mine[2] if how.startswith("we refuse") else theirs[2] if how.startswith("it refuses") else ""
                unexplained[who, how, why].append((number, message, mine, theirs))

    for entry in sorted(EXPLAINED, key=lambda entry: -used[entry]):
        print(f"  {used[entry]:5}  {entry.who}: {entry.how.split('|')[0]}: {entry.of}: {entry.why} ({entry.section})")
    for (who, how, why), cases in sorted(unexplained.items(), key=lambda item: -len(item[1])):
        number, message, mine, theirs = min(cases, key=lambda case: len(case[1]))
        print(f"NOT EXPLAINED, {len(cases)} times: {who}: {how}: {why}")
        print(f"    message {number}: {message}\n    ours:   {mine[:3]}\n    theirs: {theirs}")
    failed = sum(len(cases) for cases in unexplained.values())
    print(f"{arguments.count} messages: {requests} requests taken, {refused} messages refused; all three agree on {agreed}, "
          f"{alone} have a request that only we take; {sum(used.values())} differences are explained, {failed} are not")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
