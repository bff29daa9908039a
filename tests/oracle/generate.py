"""Directories of Istio YAML and requests near them, from a seed. Values come from small pools, patterns from the values, requests from both: a request aims at one
policy's rule and one route, then misses them by one attribute as often as not."""
import os
import random
import re

import yaml

from routing import narrower, wildcard_matches

NAMESPACE, APPS, ROOT = "edge", "shop", "istio-system"
LABELS = {"istio": "edgegateway", "team": "blue"}
HOSTS = ["api.example.com", "www.example.com", "shop.example.org", "a.b.example.com", "web.shop.io", "example.com", "pay.example.net"]
HOST_PATTERNS = ["*.example.com", "*.b.example.com", "*.example.org", "*.io", "*"]
PATHS = ["/", "/api", "/api/v1/items", "/api/v1/items/42", "/admin", "/admin/users", "/static/app.js", "/static/css/site.css", "/Admin", "/api/v2", "/health", "/a/b/c/d",
         "/foo//bar", "/items/x~y", "/items/a%2Fb", "/p;v=1/q", "/api/v1/items/"]
TEMPLATES = ["/api/{*}/items", "/api/v1/items/{*}", "/api/{**}", "/{*}/users", "/a/{*}/c/{**}", "/{**}", "/static/{**}/site.css", "/{*}", "/foo/{**}/bar", "/api/{*}/{*}/42"]
WILD = ["/", "/", "//", ".", "..", "/../", "/./", "%2e", "%2E%2e", "%2f", "%2F", "%5C", "\\", "a", "api", "%61", "%41", "%7e", "~", ";", "%3b", "%25", "%20", "|", "^", '"', "<", "`",
        "{", "}", "*", "=", "@", ":", "+", "%c3%A9", "%zz", "%g1", "%00", "%01", "!", "'", "(", "&"]
METHODS = ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"]
SPIFFE = "spiffe://"
PRINCIPALS = ["cluster.local/ns/shop/sa/client", "cluster.local/ns/shop/sa/admin", "cluster.local/ns/ops/sa/client", "cluster.local/ns/prod-eu/sa/web", "old.domain/ns/shop/sa/client",
              "cluster.local/ns/prod-us/sa/web-2", "partner.io/ns/prod-eu/sa/web", "cluster.local/ns/edge/sa/gateway", "cluster.local/ns/edge/sa/client",
              "cluster.local/ns/istio-system/sa/admin"]
HEADERS = {"x-tier": ["gold", "silver", "gold-plus", "old gold"], "x-team": ["blue", "red", "blue,red", "Blue"], "user-agent": ["curl/8.0", "Mozilla/5.0 (X11)", "curl/7.88"],
           "x-flag": ["1", "true", ""], "cookie": ["user=jason", "user=anna; theme=dark"]}
QUERIES = {"v": ["1", "2", "10", "1%20"], "debug": ["", "true"], "user": ["anna", "ann", "jason"]}
SOURCES = ["10.0.0.7", "10.0.1.7", "192.168.5.1", "192.168.5.200", "203.0.113.9", "172.16.0.1", "2001:db8::7", "2001:db8:1::7"]
BLOCKS = ["10.0.0.0/24", "10.0.0.0/16", "192.168.5.0/25", "192.168.5.200", "203.0.113.9", "172.16.0.0/12", "10.0.1.7/32", "10.0.0.7", "192.168.5.1/31", "2001:db8::/32", "2001:db8::7", "2001:db8:1::/48"]
OURS = ["10.10.0.1", "10.10.0.2", "10.20.0.1"]
OUR_BLOCKS = ["10.10.0.0/24", "10.10.0.1", "10.20.0.0/16", "10.10.0.2/32", "10.10.0.2/31", "10.20.0.1"]
INSIDE = {"10.0.0.0/24": "10.0.0.9", "10.0.0.0/16": "10.0.200.3", "192.168.5.0/25": "192.168.5.127", "172.16.0.0/12": "172.31.255.255", "2001:db8::/32": "2001:db8:ff::1",
          "2001:db8:1::/48": "2001:db8:1:2::3", "192.168.5.1/31": "192.168.5.0"}
CODES = [301, 302, 303, 307, 308]


class Case:
    def __init__(self, documents, mesh, deny_by_default):
        self.documents, self.mesh, self.deny_by_default = documents, mesh, deny_by_default

    def write(self, folder, rng):
        """As YAML files, several documents each, in an order that means nothing."""
        os.makedirs(folder)
        if self.mesh:
            dump([self.mesh], folder + ".mesh.yaml")
        documents = self.documents[:]
        rng.shuffle(documents)
        cut = rng.randint(1, len(documents))
        for name, part in (("a.yaml", documents[:cut]), ("b.yaml", documents[cut:])):
            if part:
                dump(part, os.path.join(folder, name))


