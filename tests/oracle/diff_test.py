#!/usr/bin/env python3
"""`sluicectl diff` of generated pairs of directories: every witness flips for real, which the oracle and a fresh question to the product both say; and where a request
at random flips, diff does not say that nothing changes. Exit 0 if so, 77 where it cannot run."""
import argparse
import copy
import os
import random
import re
import sys
import time

from oracle import in_folder, mesh_of, read  # says why and exits 77 where PyYAML is missing
import product
from generate import LABELS, NAMESPACE, Case, Generator, Requests
from judge import Judge


def values_of(node, path=()):
    """Every list of text in a document, with the way to it."""
    if isinstance(node, dict):
        for k, v in node.items():
            yield from values_of(v, (*path, k))
    elif isinstance(node, list):
        if node and all(isinstance(v, str) for v in node):
            yield path
        for i, v in enumerate(node):
            yield from values_of(v, (*path, i))


def at(node, path):
    for p in path:
        node = node[p]
    return node


def edited(case, rng):
    """The case with one thing changed."""
    generator = Generator(rng.randrange(1 << 60))
    generator.serial = 1000
    documents = copy.deepcopy(case.documents)
    policies = [d for d in documents if d["kind"] == "AuthorizationPolicy" and d["spec"].get("rules")]
    virtuals = [d for d in documents if d["kind"] == "VirtualService" and "http" in d["spec"]]
    carried = [d for d in documents if d["metadata"]["name"] == "bytes"]
    what = rng.choice(("value", "value", "value", "rule", "policy", "without", "action", "match", "route", "order", "bytes"))
    if what == "value" and policies:
        d = rng.choice(policies)
        path = rng.choice([p for p in values_of(d["spec"]["rules"])] or [()])
        if path:
            list_ = at(d["spec"]["rules"], path)
            if len(list_) > 1:
                list_.pop(rng.randrange(len(list_)))
            else:
                at(d["spec"]["rules"], path[:-1]).update({path[-1]: generator_values(generator, path, at(d["spec"]["rules"], path[:-1]))})
    elif what == "rule" and policies:
        d = rng.choice(policies)
        d["spec"]["rules"][rng.randrange(len(d["spec"]["rules"]))] = generator.rule() or {"when": [generator.when()]}
    elif what == "policy":
        documents.append(generator.policy(rng.choice(("ALLOW", "DENY"))))
    elif what == "without" and policies:
        documents.remove(rng.choice(policies))
    elif what == "action" and policies:
        d = rng.choice(policies)
        d["spec"]["action"] = "DENY" if d["spec"].get("action", "ALLOW") == "ALLOW" and d["spec"]["rules"] != [{}] else "ALLOW"
        d["spec"]["rules"] = [r or {"when": [generator.when()]} for r in d["spec"]["rules"]]
    elif what == "bytes" and carried:
        rng.choice(carried[0]["spec"]["tcp"] + carried[0]["spec"]["tls"])["route"] = [{"destination": {"host": "elsewhere.shop.svc.cluster.local", "port": {"number": 5432}}}]
    elif what == "match":
        route = rng.choice(rng.choice(virtuals)["spec"]["http"])
        route["match"] = [generator.http_match("m9")]
    elif what == "route":
        d = rng.choice(virtuals)
        d["spec"]["http"].insert(rng.randrange(len(d["spec"]["http"]) + 1), generator.http_route("r999"))
    else:
        rng.shuffle(rng.choice(virtuals)["spec"]["http"])
    return Case(documents, case.mesh, case.deny_by_default)


def generator_values(generator, path, holder):
    """Other values for a field of a policy."""
    name = path[-1][3:].lower() if path[-1].startswith("not") else path[-1].lower()
    make = {"principals": lambda: ["cluster.local/ns/ops/sa/*"], "namespaces": generator.namespaces, "hosts": generator.host_patterns, "methods": lambda: ["P*"],
            "paths": generator.paths, "ports": lambda: ["8080"], "ipblocks": lambda: ["192.168.0.0/16"], "remoteipblocks": lambda: ["192.168.0.0/16"],
            "serviceaccounts": lambda: ["shop/admin"]}
    if name in make:
        return make[name]()
    key = holder["key"]  # of a condition
    return ["10.0.0.0/8"] if key.endswith(".ip") else ["8080"] if key.endswith("port") else ["shop/admin"] if key.endswith("serviceAccount") else ["s*"]


def small(seed):
    """A directory whose matchers' values diff can combine."""
    g = Generator(seed)
    case = g.case()
    kept, policies = [], 0
    for d in case.documents:
        if d["kind"] == "AuthorizationPolicy":
            policies += 1
            if policies > 2:
                continue
            d["spec"]["rules"] = d["spec"].get("rules", [])[:2] or [{"when": [g.when()]}]
        if d["kind"] == "VirtualService" and "http" in d["spec"]:
            d["spec"]["http"] = d["spec"]["http"][:2]
        if d["kind"] == "Gateway":
            d["spec"]["servers"] = g.rng.sample(d["spec"]["servers"], min(2, len(d["spec"]["servers"])))
        kept.append(d)
    case.documents = kept
    return case


