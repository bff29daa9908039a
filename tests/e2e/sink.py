#!/usr/bin/env python3
"""An origin for end-to-end tests, on 10.20.0.2 and 10.20.0.3 (or the addresses given) port 8080 (plain HTTP/1.1, threads):
GET /bytes/N   N bytes of a fixed pattern      PUT or POST /hash   the SHA-256 of the body       GET /   its address      GET /slow   the same, after 3 s
10.20.0.4:8080 misbehaves: /hang says nothing, /stuck reads no body and ends after 6 s, /reset resets, /close ends, /lie promises more than it sends, /garbage is no HTTP."""
import hashlib
import socket
import socketserver
import sys
import threading
import time

PATTERN = bytes(range(251)) * 4177  # about 1 MiB, no power of two


class Good(socketserver.StreamRequestHandler):
    def handle(self):
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while True:
            line = self.rfile.readline()
            if not line:
                return
            method, target, _ = line.decode().split(" ", 2)
            fields = {}
            while (h := self.rfile.readline().strip()):
                k, v = h.decode().split(":", 1)
                fields[k.lower()] = v.strip()
            digest = hashlib.sha256()

            def body():
                if "chunked" in fields.get("transfer-encoding", ""):
                    while (n := int(self.rfile.readline(), 16)):
                        left = n
                        while left:
                            data = self.rfile.read(min(left, 1 << 16))
                            left -= len(data)
                            digest.update(data)
                        self.rfile.readline()
                    self.rfile.readline()
                else:
                    left = int(fields.get("content-length", 0))
                    while left:
                        data = self.rfile.read(min(left, 1 << 16))
                        if not data:
                            return
                        left -= len(data)
                        digest.update(data)

            if fields.get("expect") == "100-continue":
                self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            body()
            if target.startswith("/bytes/"):
                left = int(target.split("/")[2])
                self.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % left)
                while left:
                    n = min(left, len(PATTERN))
                    self.wfile.write(PATTERN[:n])
                    left -= n
                continue
            if target == "/slow":
                time.sleep(3)
            text = (digest.hexdigest() if target == "/hash" else self.server.server_address[0]).encode()
            self.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(text) + text)


class Bad(socketserver.StreamRequestHandler):
    def handle(self):
        target = self.rfile.readline().decode().split(" ")[1]
        while self.rfile.readline().strip():
            pass
        if target == "/hang":
            time.sleep(30)
        elif target == "/stuck":  # reads nothing of the body, and ends after a while
            time.sleep(6)
        elif target == "/reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        elif target == "/lie":
            self.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort")
        elif target == "/garbage":
            self.wfile.write(b"\x16\x03\x01 what\r\n\r\n")


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 1024

    def handle_error(self, request, client_address):
        pass


for address, kind in [(a, Good) for a in sys.argv[1:]] or (("10.20.0.2", Good), ("10.20.0.3", Good), ("10.20.0.4", Bad)):
    threading.Thread(target=Server((address, 8080), kind).serve_forever, daemon=True).start()
print("ready", flush=True)
threading.Event().wait()
