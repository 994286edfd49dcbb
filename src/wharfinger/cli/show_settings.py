"""What is set, and where it was set."""

from __future__ import annotations

from wharfinger.cli.common import JsonFlag, print_json, print_table, settings_of


def settings(json: JsonFlag = False) -> None:
    """List every setting with its value and source (flag, environment or default)."""
    described = settings_of().described
    if json:
        print_json(
            [
                {"name": s.name, "variable": s.variable, "value": s.shown, "source": s.origin}
                for s in described
            ]
        )
    else:
        rows = [(s.variable, s.shown, s.origin, s.help) for s in described]
        print_table(["setting", "value", "source", "meaning"], rows)
