"""Why the three may read a message differently: each reason, its section, and the evidence for it that has to be in the message."""

import ipaddress
import re
from typing import Callable, NamedTuple


class Case(NamedTuple):
    message: bytes
    """What is behind the last request that we took."""
    rest: bytes
    """What we made of it: the requests, then, why."""
    mine: tuple
    theirs: tuple


class Entry(NamedTuple):
    who: str
    how: str
    """Our fault, where we refuse; its error, where it refuses."""
    of: str
    why: str
    section: str
    evidence: Callable[[Case], object] = lambda case: True


TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
LINE = re.compile(rb"(?:\r\n){0,4}(" + TOKEN + rb") ([!-~]+) HTTP/(\d)\.(\d)\r\n")
TARGET = re.compile(rb"/[^#\x00-\x20\x7f-\xff]*|[A-Za-z][A-Za-z0-9+.-]*://(?:\[[0-9a-fA-F:.]+\]|[^:@/?#\[\]]+)(:\d*)?([/?][^#]*)?")
HOST = re.compile(rb"(?:\[([0-9a-f:.]+)\]|(?:[-\w.~!$&'()*+;=]|%[0-9a-f]{2})+)(?::(\d*))?", re.I | re.A)
CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def lines(case):
    """The field lines of the request that was refused, as far as they came."""
    return case.rest.lstrip(b"\r\n").split(b"\r\n\r\n")[0].split(b"\r\n")[1:]


def values(case, name):
    return [line[len(name) + 1:].strip(b" \t") for line in lines(case) if line.lower().startswith(name + b":")]


def found(pattern):
    pattern = re.compile(pattern, re.S | re.I)
    return lambda case: pattern.search(case.rest)


def bad_target(case):
    line = LINE.match(case.rest)
    if not line:
        return True
    method, target = line[1], line[2]
    if method == b"CONNECT":
        return not re.fullmatch(rb"[^/:@]+:\d+", target)
    return not (TARGET.fullmatch(target) or (target == b"*" and method == b"OPTIONS"))


def bad_host(case):
    hosts = values(case, b"host")
    host = HOST.fullmatch(hosts[0]) if len(hosts) == 1 else None
    if host and host[1]:
        try:
            ipaddress.IPv6Address(host[1].decode())
        except ValueError:
            return True
    return not host or int(host[2] or 0) > 65535


def bad_name(case):
    return any(not re.match(TOKEN + b":", line) for line in lines(case)) or b"chunked" in case.rest.lower()


def bad_length(case):
    lengths = values(case, b"content-length")
    return len(lengths) > 1 or not re.fullmatch(rb"\d+", lengths[0]) or int(lengths[0]) >= 1 << 64


def bad_coding(case):
    return [coding.lower() for coding in values(case, b"transfer-encoding")] != [b"chunked"]


def too_large(case):
    most = 1024 * 1024 + 64 * 1024
    lengths = values(case, b"content-length")
    return any(int(length) > most for length in lengths) or re.search(rb"\n[0-9a-f]{6,}", case.rest, re.I)


def chunked(case):
    return any(b"chunked" in coding.lower() for coding in values(case, b"transfer-encoding"))


def in_trailers(case):
    """Whether these fields stand behind the last chunk of a request."""
    return re.search(rb"\n0+[^\n]*\r\n([^\n]+\n)*(content-length|transfer-encoding)[^\n]*:", case.message, re.I)


def unknown_method(case):
    index = len(case.theirs[0])
    return index >= len(case.mine[0]) or case.mine[0][index][0] not in ("GET", "POST", "PUT", "HEAD", "DELETE", "OPTIONS", "PATCH")


