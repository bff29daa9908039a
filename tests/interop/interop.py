#!/usr/bin/env python3
"""Other people's xDS, unchanged, against ours: interop.py BUILD [go] [dump] [js]

go  go-control-plane's server library serves istiod's recorded answers to the gateway's xDS client (ctrl/xds over gRPC)
dump  a program that decodes with go-control-plane's structures, as istioctl proxy-config all -f does, reads the gateway's config_dump
js  npm's @grpc/grpc-js-xds follows sluice-control as a client of its own (a Node with GENERATOR: grpc)

What they need is fetched once by go and npm into $SLUICE_CACHE (~/.cache/sluice). Prints `ok NAME` or `FAIL NAME: why` per check, `skip NAME: why`
for what this machine does not have; exit 77 if everything was skipped."""
import json
import os
import queue
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
BUILD = sys.argv[1] if len(sys.argv) > 1 else os.path.join(ROOT, "build")
CACHE = os.path.join(os.environ.get("SLUICE_CACHE") or os.path.expanduser("~/.cache/sluice"), "interop")
GOLDEN = os.environ.get("SLUICE_GOLDEN") or os.path.join(os.path.dirname(ROOT), "shared", "golden")
passed = failed = skipped = 0


def check(name, good, why=""):
    global passed, failed
    passed += bool(good)
    failed += not good
    print(f"ok {name}" if good else f"FAIL {name}: {why}", flush=True)
    return good


def skip(name, why):
    global skipped
    skipped += 1
    print(f"skip {name}: {why}", flush=True)


def wait_for(condition, seconds=15, pause=0.02):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(pause)
    return bool(condition())


class Program:
    """A child whose lines are gathered; ended by its stdin."""

    def __init__(self, *command, **more):
        self.child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, **more)
        self.lines, self.fresh = [], queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.child.stdout:
            self.lines.append(line.rstrip("\n"))
            self.fresh.put(line.rstrip("\n"))

    def say(self, line):
        self.child.stdin.write(line + "\n")
        self.child.stdin.flush()

    def ask(self, line, seconds=20):
        while not self.fresh.empty():
            self.fresh.get()
        self.say(line)
        try:
            return self.fresh.get(timeout=seconds)
        except queue.Empty:
            return "no answer"

    def end(self):
        try:
            self.child.stdin.close()
        except OSError:
            pass
        try:
            self.child.wait(10)
        except subprocess.TimeoutExpired:
            self.child.kill()


# ---- go-control-plane serves, the gateway's client follows

def go_program(package):
    """The built program of tests/interop/go, or why not."""
    go = shutil.which("go")
    if not go:
        return None, "no go here"
    version = re.search(r"go(\d+)\.(\d+)", subprocess.run([go, "version"], capture_output=True, text=True).stdout)
    if not version or (int(version[1]), int(version[2])) < (1, 25):
        return None, f"go {version[0] if version else '?'} is older than 1.25"
    binary = os.path.join(CACHE, "go-control-plane-server" if package == "." else os.path.basename(package))
    os.makedirs(CACHE, exist_ok=True)
    r = subprocess.run([go, "build", "-o", binary, package], cwd=os.path.join(HERE, "go"), capture_output=True, text=True, env={**os.environ, "GOFLAGS": "-mod=readonly"})
    return (binary, "") if r.returncode == 0 else (None, "go build failed: " + (r.stderr.strip().splitlines() or ["?"])[-1])


def held(client):
    state = {}
    for line in client.lines:
        words = line.split(" ")
        if words[0] == "apply":
            state[words[1], words[2]] = words[3]
        elif words[0] == "remove":
            state.pop((words[1], words[2]), None)
    return state


def served(server):
    """Of the last snapshot that is whole."""
    lines = server.lines
    end = len(lines) - 1 - lines[::-1].index("set")
    begin = max((i for i in range(end) if lines[i] == "set"), default=-1) + 1
    return {tuple(w[1:3]): w[3] for w in (line.split(" ") for line in lines[begin:end]) if w[0] == "has"}


