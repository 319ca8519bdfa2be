"""What a search found on a network, kept for when the same search is asked for again.

The bare model and the guarded one have one network, so an attacker who does not look at the guard crafts the same
changes for both; they differ only in who answers. A search is the same when its network is the same object with the
same weights and everything else that it rests on is equal, the states of the random generators included.
"""

from __future__ import annotations

import copy
import hashlib
import weakref
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from types import FunctionType
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

_T = TypeVar("_T")
MEMORY_ROOM = 1 << 29  # bytes of tensors that are kept, of the latest searches


@dataclass(frozen=True, slots=True)
class Kept:
    """The network of a search, what it found, the states in which it left the generators, and the functions it used.

    These are held so that no other can take their place in memory, by which they are told apart.
    """

    network: weakref.ref[nn.Module]
    found: Any
    state: Tensor | None
    common: Tensor
    size: int
    functions: tuple[FunctionType, ...] = ()


_kept: OrderedDict[str, Kept] = OrderedDict()


def remembered(
    network: nn.Module, make: Callable[[], _T], *parts: object, generator: torch.Generator | None = None
) -> _T:
    """What `make` finds on `network`; from memory, as a copy, where it was asked for with equal `parts` before.

    `make` must rest on nothing else but random numbers of `generator` and of torch's own. Where it is not run again
    both are left as it left them.
    """
    state = None if generator is None else generator.get_state()
    key = _digest(network.state_dict(), network.training, parts, state, torch.get_rng_state())
    known = _kept.get(key)
    if known is None or known.network() is not network:
        found = make()
        state = None if generator is None else generator.get_state()
        _kept[key] = Kept(
            weakref.ref(network), copy.deepcopy(found), state, torch.get_rng_state(), _size(found), _functions(parts)
        )
        while sum(each.size for each in _kept.values()) > MEMORY_ROOM:
            _kept.popitem(last=False)
        return found
    if generator is not None and known.state is not None:
        generator.set_state(known.state)
    torch.set_rng_state(known.common)
    again: _T = copy.deepcopy(known.found)
    return again


def _size(found: object) -> int:
    """The bytes of the tensors in a result."""
    values = [getattr(found, each.name) for each in fields(found)] if is_dataclass(found) else [found]
    return sum(value.numel() * value.element_size() for value in values if isinstance(value, Tensor))


def _functions(part: object) -> tuple[FunctionType, ...]:
    """Every function in `part`."""
    if isinstance(part, FunctionType):
        return (part,)
    if isinstance(part, list | tuple):
        return tuple(each for inner in part for each in _functions(inner))
    if is_dataclass(part):
        return tuple(each for field in fields(part) for each in _functions(getattr(part, field.name)))
    return ()


def _digest(*parts: object) -> str:
    sha = hashlib.sha256()
    for part in parts:
        _update(sha, part)
    return sha.hexdigest()


def _update(sha: Any, part: object) -> None:
    """Add `part`, its type and everything inside it."""
    sha.update(f"{type(part).__qualname__}(".encode())
    if isinstance(part, Tensor):
        value = part.detach().cpu().contiguous()
        sha.update(f"{value.dtype} {tuple(value.shape)} ".encode())
        sha.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    elif isinstance(part, dict):
        for name, value in part.items():
            _update(sha, name)
            _update(sha, value)
    elif isinstance(part, list | tuple):
        for each in part:
            _update(sha, each)
    elif is_dataclass(part):
        for each in fields(part):
            _update(sha, each.name)
            _update(sha, getattr(part, each.name))
    elif isinstance(part, FunctionType):
        sha.update(f"{part.__module__}:{part.__qualname__}:{id(part)}".encode())
    elif part is None or isinstance(part, str | int | float):
        sha.update(repr(part).encode())
    else:
        raise TypeError(f"no digest of {type(part).__qualname__}")
    sha.update(b")")
