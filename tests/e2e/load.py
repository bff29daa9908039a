#!/usr/bin/env python3
"""Runs in the client's namespace.   load.py requests CONNECTIONS EACH     keep-alive requests; prints `ok FAILED`
                                      load.py cycles N                      open, one request, close, N times; prints `ok FAILED`"""
import asyncio
import sys

REQUEST = b"GET /x HTTP/1.1\r\nhost: shop.example.com\r\n%s\r\n"


async def one(reader, writer, close):
    writer.write(REQUEST % (b"connection: close\r\n" if close else b""))
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))
    await reader.readexactly(length)
    return head.startswith(b"HTTP/1.1 200 ")


async def connection(each, close):
    good = 0
    try:
        reader, writer = await asyncio.open_connection("10.10.0.1", 80)
        for _ in range(each):
            good += await one(reader, writer, close)
        writer.close()
        await writer.wait_closed()
    except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError, ValueError, StopIteration) as e:
        print(type(e).__name__, e, file=sys.stderr)
    return good


async def main():
    if sys.argv[1] == "requests":
        connections, each = int(sys.argv[2]), int(sys.argv[3])
        good = sum(await asyncio.gather(*(connection(each, False) for _ in range(connections))))
        print(good, connections * each - good)
    else:
        n, good = int(sys.argv[2]), 0
        for _ in range(n):
            good += await connection(1, True)
        print(good, n - good)


asyncio.run(main())