def go(work):
    binary, why = go_program(".")
    if not binary:
        return skip("go", why)
    inputs = os.path.join(GOLDEN, "istiod")
    if not os.path.isdir(inputs):
        return skip("go", f"no golden data at {GOLDEN}")
    follow = os.path.join(BUILD, "tests", "interop", "xds_follow")
    for name in sorted(os.listdir(inputs)):
        case = os.path.join(inputs, name)
        if not os.path.exists(os.path.join(case, "cds.pb")):
            continue
        socket = os.path.join(work, "go.sock")
        if os.path.exists(socket):
            os.unlink(socket)
        server = Program(binary, socket)
        wait_for(lambda: "serving" in server.lines)
        server.say("load " + case)
        wait_for(lambda: "set" in server.lines)
        client = Program(follow, "unix:" + socket)
        same = wait_for(lambda: held(client) == served(server))
        check(f"go {name}: the client has what is served", same, f"{len(held(client))} of {len(served(server))}")
        check(f"go {name}: it refused nothing", not any(line.startswith("nack") for line in server.lines), server.lines[-1])
        if name.startswith("10-"):
            clusters = [n for t, n in held(client) if t == "CDS" and n.startswith("outbound")]
            server.say("drop CDS " + clusters[0])
            check("go: a cluster that goes takes its endpoints with it",
                  wait_for(lambda: not [k for k in held(client) if k[1] == clusters[0]]), str(client.lines[-3:]))
            applied = len([line for line in client.lines if line.startswith("apply")])
            server.end()
            wait_for(lambda: any(line.startswith("closed") for line in client.lines))
            if os.path.exists(socket):
                os.unlink(socket)
            server = Program(binary, socket)
            wait_for(lambda: "serving" in server.lines)
            server.say("load " + case)
            wait_for(lambda: "set" in server.lines)
            check("go: after a restart the client is whole again", wait_for(lambda: held(client) == served(server)), f"{len(held(client))} of {len(served(server))}")
            again = len([line for line in client.lines if line.startswith("apply")]) - applied
            check("go: and only what had gone was applied", again == 2, f"{again} applied")
            refusing = Program(follow, "unix:" + socket, clusters[0])
            check("go: a refusal reaches the server with its reason",
                  wait_for(lambda: any(line.startswith("nack CDS") and clusters[0] in line and "refused by the test" in line for line in server.lines)), str(server.lines[-3:]))
            check("go: what was good in the same answer is applied", wait_for(lambda: any(k[0] == "LDS" for k in held(refusing))), str(refusing.lines))
            refusing.end()
        client.end()
        server.end()


# ---- istioctl's way of reading a config_dump

def certificates(folder):
    """ca.pem, shop.pem and shop-key.pem as the recorded inputs name them; False without openssl."""
    os.makedirs(folder)

    def openssl(*args):
        return subprocess.run(["openssl", *args], cwd=folder, capture_output=True).returncode == 0

    return (shutil.which("openssl") is not None
            and openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "ca-key.pem", "-out", "ca.pem", "-subj", "/CN=test root", "-days", "2")
            and openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "shop-key.pem", "-out", "shop.csr", "-subj", "/CN=shop.example.com")
            and openssl("x509", "-req", "-in", "shop.csr", "-CA", "ca.pem", "-CAkey", "ca-key.pem", "-CAcreateserial", "-out", "shop.pem", "-days", "1"))


