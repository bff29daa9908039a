#!/usr/bin/env python3
"""The main job of a gateway, shown: ./run demo [--keep | --stop]. Says for each step what was expected and what came; exit 0 only if they agree everywhere."""
import hashlib
import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
LIB = os.path.join(ROOT, "tests", "lib")
sys.path.insert(0, LIB)
from ca import Authority  # noqa: E402
from net import Net, make_ca, make_certificate, text_of, wait_for  # noqa: E402

BUILD = os.path.join(ROOT, "build")
WORK = os.path.join(BUILD, "demo")
PKI = os.path.join(WORK, "pki")
ISTIO = os.path.join(WORK, "istio")
STATE = os.path.join(WORK, "state.json")
SLUICE = os.path.join(BUILD, "dataplane", "sluice")
CONTROL = os.path.join(BUILD, "ctrl", "plane", "sluice-control")
SLUICECTL = os.path.join(BUILD, "ctrl", "cli", "sluicectl")
NGINX = """daemon off; pid {work}/nginx.pid; error_log {work}/nginx.err; worker_processes 1;
events {{ worker_connections 2048; }}
http {{
  access_log off; keepalive_requests 1000000;
  client_body_temp_path {work}/nginx-body; proxy_temp_path {work}/nginx-proxy; fastcgi_temp_path {work}/nginx-fcgi; uwsgi_temp_path {work}/nginx-uwsgi; scgi_temp_path {work}/nginx-scgi;
  server {{ listen 10.20.0.2:8080; location / {{ return 200 "v1\\n"; }} }}
  server {{ listen 10.20.0.3:8080; location / {{ return 200 "v2\\n"; }} }}
  server {{ listen 10.20.0.4:8443 ssl; ssl_certificate {pki}/vault.pem; ssl_certificate_key {pki}/vault-key.pem; ssl_client_certificate {pki}/ca.pem; ssl_verify_client on;
           location / {{ return 200 "vault sees $ssl_client_s_dn\\n"; }} }}
}}
"""
BOOTSTRAP = """node:
  id: router~10.10.0.1~gateway.shop~shop.svc.cluster.local
  metadata: {{NAMESPACE: shop, SERVICE_ACCOUNT: gateway, LABELS: {{app: gateway, istio: ingressgateway}}}}
ports:
  - {{name: client, devargs: "auto:gwc", address: 10.10.0.1/24}}
  - {{name: backend, devargs: "auto:gwb", address: 10.20.0.1/24}}
idle: dev
xds: {{address: "unix:{work}/xds.sock"}}
secrets: {{dir: "{pki}", paths: {{/etc/sluice/pki: "{pki}"}}}}
kept: {{dir: "{work}/kept"}}
{ca}log: {{dir: "{work}", stdout: true}}
admin: {{socket: "{work}/admin.sock"}}
"""
PROBE_ROUTES = """# The demo's edits turn this file over and over.
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: a-probe, namespace: shop}}
spec:
  hosts: [shop.example.com]
  gateways: [edge]
  http:
  - match: [{{uri: {{exact: /probe}}}}]
    directResponse: {{status: 200, body: {{string: "{marker}"}}}}
  - match: [{{uri: {{exact: /gate}}}}]
    directResponse: {{status: 200}}
"""
PROBE_POLICY = """apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: probe, namespace: shop}}
spec:
  selector: {{matchLabels: {{istio: ingressgateway}}}}
  rules:
  - to: [{{operation: {{paths: [{paths}], ports: ["80"]}}}}]
"""
# The mesh's own mutual TLS on 9443: the gateway's certificate comes from sluice-control's CA.
MESH = """apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: mesh, namespace: shop}
spec:
  selector: {istio: ingressgateway}
  servers:
  - port: {number: 9443, name: mesh, protocol: HTTPS}
    hosts: [shop.example.com]
    tls: {mode: ISTIO_MUTUAL}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: mesh, namespace: shop}
spec:
  hosts: [shop.example.com]
  gateways: [mesh]
  http:
  - directResponse: {status: 200, body: {string: "by the mesh's identity"}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: mesh-client, namespace: shop}
spec:
  selector: {matchLabels: {istio: ingressgateway}}
  rules:
  - from: [{source: {principals: ["cluster.local/ns/shop/sa/client"]}}]
    to: [{operation: {paths: [/mesh], ports: ["9443"]}}]
"""


