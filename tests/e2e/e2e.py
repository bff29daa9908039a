#!/usr/bin/env python3
"""End to end, over DPDK ports in namespaces of its own: curl, openssl, a Python origin, sluice-control and sluice as they are shipped.
Prints `ok NAME` or `FAIL NAME: why` per check; exit 0 only if none failed, 77 where it cannot run."""
import hashlib
import json
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
LIB = os.path.join(ROOT, "tests", "lib")
sys.path.insert(0, LIB)
from ca import Authority  # noqa: E402
from net import Net, make_ca, make_certificate, sh, text_of, wait_for  # noqa: E402

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
        labels = "" if "{" in name else r"(?:{[^}]*})?"
        return sum(float(m) for m in re.findall(rf"^{re.escape(name)}{labels} ([0-9.e+]+)$", text, re.M))

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
            r = w.shell(f"curl -sf -m 240 --cacert {w.work}/ca.pem {scheme}://shop.example.com/bytes/{n} | sha256sum")
            came = r.stdout.split()
            check(f"{scheme} download of {n} bytes is byte-exact", came and came[0] == pattern_hash(n), f"{came}, curl {r.returncode}")
            feed = f"python3 -c \"import sys; p=open('{pattern}','rb').read(); n={n}\nwhile n:\n k=min(n,len(p)); sys.stdout.buffer.write(p[:k]); n-=k\""
            r = w.shell(f"{feed} | curl -sf -m 240 --cacert {w.work}/ca.pem -T - {scheme}://shop.example.com/hash")
            check(f"{scheme} upload of {n} bytes (chunked) is byte-exact", r.stdout.strip() == pattern_hash(n), f"{r.stdout.strip()}, curl {r.returncode}")


def load(w):
    good, bad = w.net.run("client", sys.executable, os.path.join(LIB, "load.py"), "requests", "200", "50").stdout.split()
    check("10,000 requests over 200 connections without a failure", (good, bad) == ("10000", "0"), f"{good} good, {bad} bad")
    good, bad = w.net.run("client", sys.executable, os.path.join(LIB, "load.py"), "cycles", "1000").stdout.split()
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