def dump(work):
    binary, why = go_program("./dump")
    if not binary:
        return skip("dump", why)
    case = os.path.join(GOLDEN, "istiod", "03-tls-mutual")
    if not os.path.isdir(case):
        return skip("dump", f"no golden data at {GOLDEN}")
    pki, objects, socket = (os.path.join(work, n) for n in ("pki", "dump-istio", "dump.sock"))
    if not certificates(pki):
        return skip("dump", "no openssl to make certificates with")
    os.makedirs(objects)
    shutil.copy(os.path.join(case, "in.yaml"), objects)
    control = subprocess.Popen([os.path.join(BUILD, "ctrl", "plane", "sluice-control"), "run", "-d", objects, "--listen", "unix:" + socket],
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: os.path.exists(socket))
        text = subprocess.run([os.path.join(BUILD, "tests", "interop", "agent_dump"), "unix:" + socket, pki], capture_output=True, text=True).stdout
    finally:
        control.terminate()
        control.wait(10)
    read = subprocess.run([binary], input=text, capture_output=True, text=True)
    rows = [line.split("\t") for line in read.stdout.splitlines()]
    check("dump: istioctl's structures take all of it", read.returncode == 0, read.stdout[-300:] + read.stderr[-300:])
    of = {kind: [r for r in rows if r[0] == kind] for kind in ("bootstrap", "cluster", "listener", "route", "secret", "endpoint")}
    check("dump: no section is empty", all(of.values()), str({k: len(v) for k, v in of.items()}))
    check("dump: the bootstrap names the node and its Istio version",
          [r[1:3] + r[4:] for r in of["bootstrap"]] == [["router~10.10.0.1~sluice-0.shop~shop.svc.cluster.local", "1.29.6", "sluice.shop"]], str(of["bootstrap"]))
    names = {kind: {r["name"] if "name" in r else r["clusterName"] for r in json.load(open(os.path.join(case, f)))}
             for kind, f in (("cluster", "cds.json"), ("listener", "lds.json"), ("route", "rds.json"), ("endpoint", "eds.json"))}
    for kind, expected in names.items():
        check(f"dump: every {kind} of istiod's answer is there, by name", {r[1] for r in of[kind]} == expected, f"{of[kind]} against {expected}")
    check("dump: listeners lead to their routes", all(r[4] in names["route"] for r in of["listener"]), str(of["listener"]))
    check("dump: endpoints are counted", all(int(r[4]) > 0 for r in of["endpoint"]), str(of["endpoint"]))
    check("dump: everything has a version", all(r[2] for r in rows), str([r for r in rows if not r[2]]))
    year = time.strftime("%Y-", time.gmtime())
    check("dump: everything has a time of its last update", all(r[3].startswith(year) for r in rows), str([r for r in rows if not r[3].startswith(year)]))
    check("dump: secrets are certificates that can be read, keys are not shown",
          sorted(r[4].strip() for r in of["secret"]) == ["shop.example.com [redacted]", "test root"] and "PRIVATE KEY" not in text, str(of["secret"]))
    # What is missing is said, not passed over: the reader is not one that takes anything.
    without = json.loads(text)
    without["configs"] = [c for c in without["configs"] if not c["@type"].endswith("SecretsConfigDump")]
    check("dump: the reader notices a section that is missing", "SecretsConfigDump" in subprocess.run([binary], input=json.dumps(without), capture_output=True, text=True).stdout)


# ---- grpc-js-xds follows sluice-control

def js_modules():
    if not shutil.which("npm") or not shutil.which("node"):
        return None, "no npm here"
    place = os.path.join(CACHE, "js")
    os.makedirs(place, exist_ok=True)
    for f in ("package.json", "package-lock.json", "client.js"):
        shutil.copy(os.path.join(HERE, "js", f), place)
    if not os.path.isdir(os.path.join(place, "node_modules", "@grpc", "grpc-js-xds")):
        r = subprocess.run(["npm", "ci", "--ignore-scripts", "--silent", "--no-audit", "--no-fund"], cwd=place, capture_output=True, text=True)
        if r.returncode != 0:
            return None, "npm ci failed: " + ((r.stderr or r.stdout).strip().splitlines() or ["?"])[-1]
    return place, ""


