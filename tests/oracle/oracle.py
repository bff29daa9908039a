#!/usr/bin/env python3
"""From YAML end to end: directories and requests from a seed; what the product says of each pair is what the literal interpreters here say. Exit 0 if they never differ,
every operator was asked often enough with both outcomes, and the share of allowed requests is sane; 77 where it cannot run."""
import argparse
import collections
import os
import random
import shutil
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
DEBIANS = "/usr/bin/python3"
try:
    import yaml
    yaml.CSafeLoader
except (ImportError, AttributeError):
    if os.path.realpath(sys.executable) != os.path.realpath(DEBIANS) and os.path.exists(DEBIANS):
        os.execv(DEBIANS, [DEBIANS, *sys.argv])  # which has Debian's packages
    print("skipped: PyYAML with libyaml is not there (Debian: python3-yaml)")
    sys.exit(77)
import product  # noqa: E402
from generate import LABELS, NAMESPACE, Generator, Requests  # noqa: E402
from judge import Judge  # noqa: E402

HITS_MIN = 1000
ALWAYS = {f"{f} presence" for f in ("hosts", "notHosts", "methods", "notMethods", "paths", "notPaths")}  # every request has one
CASES_SHOWN = 5


def read(folder):
    documents = []
    for name in sorted(os.listdir(folder)):
        with open(os.path.join(folder, name)) as f:
            documents += [d for d in yaml.load_all(f, Loader=yaml.CSafeLoader) if d]
    return documents


def mesh_of(folder):
    if not os.path.exists(folder + ".mesh.yaml"):
        return None
    with open(folder + ".mesh.yaml") as f:
        return yaml.load(f, Loader=yaml.CSafeLoader)


def in_folder(o, run):
    """run(o, work) in a folder that goes when it ends, or in --keep."""
    work = o.keep or tempfile.mkdtemp(prefix="oracle-")
    os.makedirs(work, exist_ok=True)
    try:
        return run(o, work)
    finally:
        if not o.keep:
            shutil.rmtree(work)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--program", default=os.path.join(HERE, "..", "..", "build", "tests", "oracle", "oracle_batch"))
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--directories", type=int, default=640)
    p.add_argument("--requests", type=int, default=200, help="of each directory")
    p.add_argument("--keep", help="a folder for the directories, which then stay")
    p.add_argument("--counts", action="store_true", help="print how often each operator was asked")
    p.add_argument("--no-teeth", dest="teeth", action="store_false", help="do not look whether an operator turned around in the oracle would be noticed")
    o = p.parse_args()
    print(f"seed {o.seed}, {o.directories} directories with {o.requests} requests each")
    return in_folder(o, run)


# What the gateway cannot evaluate (no token is verified) it refuses whole: a condition that is dropped would open or shut a door.
UNSUPPORTED = [{"from": [{"source": {"requestPrincipals": ["*"]}}]}, {"from": [{"source": {"notRequestPrincipals": ["*"]}}]}] + [
    {"when": [{"key": key, "values": ["x"]}]} for key in ("request.auth.principal", "request.auth.audiences", "request.auth.presenter", "request.auth.claims[iss]",
                                                          "experimental.envoy.filters.a.b[c]")]


def unsupported(work):
    """Directories that must be refused."""
    for n, rule in enumerate(UNSUPPORTED):
        generator = Generator(n)
        case = generator.case()
        case.documents = [d for d in case.documents if d["kind"] != "AuthorizationPolicy"] + [generator.policy("DENY") | {
            "metadata": {"name": "p", "namespace": NAMESPACE}, "spec": {"action": "DENY", "rules": [rule]}}]
        folder = os.path.join(work, f"unsupported-{n}")
        case.write(folder, random.Random(n))
        yield folder, rule


def bites(operator, judged):
    """Whether a difference would be seen if the oracle and the product disagreed about this operator always."""
    for used, batch, said, args in judged:
        if operator in used:
            judge = Judge(*args, hit=lambda name, outcome: outcome ^ (name == operator))
            if any(judge.outcome(q) != is_ for q, is_ in zip(batch, said)):
                return True
    return False


