#!/usr/bin/env python3
"""wrk through Sluice and through its peers on the same veth pairs, one worker each, plain and TLS: ./run bench e2e [--seconds N] [--rounds N] [--connections N]

Every peer forwards to the same nginx. Sluice owns the gateway's ends of the veths (AF_XDP or AF_PACKET); Envoy, nginx and HAProxy use the kernel's TCP on the same
ends. Rounds are interleaved, so a busy moment hits everybody. `direct` is wrk to the origin's own address through a kernel that routes: a ceiling of the client and
the origin. The echo lines are the port's own ceiling on a veth pair of the same kind: frames that do nothing but come in and go back (perf/echo), beside the frames that
one request costs Sluice on its two ports. Figures are for this machine in this minute: compare columns, not days. Envoy is taken from $ENVOY or PATH; a peer that is missing is said to be."""
import argparse
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(ROOT, "tests", "lib"))
from net import Net, make_ca, make_certificate, sh, text_of, wait_for  # noqa: E402

BUILD = os.path.join(ROOT, "build")
PLAIN, TLS = "http://shop.example.com/bench", "https://shop.example.com:8443/bench"

NGINX_ORIGIN = """daemon off; pid {w}/origin.pid; error_log {w}/origin.err; worker_processes 1; events {{ worker_connections 4096; }}
http {{ access_log off; keepalive_requests 100000000; server {{ listen 10.20.0.2:8080; location / {{ return 200 "hello\\n"; }} }} }}"""
NGINX_PEER = """daemon off; pid {w}/peer.pid; error_log {w}/peer.err; worker_processes 1; events {{ worker_connections 4096; }}
http {{ access_log off; keepalive_requests 100000000; upstream o {{ server 10.20.0.2:8080; keepalive 256; keepalive_requests 100000000; }}
server {{ listen 10.10.0.1:80; listen 10.10.0.1:8443 ssl; ssl_certificate {w}/gateway.pem; ssl_certificate_key {w}/gateway-key.pem;
location / {{ proxy_pass http://o; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host; }} }} }}"""
HAPROXY = """global
  nbthread 1
  maxconn 8192
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  http-reuse always
frontend f
  bind 10.10.0.1:80
  bind 10.10.0.1:8443 ssl crt {w}/both.pem
  default_backend o
backend o
  server o 10.20.0.2:8080
"""
SLUICE = """node:
  id: router~10.10.0.1~gateway.shop~shop.svc.cluster.local
  metadata: {{NAMESPACE: shop, LABELS: {{istio: ingressgateway}}}}
ports:
  - {{name: client, devargs: "auto:gwc", address: 10.10.0.1/24}}
  - {{name: backend, devargs: "auto:gwb", address: 10.20.0.1/24}}
idle: balanced
xds: {{address: "unix:{w}/xds.sock"}}
secrets: {{dir: "{w}", paths: {{/etc/sluice/pki: "{w}"}}}}
kept: {{dir: off}}
admin: {{socket: "{w}/admin.sock"}}
"""
ISTIO = """apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: web, namespace: shop}
spec:
  hosts: [web.shop.svc.cluster.local]
  resolution: STATIC
  ports: [{number: 8080, name: http, protocol: HTTP}]
  endpoints: [{address: 10.20.0.2}]
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec:
  selector: {istio: ingressgateway}
  servers:
  - port: {number: 80, name: http, protocol: HTTP}
    hosts: [shop.example.com]
  - port: {number: 8443, name: https, protocol: HTTPS}
    hosts: [shop.example.com]
    tls: {mode: SIMPLE, serverCertificate: /etc/sluice/pki/gateway.pem, privateKey: /etc/sluice/pki/gateway-key.pem}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: shop, namespace: shop}
spec:
  hosts: [shop.example.com]
  gateways: [edge]
  http:
  - route: [{destination: {host: web.shop.svc.cluster.local}}]
"""