class Demo:
    def __init__(self):
        self.net = Net("", hosts=["shop.example.com", "other.example.com"])
        self.passed = self.failed = 0
        self.gateway = self.control = None

    def check(self, what, expected, came):
        good = came == expected if not callable(expected) else expected(came)
        words = expected.__doc__ if callable(expected) else expected
        self.passed += good
        self.failed += not good
        print(f"  {'ok  ' if good else 'FAIL'} {what}: expected {words}, came {came if len(str(came)) < 300 or not good else str(came)[:120] + ' ...'}", flush=True)
        return good

    # ---- the world

    def prepare(self):
        shutil.rmtree(WORK, ignore_errors=True)
        os.makedirs(WORK)
        make_ca(PKI)
        make_ca(PKI, "stranger-ca")
        spiffe = "URI:spiffe://cluster.local/ns/shop/sa/"
        make_certificate(PKI, "gateway", spiffe + "gateway,DNS:shop.example.com,DNS:other.example.com")
        make_certificate(PKI, "gateway2", spiffe + "gateway,DNS:shop.example.com,DNS:other.example.com")
        for name in ("client", "other", "vault"):
            make_certificate(PKI, name, spiffe + name)
        make_certificate(PKI, "stranger", spiffe + "client", ca="stranger-ca")
        shutil.copytree(os.path.join(ROOT, "configs", "demo", "istio"), ISTIO)
        self.edit("probe.yaml", PROBE_ROUTES.format(marker="start"))
        self.edit("probe-policy.yaml", PROBE_POLICY.format(paths='"/probe"'))
        self.edit("mesh.yaml", MESH)
        self.authority = Authority(CONTROL, WORK, os.path.join(WORK, "control.log"))
        with open(os.path.join(WORK, "nginx.conf"), "w") as f:
            f.write(NGINX.format(work=WORK, pki=PKI))
        with open(os.path.join(WORK, "sluice.yaml"), "w") as f:
            f.write(BOOTSTRAP.format(work=WORK, pki=PKI, ca=self.authority.bootstrap(f"{WORK}/xds.sock")))
        os.makedirs(os.path.join(WORK, "kept"))
        self.net.up()
        self.net.start("backend", "nginx", "-c", os.path.join(WORK, "nginx.conf"))

    def edit(self, name, text):
        """Replaces a file of the watched folder in one step; gives the moment of it."""
        path = os.path.join(ISTIO, name)
        with open(path + ".new", "w") as f:
            f.write(text)
        now = time.monotonic()
        os.replace(path + ".new", path)
        return now

    def start_control(self):
        self.control = self.net.start(None, CONTROL, "run", "-d", ISTIO, "--mesh", os.path.join(ROOT, "configs", "demo", "mesh.yaml"), "--listen", f"unix:{WORK}/xds.sock", *self.authority.options(3600),
                                      log=os.path.join(WORK, "control.log"))
        return wait_for(lambda: "serving on" in text_of(os.path.join(WORK, "control.log")), 10)

    def start_gateway(self, log):
        self.gateway = self.net.start("gateway", SLUICE, "run", "-c", os.path.join(WORK, "sluice.yaml"), log=log)
        return wait_for(lambda: "sluice: ready:" in text_of(log) or self.gateway.poll() is not None, 30) and self.gateway.poll() is None

    # ---- asking

    def curl(self, url, *more):
        """Status of an answer, or the words of curl where there is none."""
        r = self.net.run("client", "curl", "-sS", "-m", "5", "--cacert", f"{PKI}/ca.pem", "-o", "/dev/null", "-w", "%{http_code}", *more, url, check=False)
        return r.stdout.strip() if r.returncode == 0 else f"refused (curl {r.returncode})"

    def identity(self, name):
        return ["--cert", f"{PKI}/{name}.pem", "--key", f"{PKI}/{name}-key.pem"]

    def stats(self):
        text = self.net.run("gateway", "curl", "-s", "http://127.0.0.1:15090/stats/prometheus", check=False).stdout
        return {m[1]: float(m[2]) for m in re.finditer(r"^(\w[^ ]*) ([0-9.e+]+)$", text, re.M)}

    # ---- the steps

    def run(self):
        log = os.path.join(WORK, "gateway.log")
        print("starting: namespaces, keys, nginx (v1, v2, vault), sluice-control, sluice")
        self.prepare()
        self.check("sluice-control serves configs/demo", True, self.start_control())
        if not self.check("the gateway starts", True, self.start_gateway(log)):
            print(text_of(log)[-2000:])
            return
        for line in text_of(log).splitlines():
            if line.startswith("sluice: "):
                print("   ", line)
        if not wait_for(lambda: self.curl("https://shop.example.com/", *self.identity("client")) == "200", 10):
            print(text_of(os.path.join(WORK, "control.log"))[-1500:], text_of(log)[-1500:])

        print("who may do what (443, mutual TLS)")
        self.check("client asks for /", "200", self.curl("https://shop.example.com/", *self.identity("client")))
        refused = lambda came: came.startswith("refused")  # noqa: E731
        refused.__doc__ = "refused in the handshake"
        self.check("without a certificate", refused, self.curl("https://shop.example.com/"))
        self.check("with a stranger's certificate", refused, self.curl("https://shop.example.com/", *self.identity("stranger")))
        self.check("another identity", "403", self.curl("https://shop.example.com/", *self.identity("other")))
        self.check("a path that no policy allows", "403", self.curl("https://shop.example.com/forbidden", *self.identity("client")))
        self.check("an unknown host, allowed identity", "404", self.curl("https://other.example.com/", *self.identity("client")))
        self.check("an unknown host, another identity", "403", self.curl("https://other.example.com/", *self.identity("other")))
        self.check("/bench on 8443 without a certificate", "200", self.curl("https://shop.example.com:8443/bench"))

        print("90/10 canary over 5,000 requests")
        came = self.net.run("client", sys.executable, os.path.join(HERE, "canary.py"), PKI, 5000, check=False).stdout.strip()
        v2 = int((re.search(r"v2=(\d+)", came) or [0, 0])[1])
        share = lambda c: 8 <= 100 * v2 / 5000 <= 12 and re.fullmatch(r"v1=\d+ v2=\d+", c) is not None  # noqa: E731
        share.__doc__ = "v2 between 8 and 12 %"
        self.check(f"share of v2 {100 * v2 / 5000:.1f} %", share, came)

        self.edits_under_load()
        self.invalid_edit()
        self.questions()
        self.passthrough()
        self.rotation()
        self.cycles()
        self.restart()

    def edits_under_load(self):
        print("100 edits at 10 per second under wrk with 100 connections on 8443")
        probe = subprocess.Popen(["ip", "netns", "exec", "client", sys.executable, os.path.join(HERE, "probe.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        wrk = subprocess.Popen(["ip", "netns", "exec", "client", "wrk", "-t1", "-c100", "-d14s", "https://shop.example.com:8443/bench"], stdout=subprocess.PIPE, text=True)
        time.sleep(1)
        gateway_yaml = text_of(os.path.join(ISTIO, "gateway.yaml"))
        hashes = {n: hashlib.sha256(ssl.PEM_cert_to_DER_cert(text_of(f"{PKI}/{n}.pem"))).hexdigest() for n in ("gateway", "gateway2")}
        log = os.path.join(WORK, "control.log")
        took_by_kind = {"route": [], "policy": [], "cert": []}  # (since the push, since the edit)
        never, begin = 0, time.monotonic()
        for i in range(100):
            wait = begin + i * 0.1 - time.monotonic()
            if wait > 0:
                time.sleep(wait)
            turn, pushes = i // 3, text_of(log).count("pushed:")
            if i % 3 == 0:
                since = self.edit("probe.yaml", PROBE_ROUTES.format(marker=f"edit-{i}"))
                ask = f"route edit-{i}"
            elif i % 3 == 1:
                since = self.edit("probe-policy.yaml", PROBE_POLICY.format(paths='"/probe", "/gate"' if turn % 2 == 0 else '"/probe"'))
                ask = f"policy {200 if turn % 2 == 0 else 403}"
            else:
                name = "gateway2" if turn % 2 == 0 else "gateway"
                since = self.edit("gateway.yaml", gateway_yaml.replace("/gateway.pem", f"/{name}.pem").replace("/gateway-key.pem", f"/{name}-key.pem"))
                ask = f"cert {hashes[name]}"
            probe.stdin.write(ask + "\n")
            probe.stdin.flush()
            wait_for(lambda: text_of(log).count("pushed:") > pushes, 5, 0.001)
            pushed = time.monotonic()
            shown = probe.stdout.readline().strip()
            if shown == "never":
                never += 1
                print("    never in effect:", ask)
            else:
                took_by_kind[ask.split()[0]].append((max(float(shown) - pushed, 0), float(shown) - since))
        probe.stdin.close()
        probe.wait()
        report = wrk.communicate()[0]
        slowest = max(max(v, default=(9, 9))[0] for v in took_by_kind.values())
        for kind, v in took_by_kind.items():
            push, edit = (sorted(x) for x in zip(*v)) if v else ([9], [9])
            print(f"    {kind}: {len(v)} edits, in effect after {1000 * push[len(push) // 2]:.0f} ms (median), {1000 * push[-1]:.0f} ms (slowest) since the push; since the edit "
                  f"{1000 * edit[len(edit) // 2]:.0f} ms, {1000 * edit[-1]:.0f} ms")
        quick = lambda came: never == 0 and slowest < 0.2  # noqa: E731
        quick.__doc__ = "each in effect within 200 ms of its push"
        self.check("100 edits (routes, policies, certificates)", quick, f"slowest {slowest * 1000:.0f} ms, {never} never")
        requests = re.search(r"(\d+) requests in", report)
        errors = re.search(r"Socket errors: (.*)", report)
        bad = re.search(r"Non-2xx or 3xx responses: (\d+)", report)
        self.check(f"wrk, {requests[1] if requests else 'no'} requests: non-2xx", "0", bad[1] if bad else "0")
        self.check("wrk: resets and other socket errors", "none", errors[1] if errors else "none")

    def invalid_edit(self):
        print("an invalid edit")
        log = os.path.join(WORK, "control.log")
        before = len(text_of(log))
        good = text_of(os.path.join(ISTIO, "routes.yaml"))
        self.edit("routes.yaml", good.replace("prefix: /bench", "prefx: /bench"))
        wait_for(lambda: "refused:" in text_of(log)[before:], 5)
        said = text_of(log)[before:]
        place = re.search(r"routes\.yaml:\d+:\d+: .*", said)
        print("   ", place[0] if place else said.strip()[:300])
        named = lambda came: came is not None and "prefx" in came and "prefix" in came  # noqa: E731
        named.__doc__ = "refused at file:line:col, with a suggestion"
        self.check("sluice-control says", named, place[0] if place else None)
        self.check("the old tables serve", "200", self.curl("https://shop.example.com/", *self.identity("client")))
        self.edit("routes.yaml", good)

    def questions(self):
        print("an operator's questions: why 403? what would this edit change? is it right?")

        def ask(*question):
            r = subprocess.run([SLUICECTL, "--socket", f"{WORK}/admin.sock", *question], capture_output=True, text=True)
            return r.returncode, r.stdout + r.stderr

        mesh = ["--mesh", os.path.join(ROOT, "configs", "demo", "mesh.yaml")]
        code, said = ask("explain", "GET", "https://shop.example.com/", "--principal", "spiffe://cluster.local/ns/shop/sa/other")
        why = next((line for line in said.splitlines() if "just missed: wants a principal" in line), said[:200])
        print("   ", why)
        self.check("explain, from the running tables", "answer    403 rbac_access_denied_matched_policy[none]", said.strip().splitlines()[-1])
        edited = os.path.join(WORK, "edited")
        shutil.rmtree(edited, ignore_errors=True)
        shutil.copytree(ISTIO, edited)
        with open(os.path.join(edited, "policies.yaml"), "w") as f:
            f.write(text_of(os.path.join(ISTIO, "policies.yaml")).replace("/items/*", "/things/*"))
        code, said = ask("diff", edited, *mesh)
        print("   ", "\n    ".join(said.strip().splitlines()[:8]))
        flips = lambda came: "! GET " in came and "/items/" in came and "is 403" in came  # noqa: E731
        flips.__doc__ = "a request that would be denied now"
        self.check("diff, against the running tables", flips, " ".join(said.split()))
        with open(os.path.join(edited, "policies.yaml"), "a") as f:
            f.write("\nkind: [")
        code, said = ask("check", edited)
        self.check("check of a wrong folder", "1, at its place", f"{code}, " + ("at its place" if re.search(r"policies\.yaml:\d+:\d+: error", said) else said[:200]))

    def passthrough(self):
        print("AUTO_PASSTHROUGH on 15443 to an origin with its own mutual TLS")
        sni = "outbound_.8443_._.vault.shop.svc.cluster.local"

        def s_client(alpn):
            return self.net.run("client", "openssl", "s_client", "-connect", "10.10.0.1:15443", "-servername", sni, "-alpn", alpn, "-cert", f"{PKI}/client.pem", "-key",
                                f"{PKI}/client-key.pem", "-CAfile", f"{PKI}/ca.pem", "-quiet", "-verify_quiet", check=False, input="GET / HTTP/1.0\r\n\r\n", timeout=10)

        try:
            came = s_client("istio,http/1.1")
            self.check("through to the vault, end to end", "vault sees CN=client,O=cluster.local", (came.stdout.strip().splitlines() or [came.stderr.strip()[:120]])[-1])
        except subprocess.TimeoutExpired:
            self.check("through to the vault, end to end", "an answer", "nothing in 10 s")
        began = time.monotonic()
        came = s_client("h2")
        at_once = lambda c: c == "closed" and time.monotonic() - began < 2  # noqa: E731
        at_once.__doc__ = "closed at once"
        self.check("an ALPN that no chain takes", at_once, "closed" if came.returncode != 0 and "vault" not in came.stdout else "open")

    def restart(self):
        print("the control plane ends, the gateway restarts")
        time.sleep(1.5)  # what was accepted is on disk a second after the last change
        self.net.stop(self.control)
        self.check("served without a control plane", "200", self.curl("https://shop.example.com/", *self.identity("client")))
        self.check("SIGTERM: the gateway's exit code", 0, self.net.stop(self.gateway, seconds=50))
        log = os.path.join(WORK, "gateway2.log")
        began = time.monotonic()
        self.start_gateway(log)
        served = wait_for(lambda: self.curl("https://shop.example.com/", *self.identity("client")) == "200", 10)
        took = time.monotonic() - began
        soon = lambda came: served and took < 2  # noqa: E731
        soon.__doc__ = "served from kept resources within 2 s"
        self.check("restarted gateway", soon, f"{took:.2f} s" if served else "not served: " + text_of(log)[-300:])
        self.check("policies hold after it", "403", self.curl("https://shop.example.com/", *self.identity("other")))
        self.check("sluice-control is back", True, self.start_control())

    def rotation(self):
        print("the mesh's root is exchanged under load (9443, certificates from sluice-control's CA)")
        ca, c = self.authority, os.path.join(WORK, "c-client")

        def verifies():
            """Whether openssl takes the gateway's certificate by the roots that the client has now; its serial."""
            came = self.net.run("client", "sh", "-c", f"openssl s_client -connect 10.10.0.1:9443 -servername shop.example.com -verify_return_error -CAfile {c}-root.pem -cert {c}.pem"
                                f" -key {c}-key.pem </dev/null 2>/dev/null | openssl x509 -noout -serial", check=False)
            return came.stdout.strip() or None

        ca.client("client")
        self.check("the gateway has its certificate from the CA", True, wait_for(lambda: verifies() is not None, 10, 0.1))
        load = self.net.start("client", sys.executable, os.path.join(LIB, "load.py"), "mutual", c, "12", "/mesh", stdout=subprocess.PIPE, text=True)
        wrk = subprocess.Popen(["ip", "netns", "exec", "client", "wrk", "-t1", "-c20", "-d12s", "https://shop.example.com:8443/bench"], stdout=subprocess.PIPE, text=True)
        time.sleep(1)
        old, serial, before = text_of(c + "-root.pem"), verifies(), ca.pushes()
        ca.trust_second_root()
        self.check("1: a second root is trusted", True, wait_for(lambda: ca.pushes() > before, 3))
        ca.client("client")
        time.sleep(1)
        before = ca.pushes()
        ca.sign_with_second_root()
        self.check("2: it signs; the gateway asks for a new certificate", True, wait_for(lambda: ca.pushes() > before and verifies() not in (None, serial), 8, 0.2))
        ca.client("client")
        time.sleep(2)
        before = ca.pushes()
        ca.drop_first_root()
        self.check("3: the first is dropped", True, wait_for(lambda: ca.pushes() > before, 3))
        ca.client("client")
        good, lost = load.communicate(timeout=60)[0].split()
        report = wrk.communicate(timeout=60)[0]
        self.check(f"{good} requests of mutual TLS: connections that lost one", "0", lost)
        self.check("wrk: failures", "none", " ".join(re.findall(r"Socket errors: .*|Non-2xx.*", report)) or "none")
        self.check("the new root alone verifies the gateway", True, old not in text_of(c + "-root.pem") and verifies() is not None)

    def cycles(self):
        s = self.stats()
        total = s.get('sluice_worker_useful_cycles_total{worker="0"}', 0)
        print(f"TSC cycles of useful turns by stage (worker 0; {total:.3g} in all)")
        for k, v in s.items():
            m = re.fullmatch(r'sluice_worker_stage_cycles_total\{worker="0",stage="(\w+)"\}', k)
            if m and total:
                print(f"    {m[1]:<11} {v:>14.0f}  {100 * v / total:5.1f} %")


def stop_kept():
    try:
        state = json.load(open(STATE))
    except OSError:
        print("nothing was kept running")
        return 0
    for pid in state["pids"]:
        try:
            os.kill(pid, signal.SIGTERM)
        except ProcessLookupError:
            pass
    wait_for(lambda: not any(os.path.exists(f"/proc/{p}") for p in state["pids"]), 50)
    Net("", hosts=["x"]).down()
    os.unlink(STATE)
    print("stopped")
    return 0


def main():
    if "--stop" in sys.argv:
        return stop_kept()
    if os.geteuid() != 0:
        print("the demo makes network namespaces: run it as root")
        return 1
    if os.path.exists(STATE):
        print("a kept demo is running; ./run demo --stop ends it")
        return 1
    demo = Demo()
    keep = False
    try:
        demo.run()
        keep = "--keep" in sys.argv
    finally:
        if keep:
            live = [p.pid for p in demo.net.processes if p.poll() is None]
            json.dump({"pids": live}, open(STATE, "w"))
            print(f"left running. Talk to it:\n  ip netns exec client curl --cacert {PKI}/ca.pem --cert {PKI}/client.pem --key {PKI}/client-key.pem https://shop.example.com/")
            print(f"  edit {ISTIO}/*.yaml     build/ctrl/cli/sluicectl --socket {WORK}/admin.sock status\n  ./run demo --stop ends it")
        else:
            demo.net.close()
    print(f"demo: {demo.passed} checks passed, {demo.failed} failed")
    return 1 if demo.failed or not demo.passed else 0


sys.exit(main())
