#!/usr/bin/env python3
"""`explain` and traffic agree: generated requests go as bytes through a real worker (in-memory ports, virtual clock, plain text) whose tables are a generated directory's;
status, details, route and cluster are what explain says of the same tables, and these, Location and the rewritten request what the oracle says. Exit 0 if so, 77 where it
cannot run."""
import argparse
import os
import random
import subprocess
import sys
import time

from oracle import HERE, in_folder, mesh_of, read  # says why and exits 77 where PyYAML is missing
import actions
import generate
import product
from generate import LABELS, NAMESPACE, Generator, Requests
from judge import Judge

# The log of tests/world, without the path, which may have a ";;" of its own.
LOG = ("%RESPONSE_CODE%;;%RESPONSE_FLAGS%;;%RESPONSE_CODE_DETAILS%;;%BYTES_RECEIVED%;;%BYTES_SENT%;;%REQ(:METHOD)%;;-;;%UPSTREAM_CLUSTER%;;%UPSTREAM_HOST%;;"
       "%UPSTREAM_REQUEST_ATTEMPT_COUNT%;;%UPSTREAM_TRANSPORT_FAILURE_REASON%;;%ROUTE_NAME%;;%CONNECTION_ID%;;%DURATION%\n")
generate.SOURCES = ["10.0.0.2", "10.0.0.7", "10.0.0.9", "10.0.0.130"]  # what the client of tests/world has
generate.BLOCKS = ["10.0.0.0/25", "10.0.0.7", "10.0.0.130/32", "10.0.0.8/29", "10.0.0.2/31", "10.0.0.0/24", "192.168.0.0/16", "2001:db8::/32"]
generate.OURS = ["10.0.0.1"]
generate.OUR_BLOCKS = ["10.0.0.1", "10.0.0.0/24", "10.0.0.2/32", "10.1.0.0/16"]
generate.INSIDE = {"10.0.0.0/25": "10.0.0.9", "10.0.0.8/29": "10.0.0.9", "10.0.0.2/31": "10.0.0.2", "10.0.0.0/24": "10.0.0.130", "192.168.0.0/16": "10.0.0.2", "2001:db8::/32": "10.0.0.2"}


class PlainText(Generator):
    def tls_servers(self, number):
        return []

    def add_bytes(self, gateways):
        return []

    def case(self):
        case = super().case()
        case.mesh = (case.mesh or {}) | {"accessLogFile": "/dev/stdout", "accessLogFormat": LOG}
        return case


def bytes_of(q):
    head = [f"{q['method']} {q['target']} HTTP/1.1", f"Host: {q['authority']}"] + [f"{name}: {value}" for name, value in q["headers"]]
    return "\x1f".join(head) + "\x1f\x1f"


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--program", default=os.path.join(HERE, "..", "..", "build", "tests", "oracle", "oracle_traffic"))
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--directories", type=int, default=50)
    p.add_argument("--requests", type=int, default=200, help="of each directory")
    p.add_argument("--keep", help="a folder for the directories, which then stay")
    o = p.parse_args()
    print(f"seed {o.seed}, {o.directories} directories with {o.requests} requests each")
    return in_folder(o, run)


def run(o, work):
    started = time.monotonic()
    asked = []
    with open(os.path.join(work, "commands"), "w") as commands:
        for n in range(o.directories):
            rng = random.Random(o.seed * 1_000_003 + n)
            case = PlainText(rng.randrange(1 << 60)).case()
            folder = os.path.join(work, str(n))
            case.write(folder, rng)
            commands.write(f"load {folder} {folder}.mesh.yaml {'deny' if case.deny_by_default else 'allow'}\n")
            requests = Requests(case, rng)
            batch = [requests.next() for _ in range(o.requests)]
            for q in batch:
                q["from"] = q["from"] if q["from"] in generate.SOURCES else "10.0.0.2"
                q["to"] = "10.0.0.1"
                q["principal"] = ""
                commands.write(f"ask {q['from']} {q['port']} {int(q['method'] == 'HEAD')} {bytes_of(q)}\x1e{product.line_of(q)}\n")
            asked.append((folder, case.deny_by_default, batch))
    environment = os.environ | {"SLUICE_ORACLE_COMMANDS": os.path.join(work, "commands"), "SLUICE_ORACLE_ANSWERS": os.path.join(work, "answers")}
    ran = subprocess.run([o.program], env=environment, capture_output=True, text=True)
    if ran.returncode != 0:
        print(ran.stdout[-3000:], ran.stderr[-1000:])
        return 1
    sent = time.monotonic()
    answers = product.answers(os.path.join(work, "answers"))
    wrong = pairs = 0
    kinds = {}
    for folder, deny, batch in asked:
        loaded = next(answers)
        judge = Judge(read(folder), mesh_of(folder), NAMESPACE, LABELS, deny)
        if "error" in loaded:
            print(f"{folder}: the product refuses it: {loaded['error']}")
            wrong += 1
        for q in batch:
            a = next(answers)
            if "error" in loaded:
                continue
            pairs += 1
            kinds[a.get("status")] = kinds.get(a.get("status"), 0) + 1
            for why in different(a, q, judge):
                wrong += 1
                if wrong <= 5:
                    print(f"DIFFERENT {folder}: {why}\n  {product.line_of(q)!r}\n  {a}")
    print(f"{pairs} requests, {wrong} differ, answers {dict(sorted(kinds.items(), key=str))}; sent in {sent - started:.1f} s, judged in {time.monotonic() - sent:.1f} s")
    return 1 if wrong or len(kinds) < 5 else 0


def different(a, q, judge):
    """What does not agree, in words."""
    if "error" in a:
        return [a["error"]]
    said, (should, outcome, target) = product.outcome(a["explain"]), judge.whole(q)
    out = []
    if said != should:
        out.append(f"explain says {said}, the oracle {should}")
    forwarded = said[0] == "to"
    if str(a["seen"]) != a["status"]:
        out.append("the client saw another status than the log has")
    if a["status"] != ("200" if forwarded else said[0]):
        return out + [f"explain says {said}"]
    details = "via_upstream" if forwarded else DETAILS.get(said[1], said[1])
    if a["details"] != details:
        out.append(f"the details should be {details}")
    if said[0] not in ("400", "404", "403") and said[1] != "to https" and a["route"] != said[3]:
        out.append(f"explain says route {said[3]}")
    if not forwarded:
        if outcome is not None and (said[1] == "to https" or said[1] == "redirect") and a["location"] != actions.location(outcome, q["tls"], q["authority"], target):
            out.append(f"Location should be {actions.location(outcome, q['tls'], q['authority'], target)}")
        return out
    if a["cluster"] not in [name for name, _ in said[1]]:
        out.append("another cluster than explain's")
    start = f"{q['method']} {actions.path_at_origin(outcome, outcome.match, target)} HTTP/1.1"
    if a["start"] != start:
        out.append(f"the origin should see {start}")
    if a["host"] != actions.host_at_origin(outcome, q["authority"]):
        out.append(f"the origin should see host {actions.host_at_origin(outcome, q['authority'])}")
    return out


# explain's words where the log has a code of its own.
DETAILS = {"redirect": "direct_response", "to https": "direct_response"}

if __name__ == "__main__":
    sys.exit(main())
