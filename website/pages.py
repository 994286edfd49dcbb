"""What the documentation site has besides the files in docs/: pages made from the code itself."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer.main
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from wharfinger.cli import app as command_line
from wharfinger.domain.errors import WharfingerError
from wharfinger.http.app import create_app
from wharfinger.http.openapi import describe
from wharfinger.settings import read_settings
from wharfinger.sources import KINDS, kind_options

ROOT = Path(__file__).parents[1]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages; mkdocs calls this once it has found those in docs/."""
    for path, text in pages():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """Lead to the page that the README is here."""
    return markdown.replace("](../README.md)", "](index.md)")


def pages() -> Iterator[tuple[str, str]]:
    """Each page that is made here: its path, and its text in Markdown."""
    readme = (ROOT / "README.md").read_text("utf-8")
    yield "index.md", _from_root(readme)
    yield "changes.md", _changes()
    yield "reference/settings.md", _page("Every setting", _settings())
    yield "reference/commands.md", _page("Every command", _commands())
    yield "reference/errors.md", _page("Every error code", _errors())
    yield "reference/kinds.md", _page("Every kind's options", _kinds())
    yield "reference/http.md", _page("Every route", _routes())


def _changes() -> str:
    log = (ROOT / "CHANGELOG.md").read_text("utf-8")
    fragments = sorted((ROOT / "changes").glob("*.*.md"))
    new = "\n".join(f"- {fragment.read_text('utf-8').strip()}" for fragment in fragments)
    log = log.replace("[changes/](changes/README.md), one file a change.", f"this list:\n\n{new}")
    return _from_root(log)


def _from_root(text: str) -> str:
    return text.replace("](docs/", "](").replace("](CHANGELOG.md)", "](changes.md)")


def _page(title: str, lines: Iterator[str]) -> str:
    return "\n".join([f"# {title}", "", "Made from the code when this site was built.", "", *lines])


def _row(*cells: object) -> str:
    return (
        "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
    )


def _table(*heads: str) -> list[str]:
    return [_row(*heads), _row(*("---" for _ in heads))]


# --- settings, errors, kinds ---------------------------------------------------------------------


def _settings() -> Iterator[str]:
    yield from _table("environment", "default", "meaning")
    for setting in read_settings({}, {}).described:
        # The default of a path is this machine's own affair.
        shown = "" if isinstance(setting.value, Path) else setting.shown
        yield _row(f"`{setting.variable}`", f"`{shown}`" if shown else "", setting.help)


def _errors() -> Iterator[str]:
    yield from _table("code", "what happened")
    for error in sorted(set(_descendants(WharfingerError)), key=lambda error: error.code):
        if error.__module__ == "wharfinger.domain.errors":
            summary = (error.__doc__ or "").partition("\n")[0]
            yield _row(f"`{error.code}`", summary.replace("``", "`"))


def _descendants(error: type[WharfingerError]) -> Iterator[type[WharfingerError]]:
    yield error
    for child in error.__subclasses__():
        yield from _descendants(child)


def _kinds() -> Iterator[str]:
    for kind in KINDS:
        yield from ("", f"## {kind}", "")
        yield from _table("option", "default", "meaning")
        for option in dataclasses.fields(kind_options(kind)):
            default = "" if option.default in (None, "", ()) else f"`{option.default}`"
            yield _row(f"`{option.name}`", default, option.metadata.get("help", ""))


# --- commands ------------------------------------------------------------------------------------


def _commands() -> Iterator[str]:
    for words, command in _leaves(typer.main.get_command(command_line)):
        yield from ("", f"## wharfinger {words}", "", _escaped(command.help or ""), "")
        yield from _table("", "", "meaning")
        for parameter in command.params:
            if not getattr(parameter, "hidden", False):
                yield _row(*_cells(parameter))


def _leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    children = getattr(command, "commands", None) or {}
    if not children:
        yield " ".join(path), command
    for name, child in children.items():
        yield from _leaves(child, (*path, name))


def _cells(parameter: Any) -> tuple[str, str, str]:
    optional = parameter.param_type_name == "option"
    name = ", ".join(parameter.opts) if optional else (parameter.metavar or parameter.name)
    needed = "required" if parameter.required else ""
    return f"`{name}`", needed, _escaped(getattr(parameter, "help", "") or "")


def _escaped(text: str) -> str:
    return re.sub(r"([<>*_\[\]{}])", r"\\\1", text)


# --- routes --------------------------------------------------------------------------------------


def _routes() -> Iterator[str]:
    # Routes need no services to be described.
    document = describe(create_app(None)._app)  # type: ignore[arg-type] # noqa: SLF001
    yield "The same as a document: `GET /api/openapi.json`, OpenAPI 3.1."
    for tag in document["tags"]:
        yield from ("", f"## {tag['name']}", "", tag["description"])
        for path, methods in document["paths"].items():
            for method, operation in methods.items():
                if operation["tags"] == [tag["name"]]:
                    yield from _route(method, path, operation)


def _route(method: str, path: str, operation: dict[str, Any]) -> Iterator[str]:
    yield from ("", f"### {method.upper()} `{path}`", "", operation["summary"], "")
    asked = [one for one in operation["parameters"] if one["in"] == "query"]
    if asked:
        yield from _table("parameter", "range", "meaning")
    for one in asked:
        yield _row(f"`{one['name']}`", _range(one["schema"]), one.get("description", ""))


def _range(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "items" in schema:
        return f"list of {_range(schema['items'])}"
    ends = [
        str(schema[key])
        for key in ("minimum", "maximum", "minLength", "maxLength")
        if key in schema
    ]
    unit = " characters" if "maxLength" in schema else ""
    return f"{schema.get('type', 'anything')} {' to '.join(ends)}{unit}".strip()
