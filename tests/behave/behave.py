#!/usr/bin/env python3
"""Asks the gateway what Envoy was asked, and compares.

    behave.py NN-name [CASES.json]     one input: its namespaces, origins, gateway (fed from istiod's recorded answers), the recorded or the given cases
    behave.py --all                    every input of this issue with its recorded cases and ours (cases/NN-name.json, answered by the same Envoy);
                                       the differences must be the ones of safer.json

NN-name.trailers is NN-name with HTTP/1 trailers enabled on both sides.

CASES.json is a list of {case, answer} (answers are compared) as in ../shared/golden/behaviour. Prints the differences and `N same, M different`.
Needs root and the golden data (SLUICE_GOLDEN, else ../shared/golden) with its tools beside it; without them it is skipped (exit 77).
"""
import json
import os
import re
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(ROOT, "tests", "lib"))
from net import Net, text_of, wait_for  # noqa: E402

GOLDEN = os.environ.get("SLUICE_GOLDEN") or os.path.join(os.path.dirname(ROOT), "shared", "golden")
TOOL = os.path.join(os.path.dirname(GOLDEN), "tools", "behave.py")
SLUICE = os.path.join(ROOT, "build", "dataplane", "sluice")
INPUTS = ["01-http", "02-tls-simple", "03-tls-mutual", "04-tls-optional-mutual", "05-tls-istio-mutual", "06-https-redirect", "07-passthrough", "08-auto-passthrough",
          "10-canary", "11-matches", "22-authz-default-deny", "23-authz-sources", "26-hosts-merge", "01-http.trailers"]
BOOTSTRAP = """node: {{id: router~10.10.0.1~gateway.shop~shop.svc.cluster.local}}
ports:
  - {{name: client, devargs: "auto:gwc", address: 10.10.0.1/24}}
  - {{name: backend, devargs: "auto:gwb", address: 10.20.0.1/24}}
idle: dev
resources: {{{resources}}}
secrets: {{dir: "{pki}", paths: {{/etc/sluice/pki: "{pki}"}}}}
kept: {{dir: off}}
log: {{stdout: true}}
admin: {{socket: "{work}/admin.sock"}}
"""


def tables(name, work):
    """What the bootstrap's `resources` says for an input."""
    name, _, variant = name.partition(".")
    folder = os.path.join(GOLDEN, "istiod", name)
    if not variant:
        return f'golden: "{folder}"'
    resources = [r for kind in ("cds", "eds", "lds", "rds") for r in json.load(open(os.path.join(folder, f"{kind}.json")))]
    upstream = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    for r in resources:
        if r.get("type") == "EDS":
            options = {"@type": f"type.googleapis.com/{upstream}", "explicitHttpConfig": {"httpProtocolOptions": {"enableTrailers": True}}}
            r["typedExtensionProtocolOptions"] = {upstream: options}
        for chain in r.get("filterChains", []):
            for f in chain["filters"]:
                f["typedConfig"]["httpProtocolOptions"] = {"enableTrailers": True}
    file = os.path.join(work, "tables.json")
    with open(file, "w") as f:
        json.dump(resources, f)
    return f'json: "{file}"'


def cases_of(name, work):
    """A file with the recorded cases of an input and ours."""
    records = []
    for file in (os.path.join(GOLDEN, "behaviour", f"{name}.json"), os.path.join(HERE, "cases", f"{name}.json")):
        if os.path.exists(file):
            records += json.load(open(file))
    file = os.path.join(work, f"{name}.cases.json")
    with open(file, "w") as f:
        json.dump(records, f)
    return file


def ask(net, name, cases, work, pki):
    """Differences of one input, and how many cases agree: (lines, same, different)."""
    config, log, got = (os.path.join(work, f"{name}.{x}") for x in ("yaml", "log", "json"))
    with open(config, "w") as f:
        f.write(BOOTSTRAP.format(resources=tables(name, work), pki=pki, work=work))
    tls = "/tls" if name in ("08-auto-passthrough", "28-mesh-mtls-upstream") else ""
    origin = net.start("backend", sys.executable, TOOL, "origin", "--pki", pki, f"10.20.0.2:8080{tls}", f"10.20.0.3:8080{tls}", "10.20.0.4:8443/tls", log=os.path.join(work, "origin.log"))
    gateway = net.start("gateway", SLUICE, "run", "-c", config, log=log)
    try:
        if not wait_for(lambda: "sluice: ready:" in text_of(log) or gateway.poll() is not None, 30) or gateway.poll() is not None:
            sys.exit("the gateway does not start:\n" + text_of(log))
        wait_for(lambda: net.run("client", "bash", "-c", "exec 3<>/dev/tcp/10.10.0.1/15021", check=False).returncode == 0, 5)
        asked = net.run("client", sys.executable, TOOL, "ask", cases, "--gateway", "10.10.0.1", "--pki", pki, "--log", log, "--out", got, check=False)
        if asked.returncode != 0:
            sys.exit("asking failed:\n" + asked.stderr)
    finally:
        net.stop(gateway, seconds=50)
        net.stop(origin)
    lines = subprocess.run([sys.executable, TOOL, "compare", cases, got], capture_output=True, text=True).stdout.splitlines()
    counts = re.fullmatch(r"(\d+) same, (\d+) different", lines[-1])
    return lines[:-1], int(counts[1]), int(counts[2])


def main():
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help"):
        sys.exit(__doc__)
    if not os.path.exists(TOOL) or not os.path.isdir(os.path.join(GOLDEN, "istiod")):
        print(f"{GOLDEN} and its tools are not there (SLUICE_GOLDEN)")
        sys.exit(77)
    if os.geteuid() != 0:
        print("namespaces need root")
        sys.exit(77)
    everything = arguments[0] == "--all"
    with tempfile.TemporaryDirectory() as work:
        pki = os.path.join(work, "pki")
        subprocess.run([sys.executable, TOOL, "pki", pki], check=True, capture_output=True)
        for name, copy in (("gateway.pem", "cert-chain.pem"), ("gateway-key.pem", "key.pem"), ("ca.pem", "root-cert.pem")):  # `default` and ROOTCA
            with open(os.path.join(pki, name)) as a, open(os.path.join(pki, copy), "w") as b:
                b.write(a.read())
        net = Net("bh")
        net.up()
        try:
            if not everything:
                name = arguments[0]
                cases = os.path.abspath(arguments[1]) if len(arguments) > 1 else cases_of(name, work)
                lines, same, different = ask(net, name, cases, work, pki)
                print("\n".join(lines + [f"{same} same, {different} different"]))
                sys.exit(1 if different else 0)
            safer = json.load(open(os.path.join(HERE, "safer.json")))
            total = unexpected = 0
            for name in INPUTS:
                lines, same, different = ask(net, name, cases_of(name, work), work, pki)
                differ = {line.split(":", 1)[0] for line in lines}
                known = set(safer.get(name, {}))
                print(f"{name}: {same} same, {different} different" + (f", {len(differ & known)} of them safer than Envoy (safer.json)" if differ & known else ""))
                for line in lines:
                    if line.split(":", 1)[0] not in known:
                        print("   ", line)
                unexpected += len(differ - known)
                total += same
            print(f"{total} cases as Envoy, {unexpected} unexpected differences")
            sys.exit(1 if unexpected else 0)
        finally:
            net.close()


main()
