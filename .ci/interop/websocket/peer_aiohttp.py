#!/usr/bin/env python3
"""Python's aiohttp, as told by lines.py: peer_aiohttp.py client | server [NAME=VALUE]..

It sends no message in parts.
"""

import asyncio
import sys

import aiohttp
from aiohttp import WSMsgType, web
from lines import commands, fields, say

LARGEST = 64 << 20


async def told(socket, word, rest):
    match word:
        case "text":
            await socket.send_str(bytes.fromhex(rest[0]).decode())
        case "binary":
            await socket.send_bytes(bytes.fromhex(rest[0]))
        case "ping":
            await socket.ping(bytes.fromhex(rest[0]))
        case "close":
            await socket.close(code=int(rest[0]), message=bytes.fromhex(rest[1]))
            say("closed", socket.close_code, "")


async def hear(socket, heard_text, heard_binary):
    say("open", getattr(socket, "protocol", None) or getattr(socket, "ws_protocol", None) or "-", "deflate" if socket.compress else "-")
    while True:
        message = await socket.receive()
        if message.type == WSMsgType.TEXT:
            await heard_text(message.data)
        elif message.type == WSMsgType.BINARY:
            await heard_binary(message.data)
        elif message.type == WSMsgType.CLOSING:  # by us: whoever closes says how it ended
            return
        else:
            reason = message.extra if message.type == WSMsgType.CLOSE else ""
            say("closed", socket.close_code, (reason or "").encode().hex())
            return


async def client():
    async def text(message):
        say("text", message.encode().hex())

    async def binary(message):
        say("binary", message.hex())

    socket = None
    async with aiohttp.ClientSession() as session:
        async for word, rest in commands():
            if word != "open":
                await told(socket, word, rest)
                continue
            options = fields(rest[1:])
            if "deflate" in options:
                # It obeys every answer, but has no way to ask for all that it obeys.
                asked = "; ".join(["permessage-deflate", *filter(None, options["deflate"].split(";"))])
                aiohttp.client.ws_ext_gen = lambda compress, asked=asked: asked
            try:
                socket = await session.ws_connect(
                    rest[0], max_msg_size=LARGEST, protocols=options["protocols"].split(",") if "protocols" in options else (),
                    compress=15 if "deflate" in options else 0, timeout=aiohttp.ClientWSTimeout(ws_close=5))
                hearing = asyncio.create_task(hear(socket, text, binary))
            except aiohttp.ClientError as error:
                say("failed", repr(error))
    del hearing


async def server():
    options = fields(sys.argv[2:])
    current = None

    async def serves(request):
        nonlocal current
        current = web.WebSocketResponse(
            max_msg_size=LARGEST, protocols=[options["protocol"]] if "protocol" in options else (), compress="deflate" in options, timeout=5)
        await current.prepare(request)
        await hear(current, current.send_str, current.send_bytes)
        return current

    application = web.Application()
    application.router.add_get("/{path:.*}", serves)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    say(f"listening on http://127.0.0.1:{runner.addresses[0][1]}")
    async for word, rest in commands():
        await told(current, word, rest)


asyncio.run(client() if sys.argv[1] == "client" else server())
