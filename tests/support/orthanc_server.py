"""A real archive: Orthanc with its DICOMweb plug-in, on a free port of this machine."""

from __future__ import annotations

import base64
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
from support.needed import lacking

PLUGINS = Path("/usr/share/orthanc/plugins")
AUTHORIZATION = "Basic " + base64.b64encode(b"medward:archive").decode()


class OrthancServer:
    """Orthanc that keeps its files in `folder`; `url` is where its DICOMweb is."""

    def __init__(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.root = f"http://127.0.0.1:{port}"
        self.url = f"{self.root}/dicom-web"
        settings = {
            "Name": "test",
            "StorageDirectory": str(folder / "files"),
            "IndexDirectory": str(folder / "files"),
            "Plugins": [str(PLUGINS / "libOrthancDicomWeb.so")],
            "DicomServerEnabled": False,
            "HttpPort": port,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": True,
            "RegisteredUsers": {"medward": "archive"},
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        }
        (folder / "orthanc.json").write_text(json.dumps(settings))
        self._log = folder / "orthanc.log"
        with open(self._log, "wb") as log:
            self.process = subprocess.Popen(["Orthanc", str(folder / "orthanc.json")], stdout=log, stderr=log)
        deadline = time.monotonic() + 60
        with self.client() as client:
            while True:
                with suppress(httpx.TransportError):
                    if client.get("/system").status_code == 200:
                        return
                assert self.process.poll() is None, self._log.read_text()
                assert time.monotonic() < deadline, "Orthanc did not start"
                time.sleep(0.05)

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.root, headers={"Authorization": AUTHORIZATION}, trust_env=False, timeout=30)

    def keep(self, *files: bytes) -> None:
        """Put `files` into the archive."""
        with self.client() as client:
            for file in files:
                client.post("/instances", content=file).raise_for_status()

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def archive(folder: Path) -> Iterator[OrthancServer]:
    """An archive that is gone at the end; where there is no Orthanc the test is skipped, and fails in CI."""
    if shutil.which("Orthanc") is None or not (PLUGINS / "libOrthancDicomWeb.so").exists():
        lacking("Orthanc", "orthanc orthanc-dicomweb")
    server = OrthancServer(folder)
    try:
        yield server
    finally:
        server.stop()
