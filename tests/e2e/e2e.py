#!/usr/bin/env python3
"""End to end, over DPDK ports in namespaces of its own: curl, openssl, a Python origin, sluice-control and sluice as they are shipped.
Prints `ok NAME` or `FAIL NAME: why` per check; exit 0 only if none failed, 77 where it cannot run."""
import hashlib
import os
import re
import shutil
import signal
import socket  # noqa: F401
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(ROOT, "tests", "lib"))
from net import Net, make_ca, make_certificate, text_of, wait_for  # noqa: E402

BUILD = sys.argv[1] if len(sys.argv) > 1 else os.path.join(ROOT, "build")
SLUICE = os.path.join(BUILD, "dataplane", "sluice")
CONTROL = os.path.join(BUILD, "ctrl", "plane", "sluice-control")
PATTERN = bytes(range(251)) * 4177
GIB = 1 << 30
BOOTSTRAP = """node:
  id: router~10.10.0.1~gateway.shop~shop.svc.cluster.local
  metadata: {{NAMESPACE: shop, SERVICE_ACCOUNT: gateway, LABELS: {{istio: ingressgateway}}}}
ports:
  - {{name: client, devargs: "{port}", address: 10.10.0.1/24}}
  - {{name: backend, devargs: "auto:gwb", address: 10.20.0.1/24}}
idle: dev
xds: {{address: "unix:{work}/xds.sock"}}
secrets: {{dir: "{work}", paths: {{/etc/sluice/pki: "{work}"}}}}
kept: {{dir: off}}
log: {{stdout: true}}
admin: {{socket: "{work}/admin.sock"}}
limits: {{request_headers_timeout: 1s}}
drain: {{deadline: 10s}}
"""

passed = failed = 0


def check(name, good, why=""):
    global passed, failed
    passed += bool(good)
    failed += not good
    print(f"ok {name}" if good else f"FAIL {name}: {why}", flush=True)


def pattern_hash(n):
    h = hashlib.sha256()
    while n:
        k = min(n, len(PATTERN))
        h.update(PATTERN[:k])
        n -= k
    return h.hexdigest()


class World:
    def __init__(self, work):
        self.work = work
        self.net = Net("e2e", hosts=["shop.example.com"])
        self.log = os.path.join(work, "gateway.log")

    def up(self):
        make_ca(self.work)
        make_ca(self.work, "stranger")
        spiffe = "URI:spiffe://cluster.local/ns/shop/sa/"
        make_certificate(self.work, "gateway", spiffe + "gateway,DNS:shop.example.com")
        make_certificate(self.work, "client", spiffe + "client")
        make_certificate(self.work, "nobody", "DNS:client.example.com")
        make_certificate(self.work, "two", spiffe + "a," + spiffe + "b")
        make_certificate(self.work, "wrong", spiffe + "client", ca="stranger")
        for a, b in (("gateway.pem", "cert-chain.pem"), ("gateway-key.pem", "key.pem"), ("ca.pem", "root-cert.pem")):
            shutil.copy(os.path.join(self.work, a), os.path.join(self.work, b))
        with open(os.path.join(self.work, "mesh.yaml"), "w") as f:
            f.write("accessLogFile: /dev/stdout\n")
        self.write_bootstrap("auto:gwc")
        self.net.up()
        self.net.start("backend", sys.executable, os.path.join(HERE, "sink.py"), log=os.path.join(self.work, "origin.log"))
        self.net.start(None, CONTROL, "run", "-d", os.path.join(HERE, "istio"), "--mesh", os.path.join(self.work, "mesh.yaml"), "--listen", f"unix:{self.work}/xds.sock",
                       "--authorization-default", "allow", log=os.path.join(self.work, "control.log"))
        wait_for(lambda: "serving on" in text_of(os.path.join(self.work, "control.log")), 10)
        return self.start()

    def write_bootstrap(self, port, name="sluice.yaml"):
        path = os.path.join(self.work, name)
        with open(path, "w") as f:
            f.write(BOOTSTRAP.format(work=self.work, port=port))
        return path

    def start(self):
        self.gateway = self.net.start("gateway", SLUICE, "run", "-c", os.path.join(self.work, "sluice.yaml"), log=self.log)
        wait_for(lambda: self.gateway.poll() is not None or self.curl("http://shop.example.com/")[0] == "200", 30, 0.1)
        return self.gateway.poll() is None

    def curl(self, url, *more, data=None, seconds=60):
        r = self.net.run("client", "curl", "-s", "-m", str(seconds), "--cacert", f"{self.work}/ca.pem", "-w", "\n%{http_code}", *more, url, check=False, input=data)
        body, _, status = r.stdout.rpartition("\n")
        return (status if r.returncode == 0 else f"curl {r.returncode}"), body

    def shell(self, command):
        return self.net.run("client", "bash", "-o", "pipefail", "-c", command, check=False)

    def stat(self, name):
        text = self.net.run("gateway", "curl", "-s", "http://127.0.0.1:15090/stats/prometheus", check=False).stdout
        return sum(float(m) for m in re.findall(rf"^{re.escape(name)}(?:{{[^}}]*}})? ([0-9.e+]+)$", text, re.M))

    def last_log(self, contains):
        wait_for(lambda: contains in text_of(self.log), 3)
        lines = [line for line in text_of(self.log).splitlines() if contains in line]
        return lines[-1] if lines else ""


