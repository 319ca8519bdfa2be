"""Recurrent layers, one step at a time (ai.onnx): LSTM and GRU with their usual activations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from medward.attacks.whitebox.onnx.operators.base import Attributes, Inputs, Op, UnsupportedOpError

Step = Callable[[Tensor, tuple[Tensor, ...]], tuple[Tensor, ...]]
"""One time step: input ``(n, d)`` and states ``(n, h)`` to new states; the first is what the layer shows."""


def _lstm_step(weight: Tensor, again: Tensor, bias: Tensor, _: Attributes) -> Step:
    # ONNX keeps the gates as input, output, forget, cell.
    both = bias.chunk(2)

    def step(x: Tensor, states: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        hidden, cell = states
        i, o, f, c = (x @ weight.T + hidden @ again.T + both[0] + both[1]).chunk(4, dim=1)
        cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(c)
        return torch.sigmoid(o) * torch.tanh(cell), cell

    return step


def _gru_step(weight: Tensor, again: Tensor, bias: Tensor, attributes: Attributes) -> Step:
    # ONNX keeps the gates as update, reset, hidden.
    own, recurrent = bias.chunk(2)

    def step(x: Tensor, states: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        (hidden,) = states
        z, r, h = (x @ weight.T + own).chunk(3, dim=1)
        zr, rr, hr = again.chunk(3)
        zb, rb, hb = recurrent.chunk(3)
        update, reset = torch.sigmoid(z + hidden @ zr.T + zb), torch.sigmoid(r + hidden @ rr.T + rb)
        if attributes.get("linear_before_reset", 0):
            new = torch.tanh(h + reset * (hidden @ hr.T + hb))
        else:
            new = torch.tanh(h + (reset * hidden) @ hr.T + hb)
        return ((1 - update) * new + update * hidden,)

    return step


def _recurrent(name: str, make: Callable[..., Step], gates: int, usual: tuple[str, ...], states: int) -> Op:
    def apply(inputs: Inputs, attributes: Attributes) -> Any:
        given = [*inputs, *[None] * (8 - len(inputs))]
        others = {key: attributes[key] for key in ("clip", "input_forget", "layout") if attributes.get(key)}
        named = [each.decode() if isinstance(each, bytes) else each for each in attributes.get("activations", usual)]
        if others or any(each != usual[i % len(usual)] for i, each in enumerate(named)):
            raise UnsupportedOpError(f"{name}: {others or named} is not supported, only the default")
        if given[4] is not None or given[7] is not None:
            raise UnsupportedOpError(f"{name}: sequence lengths and peepholes are not supported")
        x, weight, again = given[:3]
        ways, width = weight.shape[0], again.shape[2]
        bias = x.new_zeros(ways, 2 * gates * width) if given[3] is None else given[3]
        first = [x.new_zeros(ways, x.shape[1], width) if start is None else start for start in given[5 : 5 + states]]
        shown, last = [], []
        for way in range(ways):
            backward = way == 1 or attributes.get("direction") == "reverse"
            step = make(weight[way], again[way], bias[way], attributes)
            state, seen = tuple(start[way] for start in first), []
            for each in reversed(x) if backward else x:
                state = step(each, state)
                seen.append(state[0])
            shown.append(torch.stack(seen[::-1] if backward else seen))
            last.append(state)
        return torch.stack(shown, dim=1), *(torch.stack(each) for each in zip(*last, strict=True))

    return apply


RECURRENT_OPERATORS: dict[str, Op] = {
    "GRU": _recurrent("GRU", _gru_step, gates=3, usual=("Sigmoid", "Tanh"), states=1),
    "LSTM": _recurrent("LSTM", _lstm_step, gates=4, usual=("Sigmoid", "Tanh", "Tanh"), states=2),
}
