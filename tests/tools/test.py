#!/usr/bin/env python3
"""test.py BUILD [NAME...]: runs meson's tests and counts cases, not programs. Ends with `N passed, N failed[, N skipped]`; exit 0 only if none failed."""
import json
import os
import subprocess
import sys
import xml.etree.ElementTree as xml

build, names = sys.argv[1], sys.argv[2:]
LOGS = [os.path.join(build, "meson-logs", f"testlog.{x}") for x in ("json", "junit.xml")]
for log in LOGS:  # an earlier run's, which would be counted if this one does not come to its end
    if os.path.exists(log):
        os.unlink(log)
code = subprocess.run(["meson", "test", "-C", build, "--no-rebuild", "--print-errorlogs", "--num-processes", "2", *names]).returncode
if not all(os.path.exists(log) for log in LOGS):
    sys.exit("no test has run" + (f": is there one called {' or '.join(names)}? `meson test -C {build} --list` has their names" if names else ""))
said = {}  # what a program printed, by its name
with open(LOGS[0]) as log:
    for line in log:
        entry = json.loads(line)
        said[entry["name"].split(" / ")[-1]] = entry.get("stdout") or ""
passed = failed = 0
skipped = []
for suite in xml.parse(LOGS[1]).getroot().iter("testsuite"):
    for case in suite.iter("testcase"):
        name = f'{suite.get("name", "").split("/")[-1]} {case.get("name")}'
        skip = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            failed += 1
            print("FAILED", name)
        elif skip is not None or case.get("result") == "skipped":
            out = said.get((case.get("name") or "").split(" / ")[-1], "")
            reason = (skip.get("message") if skip is not None else None) or (out.strip().splitlines() or ["no reason given"])[-1]
            skipped.append((name, " ".join(reason.split())))
        else:
            passed += 1
for name, reason in skipped:
    print("skipped", name + ":", reason)
if code != 0 and failed == 0:
    failed = 1
    print("FAILED a test program ended badly (above)")
print(f"{passed} passed, {failed} failed" + (f", {len(skipped)} skipped" if skipped else ""))
sys.exit(1 if failed else 0)