def transfers(w):
    pattern = os.path.join(w.work, "pattern")
    with open(pattern, "wb") as f:
        f.write(PATTERN)
    for scheme in ("http", "https"):
        for n in (0, 1, 65536, 10 << 20, GIB):
            came = w.shell(f"curl -sf -m 120 --cacert {w.work}/ca.pem {scheme}://shop.example.com/bytes/{n} | sha256sum").stdout.split()
            check(f"{scheme} download of {n} bytes is byte-exact", came and came[0] == pattern_hash(n), came)
            feed = f"python3 -c \"import sys; p=open('{pattern}','rb').read(); n={n}\nwhile n:\n k=min(n,len(p)); sys.stdout.buffer.write(p[:k]); n-=k\""
            came = w.shell(f"{feed} | curl -sf -m 120 --cacert {w.work}/ca.pem -T - {scheme}://shop.example.com/hash").stdout.strip()
            check(f"{scheme} upload of {n} bytes (chunked) is byte-exact", came == pattern_hash(n), came)


def load(w):
    good, bad = w.net.run("client", sys.executable, os.path.join(HERE, "load.py"), "requests", "200", "50").stdout.split()
    check("10,000 requests over 200 connections without a failure", (good, bad) == ("10000", "0"), f"{good} good, {bad} bad")
    good, bad = w.net.run("client", sys.executable, os.path.join(HERE, "load.py"), "cycles", "1000").stdout.split()
    check("1,000 open and close cycles", (good, bad) == ("1000", "0"), f"{good} good, {bad} bad")


def accounts(w, when):
    names = ("sluice_worker_held_mbufs", "sluice_connections_active", "sluice_requests_active")
    at_zero = wait_for(lambda: all(w.stat(n) == 0 for n in names), 15, 0.2)
    check(f"accounts are at zero {when}", at_zero, {n: w.stat(n) for n in names})


def backpressure(w):
    """What one request may hold: a receive window on one side, a send buffer on the other (256 KiB each), in mbufs of a segment, and some slack."""
    bound = 2 * (256 << 10) // 1400 + 64

    def most(seconds):
        end, peak = time.monotonic() + seconds, 0
        while time.monotonic() < end:
            peak = max(peak, w.stat("sluice_worker_held_mbufs"))
        return peak

    for name, command in (("a client that stops reading a 1 GiB answer", f"curl -s -m 4 --limit-rate 1k http://shop.example.com/bytes/{GIB} >/dev/null"),
                          ("an origin that stops reading a 1 GiB request", f"head -c {GIB} /dev/zero | curl -s -m 4 -T - http://shop.example.com/stuck >/dev/null"),
                          ("a TLS client that stops reading", f"curl -s -m 4 --limit-rate 1k --cacert {w.work}/ca.pem https://shop.example.com/bytes/{GIB} >/dev/null")):
        wait_for(lambda: w.stat("sluice_worker_held_mbufs") == 0, 15, 0.2)  # the last one is over
        p = w.net.start("client", "bash", "-c", command)
        peak = most(3)
        p.wait(10)
        check(f"{name} bounds what is held", 0 < peak <= bound, f"{peak} mbufs, bound {bound}")


def identities(w):
    url, mesh = "https://shop.example.com:8443/", "https://shop.example.com:9443/"

    def pair(name):
        return ["--cert", f"{w.work}/{name}.pem", "--key", f"{w.work}/{name}-key.pem"]

    check("mutual TLS with a certificate", w.curl(url, *pair("client"))[0] == "200")
    check("mutual TLS 1.2 too", w.curl(url, "--tls-max", "1.2", *pair("client"))[0] == "200")
    check("mutual TLS without a certificate is refused", w.curl(url)[0].startswith("curl"))
    check("a certificate of another CA is refused", w.curl(url, *pair("wrong"))[0].startswith("curl"))
    check("a DNS name is identity enough for MUTUAL", w.curl(url, *pair("nobody"))[0] == "200")
    check("the mesh's own listener takes one SPIFFE identity", w.curl(mesh, *pair("client"))[0] == "200")
    check("none is refused there", w.curl(mesh, *pair("nobody"))[0].startswith("curl"))
    check("two are refused there", w.curl(mesh, *pair("two"))[0].startswith("curl"))