def run(o, work):
    started = time.monotonic()
    questions = []
    with open(os.path.join(work, "commands"), "w") as commands:
        for n in range(o.directories):
            seed = o.seed * 1_000_003 + n
            rng = random.Random(seed)
            case = Generator(seed).case()
            folder = os.path.join(work, str(n))
            case.write(folder, rng)
            mode = "deny" if case.deny_by_default else "allow"
            commands.write(f"load a {folder} {folder + '.mesh.yaml' if case.mesh else '-'} {mode}\n")
            requests = Requests(case, rng)
            batch = [requests.next() for _ in range(o.requests)]
            for q in batch:
                commands.write(f"ask a {product.line_of(q)}\n")
            questions.append((folder, case.deny_by_default, batch))
        refused = list(unsupported(work))
        for folder, _ in refused:
            commands.write(f"load a {folder} - allow\n")
    made = time.monotonic()
    product.run(o.program, os.path.join(work, "commands"), os.path.join(work, "answers"))
    asked = time.monotonic()
    hits = collections.Counter()
    statuses = collections.Counter()
    wrong = allowed = pairs = 0
    answers = product.answers(os.path.join(work, "answers"))
    judged = []
    for folder, deny, batch in questions:
        loaded = next(answers)
        said, paths = [], []
        for q in batch:
            a = next(answers)
            said.append(product.outcome(a))
            paths.append(product.path(a, q))
        if "error" in loaded:
            print(f"{folder}: the product refuses it: {loaded['error']}")
            wrong += 1
            continue
        used = set()

        def hit(name, outcome):
            hits[name, outcome] += 1
            used.add(name)
            return outcome

        documents, mesh = read(folder), mesh_of(folder)
        judge = Judge(documents, mesh, NAMESPACE, LABELS, deny, hit)
        judged.append((used, batch, said, (documents, mesh, NAMESPACE, LABELS, deny)))
        for q, is_, path in zip(batch, said, paths):
            should, _, target = judge.whole(q)
            if None not in (path, target) and path != target:
                is_, should = (path, *is_), (target, *should)
            pairs += 1
            statuses[should[0]] += 1
            allowed += should[0] not in ("403", "closed")
            if is_ != should:
                wrong += 1
                if wrong <= CASES_SHOWN:
                    print(f"DIFFERENT {folder}\n  {product.line_of(q)!r}\n  product {is_}\n  oracle  {should}")
    for folder, rule in refused:
        if "not supported" not in next(answers).get("error", ""):
            print(f"{folder}: not refused: {rule}")
            wrong += 1
    done = time.monotonic()
    names = sorted({name for name, _ in hits})
    rare = [f"{n}: {hits[n, True]} held, {hits[n, False]} did not" for n in names
            if hits[n, True] < HITS_MIN or (hits[n, False] < HITS_MIN and n not in ALWAYS)]
    if o.counts:
        for n in names:
            print(f"{hits[n, True]:8} {hits[n, False]:8} {n}")
    share = 100 * allowed / max(pairs, 1)
    print(f"{pairs} pairs, {wrong} differ, {share:.1f} % allowed, {len(names)} operators, outcomes {dict(statuses.most_common())}")
    print(f"made in {made - started:.1f} s, asked in {asked - made:.1f} s, judged in {done - asked:.1f} s")
    good = wrong == 0
    if good and o.teeth:
        toothless = [n for n in names if not bites(n, judged)]
        print(f"each operator turned around in the oracle: {len(names) - len(toothless)} of {len(names)} are noticed, in {time.monotonic() - done:.1f} s", *toothless)
        good = not toothless
    if pairs >= 100_000:  # what a shorter run by hand cannot promise
        for line in rare:
            print("asked too rarely:", line)
        good &= not rare and 30 <= share <= 70
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