def question_of(text):
    """A witness as judge.py takes it."""
    q = {"headers": [], "principal": "", "sni": None, "to": "10.0.0.1"}
    for line in text.splitlines():
        word, _, value = line.partition(" ")
        if word == "header":
            name, _, v = value.partition(":")
            q["headers"].append((name, v.strip()))
        else:
            q[word] = value
    m = re.fullmatch(r"(https?)://([^/?]*)(.*)", q.pop("url"))
    q["tls"], q["authority"], q["target"] = m[1] == "https", m[2], m[3] if m[3].startswith("/") else "/" + m[3]
    host, colon, port = m[2].partition(":")
    q["port"] = int(port) if colon else 443 if q["tls"] else 80
    if q["tls"] and q["sni"] is None:
        q["sni"] = host.lower()
    return q


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--program", default=os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "build", "tests", "oracle", "oracle_batch"))
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--pairs", type=int, default=100)
    p.add_argument("--requests", type=int, default=300, help="at random, of each pair")
    p.add_argument("--asked", type=int, default=10_000, help="what diff may ask of a pair")
    p.add_argument("--missed", action="store_true", help="print each way in which a request at random flips and no witness does")
    p.add_argument("--keep")
    o = p.parse_args()
    print(f"seed {o.seed}, {o.pairs} pairs of directories")
    return in_folder(o, run)


def load(folder, case, name):
    return f"load {name} {folder} {folder + '.mesh.yaml' if case.mesh else '-'} {'deny' if case.deny_by_default else 'allow'}\n"


def run(o, work):
    started = time.monotonic()
    pairs = []
    with open(os.path.join(work, "commands"), "w") as commands:
        for n in range(o.pairs):
            rng = random.Random(o.seed * 1_000_003 + n)
            before = small(rng.randrange(1 << 60))
            after = edited(before, rng)
            folders = [os.path.join(work, f"{n}-{side}") for side in ("before", "after")]
            for case, folder, name in zip((before, after), folders, "ab"):
                case.write(folder, rng)
                commands.write(load(folder, case, name))
            commands.write(f"diff a b {o.asked}\n")
            pairs.append((before, after, folders, rng))
    product.run(o.program, os.path.join(work, "commands"), os.path.join(work, "answers"))
    compared = time.monotonic()
    wrong = flips = random_flips = silent = undecided = asked = missed = 0
    answers = product.answers(os.path.join(work, "answers"))
    found, all_kinds = [], set()
    with open(os.path.join(work, "witnesses"), "w") as commands:
        for before, after, folders, rng in pairs:
            loads, d = [next(answers), next(answers)], next(answers)
            for a, folder in zip(loads, folders):
                if "error" in a:
                    print(f"{folder}: the product refuses it: {a['error']}")
                    wrong += 1
            if any("error" in a for a in loads):
                continue
            for case, folder, name in zip((before, after), folders, "ab"):
                commands.write(load(folder, case, name))
            for f in d["flips"]:
                for name in "ab":
                    commands.write(f"ask {name} " + f["question"].replace("\n", "\t") + "\n")
            found.append((before, after, folders, rng, d))
    product.run(o.program, os.path.join(work, "witnesses"), os.path.join(work, "verdicts"))
    answers = product.answers(os.path.join(work, "verdicts"))
    for before, after, folders, rng, d in found:
        next(answers), next(answers)
        judges = [Judge(read(f), mesh_of(f), NAMESPACE, LABELS, c.deny_by_default) for c, f in zip((before, after), folders)]
        kinds = set()
        for f in d["flips"]:
            q = question_of(f["question"])
            is_ = [product.outcome(next(answers)) for _ in judges]
            should = [j.outcome(q) for j in judges]
            flips += 1
            kinds.add((said(should[0]), said(should[1])))
            if is_ != should or said(should[0]) == said(should[1]):
                wrong += 1
                print(f"WRONG WITNESS {folders[0]}\n  {f['question']!r}\n  diff    {f['before']} -> {f['after']}\n  product {is_[0]} -> {is_[1]}\n  oracle  {should[0]} -> {should[1]}")
        undecided += bool(d["undecided"])
        asked += d["asked"]
        requests = Requests(before if rng.random() < 0.5 else after, rng)
        others = {}  # kinds of flips that no witness is of
        for _ in range(o.requests):
            q = requests.next()
            was, is_ = (said(j.outcome(q)) for j in judges)
            if was != is_:
                random_flips += 1
                all_kinds.add((folders[0], was, is_))
                if (was, is_) not in kinds:
                    others.setdefault((was, is_), q)
        missed += len(others)
        if others and not d["undecided"]:
            silent += len(others)
            wrong += len(others)
        for (was, is_), q in others.items():
            if not d["undecided"] or o.missed:
                print(f"NO WITNESS {folders[0]}\n  {product.line_of(q)!r}\n  oracle {was} -> {is_}\n  diff says {d['lines']} {d['undecided']}")
    print(f"{len(found)} pairs, {flips} witnesses of {asked} asked; {random_flips} requests at random flip in {len(all_kinds)} ways, of {missed} ways there is no witness, "
          f"of {silent} in silence; {undecided} pairs with something undecided; {wrong} wrong")
    print(f"compared in {compared - started:.1f} s, judged in {time.monotonic() - compared:.1f} s")
    return 1 if wrong or not flips else 0


def said(outcome):
    """What a flip is made of: the answer and where it goes, not which rule allowed it."""
    if outcome[0] == "to" and len(outcome[1]) == 1:
        return ("to", outcome[1][0][0])  # of all the requests, whatever its weight
    return outcome[:2]


if __name__ == "__main__":
    sys.exit(main())