def faults(w):
    url = "http://shop.example.com"
    rows = [("/none", "503", "UF"), ("/reset", "503", "UC"), ("/close", "503", "UC"), ("/hang", "504", "UT"), ("/garbage", "502", "UPE")]
    for path, status, flag in rows:
        came = w.curl(url + path, seconds=10)[0]
        line = w.last_log(f'"GET {path} HTTP/1.1"')
        check(f"an origin's {path}: {status} {flag}", came == status and f" {status} {flag} " in line, f"{came}; {line}")
    came = w.curl(url + "/lie", seconds=10)[0]
    check("an origin that lies about its length: the answer is cut, flag UPE", came == "curl 18" and " 200 UPE " in w.last_log('"GET /lie'), f"{came}; {w.last_log('/lie')}")
    slow = w.shell("exec 3<>/dev/tcp/10.10.0.1/80; printf 'GET / HTTP/1.1\\r\\nhost: a' >&3; timeout 5 cat <&3 | head -1").stdout
    check("slow headers: 408", "408" in slow, slow)
    came = w.curl(url + "/", "-H", "x-big: " + "x" * 70000)[0]
    check("headers over the limit: 431", came == "431", came)
    inner = "GET /close HTTP/1.1\r\nhost: shop.example.com\r\n\r\n"
    head = f"POST /hash HTTP/1.1\r\nhost: shop.example.com\r\nconnection: close, content-length\r\ncontent-length: {len(inner)}\r\n\r\n"
    came = w.net.run("client", "bash", "-c", "exec 3<>/dev/tcp/10.10.0.1/80; cat >&3; timeout 5 cat <&3", check=False, input=head + inner).stdout
    check("a body whose length Connection names away stays a body", hashlib.sha256(inner.encode()).hexdigest() in came, came)
    w.shell("exec 3<>/dev/tcp/10.10.0.1/80; printf 'GET /hang HTTP/1.1\\r\\nhost: shop.example.com\\r\\n\\r\\n' >&3; sleep 0.2")
    check("a client that vanishes mid-request: DC", wait_for(lambda: '"GET /hang HTTP/1.1" 0 DC downstream_remote_disconnect' in text_of(w.log), 5), w.last_log("/hang"))
    half = w.shell("exec 3<>/dev/tcp/10.10.0.1/443; printf '\\x16\\x03\\x01\\x02\\x00\\x01\\x00\\x01\\xfc\\x03\\x03' >&3; sleep 0.2")
    check("a client that vanishes mid-handshake is forgotten", half.returncode == 0)
    gone = w.shell(f"timeout 0.3 curl -s --limit-rate 1M {url}/bytes/{100 << 20} >/dev/null; true")
    check("a client that vanishes mid-response is forgotten", gone.returncode == 0)


def start_errors(w):
    def start(path):
        r = w.net.run("gateway", SLUICE, "run", "-c", path, check=False, timeout=60)
        return r.returncode, (r.stdout + r.stderr).strip().splitlines()[-1:]

    code, line = start("/nowhere.yaml")
    check("no such file: one line, exit 1", code == 1 and line and "/nowhere.yaml" in line[0], (code, line))
    code, line = start(w.write_bootstrap("auto:nope0", "noport.yaml"))
    check("no such interface: one line that names it", code == 1 and line and "nope0" in line[0], (code, line))
    bad = os.path.join(w.work, "bad.yaml")
    with open(bad, "w") as f:
        f.write(text_of(os.path.join(w.work, "sluice.yaml")).replace("idle: dev", "idel: dev"))
    code, line = start(bad)
    check("a misspelt key: file:line:col and the right word", code == 1 and re.search(r"bad\.yaml:\d+:\d+: .*idle", " ".join(line)), (code, line))


def ends(w):
    wrk = subprocess.Popen(["ip", "netns", "exec", w.net.ns("client"), "wrk", "-t1", "-c20", "-d4s", "http://shop.example.com/x"], stdout=subprocess.PIPE, text=True)
    time.sleep(1)
    code = w.net.stop(w.gateway, signal.SIGTERM, 20)
    wrk.communicate()
    check("SIGTERM under load: exit code 0", code == 0, code)


def main():
    if os.geteuid() != 0:
        print("namespaces need root")
        sys.exit(77)
    with tempfile.TemporaryDirectory() as work:
        w = World(work)
        try:
            if not w.up():
                print(text_of(w.log), text_of(os.path.join(work, "control.log")))
                check("the gateway starts", False, "see above")
            else:
                for part in (transfers, load, backpressure):
                    part(w)
                accounts(w, "after the load")
                identities(w)
                faults(w)
                accounts(w, "after the faults")
                ends(w)
                start_errors(w)
        finally:
            w.net.close()
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


main()
