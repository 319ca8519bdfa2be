"""Recognisers of names: trained models that find people and places, as a second look of a text filter.

What one finds is added to what patterns and lexicons find; it takes nothing away.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from medward.guard.errors import MedwardError
from medward.guard.release.text import IdentifierKind, IdentifierSpan

_SPACY: Mapping[str, IdentifierKind] = {
    "PERSON": IdentifierKind.NAME,
    "PER": IdentifierKind.NAME,
    "GPE": IdentifierKind.PLACE,
    "LOC": IdentifierKind.PLACE,
    "FAC": IdentifierKind.PLACE,
}


class SpacyRecogniser:
    """A spaCy recogniser runs a spaCy pipeline, given by the name of its package or by its folder.

    A pipeline shares state between calls, so one text at a time is read.
    """

    def __init__(self, model: str | Path) -> None:
        try:
            import spacy

            self._pipeline = spacy.load(model, exclude=["lemmatizer", "attribute_ruler", "tagger", "parser"])
        except ImportError:
            raise MedwardError("a spaCy recogniser needs spaCy; pip install 'medward[text-ner]'") from None
        except OSError:
            raise MedwardError(f"spaCy model {str(model)!r}: not installed and no folder; give either") from None
        self._one = threading.Lock()

    def recognise(self, text: str) -> Iterator[IdentifierSpan]:
        """People and places of the text."""
        with self._one:
            found = self._pipeline(text).ents
        for entity in found:
            if kind := _SPACY.get(entity.label_):
                yield IdentifierSpan(entity.start_char, entity.end_char, kind, "model")


class TokenClassifierRecogniser:
    """A token classifier recogniser runs a Hugging Face token-classification model from a folder on this machine.

    `kinds` says which identifier each of the model's labels is, without B- and I-; other labels are passed over.
    """

    def __init__(self, folder: str | Path, kinds: Mapping[str, str]) -> None:
        if not Path(folder).is_dir():
            raise MedwardError(
                f"token classifier {str(folder)!r}: no such folder; give one saved with save_pretrained()"
            )
        if unknown := set(kinds.values()) - set(IdentifierKind):
            raise MedwardError(
                f"token classifier: {sorted(unknown)[0]!r} is no kind; there are: {', '.join(IdentifierKind)}"
            )
        try:
            from transformers import pipeline
        except ImportError:
            raise MedwardError("a token classifier needs transformers; pip install 'medward[huggingface]'") from None
        self._kinds = {label: IdentifierKind(kind) for label, kind in kinds.items()}
        self._classify: Any = pipeline(
            "token-classification",
            model=str(folder),
            tokenizer=str(folder),
            aggregation_strategy="simple",
        )

    def recognise(self, text: str) -> Iterator[IdentifierSpan]:
        """Spans of the labels that are identifiers."""
        for entity in self._classify(text):
            if kind := self._kinds.get(entity["entity_group"]):
                yield IdentifierSpan(int(entity["start"]), int(entity["end"]), kind, "model")
