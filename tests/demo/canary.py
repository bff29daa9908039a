#!/usr/bin/env python3
"""canary.py PKI N: N requests with the client's certificate over 10 kept connections; prints how often each version answered."""
import collections
import http.client
import ssl
import sys

pki, n = sys.argv[1], int(sys.argv[2])
context = ssl.create_default_context(cafile=f"{pki}/ca.pem")
context.load_cert_chain(f"{pki}/client.pem", f"{pki}/client-key.pem")
connections = [http.client.HTTPSConnection("shop.example.com", 443, context=context, timeout=5) for _ in range(10)]
seen = collections.Counter()
for i in range(n):
    c = connections[i % 10]
    c.request("GET", "/")
    r = c.getresponse()
    seen[r.read().decode().strip() if r.status == 200 else str(r.status)] += 1
print(" ".join(f"{k}={v}" for k, v in sorted(seen.items())))
