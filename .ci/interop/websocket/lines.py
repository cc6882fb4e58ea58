"""The language in which check.py talks with the ends of a WebSocket: lines of words on standard input and output, content in hex.

A client is told `open URL`, with `protocols=A,B` and `deflate=PARAMETER;PARAMETER` (nothing behind the `=`: offered without) where
these are to be offered. A server is started with `protocol=` and `deflate=` as it shall have them, says `listening on
http://ADDRESS:PORT`, and sends each message back. Then both are told

    text HEX | binary HEX            send a message
    text-parts HEX,!HEX,..           send it in these frames; what has a `!` is the payload of a ping between them
    ping HEX
    close CODE HEX                   with a reason; `close -` without a code

and say

    open PROTOCOL deflate            or `-`, as their library knows it, or `?` if it does not tell
    text HEX | binary HEX            a message came (a client)
    closed CODE HEX                  the end, with what the peer said as far as the library tells; `closed 1006 ` if it said nothing
    failed WHY                       in place of `open`
    broken WHY | refused WHY         ours: what came was malformed, or too late; what it was told could not be done
"""

import asyncio
import sys


def say(*words):
    print(*words, flush=True)


def fields(words):
    """The words of the kind NAME=VALUE."""
    return dict(word.split("=", 1) for word in words)


def parameters(text):
    """Those of permessage-deflate: a number, or True for what has no value."""
    pairs = (part.partition("=") for part in text.split(";") if part)
    return {name: int(value) if value else True for name, _, value in pairs}


def parts(text):
    """Each part of a message in frames, and whether it is the payload of a ping."""
    for part in text.split(","):
        yield bytes.fromhex(part.removeprefix("!")), part.startswith("!")


async def commands():
    reader = asyncio.StreamReader(limit=1 << 28)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        word, *rest = line.decode().rstrip("\n").split(" ")
        yield word, rest
