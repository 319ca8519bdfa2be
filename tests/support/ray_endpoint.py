"""Replicas on Ray Serve as a process that a test can ask, and tell to kill one of them. As a script, what it runs."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "OMP_NUM_THREADS": "1",
    "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}",
}


@dataclass(frozen=True)
class RayEndpoint:
    """A running application of Ray Serve at `url`, with its state folder."""

    process: subprocess.Popen[str]
    url: str
    state: Path

    def tell(self, what: str) -> str:
        """Have it do what is in `main`, and read the line that it says."""
        self.process.stdin.write(f"{what}\n")
        self.process.stdin.flush()
        return self.said()

    def said(self) -> str:
        """The next line that it says."""
        return self.process.stdout.readline().strip()


@contextmanager
def ray_endpoint(folder: Path, **arguments: Any) -> Iterator[RayEndpoint]:
    """Serve `arguments` of an endpoint from `folder`, with ``folder/state``; Ray is gone after."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    said = {"state": str(folder / "state"), **arguments}
    with open(folder / "stderr", "wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, __file__, str(port), json.dumps(said)],
            env={**os.environ, **QUIET},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
    endpoint = RayEndpoint(process, f"http://127.0.0.1:{port}", folder / "state")
    try:
        assert endpoint.said() == "ready", (folder / "stderr").read_text()[-3000:]
        yield endpoint
    finally:
        process.stdin.close()
        process.wait(60)
        process.stdout.close()


def main(port: int, arguments: dict[str, Any]) -> None:
    """Deploy and say "ready"; then do what lines ask for, until there are none."""
    import ray
    from ray import serve
    from ray.util import list_named_actors

    from medward.integrations.ray_serve import EndpointArguments, guarded_endpoint

    def replicas() -> list[str]:
        named = [each["name"] for each in list_named_actors(all_namespaces=True)]
        return sorted(name for name in named if name.startswith("SERVE_REPLICA"))

    out = os.dup(1)
    os.dup2(2, 1)  # what Ray says goes to stderr
    for last in (False, False, True):  # Ray gives its node 30 s to start, which busy cores exceed
        try:
            ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False)
            break
        except Exception:
            ray.shutdown()
            if last:
                raise
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        serve.run(guarded_endpoint(EndpointArguments(**arguments)))
        os.write(out, b"ready\n")
        for line in sys.stdin:
            if line.strip() == "kill":
                (name, *_) = replicas()
                ray.kill(ray.get_actor(name, namespace="serve"), no_restart=True)
                os.write(out, f"{name}\n".encode())
            elif line.strip() == "replicas":
                os.write(out, f"{' '.join(replicas())}\n".encode())
            elif line.strip() == "delete":
                os.write(out, b"deleting\n")
                serve.delete("default")
                os.write(out, b"deleted\n")
    finally:
        serve.shutdown()
        ray.shutdown()


if __name__ == "__main__":
    sys.path = [each for each in sys.path if Path(each or ".").resolve() != Path(__file__).parent]
    main(int(sys.argv[1]), json.loads(sys.argv[2]))
