"""How much of HSS's image family is offered: the SDK's operations beside our routes.

Run it to see the table and the number (``make coverage-hss``); ``--write`` brings the page in
``docs/`` up to date.
"""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path
from typing import NamedTuple

from wharfinger.http.app import create_app
from wharfinger.http.hss.not_offered import NOT_OFFERED

PAGE = Path(__file__).parents[2] / "docs" / "hss-coverage.md"
# The release in which an operation appeared, unless its handler says another.
FIRST = "0.1.0"


class SdkOperation(NamedTuple):
    """An operation as the official SDK sends it."""

    name: str
    method: str
    path: str
    function: str


def sdk_operations() -> list[SdkOperation]:
    """Every operation of the SDK with "image" in its path, by path."""
    from huaweicloudsdkhss import v5

    found = []
    for name, make in inspect.getmembers(v5.HssClient, inspect.ismethod):
        function = re.fullmatch(r"_(\w+)_http_info", name)
        if function is None:
            continue
        operation = _operation_of(v5, function[1])
        sent = make(getattr(v5, f"{operation}Request")())
        path = sent["resource_path"].removeprefix("/v5/{project_id}/")
        if "image" in path:
            found.append(SdkOperation(operation, sent["method"], path, function[1]))
    return sorted(found, key=lambda one: (one.path, one.method))


def _operation_of(v5, function: str) -> str:
    squeezed = function.replace("_", "") + "request"
    return next(n for n in dir(v5) if n.lower() == squeezed).removesuffix("Request")


def handlers():
    """Every HTTP handler below a project of HSS, by method and nameless path."""
    return {
        (method, nameless(route.path.removeprefix("/v5/{project_id:str}/"))): handler
        for route in create_app(None)._app.routes
        for handler in route.route_handlers
        for method in handler.http_methods - {"OPTIONS"}
        if route.path.startswith("/v5/")
    }


def nameless(path: str) -> str:
    return re.sub(r"\{[^}]*\}", "{}", path)


def coverage() -> list[tuple[SdkOperation, str | None]]:
    """Each operation, and since which release it is offered."""
    ours = handlers()
    rows = []
    for one in sdk_operations():
        handler = ours[one.method, nameless(one.path)]
        refused = NOT_OFFERED in handler.opt
        rows.append((one, None if refused else handler.opt.get("since", FIRST)))
    return rows


HEAD = """\
# How much of HSS is offered

**{offered} of {all}** operations of HSS v5 that have to do with images are offered: the ones that \
concern the list of images and its synchronisation. `make coverage-hss` prints this page, which a \
test holds to the code; the operations are those of the official SDK with `image` in their path. \
[hss.md](hss.md) says what the offered ones do.

All others answer 400 `HSS.0011` with a message that says so (`not_offered`), once the caller is \
authenticated; no permission is needed to hear it.

| operation | | path below `/v5/{{project_id}}/` | offered since |
|---|---|---|---|
"""


def page(rows) -> str:
    offered = sum(since is not None for _, since in rows)
    lines = [f"| {one.name} | {one.method} | `{one.path}` | {s or 'no'} |" for one, s in rows]
    return HEAD.format(offered=offered, all=len(rows)) + "\n".join(lines) + "\n"


if __name__ == "__main__":
    text = page(coverage())
    if "--write" in sys.argv[1:]:
        PAGE.write_text(text, "utf-8")
    sys.stdout.write(text)