def dump(documents, path):
    with open(path, "w") as f:
        yaml.dump_all(documents, f, Dumper=yaml.CSafeDumper, sort_keys=False, default_flow_style=None)


def some(rng, items, low, high):
    items = list(items)
    return rng.sample(items, min(len(items), rng.randint(low, high)))


class Generator:
    def __init__(self, seed):
        self.rng = random.Random(seed)
        self.serial = 0

    def chance(self, p):
        return self.rng.random() < p

    # ---- patterns of values

    def pattern(self, value):
        """value, a prefix* or a *suffix of it, or *."""
        r, n = self.rng.random(), len(value)
        if r < 0.4 or n < 2:
            return value if value else "*"
        if r < 0.65:
            return value[:self.rng.randint(max(1, n // 3), n)] + "*"
        if r < 0.9:
            return "*" + value[self.rng.randint(0, n - 1):]
        return "*"

    def patterns(self, values, low=1, high=3):
        return sorted({self.pattern(v) for v in some(self.rng, values, low, high)})

    # ---- policies

    def pair(self, fields, name, make, negative=0.35):
        """The field, its notField, or both."""
        no = "not" + name[0].upper() + name[1:]
        r = self.rng.random()
        if r >= negative or r < 0.08:
            fields[name] = make()
        if r < negative:
            fields[no] = make()

    def namespaces(self):
        return self.patterns(["shop", "ops", "prod-eu", "prod-us", "edge"], 2, 4)

    def source(self):
        s = {}
        for name, make, share in (("principals", lambda: self.patterns(PRINCIPALS), 0.4), ("namespaces", self.namespaces, 0.25),
                                  ("ipBlocks", lambda: some(self.rng, BLOCKS, 1, 4), 0.2), ("remoteIpBlocks", lambda: some(self.rng, BLOCKS, 1, 4), 0.2)):
            if self.chance(share):
                self.pair(s, name, make)
        if not ({"principals", "notPrincipals", "namespaces", "notNamespaces"} & set(s)) and self.chance(0.4):
            self.pair(s, "serviceAccounts", lambda: some(self.rng, ["client", "admin", "gateway", "shop/client", "ops/client", "prod-eu/web"], 2, 4), 0.6)
        return s or {"ipBlocks": some(self.rng, BLOCKS, 3, 6)}

    def paths(self):
        out = set(self.patterns(PATHS))
        if self.chance(0.4):
            out |= set(some(self.rng, TEMPLATES, 1, 2))
        return sorted(p for p in out if p == "*" or p[0] in "/*")

    def operation(self):
        o = {}
        for name, make, share in (("hosts", self.host_patterns, 0.3), ("ports", lambda: some(self.rng, ["80", "8080", "443", "9443", "9000", "9100", "8443"], 1, 2), 0.15),
                                  ("methods", lambda: self.patterns(METHODS, 1, 4), 0.4), ("paths", self.paths, 0.6)):
            if self.chance(share):
                self.pair(o, name, make)
        return o or {"paths": self.paths()}

    def host_patterns(self):
        return sorted({self.rng.choice((h, h.upper(), h.title())) for h in self.patterns(HOSTS + ["api.example.com:8080"])})

    def when(self):
        header = self.rng.choice(list(HEADERS))
        key, make = self.rng.choice([
            (f"request.headers[{header}]", lambda: self.patterns(HEADERS[header])), (f"request.headers[{header.title()}]", lambda: self.patterns(HEADERS[header])),
            ("source.ip", lambda: some(self.rng, BLOCKS, 1, 4)), ("remote.ip", lambda: some(self.rng, BLOCKS, 1, 4)), ("source.namespace", self.namespaces), ("source.namespace", self.namespaces), ("remote.ip", lambda: some(self.rng, BLOCKS, 1, 4)), ("source.ip", lambda: some(self.rng, BLOCKS, 1, 4)),
            ("source.principal", lambda: self.patterns(PRINCIPALS)), ("source.serviceAccount", lambda: some(self.rng, ["client", "shop/client", "ops/client", "prod-eu/web"], 1, 2)),
            ("destination.ip", lambda: some(self.rng, OUR_BLOCKS, 1, 2)), ("destination.port", lambda: some(self.rng, ["80", "8080", "443", "9000", "8443"], 1, 2)),
            ("connection.sni", lambda: self.patterns(HOSTS)), ("connection.sni", lambda: self.patterns(HOSTS, 2, 4)), ("connection.sni", lambda: self.patterns(HOSTS, 3, 5)), ("source.namespace", self.namespaces),
            ("source.principal", lambda: self.patterns(PRINCIPALS, 2, 4)), ("source.serviceAccount", lambda: some(self.rng, ["client", "admin", "gateway", "web"], 2, 4)),
            ("source.serviceAccount", lambda: some(self.rng, ["client", "admin", "gateway", "web"], 2, 4)),
            ("source.serviceAccount", lambda: some(self.rng, ["client", "admin", "shop/admin", "shop/client", "ops/client", "prod-eu/web"], 2, 4)),
            ("source.principal", lambda: self.patterns(PRINCIPALS, 2, 4))])
        w = {"key": key}
        r = self.rng.random()
        if r > 0.45 or r < 0.1:
            w["values"] = make()
        if r <= 0.45:
            w["notValues"] = make()
        return w

    def rule(self):
        rule = {}
        if self.chance(0.6):
            rule["from"] = [{"source": self.source()} for _ in range(self.rng.randint(1, 2))]
        if self.chance(0.75):
            rule["to"] = [{"operation": self.operation()} for _ in range(self.rng.randint(1, 2))]
        if self.chance(0.55):
            rule["when"] = [self.when() for _ in range(self.rng.choice((1, 1, 2, 3)))]
        return rule

    def policy(self, action):
        self.serial += 1
        r = self.rng.random()
        meta = {"name": f"{self.rng.choice('pqz')}-{self.serial}", "namespace": NAMESPACE if r < 0.7 else ROOT if r < 0.95 else APPS}
        if self.chance(0.04):
            meta["annotations"] = {"istio.io/dry-run": "true"}
        spec = {}
        if self.chance(0.5):
            spec["selector"] = {"matchLabels": {"istio": "edgegateway"} if self.chance(0.8) else {"istio": "other"}}
        if action != "ALLOW" or self.chance(0.5):
            spec["action"] = action
        count = self.rng.choice((1, 1, 2, 2, 3)) if action != "ALLOW" else self.rng.choice((0, 1, 2, 3, 3, 4, 4))
        if count:
            rules = [self.rule() for _ in range(count)]
            spec["rules"] = [r for r in rules if action == "ALLOW" or r] or [{"when": [self.when()]}]
        return {"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy", "metadata": meta, "spec": spec}

    # ---- gateways and routes

    def gateways(self):
        out = []
        hosts = lambda: sorted(set(some(self.rng, HOSTS, 1, 3)) | ({self.rng.choice(HOST_PATTERNS)} if self.chance(0.7) else set()))
        offered = lambda: [self.rng.choice(("", "", "", "*/", f"{APPS}/", "./")) + h for h in hosts()]
        for n in range(self.rng.choice((1, 1, 2))):
            servers = []
            for number in (80, 8080):
                if number == 80 or self.chance(0.4):
                    servers.append({"port": {"number": number, "name": f"http-{number}-{n}", "protocol": "HTTP"}, "hosts": offered()})
            if n == 0 and self.chance(0.25):
                servers.append({"port": {"number": 81, "name": "to-https", "protocol": "HTTP"}, "hosts": hosts(), "tls": {"httpsRedirect": True}})
            if n == 0 and self.chance(0.85):
                servers += self.tls_servers(443)
            if n == 1 and self.chance(0.4):
                servers += self.tls_servers(9443)
            out.append({"apiVersion": "networking.istio.io/v1", "kind": "Gateway", "metadata": {"name": ("gw", "hz")[n], "namespace": NAMESPACE},
                        "spec": {"selector": {"istio": "edgegateway", "team": "blue"}, "servers": servers}})
        return out

    def tls_servers(self, number):
        names = self.rng.sample(HOSTS + HOST_PATTERNS, 5)
        out = []
        for k in range(self.rng.choice((1, 2, 2))):
            mode = self.rng.choice(("SIMPLE", "MUTUAL", "MUTUAL", "OPTIONAL_MUTUAL", "OPTIONAL_MUTUAL", "ISTIO_MUTUAL"))
            tls = {"mode": mode}
            if mode != "ISTIO_MUTUAL":
                tls |= {"serverCertificate": "/etc/pki/s.pem", "privateKey": "/etc/pki/k.pem"} | ({"caCertificates": "/etc/pki/ca.pem"} if "MUTUAL" in mode else {})
            out.append({"port": {"number": number, "name": f"https-{number}-{k}", "protocol": "HTTPS"}, "hosts": names[2 * k:2 * k + 2] + (names[4:] if k else []), "tls": tls})
        return out

    def string_match(self, values, regex=True):
        v = self.rng.choice([v for v in values if v] or ["x"])
        r = self.rng.random()
        if r < 0.4:
            return {"exact": v}
        if r < 0.7 or not regex:
            return {"prefix": v[:self.rng.randint(max(1, len(v) // 2), len(v))]}
        quoted = "".join("\\" + c if c in ".+*?()[]{}|^$\\" else c for c in v)
        half = self.rng.randint(1, len(v))
        head = "".join("\\" + c if c in ".+*?()[]{}|^$\\" else c for c in v[:half])
        return {"regex": self.rng.choice((quoted, head + ".*", ".*" + quoted, head + "[a-z0-9/._-]+", f"({quoted}|other)"))}

    def http_match(self, name):
        m = {"name": name} if self.chance(0.5) else {}
        r = self.rng.random()
        if r < 0.75:
            m["uri"] = self.string_match(PATHS)
            if self.rng.random() < 0.3:
                m["ignoreUriCase"] = True
                if self.chance(0.5):
                    m["uri"] = {k: v if k == "regex" else v.swapcase() for k, v in m["uri"].items()}
        if self.chance(0.2):
            m["method"] = self.string_match(METHODS)
        if self.chance(0.2):
            m["authority"] = self.string_match(HOSTS)
        if self.chance(0.15):
            m["scheme"] = self.rng.choice(({"exact": "http"}, {"exact": "https"}, {"prefix": "https"}, {"prefix": "https"}, {"prefix": "ht"}, {"regex": "https?"}, {"regex": ".*s"}))
        for field, share in (("headers", 0.25), ("withoutHeaders", 0.22)):
            if self.chance(share):
                m[field] = {h: {} if self.chance(0.25) else self.string_match(HEADERS[h]) for h in some(self.rng, HEADERS, 1, 2)}
                m[field] = {self.rng.choice((h, h.title())): v for h, v in m[field].items()}
        if self.chance(0.2):
            m["queryParams"] = {q: {} if self.chance(0.25) else self.string_match(QUERIES[q]) for q in some(self.rng, QUERIES, 1, 2)}
        if self.chance(0.25):
            m["port"] = self.rng.choice((80, 8080, 443))
        if self.chance(0.2):
            m["gateways"] = [self.rng.choice((f"{NAMESPACE}/gw", f"{NAMESPACE}/hz"))]
        return m if set(m) - {"name"} else m | {"uri": self.string_match(PATHS)}

    def destination(self):
        d = {"host": self.rng.choice(("web.shop.svc.cluster.local", "api.shop.svc.cluster.local", "two.shop.svc.cluster.local"))}
        if d["host"].startswith("two") or self.chance(0.5):
            d["port"] = {"number": self.rng.choice((8080, 9090)) if d["host"].startswith("two") else 8080}
        return d

    def http_route(self, name):
        out = {"name": name}
        if self.chance(0.85):
            out["match"] = [self.http_match(f"m{i}") for i in range(self.rng.choice((1, 1, 2, 3)))]
        r = self.rng.random()
        if r < 0.5:
            out["route"] = [{"destination": self.destination()}]
        elif r < 0.7:
            weights = self.rng.choice(([50, 50], [90, 10], [100, 0], [1, 2, 97]))
            out["route"] = [{"destination": self.destination(), "weight": w} for w in weights]
        elif r < 0.85:
            out["redirect"] = {"redirectCode": self.rng.choice(CODES)} if self.chance(0.7) else {}
            out["redirect"] |= self.rng.choice(({"uri": "/moved"}, {"authority": "new.example.com"}, {"uri": "/moved", "authority": "new.example.com"}))
        else:
            out["directResponse"] = {"status": self.rng.choice((200, 204, 418, 503))} | ({"body": {"string": "said"}} if self.chance(0.5) else {})
        if "route" in out and self.chance(0.3):
            out["rewrite"] = self.rng.choice(({"uri": "/new"}, {"authority": "inner.example"}, {"uri": "/", "authority": "inner.example"}))
        return out

    def add_bytes(self, gateways):
        """Servers that carry bytes, and the VirtualService that says where to."""
        servers = []
        if self.chance(0.2):
            servers.append({"port": {"number": 9000, "name": "tcp", "protocol": "TCP"}, "hosts": ["*"]})
        if self.chance(0.2):
            tls = {"mode": self.rng.choice(("SIMPLE", "MUTUAL", "OPTIONAL_MUTUAL")), "serverCertificate": "/etc/pki/s.pem", "privateKey": "/etc/pki/k.pem"}
            if tls["mode"] != "SIMPLE":
                tls["caCertificates"] = "/etc/pki/ca.pem"
            servers.append({"port": {"number": 9100, "name": "tls-tcp", "protocol": "TLS"}, "hosts": self.rng.choice((["*"], ["*.example.com", "web.shop.io"])), "tls": tls})
        if self.chance(0.2):
            servers.append({"port": {"number": 8443, "name": "pass", "protocol": "TLS"}, "hosts": ["*"], "tls": {"mode": "PASSTHROUGH"}})
        if not servers:
            return []
        gateways[0]["spec"]["servers"] += servers
        to = lambda: [{"destination": self.destination()}] if self.chance(0.6) else [{"destination": self.destination(), "weight": w} for w in (30, 70)]
        spec = {"hosts": ["*"], "gateways": [f"{NAMESPACE}/gw"], "tcp": [{"match": [{"port": 9000}], "route": to()}, {"match": [{"port": 9100}], "route": to()}]}
        if self.chance(0.5):
            spec["tcp"].append({"route": to()})
        names = self.rng.sample(HOSTS + HOST_PATTERNS[:4], 5)
        spec["tls"] = [{"match": [{"port": 8443, "sniHosts": names[:2]}, {"sniHosts": names[2:3]}], "route": to()}, {"match": [{"sniHosts": names[3:]}], "route": to()}]
        return [{"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": {"name": "bytes", "namespace": NAMESPACE, "creationTimestamp": "2026-01-01T00:00:09Z"},
                 "spec": spec}]

    def virtual_services(self, gateways):
        out = []
        for n in range(self.rng.choice((1, 2, 2, 3))):
            ns = self.rng.choice((NAMESPACE, APPS))
            names = [g["metadata"]["name"] for g in gateways]
            offered = [h.rpartition("/")[2] for g in gateways for s in g["spec"]["servers"] for h in s["hosts"]]
            near = [h for h in HOSTS if any(wildcard_matches(o, h) for o in offered)] or HOSTS
            wide = [self.rng.choice([o for o in offered if "*" in o] or HOST_PATTERNS) if self.chance(0.6) else self.rng.choice(HOST_PATTERNS)] if self.chance(0.5) else []
            hosts = wide + [h for h in set(some(self.rng, near, 1, 3) + some(self.rng, HOSTS, 0, 1)) if not wide or not wildcard_matches(wide[0], h)]  # overlapping ones are refused
            hosts.sort()
            routes = []
            for _ in range(self.rng.randint(1, 5)):
                self.serial += 1
                routes.append(self.http_route(f"r{self.serial}"))
            out.append({"apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
                        "metadata": {"name": f"vs-{n}", "namespace": ns, "creationTimestamp": f"2026-01-0{self.rng.randint(1, 3)}T00:00:0{n}Z"},
                        "spec": {"hosts": hosts, "gateways": [g if ns == NAMESPACE and self.chance(0.5) else f"{NAMESPACE}/{g}" for g in some(self.rng, names, 1, 2)], "http": routes}})
        return out

    def services(self):
        out = []
        for last, host, ports in ((2, "web", [8080]), (3, "api", [8080]), (4, "two", [8080, 9090])):
            out.append({"apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry", "metadata": {"name": host, "namespace": APPS},
                        "spec": {"hosts": [f"{host}.shop.svc.cluster.local"], "location": "MESH_INTERNAL", "resolution": "STATIC",
                                 "ports": [{"number": p, "name": f"http-{p}", "protocol": "HTTP"} for p in ports], "endpoints": [{"address": f"10.1.0.{last}"}]}})
        return out

    def case(self):
        gateways = self.gateways()
        policies = [self.policy("ALLOW") for _ in range(self.rng.choice((0, 1, 2, 3, 3)))] + [self.policy("DENY") for _ in range(self.rng.choice((0, 0, 1, 1, 2)))]
        policies += [self.policy("AUDIT")] if self.chance(0.1) else []
        mesh = {"trustDomain": "cluster.local", "trustDomainAliases": ["old.domain"]} if self.chance(0.2) else None
        virtuals = self.virtual_services(gateways)
        return Case(self.services() + gateways + virtuals + self.add_bytes(gateways) + policies, mesh, deny_by_default=self.chance(0.5))


# ---- requests

def inside(value, pool, rng):
    """A text that the pattern takes."""
    if value == "*":
        return rng.choice(pool)
    fits = [p for p in pool if (p.endswith(value[1:]) if value.startswith("*") else p.startswith(value.rstrip("*")))]
    if ("*" in value) and fits and rng.random() < 0.6:
        return rng.choice(fits)
    filler = rng.choice(("x", "zz", ""))
    return filler + value[1:] if value.startswith("*") else value[:-1] + filler if value.endswith("*") else value


def ip_inside(block):
    return INSIDE.get(block, block.split("/")[0])


def fill_template(template, rng):
    out = template
    while "{*}" in out:
        out = out.replace("{*}", rng.choice(("v1", "x", "items", "a.b")), 1)
    return out.replace("{**}", rng.choice(("", "x", "x/y", "v1/items", "css")))


class Requests:
    """Requests for one case. Attributes: port, tls, sni, host, path, query, method, headers, principal, source, ours."""

    def __init__(self, case, rng):
        self.case, self.rng = case, rng
        self.servers = [s for d in case.documents if d["kind"] == "Gateway" for s in d["spec"]["servers"]]
        self.virtuals = [d for d in case.documents if d["kind"] == "VirtualService" and "http" in d["spec"]]
        self.rules = [(d["spec"].get("action", "ALLOW"), d["metadata"]["namespace"], r) for d in case.documents if d["kind"] == "AuthorizationPolicy"
                      for r in d["spec"].get("rules", []) if r]

    def next(self):
        rng = self.rng
        a = {"method": rng.choice(METHODS), "path": rng.choice(PATHS), "headers": {}, "query": {}, "principal": rng.choice(PRINCIPALS + ["", ""]), "source": rng.choice(SOURCES),
             "ours": rng.choice(OURS), "host": rng.choice(HOSTS)}
        server = rng.choice(self.servers)
        self.reach(a, server)
        served = [v for v in self.virtuals if any(narrower(o.rpartition("/")[2], h) for o in server["hosts"] for h in v["spec"]["hosts"])]
        if served and rng.random() < 0.9:
            virtual = rng.choice(served)
            a["host"] = self.name_in(rng.choice([n for o in server["hosts"] for h in virtual["spec"]["hosts"] if (n := narrower(o.rpartition("/")[2], h))]))
            if a["tls"]:
                a["sni"] = a["host"]
            self.aim_at_route(a, virtual)
        for h in HEADERS:
            if rng.random() < 0.25:
                a["headers"].setdefault(h, rng.choice(HEADERS[h]))
        for q in QUERIES:
            if rng.random() < 0.2:
                a["query"].setdefault(q, rng.choice(QUERIES[q]))
        allows = [r for r in self.rules if r[0] == "ALLOW"]
        if self.rules and rng.random() < 0.85:
            self.aim_at_rule(a, rng.choice(allows if allows and rng.random() < 0.75 else self.rules))
        if rng.random() < 0.25:
            self.miss(a)
        return self.question(a)

    def reach(self, a, server):
        a["port"] = server["port"]["number"]
        a["tls"] = server["port"]["protocol"] in ("HTTPS", "TLS") or (server["port"]["protocol"] == "TCP" and self.rng.random() < 0.3)
        pattern = self.rng.choice(server["hosts"]).rpartition("/")[2]
        a["host"] = self.name_in(pattern)
        a["sni"] = a["host"] if a["tls"] else None
        a["mode"] = server.get("tls", {}).get("mode")

    def name_in(self, pattern):
        return self.rng.choice(("x", "api", "q.w")) + pattern[1:] if pattern.startswith("*.") else self.rng.choice(HOSTS) if pattern == "*" else pattern

    def aim_at_route(self, a, virtual):
        rng = self.rng
        match = rng.choice(rng.choice(virtual["spec"]["http"]).get("match") or [{}])
        taken = lambda m, pool: [v for v in pool if re.fullmatch(m["regex"], v)] or pool if "regex" in m else pool
        text = lambda m, pool: m.get("exact") or (m["prefix"] + rng.choice(("", "x", "/x")) if "prefix" in m else rng.choice(taken(m, pool)))
        if "uri" in match:
            a["path"] = text(match["uri"], PATHS)
            if match.get("ignoreUriCase") and rng.random() < 0.5:
                a["path"] = a["path"].swapcase()
        if "method" in match:
            a["method"] = match["method"].get("exact") or rng.choice(METHODS)
        if "authority" in match and rng.random() < 0.7:
            wanted = text(match["authority"], HOSTS).replace("/", "")
            if any(wildcard_matches(h, wanted) for h in virtual["spec"]["hosts"]):
                a["host"] = wanted
        for h, m in match.get("headers", {}).items():
            a["headers"][h.lower()] = text(m, HEADERS[h.lower()])
        for h, m in match.get("withoutHeaders", {}).items():
            if rng.random() < 0.5:
                a["headers"][h.lower()] = text(m, HEADERS[h.lower()])
        for q, m in match.get("queryParams", {}).items():
            a["query"][q] = text(m, QUERIES[q])

    def aim_at_rule(self, a, rule):
        _, namespace, rule = rule
        rng = self.rng
        if rule.get("from"):
            self.aim_at_source(a, rng.choice(rule["from"])["source"], namespace)
        if rule.get("to"):
            self.aim_at_operation(a, rng.choice(rule["to"])["operation"])
        for w in rule.get("when", []):
            # Now and then a value that is excluded.
            values = w.get("values") if "values" in w and rng.random() < 0.8 else w.get("notValues") if rng.random() < 0.6 else None
            if values:
                self.aim_at_condition(a, w["key"], rng.choice(values), namespace)

    def one(self, fields, name):
        values = fields.get(name)
        if self.rng.random() < (0.5 if values is None else 0.15):
            values = fields.get("not" + name[0].upper() + name[1:], values)
        return self.rng.choice(values) if values else None

    def aim_at_source(self, a, s, namespace):
        for name, key in (("principals", "source.principal"), ("namespaces", "source.namespace"), ("serviceAccounts", "source.serviceAccount"), ("ipBlocks", "source.ip"),
                          ("remoteIpBlocks", "remote.ip")):
            if v := self.one(s, name):
                self.aim_at_condition(a, key, v, namespace)

    def aim_at_operation(self, a, o):
        rng = self.rng
        if v := self.one(o, "hosts"):
            a["host"] = inside(v, HOSTS, rng)
            if a["tls"] and rng.random() < 0.8:
                a["sni"] = a["host"].partition(":")[0].lower().lstrip(".")
        if v := self.one(o, "methods"):
            fits = [m for m in METHODS if v == "*" or (m.startswith(v[:-1]) if v.endswith("*") else m.endswith(v.lstrip("*")))]
            a["method"] = rng.choice(fits or METHODS)
        if v := self.one(o, "paths"):
            a["path"] = fill_template(v, rng) if "{" in v else inside(v, PATHS, rng)
            a["path"] = a["path"] if a["path"].startswith("/") else "/" + a["path"]
        if v := self.one(o, "ports"):
            self.to_port(a, int(v))

    def to_port(self, a, port):
        fits = [s for s in self.servers if s["port"]["number"] == port]
        if fits:
            host, path = a["host"], a["path"]
            self.reach(a, self.rng.choice(fits))
            a["path"] = path
            if not a["tls"]:
                a["host"] = host

    def aim_at_condition(self, a, key, v, namespace):
        rng = self.rng
        if key.startswith("request.headers["):
            name = key[len("request.headers["):-1].lower()
            a["headers"][name] = inside(v, HEADERS[name], rng)
        elif key in ("source.ip", "remote.ip"):
            a["source"] = ip_inside(v)
        elif key == "destination.ip":
            a["ours"] = rng.choice([o for o in OURS if o.startswith(v.split("/")[0][:5])] or OURS)
        elif key == "destination.port":
            self.to_port(a, int(v))
        elif key == "connection.sni":
            if not a["tls"] and (secure := [s for s in self.servers if s["port"]["protocol"] == "HTTPS"]) and rng.random() < 0.5:
                self.to_port(a, rng.choice(secure)["port"]["number"])
            if a["tls"]:
                a["sni"] = inside(v, HOSTS, rng).lower().lstrip(".")
        else:
            self.become(a, key, v, namespace if namespace == NAMESPACE or rng.random() < 0.5 else NAMESPACE)

    def become(self, a, key, v, namespace):
        rng = self.rng
        if key == "source.principal":
            wanted = inside(v, PRINCIPALS, rng)
            wanted = "zz" + wanted if wanted.startswith("/") else wanted  # no identity is without a trust domain
            a["principal"] = wanted if wanted.count("/") == 4 else rng.choice([p for p in PRINCIPALS if p.endswith(v.strip("*")) or p.startswith(v.strip("*"))] or PRINCIPALS)
        elif key == "source.namespace":
            a["principal"] = f"cluster.local/ns/{inside(v, ['shop', 'ops', 'prod-eu', 'prod-us'], rng) or 'shop'}/sa/{rng.choice(('client', 'web'))}"
        else:
            ns, _, name = v.rpartition("/")
            a["principal"] = f"cluster.local/ns/{ns or namespace}/sa/{name}"

    def miss(self, a):
        """One attribute becomes another one, or almost another one."""
        rng = self.rng
        what = rng.choice(("method", "path", "path", "principal", "source", "host", "headers", "sni", "ours", "query"))
        if what == "method":
            a["method"] = rng.choice(METHODS)
        elif what == "path":
            a["path"] = rng.choice((rng.choice(PATHS), a["path"] + "x", a["path"][:-1] or "/", a["path"].swapcase(), a["path"] + "/", a["path"] + "%2e"))
        elif what == "principal":
            a["principal"] = rng.choice((rng.choice(PRINCIPALS), "", a["principal"] + "x" if a["principal"] else ""))
        elif what == "source":
            a["source"] = rng.choice(SOURCES + ["10.0.0.8", "192.168.5.128", "172.32.0.1", "192.168.5.2", "2001:db9::7"])
        elif what == "host":
            a["host"] = rng.choice((rng.choice(HOSTS), "x" + a["host"], a["host"][1:] or "x", "unknown.invalid"))
        elif what == "headers" and a["headers"]:
            name = rng.choice(list(a["headers"]))
            v = a["headers"].pop(name)
            if rng.random() < 0.6:
                a["headers"][name] = rng.choice((v + "x", v[:-1], v.swapcase(), rng.choice(HEADERS[name])))
        elif what == "sni" and a["tls"]:
            a["sni"] = rng.choice((rng.choice(HOSTS), "unknown.invalid", ""))
        elif what == "ours":
            a["ours"] = rng.choice(OURS)
        elif what == "query":
            a["query"] = {}

    # ---- as it is written

    def question(self, a):
        rng = self.rng
        if a["tls"] and not a["sni"] and rng.random() < 0.9:
            a["sni"] = a["host"].lower()
        if a["mode"] in ("MUTUAL", "ISTIO_MUTUAL") and not a["principal"] and rng.random() < 0.9:
            a["principal"] = rng.choice(PRINCIPALS)
        headers = [(rng.choice((k, k.title(), k.upper())), v) for k, v in a["headers"].items()]
        for name in list(a["headers"]):
            if rng.random() < 0.04 and name != "cookie":
                headers.append((name, rng.choice(HEADERS[name])))
        rng.shuffle(headers)
        if rng.random() < 0.1:
            headers.append(("X-Forwarded-For", rng.choice(SOURCES)))  # nobody's word but the connection's counts
        host, port = a["host"].partition(":")[0] or "x", a["port"]
        if rng.random() < 0.1:
            host = rng.choice((host.upper(), host.title()))
        authority = f"{host}:{port}" if rng.random() < (0.1 if port in (80, 443) else 0.7) else host
        return {"method": a["method"], "tls": a["tls"], "port": port, "authority": authority, "target": self.spelled(a["path"]) + self.query(a["query"]), "headers": headers,
                "principal": SPIFFE + a["principal"] if a["principal"] else "", "sni": a["sni"] if a["tls"] else None, "from": a["source"], "to": a["ours"]}

    def query(self, query):
        pairs = [f"{k}={v}" if v or self.rng.random() < 0.5 else k for k, v in query.items()]
        if pairs and self.rng.random() < 0.1:
            pairs.append(pairs[0] + "x")
        return "?" + "&".join(pairs) if pairs else "?" if self.rng.random() < 0.02 else ""

    def spelled(self, path):
        """The same path in other letters, or one that only looks the same."""
        rng = self.rng
        if rng.random() < 0.05:
            return "/" + "".join(rng.choice(WILD) for _ in range(rng.randint(1, 8)))
        if rng.random() >= 0.3:
            return path
        at = rng.choice([i for i, c in enumerate(path) if c == "/"])
        letters = [i for i, c in enumerate(path) if c.isalnum() and path[max(0, i - 2):i].count("%") == 0]
        way = rng.randrange(10)
        if way == 0:
            return path[:at] + "/." + path[at:]
        if way == 1:
            return path[:at] + "/zz/.." + path[at:]
        if way == 2:
            return path[:at] + "/zz/%2e%2E" + path[at:]
        if way == 3:
            return path[:at] + "/" + path[at:]
        if way == 4:
            return path[:at] + rng.choice(("%2F", "%2f")) + path[at + 1:] if at else path
        if way == 5:
            return path[:at] + "\\" + path[at + 1:] if at else path
        if way == 6 and letters:
            i = rng.choice(letters)
            return path[:i] + f"%{ord(path[i]):02{rng.choice('xX')}}" + path[i + 1:]
        if way == 7:
            return path + rng.choice(("/..", "/.", "/../", "/%2E", "/x/../..", "%00", "/..;/", "|", "^", "%5C..", "%20"))
        if way == 8:
            return path[:at] + "/zz//.." + path[at:]
        return path.replace("/", "/./", 1)
