"""sluice-control as a CA, as the tests and the demo use it: its folder, the token with which a gateway asks, clients' certificates, the steps of a rotation."""
import base64
import json
import os
import shutil
import subprocess
import time

from net import sh


class Authority:
    """In `work`: authority/ (the CA's folder), token, c-NAME.pem, c-NAME-key.pem, c-NAME-root.pem. `control` is the binary."""

    def __init__(self, control, work, log):
        self.control, self.work, self.log, self.dir = control, work, log, os.path.join(work, "authority")
        self.issuer = "https://tests.example"
        key = os.path.join(work, "token-key.pem")
        sh("openssl", "genrsa", "-out", key, "2048")
        sh("openssl", "rsa", "-in", key, "-pubout", "-out", os.path.join(work, "token-pub.pem"))

        def b64(b):
            return base64.urlsafe_b64encode(b).rstrip(b"=")

        claims = {"iss": self.issuer, "aud": ["istio-ca"], "sub": "system:serviceaccount:shop:gateway", "exp": int(time.time()) + 3600}
        text = b64(b'{"alg":"RS256"}') + b"." + b64(json.dumps(claims).encode())
        signature = subprocess.run(["openssl", "dgst", "-sha256", "-sign", key], input=text, capture_output=True, check=True).stdout
        with open(os.path.join(work, "token"), "wb") as f:
            f.write(text + b"." + b64(signature) + b"\n")

    def options(self, ttl):
        """Of sluice-control run; a certificate lives `ttl` seconds and is renewed after half of them."""
        return ["--ca-dir", self.dir, "--ca-ttl-min", "5", "--ca-ttl-default", str(ttl), "--ca-ttl-max", str(ttl), "--ca-token-keys", f"{self.work}/token-pub.pem",
                "--ca-token-issuer", self.issuer]

    def bootstrap(self, socket):
        """The line of the gateway's bootstrap."""
        return f'ca: {{address: "unix:{socket}", token: "{self.work}/token"}}\n'

    def client(self, name):
        """A client's certificate of this CA, with the roots as they are now; its serial."""
        return sh(self.control, "certificate", "--ca-dir", self.dir, "--identity", f"spiffe://cluster.local/ns/shop/sa/{name}", "--out", f"{self.work}/c-{name}").stdout.strip()

    def edit(self, name, text):
        with open(os.path.join(self.dir, name + ".new"), "w") as f:
            f.write(text)
        os.rename(os.path.join(self.dir, name + ".new"), os.path.join(self.dir, name))

    def pushes(self):
        with open(self.log) as f:
            return f.read().count("ca: pushed")

    # A root is exchanged in three steps: a second one is trusted, it signs, the first is dropped.
    def trust_second_root(self):
        sh(self.control, "root", "--ca-dir", self.dir, "root-2")

    def sign_with_second_root(self):
        self.edit("signing", "root-2\n")

    def drop_first_root(self):
        shutil.rmtree(os.path.join(self.dir, "root-1"))
