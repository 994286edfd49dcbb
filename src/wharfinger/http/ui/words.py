"""What the console says, in each language; one file for each part of it, ``words/LANGUAGE/PART``.

A key is the part's name, a dot, and a name within the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import resources

import msgspec

# As HTML and HTTP name them; the first is what nobody asked otherwise gets.
LANGUAGES = {"en": "English", "zh": "中文"}
USUAL = next(iter(LANGUAGES))


@cache
def catalog(language: str) -> Mapping[str, str]:
    """Everything that is said in one language."""
    found: dict[str, str] = {}
    folder = resources.files(__package__) / "words" / language
    for part in folder.iterdir():
        texts = msgspec.json.decode(part.read_bytes(), type=dict[str, str])
        found |= {f"{part.name.removesuffix('.json')}.{key}": text for key, text in texts.items()}
    return found


class Words:
    """Says things in one language."""

    def __init__(self, language: str) -> None:
        self.language = language
        self._texts = catalog(language)

    def __call__(self, key: str, /, **values: object) -> str:
        """Say what a key stands for; ``{name}`` in it is replaced by a value."""
        text = self._texts[key]
        return text.format(**values) if values else text

    def keys(self, beginning: str) -> list[str]:
        """All keys that begin alike, in their order in the file."""
        return [key for key in self._texts if key.startswith(beginning)]

    def has(self, key: str) -> bool:
        """Whether there is anything to say for a key."""
        return key in self._texts


def preferred(accept_language: str) -> str:
    """The language that a browser likes best among those there are."""
    wanted: list[tuple[float, int, str]] = []
    for part in accept_language.split(","):
        name, _, weight = part.strip().partition(";q=")
        language = name.partition("-")[0].lower()
        if language in LANGUAGES:
            wanted.append((-_number(weight), len(wanted), language))
    return min(wanted)[2] if wanted else USUAL


def _number(weight: str) -> float:
    try:
        return float(weight or 1)
    except ValueError:
        return 0.0
