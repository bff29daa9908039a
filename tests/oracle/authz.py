"""A literal interpreter of AuthorizationPolicy, written from Istio's reference (security.istio.io/v1) and nothing else of ours.

A request is denied if a DENY policy matches it, else allowed if there is no ALLOW policy (unless the mesh denies by default), else allowed only if an ALLOW policy
matches. A policy matches if one of its rules does; a rule if one of `from`, one of `to` and every `when` do. What a value means depends on nothing but its asterisks."""
import ipaddress
from functools import lru_cache

ROOT_NAMESPACE = "istio-system"


def kind_of(value):
    return "presence" if value == "*" else "suffix" if value.startswith("*") else "prefix" if value.endswith("*") else "exact"


def text_matches(value, text):
    """Exact, prefix*, *suffix, * (anything that is there). None: it is not there."""
    if text is None:
        return False
    if value == "*":
        return True
    if value.startswith("*"):
        return text.endswith(value[1:])
    if value.endswith("*"):
        return text.startswith(value[:-1])
    return text == value


def template_matches(template, path):
    """{*} is one segment that is not empty, {**} anything, also nothing; what stands around them is itself."""
    if "{**}" in template:
        head, tail = template.split("{**}")
        # Of the head every {*} stands alone between slashes, so its segments can be counted off.
        pieces = head.split("/")
        parts = path.split("/", len(pieces) - 1)
        if len(parts) < len(pieces) or not segments_match(pieces[:-1], parts[:-1]) or not parts[-1].startswith(pieces[-1]):
            return False
        rest = parts[-1][len(pieces[-1]):]
        return rest.endswith(tail)
    pieces, parts = template.split("/"), path.split("/")
    return len(pieces) == len(parts) and segments_match(pieces, parts)


def segments_match(pieces, parts):
    return all(part != "" if piece == "{*}" else part == piece for piece, part in zip(pieces, parts))


@lru_cache(None)
def network(block):
    return ipaddress.ip_network(block, strict=False)


@lru_cache(None)
def address(text):
    return ipaddress.ip_address(text)


@lru_cache(1 << 20)
def in_block(block, ip):
    return address(ip).version == network(block).version and address(ip) in network(block)


class Identity:
    """td/ns/NAMESPACE/sa/ACCOUNT of a peer's certificate; without one everything is None."""

    def __init__(self, spiffe):
        self.principal = spiffe[len("spiffe://"):] if spiffe else None
        parts = self.principal.split("/") if spiffe else []
        whole = len(parts) == 5 and parts[1] == "ns" and parts[3] == "sa"
        self.namespace, self.account = (parts[2], parts[4]) if whole else (None, None)


class Mesh:
    def __init__(self, config=None):
        config = config or {}
        self.domain = config.get("trustDomain", "cluster.local")
        self.aliases = config.get("trustDomainAliases", [])

    def names(self, principal):
        """With aliases, a principal of one of the mesh's domains is one of each of them; cluster.local is the mesh's own by any name. A domain may begin with an asterisk."""
        domain, slash, rest = principal.partition("/")
        own = [self.domain, *self.aliases]
        fits = lambda d: domain.startswith("*") and d.endswith(domain[1:])
        if principal.count("/") != 4 or not (domain == "cluster.local" or domain in own or any(fits(d) for d in own)):
            return [principal]
        return [principal if fits(d) else d + slash + rest for d in own]


class Facts:
    """What a policy can see of a request; of a connection that carries bytes nothing of HTTP (`tcp`)."""

    def __init__(self, *, identity, source_ip, remote_ip, destination_ip, port, sni, method=None, host=None, path=None, headers=None, tcp=False):
        self.tcp, self.identity, self.source_ip, self.remote_ip, self.destination_ip = tcp, identity, source_ip, remote_ip, destination_ip
        self.port, self.sni, self.method, self.host, self.path, self.headers = port, sni, method, host, path, headers


