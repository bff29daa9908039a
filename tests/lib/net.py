"""Namespaces, veth pairs, keys and processes for tests that need a network. Everything made here is undone by Net.close(), also after a failure."""
import os
import signal
import subprocess
import time


def sh(*command, check=True, **more):
    return subprocess.run([str(c) for c in command], check=check, capture_output=True, text=True, **more)


NO_HOSTS = "127.0.0.1 localhost # there was no /etc/hosts: removed with the namespaces\n"


class Net:
    """client --- gateway --- backend, each a namespace called PREFIX + name. The gateway's two ends (gwc, gwb) carry no kernel address: they are the ports.
    $SLUICE_NETNS_PREFIX goes before it, so that two checkouts can test at once on one machine."""

    def __init__(self, prefix="", hosts=()):
        self.prefix = os.environ.get("SLUICE_NETNS_PREFIX", "") + prefix
        self.processes = []
        self.hosts = hosts

    def ns(self, name):
        return self.prefix + name

    def up(self):
        self.down()
        for name in ("client", "gateway", "backend"):
            sh("ip", "netns", "add", self.ns(name))
            sh("ip", "-n", self.ns(name), "link", "set", "lo", "up")
        for end, name, port in (("c0", "client", "gwc"), ("b0", "backend", "gwb")):
            sh("ip", "link", "add", end, "netns", self.ns(name), "type", "veth", "peer", "name", port, "netns", self.ns("gateway"))
        for a in ("10.10.0.2/24", "10.10.0.66/24"):
            sh("ip", "-n", self.ns("client"), "addr", "add", a, "dev", "c0")
        for i in (2, 3, 4):
            sh("ip", "-n", self.ns("backend"), "addr", "add", f"10.20.0.{i}/24", "dev", "b0")
        # veth hands over packets without checksums and larger than the MTU unless told otherwise; DPDK's ports see exactly what is there.
        for name, dev in (("client", "c0"), ("backend", "b0"), ("gateway", "gwc"), ("gateway", "gwb")):
            self.run(name, "sysctl", "-qw", f"net.ipv6.conf.{dev}.disable_ipv6=1")
            sh("ip", "-n", self.ns(name), "link", "set", dev, "up")
            self.run(name, "ethtool", "-K", dev, "tx", "off", "rx", "off", "tso", "off", "gso", "off", "gro", "off", check=False)
        if self.hosts:
            folder = f"/etc/netns/{self.ns('client')}"
            os.makedirs(folder, exist_ok=True)
            if not os.path.exists("/etc/hosts"):  # of a minimal system; `ip netns exec` lays the namespace's over it
                with open("/etc/hosts", "w") as f:
                    f.write(NO_HOSTS)
            with open(f"{folder}/hosts", "w") as f:
                f.write("127.0.0.1 localhost\n10.10.0.1 " + " ".join(self.hosts) + "\n")

    def down(self):
        for name in ("client", "gateway", "backend"):
            sh("ip", "netns", "del", self.ns(name), check=False)
        folder = f"/etc/netns/{self.ns('client')}"
        if os.path.exists(f"{folder}/hosts"):
            os.unlink(f"{folder}/hosts")
            os.rmdir(folder)
            if not os.listdir("/etc/netns"):
                os.rmdir("/etc/netns")
        if text_of("/etc/hosts") == NO_HOSTS:
            os.unlink("/etc/hosts")

    def run(self, name, *command, check=True, **more):
        return sh("ip", "netns", "exec", self.ns(name), *command, check=check, **more)

    def start(self, name, *command, log=None, **more):
        """A process in a namespace (None: ours); `log` is a file that takes its output."""
        out = open(log, "a") if log else subprocess.DEVNULL
        prefix = ["ip", "netns", "exec", self.ns(name)] if name else []
        p = subprocess.Popen(prefix + [str(c) for c in command], stdout=more.pop("stdout", out), stderr=subprocess.STDOUT if log else subprocess.DEVNULL, **more)
        self.processes.append(p)
        return p

    def stop(self, p, sig=signal.SIGTERM, seconds=10):
        """Ends a process by its id; gives its exit code, or None if it had to be killed."""
        if p.poll() is None:
            p.send_signal(sig)
        try:
            return p.wait(seconds)
        except subprocess.TimeoutExpired:
            p.kill()
            p.wait()
            return None

    def close(self):
        for p in reversed(self.processes):
            self.stop(p, seconds=5)
        self.processes.clear()
        self.down()


def wait_for(condition, seconds, step=0.02):
    """True as soon as condition() is; False after so many seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(step)
    return condition()


def text_of(path):
    try:
        with open(path, errors="replace") as f:
            return f.read()
    except OSError:
        return ""


def make_ca(folder, name="ca"):
    os.makedirs(folder, mode=0o700, exist_ok=True)
    sh("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30", "-subj", "/O=cluster.local", "-keyout", f"{name}-key.pem",
       "-out", f"{name}.pem", cwd=folder)


def make_certificate(folder, name, sans, ca="ca", days=30):
    """NAME.pem and NAME-key.pem; sans as openssl writes them: "URI:spiffe://...,DNS:..."."""
    sh("openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/O=cluster.local/CN={name}", "-keyout", f"{name}-key.pem", "-out",
       f"{name}.csr", cwd=folder)
    with open(os.path.join(folder, f"{name}.ext"), "w") as f:
        f.write(f"subjectAltName={sans}\n")
    sh("openssl", "x509", "-req", "-in", f"{name}.csr", "-CA", f"{ca}.pem", "-CAkey", f"{ca}-key.pem", "-CAcreateserial", "-days", days, "-extfile", f"{name}.ext", "-out",
       f"{name}.pem", cwd=folder)
    for junk in (f"{name}.csr", f"{name}.ext"):
        os.unlink(os.path.join(folder, junk))
