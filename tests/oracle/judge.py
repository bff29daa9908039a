"""The whole verdict of the oracle, in the order of a gateway: connection, path, policies, route. An outcome is a tuple of text, so that two are compared by ==."""
from authz import Facts, Identity, Mesh, Policies
from message import Refused, headers_of, normalize, without_query
from routing import Outcome, Request, Routes

ASKS_FOR_CERTIFICATE = ("MUTUAL", "OPTIONAL_MUTUAL", "ISTIO_MUTUAL")
WANTS_CERTIFICATE = ("MUTUAL", "ISTIO_MUTUAL")


class Judge:
    def __init__(self, documents, mesh, namespace, labels, deny_by_default, hit=lambda name, outcome: outcome):
        self.policies = Policies(documents, namespace, labels, Mesh(mesh), deny_by_default, hit)
        self.routes = Routes(documents, hit)

    def outcome(self, q):
        """("closed", why) | ("403", details, route, VirtualService) | (status, details) | ("to", clusters, ALLOW rule, route, VirtualService)"""
        return self.whole(q)[0]

    def connection(self, q, carried, sni):
        if carried == "closed":
            return ("closed", "filter_chain_not_found")
        server, virtual, route = carried
        mode = server["tls"]["mode"] if server else None
        principal = q["principal"] if mode in ASKS_FOR_CERTIFICATE else ""
        if mode in WANTS_CERTIFICATE and not principal:
            return ("closed", "refused in the handshake")
        if not self.routes.sees_names(q["port"]):
            sni = ""
        facts = Facts(tcp=True, identity=Identity(principal), source_ip=q["from"], remote_ip=q["from"], destination_ip=q["to"], port=q["port"], sni=sni)
        allowed, rule = self.policies.decide(facts)
        if not allowed:
            return ("closed", f"rbac_access_denied: {rule or ''}")
        source = f"{virtual['metadata']['namespace']}/{virtual['metadata']['name']}"
        clusters = self.routes.clusters(Outcome("route", route=route, source=source), q["port"])
        return ("to", tuple(sorted(clusters.items())), rule, "", "")

    def whole(self, q):
        """The outcome, and what the origin or the client sees of a route's action: a routing.Outcome and the normalized target."""
        if q["port"] not in self.routes.ports():
            return ("closed", "no listener"), None, None
        sni = q["sni"] or ""
        principal = q["principal"]
        carried = self.routes.bytes_of(q["port"], sni)
        if carried is not None:
            return self.connection(q, carried, sni), None, None
        if q["tls"]:
            found = self.routes.server(q["port"], sni)
            if found is None:
                return ("closed", "filter_chain_not_found"), None, None
            mode = found[1]["tls"]["mode"]
            if mode not in ASKS_FOR_CERTIFICATE:
                principal = ""
            if mode in WANTS_CERTIFICATE and not principal:
                return ("closed", "refused in the handshake"), None, None
        else:
            principal = ""
        try:
            target = normalize(q["target"])
        except Refused:
            return ("400", "path_normalization_failed"), None, None
        headers = headers_of(q["headers"])
        facts = Facts(identity=Identity(principal), source_ip=q["from"], remote_ip=q["from"], destination_ip=q["to"], port=q["port"], sni=sni, method=q["method"],
                      host=q["authority"], path=without_query(target), headers=headers)
        allowed, rule = self.policies.decide(facts)
        request = Request(port=q["port"], tls=q["tls"], sni=sni, authority=q["authority"], target=target, method=q["method"], headers=headers)
        r = self.routes.route(request)
        if not allowed:  # the route is known all the same
            return ("403", f"rbac_access_denied_matched_policy[{rule or 'none'}]", r.name, r.source), None, target
        if r.kind == "redirect":
            return ("301", "to https"), r, target
        if r.kind == "none":
            return ("404", "route_not_found"), r, target
        if "redirect" in r.route:
            return (str(r.route["redirect"].get("redirectCode", 301)), "redirect", rule, r.name, r.source), r, target
        if "directResponse" in r.route:
            return (str(r.route["directResponse"]["status"]), "direct_response", rule, r.name, r.source), r, target
        clusters = tuple(sorted(self.routes.clusters(r, q["port"]).items()))
        return ("to", clusters, rule, r.name, r.source), r, target