SERVICE = """apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {name}, namespace: shop}}
spec:
  hosts: [{name}.shop.svc.cluster.local]
  location: MESH_INTERNAL
  ports: [{{number: 80, name: grpc, protocol: GRPC}}]
  resolution: STATIC
  endpoints: [{{address: 127.0.0.1, ports: {{grpc: {port}}}}}]
---
"""
ROUTED = """apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: one, namespace: shop}
spec:
  hosts: [one.shop.svc.cluster.local]
  http:
  - match: [{headers: {x-to: {exact: two}}}]
    route: [{destination: {host: two.shop.svc.cluster.local}}]
  - route: [{destination: {host: one.shop.svc.cluster.local}}]
---
"""
UNKNOWN_PROVIDER = """apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: one, namespace: shop}
spec:
  host: one.shop.svc.cluster.local
  trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}
---
"""


def js(work):
    place, why = js_modules()
    if not place:
        return skip("js", why)
    objects, xds, admin = (os.path.join(work, n) for n in ("istio", "js.sock", "admin.sock"))
    os.makedirs(objects)

    def write(text):
        with open(os.path.join(work, "next"), "w") as f:
            f.write(text)
        os.replace(os.path.join(work, "next"), os.path.join(objects, "in.yaml"))

    def node():
        r = subprocess.run([os.path.join(BUILD, "ctrl", "cli", "sluicectl"), "nodes", "--json", "--control", admin], capture_output=True, text=True)
        nodes = json.loads(r.stdout)["nodes"] if r.stdout else []
        return nodes[0] if nodes else {"state": "none", "types": {}}

    bootstrap = os.path.join(work, "bootstrap.json")
    with open(bootstrap, "w") as f:
        json.dump({"xds_servers": [{"server_uri": "unix:" + xds, "channel_creds": [{"type": "insecure"}], "server_features": ["xds_v3"]}],
                   "node": {"id": "sidecar~127.0.0.1~js.shop~shop.svc.cluster.local", "cluster": "js.shop", "locality": {}, "metadata": {"GENERATOR": "grpc", "NAMESPACE": "shop"}}}, f)
    client = Program("node", "client.js", cwd=place, env={**os.environ, "GRPC_XDS_BOOTSTRAP": bootstrap})
    ports = client.ask("backends").split()
    if not check("js: the client starts", len(ports) == 3, str(ports)):
        return client.end()
    both = SERVICE.format(name="one", port=ports[0]) + SERVICE.format(name="two", port=ports[1])
    write(both)
    with open(os.path.join(work, "control.log"), "w") as log:
        control = subprocess.Popen([os.path.join(BUILD, "ctrl", "plane", "sluice-control"), "run", "-d", objects, "--listen", "unix:" + xds, "--admin", "unix:" + admin],
                                   stdout=log, stderr=log)
    try:
        check("js: a call goes where the endpoints are", wait_for(lambda: client.ask("call") == "a"), client.ask("call"))
        check("js: the node acknowledged all", wait_for(lambda: node()["state"] == "acknowledged"), str(node()))
        write(both + ROUTED)
        check("js: a route that is pushed is followed", wait_for(lambda: client.ask("call x-to two") == "b"), client.ask("call x-to two"))
        moved = SERVICE.format(name="one", port=ports[2]) + SERVICE.format(name="two", port=ports[1]) + ROUTED
        write(moved)
        check("js: an endpoint that moves is followed", wait_for(lambda: client.ask("call") == "c"), client.ask("call"))
        write(moved + UNKNOWN_PROVIDER)
        check("js: what it refuses is known, with the reason", wait_for(lambda: node()["types"].get("CDS", {}).get("nack", {}).get("reason")), str(node()))
        check("js: and what it had stays", client.ask("call") == "c", client.ask("call"))
        write(moved)
        check("js: mended, it acknowledges again", wait_for(lambda: node()["state"] == "acknowledged"), str(node()))
    finally:
        client.end()
        control.terminate()
        check("js: sluice-control ends on SIGTERM", control.wait(10) == 0, str(control.returncode))


def main():
    wanted = sys.argv[2:] or ["go", "dump", "js"]
    with tempfile.TemporaryDirectory(prefix="sluice-interop-") as work:
        for part in (go, dump, js):
            if part.__name__ in wanted:
                part(work)
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    sys.exit(1 if failed else 0 if passed else 77)


main()
