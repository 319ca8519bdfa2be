"""A network that writes reports as attackers by gradients follow it: log odds of findings in what it writes.

What a network writes has no slope, but how likely it finds a text has one. So the log odds of a finding are those of
the texts that speak of it against those that do not, among texts that the network is known to write: some about other
images, chosen so that they name other findings, and the one that it writes greedily about this very image. Where these
odds and that text disagree the text is right: the odds keep their slope and get its sign. So a change of the image
counts as a success only where the network then writes otherwise.

A finding that no known text speaks of has no slope; a change may still bring it about, and counts then.

Reference: targeted descent on the likelihood of a chosen text: Carlini, Nasr, Choquette-Choo, Jagielski, Gao, Awadalla,
Koh, Ippolito, Lee, Tramer, Schmidt, "Are aligned neural networks adversarially aligned?", NeurIPS 2023, sec. 6 (images
given to a multimodal model); that the texts are the model's own, and the odds over several of them, is ours.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from medward.attacks.whitebox.written_texts import token_losses, write_texts
from medward.guard.models.base import Model
from medward.guard.models.greedy_decoding import PretrainedWriter
from medward.guard.models.huggingface_report import HuggingFaceReportModel
from medward.guard.models.torch_front import fronted
from medward.guard.spec import ModelSpec
from medward.guard.tasks.report import WrittenReport
from medward.guard.types import Array, Ints

KNOWN_REPORTS = 6
"""Texts, at most, that the odds are of besides the one about the image: each costs a pass a step."""
READ_ROWS = 200
"""Rows, at most, whose texts these are chosen from."""
COMPARED_ROWS = 16
"""Rows of which the network must write what the deployed model writes."""
_NEVER = -1e4  # nats: a text that is not among those compared
_LEAST = 1e-3  # nats: the odds of what is written against what the known texts say
_CLOSE = 1e-3  # of the largest feature above 1


class ReportNetwork(nn.Module):
    """A report network gives log odds ``(n, K)`` of findings, positive exactly where the text it writes names them.

    `writer` writes about images that are normalised as `spec` says; `reports` are texts that it is known to write.
    """

    def __init__(self, writer: PretrainedWriter, spec: ModelSpec, reports: Sequence[str] = ()) -> None:
        super().__init__()
        assert isinstance(spec.task, WrittenReport)
        self.task, self.reports = spec.task, tuple(reports)
        self.front, self.network, self.tokenizer = fronted(nn.Identity(), spec), writer.network, writer.tokenizer

    def forward(self, x: Tensor) -> Tensor:
        """Images ``(n, *shape)`` to log odds ``(n, K)``, in nats."""
        return self.both(x)[0]

    def both(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """The log odds, and the mean ``(n, d)`` of what the network sees over an image, which the guard judges."""
        if not len(x):
            return x.new_zeros((0, len(self.task.findings))), None
        pixels, texts = self.front(x), self.write(x)
        said = self._said(texts)
        odds = finding_odds(*self._compared(pixels, texts, said))
        return with_signs(odds, said), self._writer.vision_states(pixels).mean(dim=1)

    @torch.no_grad()
    def write(self, x: Tensor) -> list[str]:
        """The text about each image ``(n, *shape)``, decoded greedily."""
        return write_texts(self._writer, self.front(x), self.task.prompt, self.task.length) if len(x) else []

    def _compared(self, pixels: Tensor, texts: Sequence[str], said: Tensor) -> tuple[Tensor, Tensor]:
        """Log likelihoods ``(n, R)`` of the texts that are compared, and what each says ``(n, R, K)``; its own last."""
        rows = len(pixels)
        likely = []
        for report in self.reports:  # which counts once where it is the row's own
            same = torch.tensor([report == text for text in texts], device=pixels.device)
            likely.append(self._likelihoods(pixels, [report] * rows).masked_fill(same, _NEVER))
        likely.append(self._likelihoods(pixels, texts))
        known = self._said(self.reports).expand(rows, -1, -1)
        return torch.stack(likely, dim=1), torch.cat([known, said[:, None]], dim=1)

    def _likelihoods(self, pixels: Tensor, texts: Sequence[str]) -> Tensor:
        """The log likelihood ``(n,)`` of each text about its image, its end among the tokens."""
        losses, _ = token_losses(self._writer, pixels, self.task.prompt, texts, longest=self.task.length)
        return -losses.sum(dim=1)

    def _said(self, texts: Sequence[str]) -> Tensor:
        """Which findings ``(n, K)`` are there or may be, by the words of `texts`."""
        said = [[each > 0 for each in self.task.said_in(text)] for text in texts]
        device = next(self.network.parameters()).device
        return torch.tensor(said, dtype=torch.bool, device=device).reshape(len(texts), len(self.task.findings))

    @property
    def _writer(self) -> PretrainedWriter:
        return PretrainedWriter(network=self.network, tokenizer=self.tokenizer)


def finding_odds(likelihoods: Tensor, said: Tensor) -> Tensor:
    """Log odds ``(n, K)``: what texts of log `likelihoods` ``(n, R)`` that say a finding have on those that do not.

    `said` is ``(n, R, K)``. Where all say the same of a finding the odds are large and finite.
    """
    each = likelihoods[:, :, None].expand(said.shape)
    return each.masked_fill(~said, _NEVER).logsumexp(dim=1) - each.masked_fill(said, _NEVER).logsumexp(dim=1)


def with_signs(odds: Tensor, said: Tensor) -> Tensor:
    """The `odds` ``(n, K)``, near zero on the side that is `said` where they are on the other; slopes stay theirs."""
    value = torch.where(said, odds.clamp_min(_LEAST), odds.clamp_max(-_LEAST)).detach()
    return value + (odds - odds.detach())  # which adds zero exactly


def contrasting_reports(texts: Sequence[str], decided: Ints, most: int = KNOWN_REPORTS) -> tuple[str, ...]:
    """At most so many of `texts`, decided as `decided (n,)`: the commonest of each set of findings, then any others.

    Sets come by how common they are, and so do others; of equally common texts the first is taken.
    """
    common = [text for text, _ in Counter(texts).most_common()]
    says = dict(zip(texts, np.asarray(decided).tolist(), strict=True))
    first = {says[text]: text for text in reversed(common)}
    sets = [first[each] for each, _ in Counter(np.asarray(decided).tolist()).most_common()]
    return tuple(dict.fromkeys([*sets, *common]))[:most]


def white_box_writer(model: Model, rows: Array, *, most: int = KNOWN_REPORTS) -> tuple[ReportNetwork | None, str]:
    """The network of a report `model` for attacks by gradients, or None and why there is none.

    It is a frozen copy. On some of `rows` ``(n, *shape)`` it must write the texts, and see the features, that the model
    does; at most so many texts to compare are taken of those about all of them.
    """
    if not isinstance(model, HuggingFaceReportModel):
        return None, "its reports come from a function, which shows no gradients"
    spec, writer = model.spec, copy.deepcopy(model.writer)
    writer.network.requires_grad_(False)
    device = writer.network.device
    network = ReportNetwork(writer, spec).eval()
    x = torch.as_tensor(np.asarray(rows[:READ_ROWS], np.float32), device=device)
    texts, expected = network.write(x), model.predict(rows[:COMPARED_ROWS])
    with torch.no_grad():
        seen = writer.vision_states(network.front(x[:COMPARED_ROWS])).mean(dim=1).cpu().numpy()
    if unlike := [at for at, text in enumerate(expected.texts) if text != texts[at]]:
        return None, f"torch writes another text than the bundle about {len(unlike)} of {len(expected.texts)} rows"
    features: Any = expected.features
    if np.abs(seen - features).max() > _CLOSE * max(1.0, float(np.abs(features).max())):
        return None, "torch sees other features than the bundle"
    decided = spec.decide(spec.task.read(texts, spec.name))
    if len(np.unique(decided)) == 1:
        return (
            None,
            f"it writes the same findings about each of {len(x)} images, so no report that says others is known",
        )
    return ReportNetwork(writer, spec, contrasting_reports(texts, decided, most)).eval(), ""
