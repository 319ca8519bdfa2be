"""Memory filter: no rare passage of the training texts leaves whole, as it stands or in a simple disguise.

Of every training text the passages are known that hardly any other patient's text has (`rare`), as keyed hashes in a
Bloom filter; an answer is read in several views (`views`), and where a view ends a known passage, that is taken out.
Boilerplate, made of phrases that many patients share, passes.

References: Ippolito et al., "Preventing verbatim memorization in language models gives a false sense of privacy", INLG
2023 (MemFree: a Bloom filter over n-grams, and how changes of style pass it); Zhang et al., "BloomScrub", 2025.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from medward.guard.errors import IntegrityError, MedwardError
from medward.guard.files import write_durably
from medward.guard.release.disguises.views import TokenReader
from medward.guard.release.memory.bloom import BloomFilter
from medward.guard.release.memory.memory_reader import STRIDE, MemoryScanner
from medward.guard.release.memory.rare import RareHashes, RareSettings
from medward.guard.release.memory.scanner import PassageScanner, Span
from medward.guard.release.memory.short_answers import ShortAnswers
from medward.guard.release.memory.training_runs import TrainingRuns
from medward.guard.release.memory.window_hash import WindowHash
from medward.guard.release.redaction_stream import RedactedText, RedactionStream, refuse_no_text, typed_mark

MEMORY_FILE = "memory.bloom"
"""The name of a memory filter's file in a bundle."""
_FORMAT = b"medward memory filter "
_MAGIC = _FORMAT + b"3\n"  # the version
_BLOCK = 1 << 14  # characters of a whole text that are read together
_DIGEST = 32
_SALT = 16  # bytes at least


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryFilter:
    """A memory filter takes out of an answer what the model can only know by heart.

    Guarantee: no passage of `settings.passage` letters that is rare in the training texts leaves whole, nor
    `settings.digits` digits in a row, in any of the views; not more than `reach` characters up to the end of such a
    passage are taken out at once. Short answers of a conversation (12 letters, or one word) that spell, one after the
    other, `settings.spelled` letters in a row of a training text near a rare passage, which hold a phrase that no more
    than `settings.patients` patients have, are taken out from the one on that completes them. Not covered: shorter
    stretches without digits, other wording, and disguises that are no view. Each stretch of other text is taken out
    with probability `false_positive`. Takes time linear in the text.
    """

    known: BloomFilter
    settings: RareSettings
    salt: bytes
    secret: bytes = field(repr=False)
    reach: int = 256
    _passages: WindowHash = field(init=False, repr=False, compare=False)
    _numbers: WindowHash = field(init=False, repr=False, compare=False)
    _spelled: WindowHash = field(init=False, repr=False, compare=False)
    _reader: TokenReader = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check_secrets(self.salt, self.secret)
        if self.reach < self.settings.passage:
            raise MedwardError(
                f"memory filter: reach must be at least the passage of {self.settings.passage} letters, "
                f"got {self.reach} characters"
            )
        passages, numbers, spelled = _window_hashes(self.settings, self.salt, self.secret)
        object.__setattr__(self, "_passages", passages)
        object.__setattr__(self, "_numbers", numbers)
        object.__setattr__(self, "_spelled", spelled)
        object.__setattr__(self, "_reader", TokenReader())

    @classmethod
    def fit(
        cls,
        texts: Sequence[str],
        patients: Sequence[object],
        *,
        settings: RareSettings | None = None,
        false_positive: float = 1e-6,
        salt: bytes,
        secret: bytes = b"",
        reach: int = 256,
    ) -> MemoryFilter:
        """Know the rare passages of training `texts`; `patients (n,)` says whose each is.

        `salt` is 16 random bytes or more. Without a `secret` whoever holds the file can test whether a text that he
        guesses was trained on; with one he needs that too. Raises `MedwardError` for no text, or for a patient
        missing.
        """
        _check_secrets(salt, secret)
        _check_training(texts, patients)
        settings = settings or RareSettings()
        numbered = {who: number for number, who in enumerate(dict.fromkeys(patients))}
        phrases = WindowHash(settings.phrase, salt + secret)
        rare = RareHashes(settings, phrases, *_window_hashes(settings, salt, secret), reach)
        hashes = rare.of([TrainingRuns.of(text) for text in texts], [numbered[who] for who in patients])
        known = BloomFilter.of(hashes, false_positive)
        return cls(known=known, settings=settings, salt=salt, secret=secret, reach=reach)

    @property
    def false_positive(self) -> float:
        """The probability that one stretch of letters which was in no training text is taken for a rare one."""
        return self.known.false_positive

    def find(self, text: str) -> list[Span]:
        """Spans (start, end) in characters of what may not leave, rising and apart."""
        return [(each.start, each.end) for each in self._redacted(text).spans]

    def redact(self, text: str) -> str:
        """`text` with a visible mark in the place of each span."""
        return self._redacted(text).text

    def stream(self, *, stride: int = STRIDE) -> RedactionStream:
        """A stream over one conversation: `finish` ends an answer, and what is pushed next begins the next one.

        `stride` characters are read together; fewer than `reach` + `stride` + 80 are held back.
        """
        return RedactionStream(readers=(self.scanner().reader(stride),), mark=typed_mark)

    def scanner(self) -> MemoryScanner:
        """A scanner of one conversation, which the readers of its answers share."""
        passages = PassageScanner(self.known, self._passages, self._numbers, self._reader, self.reach)
        return MemoryScanner(passages, ShortAnswers(self.known, self._spelled, self._reader), self.reach)

    def _redacted(self, text: str) -> RedactedText:
        refuse_no_text(text, str)
        stream = self.stream(stride=_BLOCK)
        blocks = [stream.push(text[start : start + _BLOCK]) for start in range(0, len(text), _BLOCK)]
        return RedactedText("".join([*blocks, stream.finish()]), tuple(stream.spans))

    def save(self, path: Path) -> None:
        """Write the file that `load` reads back equal: hashes and settings, no text, not the secret."""
        header = json.dumps({"settings": asdict(self.settings), "reach": self.reach, "salt": self.salt.hex()})
        content = header.encode() + b"\n" + self.known.bits.tobytes()
        try:
            write_durably(Path(path), _MAGIC + self._digest(content) + content)
        except OSError as error:
            raise MedwardError(
                f"{path}: cannot be written: {error.strerror}; give a file in a folder that is there"
            ) from None

    @classmethod
    def load(cls, path: Path, *, secret: bytes = b"") -> MemoryFilter:
        """Read what `save` wrote. Raises `IntegrityError` for anything else, and for another secret."""
        _check_bytes("secret", secret, 0)
        try:
            stored = Path(path).read_bytes()
        except OSError as error:
            raise IntegrityError(f"{path}: cannot be read: {error.strerror}; fit the memory filter again") from None
        if stored.startswith(_FORMAT) and not stored.startswith(_MAGIC):
            raise IntegrityError(f"{path}: is of another version than 3, which is read; fit the memory filter again")
        body = stored[len(_MAGIC) + _DIGEST :]
        header, _, bits = body.partition(b"\n")
        try:
            told = json.loads(header) if stored.startswith(_MAGIC) else {}
            found = cls(
                known=BloomFilter(np.frombuffer(bits, np.uint8)),
                settings=RareSettings(**told["settings"]),
                salt=bytes.fromhex(told["salt"]),
                secret=secret,
                reach=int(told["reach"]),
            )
        except (ValueError, KeyError, TypeError):
            raise IntegrityError(f"{path}: is no memory filter; fit it again") from None
        if stored[len(_MAGIC) : len(_MAGIC) + _DIGEST] != found._digest(body):
            raise IntegrityError(
                f"{path}: was changed, or fitted with another secret; give that secret or fit it again"
            )
        return found

    def _digest(self, content: bytes) -> bytes:
        return hashlib.blake2b(content, key=hashlib.sha256(self.secret).digest(), digest_size=_DIGEST).digest()


