#!/usr/bin/env python3
"""Fetches the xDS protos (npm package, pinned by its hash), generates C++ for the closure in use, and groups it into a few large sources.

    generate.py OUT      prints one source path per line: the message groups, then the gRPC stubs

Run by meson at configuration. Nothing is fetched twice (cache: $SLUICE_CACHE, else ~/.cache/sluice) and nothing is written when nothing changed,
so a second configuration costs no compilation. docs/design/003-protos.md says why so.
"""
import base64
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile

PACKAGE = "@grpc/grpc-js-xds@1.14.1"
INTEGRITY = "F2mVXwEeMWw1znPUrp+8ykjsIOVnf7Rv+EyIvXOfz73w5tNolCnzokpLkE/d2Ehx30PJmZXqCQdMpx8DcBJohA=="  # sha512
GROUPS = 8

# Fields newer than the package that istiod 1.29 sends: (file, the field, a line of it, what stands there then).
NEWER = (
    ("envoy/config/cluster/v3/cluster.proto", "dns_jitter", "lrs_report_endpoint_metrics = 57;", "lrs_report_endpoint_metrics = 57;\n  google.protobuf.Duration dns_jitter = 58;"),
    ("envoy/type/tracing/v3/custom_tag.proto", "string value = 6", "Metadata metadata = 5;", "Metadata metadata = 5;\n    string value = 6;"),
    ("envoy/config/trace/v3/zipkin.proto", "import \"envoy/config/core/v3/http_service", "import \"google/protobuf/wrappers.proto\";",
     "import \"google/protobuf/wrappers.proto\";\nimport \"envoy/config/core/v3/http_service.proto\";"),
    ("envoy/config/trace/v3/zipkin.proto", "collector_service = 9", "  bool split_spans_for_request = 7",
     "  enum TraceContextOption {\n    USE_B3 = 0;\n    USE_B3_WITH_W3C_PROPAGATION = 1;\n  }\n  TraceContextOption trace_context_option = 8;\n"
     "  core.v3.HttpService collector_service = 9;\n  bool split_spans_for_request = 7"),
)

# What we read or write. The rest of the closure follows from the imports.
ROOTS = """
envoy/service/discovery/v3/ads envoy/admin/v3/config_dump
envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy
envoy/extensions/filters/network/rbac/v3/rbac
envoy/extensions/filters/http/rbac/v3/rbac envoy/extensions/filters/http/jwt_authn/v3/config envoy/extensions/filters/http/ext_authz/v3/ext_authz
envoy/extensions/filters/http/fault/v3/fault envoy/extensions/filters/http/cors/v3/cors
envoy/extensions/filters/http/local_ratelimit/v3/local_rate_limit envoy/extensions/filters/http/grpc_stats/v3/config
envoy/extensions/filters/http/router/v3/router
envoy/extensions/filters/listener/tls_inspector/v3/tls_inspector envoy/extensions/filters/listener/proxy_protocol/v3/proxy_protocol
envoy/extensions/transport_sockets/tls/v3/tls envoy/extensions/transport_sockets/raw_buffer/v3/raw_buffer
envoy/extensions/upstreams/http/v3/http_protocol_options envoy/extensions/access_loggers/file/v3/file
envoy/extensions/access_loggers/filters/cel/v3/cel
envoy/extensions/request_id/uuid/v3/uuid envoy/extensions/retry/host/previous_hosts/v3/previous_hosts
envoy/extensions/path/match/uri_template/v3/uri_template_match envoy/extensions/network/dns_resolver/cares/v3/cares_dns_resolver
envoy/extensions/http/header_formatters/preserve_case/v3/preserve_case
envoy/extensions/load_balancing_policies/round_robin/v3/round_robin envoy/extensions/load_balancing_policies/least_request/v3/least_request
envoy/extensions/load_balancing_policies/ring_hash/v3/ring_hash envoy/extensions/load_balancing_policies/maglev/v3/maglev
envoy/extensions/load_balancing_policies/random/v3/random
udpa/type/v1/typed_struct xds/type/v3/typed_struct
envoy/extensions/retry/priority/previous_priorities/v3/previous_priorities_config envoy/extensions/filters/http/grpc_web/v3/grpc_web
envoy/extensions/filters/network/ext_authz/v3/ext_authz envoy/extensions/transport_sockets/proxy_protocol/v3/upstream_proxy_protocol
envoy/extensions/filters/http/lua/v3/lua envoy/extensions/filters/http/buffer/v3/buffer envoy/extensions/filters/http/ratelimit/v3/rate_limit
envoy/extensions/filters/http/header_to_metadata/v3/header_to_metadata envoy/extensions/filters/http/compressor/v3/compressor
envoy/extensions/compression/gzip/compressor/v3/gzip envoy/extensions/filters/http/csrf/v3/csrf
envoy/extensions/filters/http/header_mutation/v3/header_mutation envoy/extensions/filters/network/local_ratelimit/v3/local_rate_limit
envoy/extensions/filters/network/connection_limit/v3/connection_limit envoy/config/trace/v3/opentelemetry envoy/config/trace/v3/zipkin
envoy/config/trace/v3/skywalking envoy/config/trace/v3/datadog
envoy/extensions/tracers/opentelemetry/resource_detectors/v3/environment_resource_detector
envoy/extensions/tracers/opentelemetry/resource_detectors/v3/dynatrace_resource_detector
envoy/extensions/filters/network/mongo_proxy/v3/mongo_proxy
istio/alpn istio/metadata_exchange istio/stats istio/ca envoy/service/secret/v3/sds
""".split()
STUBS = ["envoy/service/discovery/v3/ads.proto", "envoy/service/secret/v3/sds.proto", "istio/ca.proto"]  # the services that are spoken