class Policies:
    """The policies of a gateway. `hit(operator, outcome)` is called for every value that is compared and gives the outcome that counts."""

    def __init__(self, documents, gateway_namespace, gateway_labels, mesh, deny_by_default, hit):
        self.mesh, self.deny_by_default, self.hit = mesh, deny_by_default, hit
        self.by_action = {"ALLOW": [], "DENY": []}
        for d in documents:
            if d["kind"] != "AuthorizationPolicy" or not self.selects(d, gateway_namespace, gateway_labels):
                continue
            spec, action = d.get("spec") or {}, (d.get("spec") or {}).get("action", "ALLOW")
            if d["metadata"].get("annotations", {}).get("istio.io/dry-run") == "true" or action == "AUDIT":
                continue
            self.by_action[action].append(d)

    @staticmethod
    def selects(d, namespace, labels):
        if d["metadata"]["namespace"] not in (namespace, ROOT_NAMESPACE):
            return False
        wanted = ((d.get("spec") or {}).get("selector") or {}).get("matchLabels") or {}
        return all(labels.get(k) == v for k, v in wanted.items())

    def decide(self, facts):
        """(allowed, the name of the rule that decided or None). Of several the first by name."""
        denied = self.matching("DENY", facts)
        allowed = self.matching("ALLOW", facts)
        if denied:
            return False, min(denied)
        if allowed:
            return True, min(allowed)
        return not self.by_action["ALLOW"] and not self.deny_by_default, None

    def matching(self, action, facts):
        out = []
        for d in self.by_action[action]:
            for i, rule in enumerate((d.get("spec") or {}).get("rules") or []):
                rule = rule or {}
                if facts.tcp and speaks_http(rule):
                    # Nothing of HTTP can be known: such a rule allows nothing, and a DENY rule means what is left of it, which is more.
                    if action == "ALLOW":
                        continue
                    rule = without_http(rule)
                if self.rule(rule, d["metadata"]["namespace"], facts):
                    out.append(f"ns[{d['metadata']['namespace']}]-policy[{d['metadata']['name']}]-rule[{i}]")
        return out

    def rule(self, rule, namespace, facts):
        # Everything is asked, so that what is counted does not depend on what stands before it.
        sources = [self.source(f["source"], namespace, facts) for f in rule.get("from") or []]
        operations = [self.operation(t["operation"], facts) for t in rule.get("to") or []]
        conditions = [self.condition(w, namespace, facts) for w in rule.get("when") or []]
        return (any(sources) or not sources) and (any(operations) or not operations) and all(conditions)

    def either(self, name, values, matches, kind=kind_of):
        """One of the values matches."""
        found = False
        for v in values:
            found |= self.hit(f"{name} {kind(v)}", matches(v))
        return found

    def field(self, name, fields, matches, kind=kind_of):
        """`name` and notName of a source or an operation: absent ones are no condition."""
        negative = "not" + name[0].upper() + name[1:]
        good = name not in fields or self.either(name, fields[name], matches, kind)
        return (negative not in fields or not self.either(negative, fields[negative], matches, kind)) and good

    def principal_matches(self, facts):
        return lambda v: any(text_matches(n, facts.identity.principal) for n in self.mesh.names(v))

    @staticmethod
    def account_matches(namespace, facts):
        def matches(v):
            ns, _, account = v.rpartition("/")
            return facts.identity.account == account and facts.identity.namespace == (ns or namespace)
        return matches

    def source(self, s, namespace, facts):
        who = facts.identity
        return all([self.field("principals", s, self.principal_matches(facts)),
                    self.field("namespaces", s, lambda v: text_matches(v, who.namespace)),
                    self.field("serviceAccounts", s, self.account_matches(namespace, facts), account_kind),
                    self.field("ipBlocks", s, lambda v: in_block(v, facts.source_ip), block_kind),
                    self.field("remoteIpBlocks", s, lambda v: in_block(v, facts.remote_ip), block_kind)])

    def operation(self, o, facts):
        return all([self.field("hosts", o, lambda v: text_matches(v.lower(), facts.host.lower())),
                    self.field("ports", o, lambda v: int(v) == facts.port),
                    self.field("methods", o, lambda v: text_matches(v, facts.method)),
                    self.field("paths", o, lambda v: path_matches(v, facts.path), path_kind)])

    def condition(self, w, namespace, facts):
        key = w["key"]
        kind = kind_of
        if key.startswith("request.headers["):
            value = facts.headers.get(key[len("request.headers["):-1].lower())
            key, matches = "request.headers", lambda v: text_matches(v, value)
        elif key in ("source.ip", "remote.ip", "destination.ip"):
            ip, kind = getattr(facts, key.replace(".", "_")), block_kind
            matches = lambda v: in_block(v, ip)
        elif key == "source.namespace":
            matches = lambda v: text_matches(v, facts.identity.namespace)
        elif key == "source.principal":
            matches = self.principal_matches(facts)
        elif key == "source.serviceAccount":
            matches, kind = self.account_matches(namespace, facts), account_kind
        elif key == "destination.port":
            matches = lambda v: int(v) == facts.port
        elif key == "connection.sni":
            matches = lambda v: text_matches(v, facts.sni or None)
        else:
            raise ValueError(f"the oracle does not know {key}")
        good = "values" not in w or self.either(f"when {key} values", w["values"], matches, kind)
        return ("notValues" not in w or not self.either(f"when {key} notValues", w["notValues"], matches, kind)) and good


HTTP_FIELDS = {"hosts", "notHosts", "methods", "notMethods", "paths", "notPaths"}


def speaks_http(rule):
    return any(HTTP_FIELDS & set(t["operation"]) for t in rule.get("to") or []) or any(w["key"].startswith("request.") for w in rule.get("when") or [])


def without_http(rule):
    return rule | {"to": [{"operation": {k: v for k, v in t["operation"].items() if k not in HTTP_FIELDS}} for t in rule.get("to") or []],
                   "when": [w for w in rule.get("when") or [] if not w["key"].startswith("request.")]}


def path_matches(value, path):
    return template_matches(value, path) if "{*}" in value or "{**}" in value else text_matches(value, path)


def path_kind(value):
    return "{**}" if "{**}" in value else "{*}" if "{*}" in value else kind_of(value)


def block_kind(value):
    return "CIDR" if "/" in value else "address"


def account_kind(value):
    return "namespace/name" if "/" in value else "name"
