"""Report enrichment by a language model of the thief's: any causal one in a local folder, prompted to rewrite.

As ADA-STEAL does it; the paper's model and prompt are not known to us, and this prompt is ours. Nothing is fetched, and
no code of the folder is run.

Reference: Shen et al. (ADA-STEAL), AAAI 2025, arXiv 2502.02438.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from medward.guard.errors import MedwardError
from medward.guard.models.base import first_line, require_extra
from medward.guard.tasks.report import WrittenReport

REWRITE_PROMPT = (
    "Rewrite this radiology report so that it also describes {findings}. Keep its style.\nReport: {report}\nRewritten:"
)
"""What the model is asked; `findings` and `report` are filled in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CausalOracle:
    """A causal oracle has the language model in a local Hugging Face `folder` rewrite reports with other findings.

    Each report is asked to gain up to `most` findings that it does not have, drawn evenly. What is written up to the
    first line break counts, of at most `longest` tokens, drawn at `temperature`. Unlike those of `Recombination`, its
    texts need not say what was asked for: what a model writes is taken as it is, and nothing where it writes nothing.
    """

    folder: str
    prompt: str = REWRITE_PROMPT
    most: int = 2
    longest: int = 120
    temperature: float = 1.0

    def enrich(self, reports: Sequence[str], seen: Sequence[str], task: WrittenReport, *, seed: int) -> list[str]:
        """One rewriting of each report; the report itself where the model has nothing to say."""
        model, tokenizer = open_causal(self.folder)
        rng = np.random.default_rng(seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return [self._rewritten(model, tokenizer, report, task, rng) or report for report in reports]

    def _rewritten(self, model: Any, tokenizer: Any, report: str, task: WrittenReport, rng: np.random.Generator) -> str:
        lacking = [name for name, said in zip(task.findings, task.said_in(report), strict=True) if said == 0]
        if not lacking:
            return report
        chosen = rng.permutation(lacking)[: rng.integers(1, self.most + 1)]
        asked = tokenizer(self.prompt.format(findings=" and ".join(chosen), report=report), return_tensors="pt")
        written = model.generate(
            **{name: value for name, value in asked.items() if name in ("input_ids", "attention_mask")},
            do_sample=True,
            temperature=self.temperature,
            max_new_tokens=self.longest,
            pad_token_id=tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id,
        )
        told: str = tokenizer.decode(written[0, asked["input_ids"].shape[1] :], skip_special_tokens=True)
        return next(iter(told.strip().splitlines()), "").strip()


@lru_cache(2)
def open_causal(folder: str) -> tuple[Any, Any]:
    """The causal language model and the tokenizer in `folder`, from safetensors and without running code.

    Raises `MedwardError` for a folder that holds none.
    """
    transformers = require_extra("transformers", "huggingface")
    try:
        local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        model = transformers.AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True, **local)
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **local)
    except Exception as error:  # transformers raises what its many parts raise
        raise MedwardError(
            f"{folder}: is no causal language model, as transformers reads it: {first_line(error)}; give the folder of "
            "one, with its tokenizer"
        ) from None
    return model.eval().requires_grad_(False), tokenizer