def fetch(cache):
    """The package's tgz in the cache, verified."""
    tgz = os.path.join(cache, os.path.basename(PACKAGE).replace("@", "-") + ".tgz")

    def right(path):
        return os.path.exists(path) and base64.b64encode(hashlib.sha512(open(path, "rb").read()).digest()).decode() == INTEGRITY

    if right(tgz):
        return tgz
    os.makedirs(cache, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as work:
        try:
            subprocess.run(["npm", "pack", "--loglevel=error", PACKAGE], cwd=work, check=True, capture_output=True, text=True)
        except FileNotFoundError:
            sys.exit(f"{PACKAGE}: no npm here to fetch it with; run ./run setup")
        except subprocess.CalledProcessError as e:
            why = [line for line in e.stderr.splitlines() if "log of this run" not in line]
            sys.exit("\n".join(why[:6] + [f"{PACKAGE}: npm pack failed ({e.returncode}); is the npm registry reachable, its certificate trusted (NODE_EXTRA_CA_CERTS)?"]))
        got = [f for f in os.listdir(work) if f.endswith(".tgz")]
        if len(got) != 1 or not right(os.path.join(work, got[0])):
            sys.exit(f"{PACKAGE}: what the registry gave is not what is pinned in {__file__} (sha512); refusing it")
        os.replace(os.path.join(work, got[0]), tgz)
    return tgz


def unpack(tgz, to):
    """One tree of .proto files, with what protoc 3.21 does not take mended."""
    with tarfile.open(tgz) as tar:
        for member in tar.getmembers():
            parts = member.name.split("/")
            if member.isfile() and parts[:2] == ["package", "deps"] and member.name.endswith(".proto"):
                path = os.path.join(to, *parts[3:])
                os.makedirs(os.path.dirname(path), exist_ok=True)
                text = tar.extractfile(member).read().decode()
                text = text.replace(" ignore_empty: true", "")  # an option of a newer protoc-gen-validate
                for end, have, old, new in NEWER:
                    if path.endswith(end) and have not in text:
                        text = text.replace(old, new, 1)
                with open(path, "w") as f:
                    f.write(text)
    here = os.path.join(os.path.dirname(os.path.abspath(__file__)), "istio")
    shutil.copytree(here, os.path.join(to, "istio"))


def closure(tree):
    seen, todo = set(), [r + ".proto" for r in ROOTS]
    while todo:
        name = todo.pop()
        if name in seen or name.startswith("google/protobuf/"):
            continue
        seen.add(name)
        todo += re.findall(r'^import (?:public )?"([^"]+)"', open(os.path.join(tree, name)).read(), re.M)
    return sorted(seen)


# ---- annotations out: they are custom options, which cost a third of the compilation and dead-lock protobuf 3.21's code_size mode
# (an option that is itself a generated message is parsed under the pool's lock). Field numbers are descriptor.proto's.

ANNOTATIONS = ("validate/", "udpa/annotations/", "xds/annotations/", "envoy/annotations/", "google/api/annotations", "google/api/http")
OPTIONS = "options"
ENUM_VALUE = {3: OPTIONS}
ENUM = {2: ENUM_VALUE, 3: OPTIONS}
FIELD = {8: OPTIONS}
MESSAGE = {2: FIELD, 4: ENUM, 6: FIELD, 7: OPTIONS, 8: {2: OPTIONS}}
MESSAGE[3] = MESSAGE  # nested types
SERVICE = {2: {4: OPTIONS}, 3: OPTIONS}
FILE = {4: MESSAGE, 5: ENUM, 6: SERVICE, 7: FIELD, 8: OPTIONS}


def varint(data, i):
    value = shift = 0
    while True:
        value |= (data[i] & 0x7F) << shift
        shift += 7
        i += 1
        if data[i - 1] < 0x80:
            return value, i


def encode(value):
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def fields(data):
    """(number, wire type, value bytes or int, raw bytes) of each field."""
    i = 0
    while i < len(data):
        start = i
        key, i = varint(data, i)
        if key & 7 == 0:
            value, i = varint(data, i)
        elif key & 7 == 2:
            size, i = varint(data, i)
            value, i = data[i:i + size], i + size
        else:
            value, i = None, i + (8 if key & 7 == 1 else 4)
        yield key >> 3, key & 7, value, data[start:i]


def stripped(data, shape):
    out = bytearray()
    for number, wire, value, raw in fields(data):
        if shape == OPTIONS:
            if number < 1000:
                out += raw
        elif number in shape and wire == 2:
            inner = stripped(value, shape[number])
            out += encode(number << 3 | 2) + encode(len(inner)) + inner
        else:
            out += raw
    return bytes(out)


def stripped_file(data):
    kept, index, out = {}, 0, bytearray()
    for number, _, value, raw in fields(stripped(data, FILE)):
        if number == 3:  # dependency
            if not value.decode().startswith(ANNOTATIONS):
                kept[index] = len(kept)
                out += raw
            index += 1
        elif number == 10:  # public_dependency: an index
            if value in kept:
                out += encode(10 << 3) + encode(kept[value])
        elif number != 9:  # source_code_info
            out += raw
    return bytes(out)


def write_if_new(path, text):
    if not os.path.exists(path) or open(path).read() != text:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as f:
            f.write(text)


def main(out):
    cache = os.environ.get("SLUICE_CACHE") or os.path.expanduser("~/.cache/sluice")
    tgz = fetch(cache)
    with tempfile.TemporaryDirectory() as work:
        tree, gen = os.path.join(work, "proto"), os.path.join(work, "gen")
        os.makedirs(gen)
        unpack(tgz, tree)
        names = [n for n in closure(tree) if not n.startswith(ANNOTATIONS)]
        full, plain = os.path.join(work, "full.pb"), os.path.join(work, "plain.pb")
        subprocess.run(["protoc", "-I", tree, "--include_imports", f"--descriptor_set_out={full}", *names], check=True)
        with open(plain, "wb") as f:
            for _, _, value, _ in fields(open(full, "rb").read()):
                name = next(v for n, _, v, _ in fields(value) if n == 1).decode()
                if not name.startswith(ANNOTATIONS):
                    inner = stripped_file(value)
                    f.write(encode(1 << 3 | 2) + encode(len(inner)) + inner)
        subprocess.run(["protoc", f"--descriptor_set_in={plain}", f"--cpp_out=code_size:{gen}", *names], check=True)
        plugin = shutil.which("grpc_cpp_plugin") or sys.exit("grpc_cpp_plugin is missing; run ./run setup (protobuf-compiler-grpc)")
        subprocess.run(["protoc", f"--descriptor_set_in={plain}", f"--plugin=protoc-gen-grpc={plugin}", f"--grpc_out={gen}", *STUBS], check=True)

        bases = [n[:-len(".proto")] for n in names]
        for b in bases:
            write_if_new(os.path.join(out, b + ".pb.h"), open(os.path.join(gen, b + ".pb.h")).read())
        for stub in STUBS:
            for ext in (".grpc.pb.h", ".grpc.pb.cc"):
                write_if_new(os.path.join(out, stub[:-6] + ext), open(os.path.join(gen, stub[:-6] + ext)).read())
        # Two file-static names of protobuf 3.21 collide when sources are joined: each file gets its own.
        groups = [[0, []] for _ in range(GROUPS)]
        for b in sorted(bases, key=lambda b: -os.path.getsize(os.path.join(gen, b + ".pb.cc"))):
            least = min(groups, key=lambda g: g[0])
            least[0] += os.path.getsize(os.path.join(gen, b + ".pb.cc"))
            least[1].append(b)
        serial = 0
        for i, (_, members) in enumerate(groups):
            text = "".join(f'#include "{b}.pb.h"\n' for b in sorted(members))
            for b in sorted(members):
                serial += 1
                text += f"#define schemas schemas_{serial}\n#define file_default_instances file_default_instances_{serial}\n"
                text += open(os.path.join(gen, b + ".pb.cc")).read()
                text += "\n#undef schemas\n#undef file_default_instances\n"
            write_if_new(os.path.join(out, f"group{i}.cc"), text)
            print(os.path.join(out, f"group{i}.cc"))
        for stub in STUBS:
            print(os.path.join(out, stub[:-6] + ".grpc.pb.cc"))


main(sys.argv[1])