def _check_training(texts: Sequence[str], patients: Sequence[object]) -> None:
    """Refuse what is no list of texts with one patient for each."""
    for name, given in (("texts", texts), ("patients", patients)):
        if isinstance(given, str | bytes) or not hasattr(given, "__len__"):
            raise MedwardError(f"memory filter: {name} must be a list, got {type(given).__name__}; give one each")
    if not len(texts) or len(texts) != len(patients):
        raise MedwardError(f"memory filter: needs texts and one patient for each, got {len(texts)} and {len(patients)}")
    for place, text in enumerate(texts):
        if not isinstance(text, str):
            raise MedwardError(f"memory filter: text {place} must be a str, got {type(text).__name__}; leave it out")
    for place, who in enumerate(patients):
        if who is None or not isinstance(who, Hashable):
            raise MedwardError(
                f"memory filter: patient {place} must be a text or a number, got {type(who).__name__}; give a "
                "pseudonym for each"
            )


def _check_secrets(salt: object, secret: object) -> None:
    _check_bytes("salt", salt, _SALT)
    _check_bytes("secret", secret, 0)


def _check_bytes(name: str, value: object, least: int) -> None:
    said = f"{len(value)} bytes" if isinstance(value, bytes) else type(value).__name__
    if not isinstance(value, bytes) or len(value) < least:
        bound = f"{least} bytes or more" if least else "bytes"
        raise MedwardError(f"memory filter: {name} must be {bound}, got {said}; use secrets.token_bytes(16)")


def _window_hashes(settings: RareSettings, salt: bytes, secret: bytes) -> tuple[WindowHash, WindowHash, WindowHash]:
    """The hashes of passages, of numbers and of what is spelled, which follow from salt and secret."""
    seed = hashlib.blake2b(salt, key=hashlib.sha256(secret).digest()).digest()
    return (
        WindowHash(settings.passage, seed),
        WindowHash(settings.digits, seed + b"numbers"),
        WindowHash(settings.spelled, seed + b"spelled"),
    )
