"""Flower as hospitals run it: a SuperLink and SuperNodes as processes on loopback, with TLS and a key for each node."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
PROJECT = """
[project]
name = "federation"
version = "1.0.0"
description = "A federation of a test"
license = "Apache-2.0"
dependencies = []
[tool.flwr.app]
publisher = "medward"
[tool.flwr.app.components]
serverapp = "app:server_app"
clientapp = "app:client_app"
[tool.flwr.app.config]
"""


class FlowerProcesses:
    """Flower processes run the app of one file for as long as the block lasts; `names` are those of the nodes."""

    def __init__(self, folder, app, names, config):
        self.folder, self.names, self.config = Path(folder), names, config
        self.app, self.port = self.folder / "app", free_port()
        self.running = []
        self.app.mkdir()
        (self.folder / "home").mkdir()
        shutil.copy(app, self.app / "app.py")
        told = "".join(f"{key} = {toml(value)}\n" for key, value in config.items())
        (self.app / "pyproject.toml").write_text(PROJECT + told)
        write_certificate(self.folder / "tls.pem", self.folder / "tls.key")
        connection = f'address = "127.0.0.1:{self.port}"\nroot-certificates = "{self.folder / "tls.pem"}"\n'
        (self.folder / "home" / "config.toml").write_text(
            f'[superlink]\ndefault = "loopback"\n[superlink.loopback]\n{connection}'
        )
        for name in names:
            write_key(self.folder / f"{name}.key", self.folder / f"{name}.pub")
        self.environment = os.environ | {
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}",
            "FLWR_HOME": str(self.folder / "home"),
            "FLWR_TELEMETRY_ENABLED": "0",
            "FLWR_DISABLE_UPDATE_CHECK": "1",
            "OMP_NUM_THREADS": "1",
        }

    def __enter__(self):
        try:
            self._start_link()
            for place, name in enumerate(self.names):
                self._command("supernode", "register", str(self.folder / f"{name}.pub"))
                self.start_node(name, place)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for process in reversed(self.running):
            process.send_signal(signal.SIGTERM)
        for process in self.running:
            with suppress(subprocess.TimeoutExpired):
                process.wait(10)
        for process in self.running:
            with suppress(ProcessLookupError):  # a node leaves its apps behind when their run was killed
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def start_node(self, name, place):
        """A SuperNode with the key of `name`."""
        return self._process(
            f"{name}.log",
            "flower-supernode",
            *("--superlink", f"127.0.0.1:{self.port}", "--root-certificates", str(self.folder / "tls.pem")),
            *("--auth-supernode-private-key", str(self.folder / f"{name}.key")),
            *("--host", "127.0.0.1", "--port", str(free_port()), "--node-config", f"place={place}"),
        )

    def submit(self, log, **config):
        """Hand the app to the SuperLink, where it runs; what is returned shows its output, and ends with it."""
        told = " ".join(f"{key}={toml(value)}" for key, value in config.items())
        return self._process(log, "flwr", "run", str(self.app), "loopback", "--stream", "--run-config", told)

    def _start_link(self):
        tls = {"certfile": "tls.pem", "keyfile": "tls.key", "ca-certfile": "tls.pem"}
        self._process(
            "superlink.log",
            "flower-superlink",
            *(word for name, file in tls.items() for word in (f"--ssl-{name}", str(self.folder / file))),
            *("--enable-supernode-auth", "--disable-runtime-dependency-installation"),
            *("--host", "127.0.0.1", "--port", str(self.port)),
        )
        wait_until(lambda: connects(self.port), 60, "the SuperLink does not listen")

    def _process(self, log, command, *arguments):
        with (self.folder / log).open("ab") as output:
            process = subprocess.Popen(
                [str(BIN / command), *arguments],
                env=self.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.running.append(process)
        return process

    def _command(self, *arguments):
        done = subprocess.run(
            [str(BIN / "flwr"), *arguments], env=self.environment, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stdout + done.stderr


def toml(value):
    return f'"{value}"' if isinstance(value, str | Path) else str(value)


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def connects(port):
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0


def wait_until(condition, seconds, complaint, log=None):
    end = time.monotonic() + seconds
    while not condition():
        told = "" if log is None else log.read_text()
        assert "raised an exception" not in told, told
        assert time.monotonic() < end, f"{complaint}: {told}"
        time.sleep(0.1)


def write_key(private, public):
    key = ec.generate_private_key(ec.SECP384R1())
    private.write_bytes(_private_bytes(key, serialization.PrivateFormat.OpenSSH))
    openssh = serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    public.write_bytes(key.public_key().public_bytes(*openssh))


def write_certificate(certificate, private):
    key = ec.generate_private_key(ec.SECP384R1())
    name, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "loopback")]), datetime.now(UTC)
    built = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate.write_bytes(built.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(_private_bytes(key, serialization.PrivateFormat.PKCS8))


def _private_bytes(key, form):
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
