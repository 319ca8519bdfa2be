"""Who Flower's nodes are: a number of a node may change when it comes back, its key does not."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from flwr.serverapp import Grid

from medward.guard.errors import MedwardError

Members = Mapping[str, bytes]
"""Names of those who may take part, and the public key of each as `read_public_key` gives it."""


def read_public_key(path: str | PathLike[str]) -> bytes:
    """The public key in an OpenSSH file, the one that was registered with ``flwr supernode register``.

    Raises `MedwardError` where the file holds none.
    """
    try:
        key = serialization.load_ssh_public_key(Path(path).read_bytes())
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise MedwardError(f"{path}: no public key can be read: {error}; give the .pub file of a node") from None
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return bytes(key.public_bytes(serialization.Encoding.PEM, form))


class KnownNodes:
    """Known nodes are a grid of Flower in which strangers do not exist and nodes come in the order of their names.

    With `members`, a node is known by a member's key and has that name; without, every node is known, by the first
    digits of its key's SHA-256. Only a SuperLink that authenticates SuperNodes makes sure that a node holds its key;
    without that, a node that starts anew has a new key, and nobody knows it from before.
    """

    def __init__(self, grid: Grid, members: Members | None) -> None:
        self._grid = grid
        self._members = None if members is None else checked_members(members)
        self.names: dict[int, str] = {}
        """The names of the nodes that were there when they were last asked for, by number."""

    def get_node_ids(self) -> list[int]:
        """The numbers of the known nodes, in the order of their names."""
        return [node.node_id for node in self.get_nodes()]

    def get_nodes(self) -> list[Any]:
        """What the SuperLink knows of the known nodes, in the order of their names."""
        nodes = {node.node_id: node for node in self._grid.get_nodes()}
        named = {number: self._name(number, bytes(node.public_key)) for number, node in nodes.items()}
        known = sorted((name, number) for number, name in named.items() if name is not None)
        self.names = {number: name for name, number in known}
        return [nodes[number] for number in self.names]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._grid, name)

    def _name(self, number: int, key: bytes) -> str | None:
        if self._members is not None:
            return self._members.get(key)
        return hashlib.sha256(key).hexdigest()[:16] if key else f"node {number}"


def checked_members(members: Members) -> dict[bytes, str]:
    """Names by key; raises `MedwardError` where two members have one key."""
    by_key: dict[bytes, str] = {}
    for name, key in members.items():
        if by_key.setdefault(key, name) != name:
            raise MedwardError(f"members: {by_key[key]} and {name} have the same key; give each its own")
    return by_key


@contextmanager
def seeded_sampling(seed: int, number: int) -> Iterator[None]:
    """Flower's strategies sample nodes with Python's `random`: the same ones in a round, whenever it is run."""
    before = random.getstate()
    random.seed(f"{seed} {number}")
    try:
        yield
    finally:
        random.setstate(before)


def nodes_by_name(numbers: Iterable[int], names: Mapping[int, str]) -> dict[int, str]:
    """The names of `numbers`, strangers left out."""
    return {number: names[number] for number in numbers if number in names}
