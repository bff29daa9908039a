#!/usr/bin/env python3
"""golden_test.py SLUICE_CONTROL: translates istiod's recorded inputs and compares with istiod's own answers, field by field. The golden data stands beside the
project (SLUICE_GOLDEN); without it the test is skipped."""
import os
import subprocess
import sys
import tempfile

REQUIRED = ["01-http", "02-tls-simple", "03-tls-mutual", "04-tls-optional-mutual", "05-tls-istio-mutual", "06-https-redirect", "07-passthrough",
            "08-auto-passthrough", "09-tcp", "10-canary", "11-matches", "22-authz-default-deny", "23-authz-sources", "26-hosts-merge"]
root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
golden = os.path.join(os.environ.get("SLUICE_GOLDEN") or os.path.join(os.path.dirname(root), "shared", "golden"), "istiod")
differ = os.path.join(os.path.dirname(os.path.dirname(golden)), "tools", "golden_diff.py")
if not os.path.isdir(golden) or not os.path.exists(differ):
    print(f"{golden} is not there (SLUICE_GOLDEN)")
    sys.exit(77)


def first_of(*paths):
    return next(p for p in paths if os.path.exists(p))


failed = 0
for name in sorted(n for n in os.listdir(golden) if os.path.isdir(os.path.join(golden, n))):
    folder = os.path.join(golden, name)
    with tempfile.TemporaryDirectory() as out:
        made = subprocess.run([sys.argv[1], "translate", "-d", os.path.join(folder, "in.yaml"), "--mesh", first_of(os.path.join(folder, "mesh.yaml"), os.path.join(golden, "mesh.yaml")),
                               "--node", first_of(os.path.join(folder, "node.json"), os.path.join(golden, "node.json")), "--out", out, "--authorization-default", "allow"],
                              capture_output=True, text=True)
        if made.returncode != 0:
            print(f"{name}: refused: {made.stderr.splitlines()[0] if made.stderr else made.returncode}")
            failed += name in REQUIRED
            continue
        compared = subprocess.run([sys.executable, differ, folder, out], capture_output=True, text=True)
        print(f"{name}: {compared.stdout.splitlines()[-1]}")
        if compared.returncode != 0 and name in REQUIRED:
            print(compared.stdout)
            failed += 1
print(f"{len(REQUIRED) - failed} of {len(REQUIRED)} inputs without a difference")
sys.exit(1 if failed else 0)
