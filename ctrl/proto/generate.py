#!/usr/bin/env python3
"""Fetches the xDS protos (npm package, pinned by its hash), generates C++ for the closure in use, and groups it into a few large sources.

    generate.py OUT      prints one source path per line: the message groups, then the ADS stub

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
istio/alpn istio/metadata_exchange istio/stats
""".split()


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
            subprocess.run(["npm", "pack", "--silent", PACKAGE], cwd=work, check=True, stdout=subprocess.DEVNULL)
        except FileNotFoundError:
            sys.exit(f"{PACKAGE}: no npm here to fetch it with; run ./run setup")
        except subprocess.CalledProcessError as e:
            sys.exit(f"{PACKAGE}: npm pack failed ({e.returncode}); is the npm registry reachable? (npm config get registry)")
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
                if path.endswith("config/cluster/v3/cluster.proto") and "dns_jitter" not in text:  # newer than the package; istiod 1.29 sends it
                    text = re.sub(r"(lrs_report_endpoint_metrics = 57;)", r"\1\n  google.protobuf.Duration dns_jitter = 58;", text)
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
        names = closure(tree)
        subprocess.run(["protoc", "-I", tree, f"--cpp_out=code_size:{gen}", *names], check=True)
        plugin = shutil.which("grpc_cpp_plugin") or sys.exit("grpc_cpp_plugin is missing; run ./run setup (protobuf-compiler-grpc)")
        ads = "envoy/service/discovery/v3/ads.proto"
        subprocess.run(["protoc", "-I", tree, f"--plugin=protoc-gen-grpc={plugin}", f"--grpc_out={gen}", ads], check=True)

        bases = [n[:-len(".proto")] for n in names]
        for b in bases:
            write_if_new(os.path.join(out, b + ".pb.h"), open(os.path.join(gen, b + ".pb.h")).read())
        for ext in (".grpc.pb.h", ".grpc.pb.cc"):
            write_if_new(os.path.join(out, ads[:-6] + ext), open(os.path.join(gen, ads[:-6] + ext)).read())
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
        print(os.path.join(out, ads[:-6] + ".grpc.pb.cc"))


main(sys.argv[1])
