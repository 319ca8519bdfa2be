"""Bodies that come compressed, inflated piece by piece, so that whoever meters them stops before they are large.

Reference: RFC 9110, sec. 8.4.1 (content codings); "deflate" is the zlib format, as the RFC has it.
"""

from __future__ import annotations

import zlib

import anyio.lowlevel
from fastapi import HTTPException
from starlette.requests import Request
from starlette.types import Message, Receive, Scope

from medward.integrations.serving.body import CLOSE

CODINGS = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
"""What zlib is told to expect of each coding."""
PIECE_BYTES = 64 * 1024


def content_coding(request: Request) -> str:
    """How the body of `request` is compressed, "" for not at all; 415 for another coding, or several."""
    said = ",".join(request.headers.getlist("content-encoding")).strip().lower()
    if said in ("", "identity"):
        return ""
    if said not in CODINGS:
        codings = ", ".join(CODINGS)
        detail = f"Content-Encoding: send the body as it is, or compressed once, as {' or '.join(CODINGS)}"
        raise HTTPException(415, detail, {"Accept-Encoding": f"{codings}, identity", **CLOSE})
    return said


def plain_scope(scope: Scope) -> Scope:
    """`scope` without the headers that are about the compressed body."""
    gone = (b"content-encoding", b"content-length")
    return {**scope, "headers": [(name, value) for name, value in scope["headers"] if name not in gone]}


def inflated(receive: Receive, coding: str) -> Receive:
    """`receive`, but it hands on the body inflated, `PIECE_BYTES` at a time; 400 for a body that is not in `coding`.

    What is not asked for is not inflated.
    """
    inflater = zlib.decompressobj(CODINGS[coding])
    waiting, more, full, done = b"", True, False, False

    async def piece() -> Message:
        nonlocal waiting, more, full, done
        if done:
            return await receive()
        if waiting or full:
            await anyio.lowlevel.checkpoint()  # the one event loop belongs to others, too
        else:
            message = await receive()
            if message["type"] != "http.request":
                return message
            waiting, more = message.get("body", b""), message.get("more_body", False)
        try:
            data = inflater.decompress(waiting, PIECE_BYTES)
        except zlib.error:
            raise HTTPException(400, f"the body is not {coding}, as Content-Encoding says", CLOSE) from None
        waiting, full = inflater.unconsumed_tail, len(data) == PIECE_BYTES
        if inflater.unused_data:
            raise HTTPException(400, f"the body goes on behind the end of its {coding} data", CLOSE)
        done = not (waiting or full or more)
        if done and not inflater.eof:
            raise HTTPException(400, f"the body ends before its {coding} data do", CLOSE)
        return {"type": "http.request", "body": data, "more_body": not done}

    return piece