STRICT = "we refuse|we refuse sooner"
EXPLAINED = [
    # We refuse what another takes, or waits for the end of.
    Entry("either", STRICT, "RequestLine", "a request line has a method, a target and a version, with one space between", "RFC 9112, 3",
          lambda case: not LINE.match(case.rest)),
    Entry("either", STRICT, "Target", "a target has one of four forms, of visible ASCII and without a fragment", "RFC 9112, 3.2", bad_target),
    Entry("either", STRICT, "VersionGrammar", "a version is HTTP/, a digit, a dot and a digit", "RFC 9112, 2.3", lambda case: not LINE.match(case.rest)),
    Entry("either", STRICT, "Version", "another major version is not spoken", "RFC 9110, 15.6.6", found(rb"HTTP/[02-9]\.\d")),
    Entry("either", STRICT, "Host", "there is exactly one Host, with a host and perhaps a port", "RFC 9112, 3.2", bad_host),
    Entry("either", STRICT, "BareLf", "a lone LF may be taken for the end of a line, and is not", "RFC 9112, 2.2", found(rb"(?<!\r)\n")),
    Entry("either", STRICT, "BareCr", "a CR without LF is no end of a line, and is not replaced", "RFC 9112, 2.2", found(rb"\r(?!\n)")),
    Entry("either", STRICT, "EmptyLines", "four empty lines are passed over, but not any number", "RFC 9112, 2.2", found(rb"^(\r\n){5}")),
    Entry("either", STRICT, "Fold", "a folded line may be refused", "RFC 9112, 5.2", found(rb"\r\n[ \t]")),
    Entry("either", STRICT, "FieldName", "a field has a name that is a token, and a colon", "RFC 9112, 5.1", bad_name),
    Entry("either", STRICT, "SpaceBeforeColon", "no space before a colon", "RFC 9112, 5.1", found(rb"\r\n" + TOKEN + rb"[ \t]")),
    Entry("either", STRICT, "FieldValue", "no control character in a value", "RFC 9110, 5.5", lambda case: CONTROL.search(case.rest)),
    Entry("either", STRICT, "ContentLength", "one Content-Length of digits, no list even of equal ones", "RFC 9110, 8.6", bad_length),
    Entry("either", STRICT, "BothLengths", "Content-Length and Transfer-Encoding together may be refused", "RFC 9112, 6.1", found(rb"content-length.*transfer-encoding|transfer-encoding.*content-length")),
    Entry("either", STRICT, "TransferEncoding", "codings are tokens, and the last and only one is chunked", "RFC 9112, 6.3", bad_coding),
    Entry("either", STRICT, "Coding", "no coding but chunked is understood: 501", "RFC 9112, 6.1", bad_coding),
    Entry("either", STRICT, "TransferEncodingInHttp10", "a Transfer-Encoding in HTTP/1.0 is faulty framing", "RFC 9112, 6.1", found(rb"HTTP/1\.0\r\n")),
    Entry("either", STRICT, "ChunkSize", "a chunk's size is digits, and its line ends with CR LF", "RFC 9112, 7.1", chunked),
    Entry("either", STRICT, "ChunkSizeTooLarge", "a chunk's size fits 64 bits, at once and not when the rest is there", "RFC 9112, 7.1", found(rb"\n0*[0-9a-f]{16}")),
    Entry("either", STRICT, "ChunkExtension", "extensions have a grammar", "RFC 9112, 7.1.1", chunked),
    Entry("either", STRICT, "ChunkEnd", "CR LF follows a chunk's data", "RFC 9112, 7.1", chunked),
    Entry("either", STRICT, "BodyTooLarge", "our limit: 413 as soon as the length is known", "RFC 9110, 15.5.14", too_large),
    Entry("either", STRICT, "MethodTooLong", "our limit: 501", "RFC 9112, 3", found(rb"^(\r\n){0,4}\S{33}")),
    Entry("either", STRICT, "ExtensionsTooLarge", "our limit: 256 bytes of extensions a chunk", "RFC 9112, 7.1.1", chunked),
    Entry("either", STRICT, "Expectation", "an expectation that is not known may be refused: 417", "RFC 9110, 10.1.1", lambda case: any(v.lower() != b"100-continue" for v in values(case, b"expect"))),
    Entry("either", STRICT, "Connection", "Connection is a list of tokens", "RFC 9110, 7.6.1", lambda case: any(not re.fullmatch(TOKEN, v) for v in values(case, b"connection"))),
    # Another refuses what we take, or wait for the end of.
    Entry("llhttp", "it refuses|it refuses sooner", "Invalid method encountered|Expected space after method", "any token is a method; llhttp has a list", "RFC 9110, 9.1", unknown_method),
    Entry("llhttp", "it refuses|it refuses sooner", "Expected HTTP/2 Connection Preface", "PRI is a method like any other in HTTP/1.1; llhttp reserves it", "RFC 9113, 3.4", lambda case: b"PRI" in case.message),
    Entry("llhttp", "it refuses|it refuses sooner", "Invalid HTTP version", "a later minor version is read as HTTP/1.1; llhttp knows 0.9, 1.0, 1.1, 2.0", "RFC 9110, 2.5", lambda case: re.search(rb"HTTP/1\.[2-9]", case.message)),
    Entry("either", "it refuses|it refuses sooner", "Content-Length|Transfer-Encoding", "trailer fields frame nothing, and those with no place there are dropped; llhttp and h11 read them as if in the head", "RFC 9110, 6.5.1", in_trailers),
    Entry("llhttp", "it refuses|it refuses sooner", "Request has invalid `Transfer-Encoding`", "a tab behind a value is whitespace like any other", "RFC 9110, 5.6.3",
          lambda case: re.search(rb"chunked[ \t]*\t", case.message, re.I)),
    Entry("llhttp", "it refuses sooner", "Content-Length|Transfer-Encoding", "what fields mean is judged when a head is whole; llhttp judges each byte", "RFC 9112, 6",
          lambda case: b"\r\n\r\n" not in case.rest.lstrip(b"\r\n")),
    Entry("llhttp", "it refuses|it refuses sooner", "Invalid character in chunk (size|extensions)", "whitespace around `;` and `=` of an extension is bad, but has to be taken", "RFC 9112, 7.1.1", lambda case: re.search(rb"[ \t]([;=]|$)|[;=][ \t]", case.message)),
    Entry("h11", "it refuses|it refuses sooner", r"illegal chunk header: bytearray\(b'[0-9a-fA-F]{21}", "zeros in front of a chunk's size; h11 takes 20 digits, we take 32", "RFC 9112, 7.1"),
    Entry("h11", "it refuses|it refuses sooner", "illegal chunk header", "whitespace before `;`, likewise", "RFC 9112, 7.1.1", lambda case: re.search(rb"[ \t]([;=]|$)|[;=][ \t]", case.message)),
    Entry("h11", "it refuses|it refuses sooner", "no request line received", "an empty line before a request is passed over; h11 wants the request line behind it in the same packet, and takes one line", "RFC 9112, 2.2", lambda case: re.search(rb"(^|\r\n|.)\r\n", case.message, re.S)),
    Entry("h11", "it refuses", "illegal request line", "a CR at the end may be the first half of an empty line", "RFC 9112, 2.2", lambda case: case.rest.endswith(b"\r")),
    Entry("llhttp", "it refuses", "Unexpected char in url schema", "a scheme may have digits, `+`, `-` and `.`; llhttp takes letters", "RFC 3986, 3.1",
          lambda case: any(re.match(r"[A-Za-z][A-Za-z]*[0-9+.-]", target) for _, target, _ in case.mine[0])),
    Entry("llhttp", "it refuses sooner", "in url|Invalid char in url|Expected HTTP/", "a head is judged when its target is whole; llhttp judges each byte of it", "RFC 9112, 3.2"),
    Entry("h11", "we have (idle|partial|request), it has closed", "", "HTTP/1.0 with `keep-alive` goes on; h11 always closes then", "RFC 9112, 9.3",
          lambda case: re.search(rb"HTTP/1\.0\r\n.*keep-alive", case.message, re.S | re.I)),
    Entry("llhttp", "we have closed, it has (idle|partial|request)|it refuses", "", "`close` wins over `keep-alive`; llhttp reads on in HTTP/1.0", "RFC 9112, 9.3",
          lambda case: case.mine[1] == "closed" and len(case.theirs[0]) >= len(case.mine[0]) and all(
              re.search(rb"HTTP/1\.0\r\n.*connection:[^\n]*" + option, case.message, re.S | re.I) for option in (b"close", b"keep-alive"))),
]
