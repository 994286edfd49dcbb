"""What the console says, in each language; one file for each part of it, ``words/LANGUAGE/PART``.

A key is the part's name, a dot, and a name within the file. ``sentences`` are what the service
itself says in English, in errors and reasons: they are known by their shape.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources

import msgspec

# As HTML and HTTP name them; the first is what nobody asked otherwise gets.
LANGUAGES = {"en": "English", "zh": "中文"}
USUAL = next(iter(LANGUAGES))
_VALUE = re.compile(r"\{(\w+)\}")


@cache
def catalog(language: str) -> Mapping[str, str]:
    """Everything that is said in one language."""
    found: dict[str, str] = {}
    folder = resources.files(__package__) / "words" / language
    for part in folder.iterdir():
        texts = msgspec.json.decode(part.read_bytes(), type=dict[str, str])
        found |= {f"{part.name.removesuffix('.json')}.{key}": text for key, text in texts.items()}
    return found


@cache
def _sentences() -> Sequence[tuple[str, re.Pattern[str]]]:
    """What the service says, by key; what says most comes first."""
    found = [(key, text) for key, text in catalog(USUAL).items() if key.startswith("sentences.")]
    found.sort(key=lambda one: -len(_VALUE.sub("", one[1])))
    return [(key, re.compile(_shape(text), re.DOTALL)) for key, text in found]


def _shape(text: str) -> str:
    parts = _VALUE.split(text)
    # Literal texts stand between the names of values.
    return "".join(f"(?P<{part}>.+)" if n % 2 else re.escape(part) for n, part in enumerate(parts))


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

    def told(self, text: str) -> str | None:
        """Say in this language what the service says in English, if there are words for it.

        What a registry or a library says is in nobody's catalog, and stays as it is.
        """
        if self.language == USUAL:
            return text
        for key, shape in _sentences():
            if found := shape.fullmatch(text):
                values = {
                    name: self.told(value) or value for name, value in found.groupdict().items()
                }
                return self(key, **values)
        return None

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
