"""Questions to the product, all at once: its own reader of YAML, translation, compiler and matchers, through tests/oracle/batch.cc."""
import json
import subprocess


def line_of(q):
    """A question as `sluicectl explain` takes it."""
    host, colon, port = q["authority"].partition(":")
    says_port = (int(port) if colon else 443 if q["tls"] else 80) == q["port"]
    authority = q["authority"] if says_port else f"{host}:{q['port']}"
    words = [f"method {q['method']}", f"url {'https' if q['tls'] else 'http'}://{authority}{q['target']}", f"from {q['from']}", f"to {q['to']}"]
    words += [f"header {name}: {value}" for name, value in q["headers"]] + ([] if says_port else [f"header Host: {q['authority']}"])
    if q["principal"]:
        words.append(f"principal {q['principal']}")
    if q["sni"] is not None:
        words.append(f"sni {q['sni']}")
    return "\t".join(words)


def run(program, commands_path, answers_path):
    with open(commands_path) as commands, open(answers_path, "w") as answers:
        subprocess.run([program], stdin=commands, stdout=answers, check=True)


def answers(path):
    with open(path) as f:
        for line in f:
            yield json.loads(line)


def path(a, q):
    """The request target as rules and origin see it; None where it is not said."""
    return None if a.get("status") in (0, 400) and not a.get("clusters") else a.get("path") or q["target"]


def outcome(a):
    """An answer in the words of judge.py."""
    if "error" in a:
        return ("error", a["error"])
    if a["status"] == 0 and not a["clusters"]:
        if a["details"].startswith("rbac_access_denied: "):
            return ("closed", a["details"])
        return ("closed", next((w for w in ("no listener", "filter_chain_not_found", "refused in the handshake") if w in a["details"]), a["details"]))
    rule = a["verdict"].partition("ALLOW ns[")[2]
    rest = ("ns[" + rule if rule else None, a["route"].split("'")[1] if "'" in a["route"] else "", a["source"].strip("/"))
    if a["status"] == 0:
        clusters = {}
        for name, weight in a["clusters"]:
            clusters[name] = clusters.get(name, 0) + weight
        return ("to", tuple(sorted(clusters.items())), *rest)
    if a["status"] == 403:
        return ("403", a["details"], *rest[1:])
    if a["details"].startswith("to https"):
        return (str(a["status"]), "to https")
    if a["details"] in ("redirect", "direct_response"):
        return (str(a["status"]), a["details"], *rest)
    return (str(a["status"]), a["details"])
