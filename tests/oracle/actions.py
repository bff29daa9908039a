"""What a route's action shows: the Location of a redirect, the request that the origin sees. Written from Istio's HTTPRewrite and HTTPRedirect."""


def path_at_origin(outcome, match, target):
    """rewrite.uri replaces the matched prefix, or the whole path where the match is no prefix; without a match that is the prefix `/`."""
    uri = (outcome.route.get("rewrite") or {}).get("uri")
    if not uri:
        return target
    path, mark, query = target.partition("?")
    condition = (match or {}).get("uri") or {"prefix": "/"}
    rest = path[len(condition["prefix"]):] if "prefix" in condition else ""
    return uri + rest + mark + query


def host_at_origin(outcome, authority):
    return (outcome.route.get("rewrite") or {}).get("authority") or authority


def location(outcome, tls, authority, target):
    if outcome.kind == "redirect":  # a server's httpsRedirect
        return f"https://{authority}{target}"
    r = outcome.route["redirect"]
    path, mark, query = target.partition("?")
    return f"{'https' if tls else 'http'}://{r.get('authority', authority)}{r.get('uri', path)}{mark}{query}"
