#!/usr/bin/env python3
"""The rules of the tree that a compiler does not hold: who may include what, and that build targets see no header by accident."""
import os
import re
import subprocess
import sys

root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
ORDER = ["dataplane/base", "dataplane/packet", "drivers", "dataplane/net", "dataplane/tcp", "tls-offload", "dataplane/http", "dataplane/tables",
         "dataplane/route", "dataplane/authz", "dataplane/upstream", "dataplane/proxy", "dataplane/worker", "ctrl", "dataplane", "perf", "tests"]
SANS_IO = ("dataplane/net/", "dataplane/tcp/", "tls-offload/", "dataplane/http/", "dataplane/route/", "dataplane/authz/", "dataplane/upstream/")
problems = []


def folder_of(path):
    fits = [f for f in ORDER if path == f or path.startswith(f + "/")]
    return max(fits, key=len) if fits else None


def listed(*patterns):
    """The tree's files. A clone may be another user's than root's, who runs the tests; git refuses that unless told."""
    r = subprocess.run(["git", "-c", "safe.directory=*", "ls-files", "-co", "--exclude-standard", *patterns], cwd=root, capture_output=True, text=True)
    if r.returncode != 0:
        print("git does not list the tree's files:", r.stderr.strip())
        sys.exit(77)
    return r.stdout.split()


# What the log writer reads stands with the worker that writes it.
ALLOWED = {("ctrl", "dataplane/worker")}

files = listed("*.h", "*.cc", "*.inc")
for path in files:
    lines = open(os.path.join(root, path)).read().splitlines()
    test = path.endswith("_test.cc") or "test_" in os.path.basename(path) or path.startswith("tests/") or "_fuzz" in path
    mine = folder_of(path)
    for number, line in enumerate(lines, 1):
        at = f"{path}:{number}"
        include = re.match(r'\s*#include [<"]([^>"]+)[>"]', line)
        if not include:
            if any(path.startswith(f) for f in SANS_IO) and not test and not line.lstrip().startswith("//") and re.search(r"\b(clock_gettime|std::chrono::\w+_clock::now|::socket\(|getrandom)\b", line):
                if not path.startswith("tls-offload/service"):  # its threads account their CPU time
                    problems.append(f"{at}: a protocol folder reads no clock, opens no socket and draws no randomness of its own")
            continue
        what = include[1]
        if what == "rte_ethdev.h" and not path.startswith("drivers/"):
            problems.append(f"{at}: rte_ethdev.h only in drivers/")
        if (what.startswith("openssl/") or what.startswith("intel-ipsec-mb")) and not path.startswith("tls-offload/") and not test:
            problems.append(f"{at}: OpenSSL and ipsec-mb only in tls-offload/")
        if (".pb.h" in what or what.startswith("grpc")) and not path.startswith(("ctrl/", "perf/")) and not test:
            problems.append(f"{at}: protobuf and gRPC only in ctrl/ (and its benchmarks)")
        other = folder_of(what)
        if other and mine and not test and ORDER.index(other) > ORDER.index(mine) and (mine, other) not in ALLOWED:
            problems.append(f"{at}: {mine} stands before {other} and may not use it")
    if path.endswith(".h") and (not lines or "#pragma once" not in lines):
        problems.append(f"{path}: no #pragma once")
    if path.endswith(".h") and (not lines or not lines[0].startswith("//")):
        problems.append(f"{path}: a header begins with what it is")
for path in listed("*meson.build"):
    text = open(os.path.join(root, path)).read()
    for call in re.finditer(r"\b(executable|static_library)\(", text):
        depth, end = 1, call.end()
        while depth and end < len(text):
            depth += {"(": 1, ")": -1}.get(text[end], 0)
            end += 1
        if "implicit_include_directories: false" not in text[call.start():end]:
            problems.append(f"{path}: {text[call.start():call.start() + 60]!r}: implicit_include_directories: false is missing")
for p in problems:
    print(p)
print(f"tidy: {len(files)} files, {len(problems)} problems")
sys.exit(1 if problems else 0)
