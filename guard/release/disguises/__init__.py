"""Disguises: the ways in which a text can hide what it says from a search and still say it, each undone here only.

Whatever reads what a model wrote reads it through these modules, so that a disguise that one filter knows all know:

- `characters`, `folded_text`, `folded_words`: alphabets, styles, accents, what is invisible, letter by letter;
- `letters`: a window of text, letter by letter, with look-alike digits, spelled numbers, the spelling alphabet;
- `encodings`: base64, hexadecimal and decimal codes, also within each other;
- `views`: a text token by token, for streams: markup left out, initials, leetspeak, encodings;
- `ciphers`: what is easier to look for than to undo: rot13, from the end.
"""
