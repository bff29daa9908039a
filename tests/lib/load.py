#!/usr/bin/env python3
"""Runs in the client's namespace.   load.py requests CONNECTIONS EACH     keep-alive requests; prints `ok FAILED`
                                      load.py cycles N                      open, one request, close, N times; prints `ok FAILED`
                                      load.py mutual CLIENT SECONDS [PATH]  mutual TLS to the mesh's listener, 8 at a time, 20 requests a connection; CLIENT.pem,
                                                                            -key.pem and -root.pem are read for each; prints `ok FAILED`
                                      load.py held CLIENT                   one connection, one request, then prints `up`, and at its end how it ended"""
import asyncio
import ssl
import sys
import time

REQUEST = b"GET %s HTTP/1.1\r\nhost: shop.example.com\r\n%s\r\n"


async def one(reader, writer, close, path="/x"):
    writer.write(REQUEST % (path.encode(), b"connection: close\r\n" if close else b""))
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


def trust_and_identity(client):
    """Read anew for each connection; the files are replaced one by one, so a pair that does not fit is read again."""
    for tries in range(100):
        try:
            c = ssl.create_default_context(cafile=f"{client}-root.pem")
            c.check_hostname = False  # the gateway's name is a SPIFFE identity
            c.load_cert_chain(f"{client}.pem", f"{client}-key.pem")
            return c
        except OSError:
            time.sleep(0.005)
    raise RuntimeError(f"{client}: its files never fit")


def mesh(client):
    c = trust_and_identity(client)
    return asyncio.open_connection("10.10.0.1", 9443, ssl=c, server_hostname="shop.example.com")


async def mutual(client, end, path):
    good = bad = 0
    while time.monotonic() < end:
        done = 0
        try:
            reader, writer = await mesh(client)
            for _ in range(20):
                done += await one(reader, writer, False, path)
            writer.close()
        except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError, ValueError, StopIteration) as e:
            print(time.strftime("%T"), type(e).__name__, e, file=sys.stderr)
        good += done
        bad += done < 20
    return good, bad


async def held(client):
    reader, writer = await mesh(client)
    print("up" if await one(reader, writer, False) else "refused", flush=True)
    try:
        print("closed" if await asyncio.wait_for(reader.read(1), 5) == b"" else "answered", flush=True)
    except (OSError, asyncio.TimeoutError) as e:
        print(type(e).__name__, flush=True)


async def main():
    if sys.argv[1] == "mutual":
        end = time.monotonic() + float(sys.argv[3])
        counts = await asyncio.gather(*(mutual(sys.argv[2], end, (sys.argv + ["/x"])[4]) for _ in range(8)))
        print(sum(c[0] for c in counts), sum(c[1] for c in counts))
    elif sys.argv[1] == "held":
        await held(sys.argv[2])
    elif sys.argv[1] == "requests":
        connections, each = int(sys.argv[2]), int(sys.argv[3])
        good = sum(await asyncio.gather(*(connection(each, False) for _ in range(connections))))
        print(good, connections * each - good)
    else:
        n, good = int(sys.argv[2]), 0
        for _ in range(n):
            good += await connection(1, True)
        print(good, n - good)


asyncio.run(main())
