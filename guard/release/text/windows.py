"""Blocks and windows: how a text of any length, or one that is still coming, is read piece by piece.

A text is cut into blocks, from left to right and by the text alone. The identifiers of a block are those that begin in
it; they are looked for in a window, which reaches a little further to both sides. So what is found does not depend on
how the text arrived, the time is linear in its length, and the memory is that of one window.
"""

from __future__ import annotations

BLOCK_LENGTH = 512
"""Characters of a block at most; it ends behind the last white space of its second half, if there is one."""
LOOKAHEAD = 256
"""Characters behind a block that its window shows: an address, or what is longer, is followed on."""
CONTEXT = 64
"""Characters before a block that its window shows."""
MAXIMUM_DELAY = BLOCK_LENGTH + LOOKAHEAD
"""A stream holds back fewer characters than this."""


def block_end(text: str, start: int) -> int:
    """Where the block that begins at `start` ends; the text must reach to `start + BLOCK_LENGTH` or be complete."""
    end = min(start + BLOCK_LENGTH, len(text))
    if end < start + BLOCK_LENGTH:
        return end
    space = max(text.rfind(each, start + BLOCK_LENGTH // 2, end) for each in " \n\t")
    return end if space < 0 else space + 1
