"""A literal interpreter of Gateway and VirtualService, written from Istio's reference: which server takes a request, which of its VirtualServices' hosts, which of
their routes (the first that matches), and what comes of it."""
import re
from functools import lru_cache

from message import first_parameter, host_of, without_query

KINDS = ("exact", "prefix", "regex")


@lru_cache(None)
def regex(text):
    return re.compile(text)


def wildcard_matches(pattern, name):
    return pattern == "*" or pattern == name or (pattern.startswith("*.") and len(name) > len(pattern) - 1 and name.endswith(pattern[1:]))


def best(patterns, name):
    """The exact one, else the longest that matches."""
    fits = [p for p in patterns if wildcard_matches(p, name)]
    return name if name in fits else max(fits, key=len) if fits else None


def narrower(a, b):
    """The names that both patterns have, as a pattern; None if there are none."""
    if a == b or b == "*" or (b.startswith("*") and a.lstrip("*").endswith(b[1:]) and len(a) >= len(b)):
        return a
    if a == "*" or (a.startswith("*") and b.lstrip("*").endswith(a[1:]) and len(b) >= len(a)):
        return b
    return None


def whole(server):
    """istiod: a server of */* is one of * and nothing else."""
    return server | {"hosts": ["*"]} if "*/*" in server["hosts"] else server


class Request:
    def __init__(self, *, port, tls, sni, authority, target, method, headers):
        self.port, self.tls, self.sni, self.authority, self.target, self.method, self.headers = port, tls, sni, authority, target, method, headers


class Outcome:
    """kind: closed, redirect (to https), none (404), route. For a route: its name, its VirtualService and what it does."""

    def __init__(self, kind, why="", route=None, match=None, name="", source=""):
        self.kind, self.why, self.route, self.match, self.name, self.source = kind, why, route, match, name, source


