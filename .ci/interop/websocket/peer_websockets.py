#!/usr/bin/env python3
"""Python's websockets, as told by lines.py: peer_websockets.py client | server [NAME=VALUE].."""

import asyncio
import sys

from lines import commands, fields, parameters, parts, say
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory, ServerPerMessageDeflateFactory

LIMITS = {"max_size": 64 << 20, "ping_interval": None, "compression": None, "close_timeout": 5}


async def told(socket, word, rest):
    match word:
        case "text":
            await socket.send(bytes.fromhex(rest[0]), text=True)
        case "binary":
            await socket.send(bytes.fromhex(rest[0]))
        case "text-parts" | "binary-parts":
            await socket.send(in_parts(socket, rest[0]), text=word == "text-parts")
        case "ping":
            await socket.ping(bytes.fromhex(rest[0]))
        case "close":
            await socket.close(None if rest[0] == "-" else int(rest[0]), bytes.fromhex(rest[1]).decode())


async def in_parts(socket, text):
    for part, is_ping in parts(text):
        if is_ping:
            await socket.ping(part)
        else:
            yield part


async def hear(socket, heard):
    say("open", socket.subprotocol or "-", "deflate" if socket.protocol.extensions else "-")
    try:
        async for message in socket:
            await heard(message)
    except ConnectionClosed:  # with another code than 1000 and 1001
        pass
    say("closed", socket.close_code, (socket.close_reason or "").encode().hex())


def says(message):
    return say("text", message.encode().hex()) if isinstance(message, str) else say("binary", message.hex())


async def client():
    async def heard(message):
        says(message)

    socket = None
    async for word, rest in commands():
        if word != "open":
            await told(socket, word, rest)
            continue
        options = fields(rest[1:])
        offered = None
        if "deflate" in options:
            asked = parameters(options["deflate"])
            asked.setdefault("client_max_window_bits", None)
            offered = [ClientPerMessageDeflateFactory(**asked)]
        try:
            protocols = options["protocols"].split(",") if "protocols" in options else None
            socket = await connect(rest[0], subprotocols=protocols, extensions=offered, **LIMITS)
            hearing = asyncio.create_task(hear(socket, heard))
        except WebSocketException as error:
            say("failed", repr(error))
    del hearing


async def server():
    options = fields(sys.argv[2:])
    current = None

    async def serves(socket):
        nonlocal current
        current = socket
        await hear(socket, socket.send)

    extensions = [ServerPerMessageDeflateFactory(**parameters(options["deflate"]))] if "deflate" in options else None
    protocols = [options["protocol"]] if "protocol" in options else None
    choose = None if protocols else lambda *_: None  # it would refuse who offers only what it does not know
    options = {"extensions": extensions, "subprotocols": protocols, "select_subprotocol": choose, **LIMITS}
    async with serve(serves, "127.0.0.1", 0, **options) as listening:
        say(f"listening on http://127.0.0.1:{listening.sockets[0].getsockname()[1]}")
        async for word, rest in commands():
            await told(current, word, rest)


asyncio.run(client() if sys.argv[1] == "client" else server())
