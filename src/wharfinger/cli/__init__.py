"""The command line: reads flags, calls a service, prints the answer."""

from __future__ import annotations

import sys

import typer

from wharfinger.cli import images, people, registries, serve, show_settings, sync
from wharfinger.cli.common import GlobalOptions, complain
from wharfinger.domain.errors import WharfingerError

app = typer.Typer(
    name="wharfinger",
    help="Keeps the list of every container image in every registry you own.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.callback()(GlobalOptions.from_flags)
app.command("serve")(serve.serve)
app.command("worker")(serve.worker)
app.command("sync")(sync.sync)
app.command("images")(images.images)
app.command("settings")(show_settings.settings)
app.add_typer(people.projects, name="project")
app.add_typer(people.credentials, name="credential")
app.add_typer(people.tokens, name="token")
app.add_typer(registries.registries, name="registry")


def main() -> None:
    """Run the command; errors made on purpose are one line and exit code 1."""
    try:
        app()
    except WharfingerError as error:
        complain(error, json="--json" in sys.argv)
        sys.exit(1)
    except BrokenPipeError:
        # The reader of our output has seen enough.
        sys.stderr.close()
        sys.exit(0)
