"""Holds TLS connections open: hold.py CA CERT PORT... connects to each port with the certificate (CERT.pem, CERT-key.pem; "-": none), then obeys
lines on stdin: `ask N` sends a request on connection N and prints its status or `closed`; `slow N` sends one that the origin is slow to answer and
prints at once; `read N` prints the status of what was asked (or `closed`), then whether the answer said close."""
import socket
import ssl
import sys

connections = []
ca, certificate, *ports = sys.argv[1:]
for port in ports:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(ca)
    if certificate != "-":
        context.load_cert_chain(f"{certificate}.pem", f"{certificate}-key.pem")
    connections.append(context.wrap_socket(socket.create_connection(("10.10.0.1", int(port)), 5), server_hostname="shop.example.com"))
    connections[-1].settimeout(10)


def answer(c):
    got = b""
    try:
        while b"\r\n\r\n" not in got:
            piece = c.recv(4096)
            if not piece:
                return "closed"
            got += piece
        head, _, body = got.partition(b"\r\n\r\n")
        length = next((int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0)
        while len(body) < length:
            body += c.recv(4096)
        return head.split(b" ")[1].decode() + (" close" if b"connection: close" in head.lower() else "")
    except OSError:
        return "closed"


print("held", flush=True)
for line in sys.stdin:
    verb, n = line.split()
    c = connections[int(n)]
    try:
        if verb in ("ask", "slow"):
            c.sendall(f"GET /{'slow' if verb == 'slow' else ''} HTTP/1.1\r\nhost: shop.example.com\r\n\r\n".encode())
        print("sent" if verb == "slow" else answer(c), flush=True)
    except OSError:
        print("closed", flush=True)