class Routes:
    def __init__(self, documents, hit):
        self.hit = hit
        self.servers = []  # (gateway "ns/name", server)
        for d in sorted(documents, key=lambda d: (d["metadata"]["namespace"], d["metadata"]["name"])):  # none has a creation time
            if d["kind"] == "Gateway":
                self.servers += [(f"{d['metadata']['namespace']}/{d['metadata']['name']}", whole(s)) for s in d["spec"]["servers"]]
        self.services = [d for d in documents if d["kind"] == "ServiceEntry"]
        self.virtuals = sorted((d for d in documents if d["kind"] == "VirtualService"),
                               key=lambda d: (d["metadata"]["creationTimestamp"], d["metadata"]["namespace"], d["metadata"]["name"]))
        self.tables = {}

    # ---- connection

    def ports(self):
        return {s["port"]["number"]: "tls" in s and not s["tls"].get("httpsRedirect") for _, s in self.servers}

    def server(self, port, sni):
        """Of a TLS port the server whose hosts fit the name asked for; None: no such."""
        mine = [(g, s) for g, s in self.servers if s["port"]["number"] == port]
        names = {}
        for g, s in mine:
            own = [h.rpartition("/")[2] for h in s["hosts"]]
            for h in ["*"] if "*" in own else own:  # istiod: a server of "*" is a server of nothing else
                names.setdefault(h, (g, s))
        found = best(names, sni) if sni else "*" if "*" in names else None
        return names[found] if found else None

    def bytes_of(self, port, sni):
        """Of a port that carries bytes: (its TLS server or None, the VirtualService, its route); "closed" without one for that name; None: the port speaks HTTP."""
        mine = [(g, s) for g, s in self.servers if s["port"]["number"] == port and s["port"]["protocol"] in ("TCP", "TLS")]
        if not mine:
            return None
        gateway, server = mine[0]
        if server["port"]["protocol"] == "TCP":
            return (None, *self.bytes_route(gateway, port))
        if server["tls"]["mode"] != "PASSTHROUGH":
            found = self.server(port, sni)
            return (found[1], *self.bytes_route(found[0], port)) if found else "closed"
        names = {}
        for v in self.virtuals:
            for route in v["spec"].get("tls", []):
                for match in route["match"]:
                    if match.get("port", port) == port and gateway in v["spec"]["gateways"]:
                        for h in match["sniHosts"]:
                            names.setdefault(h, (None, v, route))
        found = best(names, sni) if sni else "*" if "*" in names else None
        return names[found] if found else "closed"

    def sees_names(self, port):
        """Whether the gateway looks for a server name: where one of the port's servers has TLS."""
        return any(s["port"]["number"] == port and "tls" in s for _, s in self.servers)

    def bytes_route(self, gateway, port):
        for v in self.virtuals:
            for route in v["spec"].get("tcp", []):
                if gateway in v["spec"]["gateways"] and any(m.get("port", port) == port for m in route.get("match") or [{}]):
                    return v, route
        return None

    def route(self, r):
        if r.tls:
            found = self.server(r.port, r.sni)
            if found is None:
                return Outcome("closed", "filter_chain_not_found")
            servers, table = [found], (r.port, id(found[1]))
        else:
            servers, table = [(g, s) for g, s in self.servers if s["port"]["number"] == r.port], (r.port, None)
        if table not in self.tables:
            self.tables[table] = self.hosts_of(servers)
        hosts, redirected = self.tables[table]
        host = best(hosts, host_of(r.authority))
        if host is None:
            return Outcome("none")
        kind = "redirect" if host in redirected else "route"
        for name, source, route, match, port in hosts[host]:
            if match is None or self.matches(match, r, port):
                return Outcome(kind, route=route, match=match, name=name, source=source)
        return Outcome("none" if kind == "route" else kind)

    # ---- hosts and their routes, in order

    def hosts_of(self, servers):
        hosts, redirected = {}, set()
        for gateway, s in servers:
            to_https = s.get("tls", {}).get("httpsRedirect", False)
            seen = set()
            for v in self.virtuals:
                ns = v["metadata"]["namespace"]
                if gateway not in [g if "/" in g else f"{ns}/{g}" for g in v["spec"]["gateways"]]:
                    continue
                for own in v["spec"]["hosts"]:
                    for offered in s["hosts"]:
                        where, slash, pattern = offered.rpartition("/")
                        if slash and where != "*" and ns != (gateway.split("/")[0] if where == "." else where):
                            continue
                        both = narrower(own, pattern)
                        if both is None or (both, id(v)) in seen:
                            continue
                        routes = self.routes_of(v, gateway, s)
                        if not routes:
                            continue
                        seen.add((both, id(v)))
                        hosts.setdefault(both.lower(), []).extend(routes)
                        if to_https:
                            redirected.add(both.lower())
            if to_https:
                for h in s["hosts"]:
                    hosts.setdefault(h, [])
                    redirected.add(h)
        # Several VirtualServices of one host: the oldest first, what matches everything behind the rest.
        for routes in hosts.values():
            routes.sort(key=lambda entry: catches_all(entry[3]))
        return hosts, redirected

    def routes_of(self, v, gateway, server):
        out = []
        ns, port = v["metadata"]["namespace"], server["port"]["number"]
        source = f"{ns}/{v['metadata']['name']}"
        for route in v["spec"].get("http", []):
            for match in route.get("match") or [None]:
                name = route["name"]
                if match is not None:
                    if "port" in match:
                        if not self.hit("match port", match["port"] == port):
                            continue
                    if "gateways" in match:
                        if not self.hit("match gateways", gateway in [g if "/" in g else f"{ns}/{g}" for g in match["gateways"]]):
                            continue
                    if "name" in match:
                        name += "." + match["name"]
                out.append((name, source, route, match, port))
                if catches_all(match):
                    return out  # nothing behind it is reached
        return out

    # ---- one match

    def matches(self, m, r, port):
        """All conditions; each is asked."""
        path, good = without_query(r.target), []
        if "uri" in m:
            good.append(self.text("uri", m["uri"], path, m.get("ignoreUriCase", False)))
        for name, value in (("method", r.method), ("authority", r.authority), ("scheme", "https" if r.tls else "http")):
            if name in m:
                good.append(self.text(name, m[name], value))
        for name, condition in (m.get("headers") or {}).items():
            good.append(self.text("headers", condition, r.headers.get(name.lower())))
        for name, condition in (m.get("withoutHeaders") or {}).items():
            good.append(not self.text("withoutHeaders", condition, r.headers.get(name.lower())))
        for name, condition in (m.get("queryParams") or {}).items():
            good.append(self.text("queryParams", condition, first_parameter(r.target, name)))
        return all(good)

    def text(self, field, condition, text, ignore_case=False):
        kind = next((k for k in KINDS if k in (condition or {})), "presence")
        if text is None:
            out = False
        elif kind == "presence":
            out = True
        elif kind == "regex":
            out = regex(condition["regex"]).fullmatch(text) is not None
        else:
            wanted = condition[kind]
            if ignore_case:
                wanted, text = wanted.lower(), text.lower()
            out = text == wanted if kind == "exact" else text.startswith(wanted)
        return self.hit(f"match {field} {kind}" + (" ignoreUriCase" if ignore_case else ""), out)

    # ---- where it goes

    def clusters(self, outcome, port):
        """Cluster -> weight."""
        destinations, out = outcome.route["route"], {}
        for d in destinations:
            weight = 1 if len(destinations) == 1 else d.get("weight", 0)
            if weight == 0:
                continue
            to, ns = d["destination"], outcome.source.split("/")[0]
            host = to["host"] if "." in to["host"] else f"{to['host']}.{ns}.svc.cluster.local"
            number = to["port"]["number"] if "port" in to else self.only_port(host, port)
            name = f"outbound|{number}|{to.get('subset', '')}|{host}"
            out[name] = out.get(name, 0) + weight
        return out

    def only_port(self, host, listener_port):
        for s in self.services:
            if host in s["spec"]["hosts"] and len(s["spec"]["ports"]) == 1:
                return s["spec"]["ports"][0]["number"]
        return listener_port


def catches_all(match):
    if match is None:
        return True
    if any(match.get(f) for f in ("headers", "withoutHeaders", "queryParams", "method", "authority", "scheme")):
        return False
    uri = match.get("uri")
    return uri is None or uri.get("prefix") == "/" or uri.get("regex") == ".*"
