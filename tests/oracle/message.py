"""What a gateway sees of a request: path normalization BASE (istiod's default), header values, host without port. Written from Istio's "Authorization policy
normalization", RFC 3986 and what Chromium's URL library (which Envoy uses for it) documents, not from the product."""
UNRESERVED = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~")
ESCAPED = frozenset('"<>^`{|} ')


class Refused(Exception):
    pass


def normalize(target):
    """The request target as rules, log and origin see it, with its query. BASE: dot segments go, `\\` is `/`, escapes of unreserved characters are decoded, characters
    that no path may have are escaped; %2F, %5C and `//` stay."""
    path, mark, query = target.partition("?")
    out, i = "", 0
    while i < len(path):
        c = path[i]
        if c == "%" and len(path) - i > 2 and all(h in "0123456789abcdefABCDEF" for h in path[i + 1:i + 3]):
            byte = int(path[i + 1:i + 3], 16)
            if byte == 0:
                raise Refused
            out += chr(byte) if chr(byte) in UNRESERVED else path[i:i + 3]
            i += 3
            continue
        out += "/" if c == "\\" else f"%{ord(c):02X}" if c in ESCAPED else c
        i += 1
    return without_dots(out) + mark + query


def without_dots(path):
    """RFC 3986 5.2.4, one segment after the other; an empty segment is one as well."""
    kept = []
    segments = path.split("/")[1:]
    for n, s in enumerate(segments):
        last = n == len(segments) - 1
        if s == "..":
            if kept:
                kept.pop()
            if last:
                kept.append("")
        elif s == ".":
            if last:
                kept.append("")
        else:
            kept.append(s)
    return "/" + "/".join(kept)


def without_query(target):
    return target.partition("?")[0]


def first_parameter(target, name):
    for pair in target.partition("?")[2].split("&"):
        key, _, value = pair.partition("=")
        if key == name and pair:
            return value
    return None


def headers_of(pairs):
    """Names in lower case; a repeated header is one value, joined by commas."""
    out = {}
    for name, value in pairs:
        name, value = name.lower(), value.strip(" \t")
        out[name] = out[name] + "," + value if name in out else value
    return out


def host_of(authority):
    host, colon, port = authority.rpartition(":")
    return (host if colon and port.isdigit() else authority).lower()