class Held:
    """Connections that stay open (hold.py)."""

    def __init__(self, w, certificate, *ports):
        self.p = w.net.start("client", sys.executable, os.path.join(HERE, "hold.py"), f"{w.work}/ca.pem", f"{w.work}/{certificate}" if certificate else "-", *ports,
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.p.stdout.readline()

    def say(self, what):
        self.p.stdin.write(what + "\n")
        self.p.stdin.flush()
        return self.p.stdout.readline().strip()


def roots(w):
    """A connection ends when the root that vouched for its client is removed, and for no other change of trust. Ports: 8443 MUTUAL, 443 SIMPLE."""
    def drained(reason):
        return w.stat(f"sluice_connections_drained_total{{reason=\"{reason}\"}}")

    def trust(*names):
        generation = w.stat("sluice_tables_generation")
        with open(os.path.join(w.work, "new"), "w") as f:
            f.write("".join(text_of(os.path.join(w.work, f"{n}.pem")) for n in names))
        os.rename(os.path.join(w.work, "new"), os.path.join(w.work, "ca.pem"))
        return wait_for(lambda: w.stat("sluice_tables_generation") > generation, 15, 0.1)

    shutil.copy(os.path.join(w.work, "ca.pem"), os.path.join(w.work, "first.pem"))
    ours, plain = Held(w, "client", 8443, 8443), Held(w, None, 443)
    check("connections are held", [ours.say("ask 0"), ours.say("ask 1"), plain.say("ask 0")] == ["200"] * 3)
    check("a root is added", trust("first", "stranger"))
    theirs = Held(w, "wrong", 8443)
    check("adding a root ends nobody", [ours.say("ask 0"), ours.say("ask 1"), plain.say("ask 0"), theirs.say("ask 0")] == ["200"] * 4 and drained("trust_removed") == 0)
    check("the old order of roots is nothing", trust("stranger", "first") and ours.say("ask 0") == "200" and theirs.say("ask 0") == "200" and drained("trust_removed") == 0)
    ours.say("slow 1")
    check("the first root is removed", trust("stranger"))
    check("its idle connection ends", ours.say("ask 0") == "closed")
    came = ours.say("read 1")
    check("its answer under way arrives and says close", came == "200 close", came)
    check("the others stay", [theirs.say("ask 0"), plain.say("ask 0")] == ["200"] * 2)
    check("both are counted by their reason", drained("trust_removed") == 2, drained("trust_removed"))
    check("a removed root lets nobody in", w.curl("https://shop.example.com:8443/", "--cacert", f"{w.work}/first.pem", "--cert", f"{w.work}/client.pem", "--key",
                                                  f"{w.work}/client-key.pem")[0].startswith("curl"))
    trust("first")
    for held in (ours, theirs, plain):
        held.p.stdin.close()
        w.net.stop(held.p)


def faults(w):
    url = "http://shop.example.com"
    rows = [("/none", "503", "UF"), ("/reset", "503", "UC"), ("/close", "503", "UC"), ("/hang", "504", "UT"), ("/garbage", "502", "UPE")]
    for path, status, flag in rows:
        came = w.curl(url + path, seconds=10)[0]
        line = w.last_log(f'"GET {path} HTTP/1.1"')
        check(f"an origin's {path}: {status} {flag}", came == status and f" {status} {flag} " in line, f"{came}; {line}")
    came = w.curl(url + "/lie", seconds=10)[0]
    check("an origin that lies about its length: the answer is cut, flag UPE", came == "curl 18" and " 200 UPE " in w.last_log('"GET /lie'), f"{came}; {w.last_log('/lie')}")
    claim = ("import socket; mac, ip = bytes([2, 0, 0, 0, 0, 0x99]), bytes([10, 10, 0, 1]); s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); s.bind(('c0', 0)); "
             "s.send(b'\\xff' * 6 + mac + bytes.fromhex('08060001080006040001') + mac + ip + bytes(6) + ip)")
    w.net.run("client", sys.executable, "-c", claim)
    conflict = 'sluice_net_events_total{event="address_conflict"}'
    check("somebody else who claims our address is counted", wait_for(lambda: w.stat(conflict) == 1, 3) and w.curl(url + "/")[0] == "200", w.stat(conflict))
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


class MeshCa(Authority):
    """sluice-control with a CA, and a gateway that has its certificate from it. TTL 40 s: renewed every 20."""

    def __init__(self, w):
        self.w, self.process = w, None
        self.gateway_log = os.path.join(w.work, "ca-gateway.log")
        super().__init__(CONTROL, w.work, os.path.join(w.work, "ca-control.log"))
        with open(os.path.join(w.work, "ca.yaml"), "w") as f:
            f.write(BOOTSTRAP.format(work=w.work, port="auto:gwc").replace("xds.sock", "ca.sock").replace(f'dir: "{w.work}",', f'dir: "{w.work}/none",')
                    + self.bootstrap(f"{w.work}/ca.sock"))

    def start(self):
        before = text_of(self.log).count("serving on")
        self.process = self.w.net.start(None, CONTROL, "run", "-d", os.path.join(HERE, "istio"), "--listen", f"unix:{self.w.work}/ca.sock", "--authorization-default", "allow",
                                        *self.options(40), log=self.log)
        return wait_for(lambda: text_of(self.log).count("serving on") > before, 10)

    def get(self, name):
        c = f"{self.w.work}/c-{name}"
        return self.w.curl("https://shop.example.com:9443/", "-k", "--cert", c + ".pem", "--key", c + "-key.pem", seconds=5)[0]

    def serial(self):
        """Of the gateway's certificate, verified with what the client trusts; None if it does not verify."""
        c = f"{self.w.work}/c-client"
        came = self.w.shell(f"openssl s_client -connect 10.10.0.1:9443 -servername shop.example.com -verify_return_error -CAfile {c}-root.pem -cert {c}.pem -key {c}-key.pem"
                            " </dev/null 2>/dev/null | openssl x509 -noout -serial").stdout.strip()
        return came or None

    def roots(self):
        return self.client("client")


def certificates(w):
    a = MeshCa(w)
    check("sluice-control is a CA", a.start(), text_of(a.log))
    a.roots()
    gateway = w.net.start("gateway", SLUICE, "run", "-c", os.path.join(w.work, "ca.yaml"), log=a.gateway_log)
    up = wait_for(lambda: gateway.poll() is not None or a.get("client") == "200", 30, 0.1) and gateway.poll() is None
    check("the gateway has its certificate from it: mutual TLS", up, text_of(a.gateway_log) + text_of(a.log))
    first = a.serial()
    check("openssl verifies it by the CA's root", first, text_of(a.gateway_log))
    stored = [f for f in sh("grep", "-rlE", "PRIVATE KEY", w.work, check=False).stdout.split() if "/authority/" not in f]
    known = ("-key.pem", "/key.pem")
    check("its private key is on no disk", stored and all(f.endswith(known) for f in stored), stored)
    check("it is renewed at half of its life", wait_for(lambda: a.serial() not in (None, first), 30, 0.5), text_of(a.gateway_log))

    bad, good = a.client("bad"), a.client("other")
    check("two more clients are let in", (a.get("bad"), a.get("other")) == ("200", "200"))
    held = w.net.start("client", sys.executable, os.path.join(LIB, "load.py"), "held", f"{w.work}/c-bad", log=os.path.join(w.work, "held.log"))
    wait_for(lambda: "up" in text_of(os.path.join(w.work, "held.log")), 5)
    begin = time.monotonic()
    a.edit("revoked.yaml", f"serials: ['{bad}']\n")
    refused = wait_for(lambda: a.get("bad").startswith("curl"), 3, 0.01)
    took = time.monotonic() - begin
    check("a revoked serial is refused within 1 s of the edit", refused and took < 1, f"{took:.2f} s")
    held.wait(10)
    check("its open connection ends", "closed" in text_of(os.path.join(w.work, "held.log")), text_of(os.path.join(w.work, "held.log")))
    check("its neighbour is not", a.get("other") == "200", a.get("other"))
    begin = time.monotonic()
    a.edit("revoked.yaml", "identities: [spiffe://cluster.local/ns/shop/sa/other]\n")
    refused = wait_for(lambda: a.get("other").startswith("curl"), 3, 0.01)
    took = time.monotonic() - begin
    check("a revoked identity is refused within 1 s of the edit", refused and took < 1, f"{took:.2f} s")
    check("who is no longer revoked is let in", wait_for(lambda: a.get("bad") == "200", 3), a.get("bad"))
    a.edit("revoked.yaml", "serials: [what\n")
    check("a wrong revoked.yaml is named and changes nothing", wait_for(lambda: "revoked.yaml:" in text_of(a.log), 3) and a.get("other").startswith("curl"))
    a.edit("revoked.yaml", "serials: []\n")

    # The root, in three steps, under mutual TLS and wrk.
    wrk = subprocess.Popen(["ip", "netns", "exec", w.net.ns("client"), "wrk", "-t1", "-c8", "-d20s", "http://shop.example.com/x"], stdout=subprocess.PIPE, text=True)
    load = w.net.start("client", sys.executable, os.path.join(LIB, "load.py"), "mutual", f"{w.work}/c-client", "20", stdout=subprocess.PIPE, text=True)
    time.sleep(2)

    before, old_root = a.pushes(), text_of(f"{w.work}/c-client-root.pem")
    a.trust_second_root()
    check("1: a second root is trusted", wait_for(lambda: a.pushes() > before, 3), text_of(a.log))
    a.roots()  # the clients learn it too
    time.sleep(2)
    before, serial = a.pushes(), a.serial()
    a.sign_with_second_root()
    check("2: the other one signs, the gateway asks at once", wait_for(lambda: a.pushes() > before and a.serial() not in (None, serial), 8, 0.2), text_of(a.gateway_log))
    a.roots()
    time.sleep(3)
    before = a.pushes()
    a.drop_first_root()
    check("3: the old one is dropped", wait_for(lambda: a.pushes() > before, 3), text_of(a.log))
    a.roots()
    out = load.communicate(timeout=60)[0]
    text = wrk.communicate(timeout=60)[0]
    good, lost = (int(n) for n in out.split())
    check("no request of mutual TLS is lost", good > 100 and lost == 0, f"{good} good, {lost} connections failed")
    check("no request of wrk is lost", "Requests/sec" in text and "Socket errors" not in text and "Non-2xx" not in text, text)
    check("the new root alone verifies the gateway", old_root not in text_of(f"{w.work}/c-client-root.pem") and a.serial() is not None)

    serial = a.serial()
    wait_for(lambda: a.serial() not in (None, serial), 30, 0.5)  # freshly renewed
    serial = a.serial()
    w.net.stop(a.process)
    time.sleep(24)
    check("without the CA the gateway serves on", a.serial() == serial and a.get("client") == "200")
    a.start()
    check("and renews when it is back", wait_for(lambda: a.serial() not in (None, serial), 40, 0.5), text_of(a.gateway_log))
    check("SIGTERM: exit code 0", w.net.stop(gateway, signal.SIGTERM, 20) == 0)
    w.net.stop(a.process)


DEV_YAML = """apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: default}
spec:
  selector: {istio: ingressgateway}
  servers:
  - {port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: web, namespace: default}
spec:
  hosts: [web.default.svc.cluster.local]
  resolution: STATIC
  ports: [{number: 8080, name: http, protocol: HTTP}]
  endpoints: [{address: 10.10.0.2}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: all, namespace: default}
spec:
  hosts: ["*"]
  gateways: [edge]
  http:
  - match: [{uri: {prefix: /bytes}}]
    route: [{destination: {host: web.default.svc.cluster.local}}]
"""


def dev(w):
    """One process and one folder: the control plane inside, a TAP whose other end is the kernel's."""
    folder, log = os.path.join(w.work, "dev"), os.path.join(w.work, "dev.log")
    os.mkdir(folder)

    def write(text):
        with open(os.path.join(folder, "all.yaml"), "w") as f:
            f.write(text)

    def get(path):
        return w.net.run("gateway", "curl", "-s", "-m", "5", "-o", "/dev/null", "-w", "%{http_code} %{size_download}", "http://10.10.0.1" + path, check=False).stdout

    write(DEV_YAML.replace("kind: Gateway", "kind: Gatway"))
    wrong = w.net.run("gateway", SLUICE, "run", "--dev", "-d", folder, check=False, timeout=60)
    check("run --dev refuses a wrong folder at its place", wrong.returncode == 1 and "all.yaml:2:7" in wrong.stderr and "Gateway" in wrong.stderr, wrong.stderr)
    write(DEV_YAML)
    p = w.net.start("gateway", SLUICE, "run", "--dev", "-d", folder, "--authorization-default", "allow", log=log)
    up = wait_for(lambda: p.poll() is not None or "sluice: ready" in text_of(log), 30) and p.poll() is None
    check("run --dev starts", up, text_of(log))
    w.net.start("gateway", sys.executable, os.path.join(HERE, "sink.py"), "10.10.0.2")
    check("run --dev serves from the machine it runs on", wait_for(lambda: get("/bytes/100000") == "200 100000", 10), get("/bytes/100000"))
    write(DEV_YAML.replace("prefix: /bytes", "prefix: /hash"))
    check("run --dev follows an edit", wait_for(lambda: get("/bytes/1").startswith("404"), 5), get("/bytes/1"))
    write("kind: [")
    wait_for(lambda: "the last good version stays" in text_of(log), 5)
    check("run --dev keeps the last good version", get("/hash").startswith("200"), get("/hash") + text_of(log))
    code = w.net.stop(p, signal.SIGTERM, 20)
    check("run --dev ends with SIGTERM, exit code 0", code == 0, code)


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
            elif sys.argv[2:] == ["certificates"]:  # this part alone
                w.net.stop(w.gateway, signal.SIGTERM, 20)
                certificates(w)
            elif sys.argv[2:]:  # parts by name: e2e.py build transfers faults
                for part in sys.argv[2:]:
                    globals()[part](w)
            else:
                for part in (transfers, load, backpressure):
                    part(w)
                accounts(w, "after the load")
                identities(w)
                roots(w)
                faults(w)
                accounts(w, "after the faults")
                ends(w)
                start_errors(w)
                certificates(w)
                dev(w)
        finally:
            w.net.close()
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


main()