def envoy_config(w):
    def hcm():
        return {"name": "envoy.filters.network.http_connection_manager", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager", "stat_prefix": "x",
            "route_config": {"virtual_hosts": [{"name": "v", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "o", "timeout": "0s"}}]}]},
            "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}]}}

    def address(a, p):
        return {"socket_address": {"address": a, "port_value": p}}

    tls = {"name": "tls", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext", "common_tls_context": {
        "tls_certificates": [{"certificate_chain": {"filename": f"{w}/gateway.pem"}, "private_key": {"filename": f"{w}/gateway-key.pem"}}]}}}
    return {"static_resources": {
        "listeners": [{"name": "a", "address": address("10.10.0.1", 80), "filter_chains": [{"filters": [hcm()]}]},
                      {"name": "b", "address": address("10.10.0.1", 8443), "filter_chains": [{"filters": [hcm()], "transport_socket": tls}]}],
        "clusters": [{"name": "o", "connect_timeout": "5s", "type": "STATIC", "circuit_breakers": {"thresholds": [{"max_connections": 100000, "max_pending_requests": 100000, "max_requests": 100000}]},
                      "load_assignment": {"cluster_name": "o", "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address("10.20.0.2", 8080)}}]}]}}]}}


class Bench:
    def __init__(self, work, options):
        self.w, self.o = work, options
        self.net = Net("bp", hosts=["shop.example.com"])

    def write(self, name, text):
        path = os.path.join(self.w, name)
        with open(path, "w") as f:
            f.write(text)
        return path

    def kernel(self, on):
        """Gives the gateway's ends to the kernel's TCP, or takes them away for a port of ours."""
        for dev, a in (("gwc", "10.10.0.1/24"), ("gwb", "10.20.0.1/24")):
            self.net.run("gateway", "ip", "addr", "flush", "dev", dev)
            if on:
                self.net.run("gateway", "ip", "addr", "add", a, "dev", dev)
        self.net.run("gateway", "sysctl", "-qw", f"net.ipv4.ip_forward={int(on)}")

    def peers(self):
        envoy = os.environ.get("ENVOY") or shutil.which("envoy")
        rows = {"direct (kernel routes)": None, "sluice": "sluice"}
        for name, program, command in (("nginx", "nginx", lambda p: [p, "-c", self.write("peer.conf", NGINX_PEER.format(w=self.w))]),
                                       ("haproxy", "haproxy", lambda p: [p, "-f", self.write("haproxy.cfg", HAPROXY.format(w=self.w))]),
                                       ("envoy", envoy or "envoy", lambda p: [p, "-c", self.write("envoy.json", json.dumps(envoy_config(self.w))), "--concurrency", "1", "--log-level", "error"])):
            path = shutil.which(program)
            if path:
                rows[name] = command(path)
            else:
                print(f"{name}: not here; left out")
        return rows

    def start(self, peer):
        self.kernel(peer != "sluice")
        if peer is None:
            self.net.run("client", "ip", "route", "replace", "10.20.0.0/24", "via", "10.10.0.1")
            self.net.run("backend", "ip", "route", "replace", "10.10.0.0/24", "via", "10.20.0.1")
            return []
        if peer != "sluice":
            started = [self.net.start("gateway", *peer, log=os.path.join(self.w, "peer.log"))]
            wait_for(lambda: self.net.run("client", "curl", "-s", "-o", "/dev/null", "-m", "1", PLAIN, check=False).returncode == 0, 10)
            return started
        control = self.net.start(None, f"{BUILD}/ctrl/plane/sluice-control", "run", "-d", self.write("istio.yaml", ISTIO), "--listen", f"unix:{self.w}/xds.sock", "--authorization-default",
                                 "allow", log=os.path.join(self.w, "control.log"))
        gateway = self.net.start("gateway", f"{BUILD}/dataplane/sluice", "run", "-c", self.write("sluice.yaml", SLUICE.format(w=self.w)), log=os.path.join(self.w, "sluice.log"))
        if not wait_for(lambda: self.net.run("client", "curl", "-s", "-o", "/dev/null", "-m", "1", PLAIN, check=False).returncode == 0, 20):
            sys.exit("sluice does not serve:\n" + text_of(os.path.join(self.w, "sluice.log")))
        return [gateway, control]

    def wrk(self, url):
        out = self.net.run("client", "wrk", "-t1", f"-c{self.o.connections}", f"-d{self.o.seconds}s", "--latency", url, check=False).stdout
        rate = re.search(r"Requests/sec:\s+([\d.]+)", out)
        p99 = re.search(r"99%\s+([\d.]+)(us|ms|s)", out)
        errors = re.search(r"(Socket errors: .*|Non-2xx.*)", out)
        scale = {"us": 1e-3, "ms": 1, "s": 1e3}
        return (float(rate[1]) if rate else 0), (float(p99[1]) * scale[p99[2]] if p99 else 0), errors[1] if errors else ""

    def echo(self, size):
        """Frames per second that a bare echo returns on a port like the gateway's, and TSC cycles a frame on its core."""
        ends = ("be0", "be1")
        self.net.run("gateway", "ip", "link", "add", ends[0], "type", "veth", "peer", "name", ends[1])
        for dev in ends:
            self.net.run("gateway", "sysctl", "-qw", f"net.ipv6.conf.{dev}.disable_ipv6=1")
            self.net.run("gateway", "ethtool", "-K", dev, "tx", "off", "rx", "off", "tso", "off", "gso", "off", "gro", "off", check=False)
            self.net.run("gateway", "ip", "link", "set", dev, "up")
        log = os.path.join(self.w, f"echo{size}.log")
        echo = self.net.start("gateway", f"{BUILD}/perf/echo/sluice-echo", "echo", f"auto:{ends[0]}", "60", str(os.cpu_count() - 1), log=log)
        wait_for(lambda: "memory:" in text_of(log), 10)
        out = self.net.run("gateway", f"{BUILD}/perf/echo/sluice-echo", "blast", f"auto:{ends[1]}", str(size), "3", "0", check=False).stdout
        self.net.stop(echo)
        self.net.run("gateway", "ip", "link", "del", ends[0])
        rate, cycles = re.search(r"\((\d+)/s\)", out), re.search(r"echoed .* (\d+) TSC cycles", text_of(log))
        return (int(rate[1]) if rate else 0), (int(cycles[1]) if cycles else 0)

    def sluice_frames(self):
        text = self.net.run("gateway", "curl", "-s", "http://127.0.0.1:15090/stats/prometheus", check=False).stdout
        total = lambda name: sum(float(v) for v in re.findall(rf"^{name}{{[^}}]*}} ([0-9.e+]+)$", text, re.M))  # noqa: E731
        return total("sluice_port_frames_total"), total("istio_requests_total")

    def run(self):
        make_ca(self.w)
        make_certificate(self.w, "gateway", "DNS:shop.example.com")
        self.write("both.pem", text_of(f"{self.w}/gateway.pem") + text_of(f"{self.w}/gateway-key.pem"))
        self.net.up()
        self.net.start("backend", "nginx", "-c", self.write("origin.conf", NGINX_ORIGIN.format(w=self.w)))
        time.sleep(0.5)
        results, echoes, per_request = {}, {64: [], 1514: []}, {}
        rows = self.peers()
        for round_number in range(self.o.rounds):
            for size, values in echoes.items():
                values.append(self.echo(size))
                print(f"  round {round_number + 1} echo {size} B: {values[-1][0]} frames/s each way, {values[-1][1]} TSC cycles a frame", flush=True)
            for name, peer in rows.items():
                started = self.start(peer)
                try:
                    urls = [("plain", "http://10.20.0.2:8080/bench")] if peer is None else [("plain", PLAIN), ("TLS", TLS)]
                    for kind, url in urls:
                        before = self.sluice_frames() if peer == "sluice" else None
                        rate, p99, errors = self.wrk(url)
                        results.setdefault((name, kind), []).append((rate, p99))
                        if before:
                            frames, requests = (a - b for a, b in zip(self.sluice_frames(), before))
                            per_request[kind] = frames / max(requests, 1)
                        print(f"  round {round_number + 1} {name} {kind}: {rate:.0f} requests/s, p99 {p99:.2f} ms {errors}", flush=True)
                finally:
                    for p in started:
                        self.net.stop(p, seconds=50)
        commit = sh("git", "-C", ROOT, "rev-parse", "--short", "HEAD", check=False).stdout.strip()
        print(f"\n{platform.processor() or platform.machine()}, {os.cpu_count()} CPUs shared by wrk, gateway and origin; commit {commit}; wrk -t1 -c{self.o.connections} -d{self.o.seconds}s, "
              f"{self.o.rounds} rounds; median (least to most)")
        for (name, kind), values in results.items():
            rates = [r for r, _ in values]
            print(f"  {name:<24}{kind:<6} {statistics.median(rates):>9.0f} requests/s ({min(rates):.0f} to {max(rates):.0f}), p99 {statistics.median(p for _, p in values):.2f} ms")

        for size, values in echoes.items():
            rates = [r for r, _ in values]
            print(f"  port's ceiling, echo of {size:>4} B  {statistics.median(rates):>9.0f} frames/s ({min(rates)} to {max(rates)}), {statistics.median(c for _, c in values):.0f} TSC cycles a frame")
        for kind, frames in per_request.items():
            print(f"  sluice {kind}: {frames:.1f} frames a request on both ports, in and out together (an echo is 2)")

def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=50)
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("namespaces need root")
    with tempfile.TemporaryDirectory() as work:
        bench = Bench(work, options)
        try:
            bench.run()
        finally:
            bench.net.close()


main()
