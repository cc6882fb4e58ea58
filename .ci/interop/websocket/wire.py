"""What went over the wire between a WebSocket client and its server: a relay that tells frames apart, and inflates.

It is written from RFC 6455 and RFC 7692, and knows nothing of either end: an inflater that was given exactly the window and the
takeover that were agreed on finds whatever goes beyond them.
"""

import os
import sys
import time
import zlib
from dataclasses import dataclass

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../browser"))

from relay import Relay

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10


@dataclass
class Frame:
    fin: bool
    compressed: bool  # RSV1
    opcode: int
    payload: bytes


@dataclass
class Sent:
    """A message as it was sent."""

    kind: int
    compressed: bool
    payload: bytes  # on the wire
    content: bytes  # inflated


class Wire(Relay):
    """In front of a server at a port, for one connection."""

    def accept(self):
        client, _ = self.listener.accept()
        self.listener.close()
        self.relay(client)

    def fields(self, kept, name):
        """The values of a field in the head of the request (`sent`) or of the answer (`received`)."""
        head = bytes(kept).partition(b"\r\n\r\n")[0].decode()
        lines = (line.partition(":") for line in head.split("\r\n")[1:])
        return [value.strip() for field, _, value in lines if field.lower() == name]

    def agreed(self):
        """The parameters of permessage-deflate in the server's answer; None if it is not agreed on."""
        fields = self.fields(self.received, "sec-websocket-extensions")
        if not fields:
            return None
        (field,) = fields
        name, *parameters = (part.strip() for part in field.split(";"))
        assert name == "permessage-deflate", field
        pairs = [parameter.partition("=") for parameter in parameters]
        assert len({pair[0] for pair in pairs}) == len(pairs), f"twice the same in {field}"
        return {key: int(value) if value else True for key, _, value in pairs}

    def frames(self, kept):
        """The frames that one side has sent whole."""
        head, blank, rest = bytes(kept).partition(b"\r\n\r\n")
        masked = kept is self.sent
        at, found = 0, []
        while blank and at + 2 <= len(rest):
            first, second = rest[at], rest[at + 1]
            assert first & 0x30 == 0 and bool(second & 0x80) == masked, f"a head of {rest[at:at + 2]}"
            size, length = 2, second & 0x7F
            if length >= 126:
                extended = 2 if length == 126 else 8
                size, length = 2 + extended, int.from_bytes(rest[at + 2:at + 2 + extended])
                assert length >= (126 if extended == 2 else 65536) or at + size > len(rest), f"not the shortest length: {length}"
            key = rest[at + size:at + size + 4] if masked else b""
            start = at + size + len(key)
            if len(rest) < start + length:
                break
            payload = rest[start:start + length]
            if masked:
                repeated = (key * (length // 4 + 1))[:length]
                payload = (int.from_bytes(payload) ^ int.from_bytes(repeated)).to_bytes(length)
            found.append(Frame(bool(first & 0x80), bool(first & 0x40), first & 0x0F, payload))
            at = start + length
        return found

    def control(self, kept, opcode):
        """The payloads of these control frames."""
        frames = [frame for frame in self.frames(kept) if frame.opcode == opcode]
        assert all(frame.fin and not frame.compressed and len(frame.payload) <= 125 for frame in frames), frames
        return [frame.payload for frame in frames]

    def messages(self, kept):
        """The whole messages that one side has sent, inflated with no more than what was agreed on."""
        agreed, side = self.agreed(), "client" if kept is self.sent else "server"
        messages, parts, inflater = [], [], None
        for frame in self.frames(kept):
            if frame.opcode >= CLOSE:
                continue
            assert (frame.opcode == CONTINUATION) == bool(parts) and not (frame.compressed and (parts or agreed is None)), frame
            parts.append(frame)
            if not frame.fin:
                continue
            payload = b"".join(part.payload for part in parts)
            content, first = payload, parts[0]
            if first.compressed:
                if inflater is None or agreed.get(f"{side}_no_context_takeover"):
                    inflater = zlib.decompressobj(-agreed.get(f"{side}_max_window_bits", 15))
                content = inflater.decompress(payload + b"\x00\x00\xff\xff")
                assert not inflater.eof, "a block that says that it is the last: this reader goes on to no other"
            messages.append(Sent(first.opcode, first.compressed, payload, content))
            parts = []
        return messages


def eventually(condition, what, seconds=10):
    """Asks until it is so, and returns what it said."""
    by = time.monotonic() + seconds
    while not (said := condition()):
        assert time.monotonic() < by, f"waited {seconds} s in vain: {what}"
        time.sleep(0.005)
    return said
