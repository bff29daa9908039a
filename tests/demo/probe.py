#!/usr/bin/env python3
"""Runs in the client's namespace. Reads lines `KIND WANT` and answers each with the moment (monotonic clock) at which the gateway showed it, or `never`:
    route TEXT    GET /probe on port 80 has this body        policy CODE   GET /gate on port 80 has this status        cert HASH   8443 shows this certificate
"""
import hashlib
import http.client
import os
import ssl
import sys
import time

GATEWAY = "10.10.0.1"
os.nice(-5)  # it times the gateway, not its own turn behind wrk
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname = False
context.verify_mode = ssl.CERT_NONE
kept = http.client.HTTPConnection(GATEWAY, 80, timeout=3)


def get(path):
    global kept
    try:
        kept.request("GET", path, headers={"host": "shop.example.com"})
        r = kept.getresponse()
        return r.status, r.read().decode()
    except (OSError, http.client.HTTPException):
        kept.close()
        kept = http.client.HTTPConnection(GATEWAY, 80, timeout=3)
        return 0, ""


def certificate():
    import socket
    try:
        with socket.create_connection((GATEWAY, 8443), 3) as s, context.wrap_socket(s, server_hostname="shop.example.com") as t:
            return hashlib.sha256(t.getpeercert(True)).hexdigest()
    except OSError:
        return ""


for line in sys.stdin:
    kind, want = line.split()
    shown, begin = "never", time.monotonic()
    while time.monotonic() - begin < 5:
        if kind == "route" and get("/probe")[1] == want or kind == "policy" and str(get("/gate")[0]) == want or kind == "cert" and certificate() == want:
            shown = f"{time.monotonic():.4f}"
            break
        time.sleep(0.002)
    print(shown, flush=True)
