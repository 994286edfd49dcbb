"""The command line: reads flags, calls a service, prints the answer."""

from __future__ import annotations

import sys

import typer

from wharfinger.cli import (
    audit,
    backups,
    doctor,
    enterprise_projects,
    exports,
    held,
    hints,
    history,
    images,
    labels,
    migrate,
    people,
    registries,
    report,
    schedules,
    serve,
    show_settings,
    swr,
    sync,
    upgrades,
    users,
    webhooks,
)
from wharfinger.cli.common import GlobalOptions, complain, print_json
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
app.command("migrate")(migrate.migrate)
app.command("sync")(sync.sync)
app.command("images")(images.images)
app.command("export")(exports.export)
app.command("backup")(backups.backup)
app.command("restore")(backups.restore)
app.command("upgrade-check")(upgrades.upgrade_check)
app.command("doctor")(doctor.doctor)
app.command("changes")(history.changes)
app.command("report")(report.report)
app.command("settings")(show_settings.settings)
app.add_typer(people.projects, name="project")
app.add_typer(people.credentials, name="credential")
app.add_typer(people.tokens, name="token")
app.add_typer(people.secret_keys, name="secret-key")
app.add_typer(users.users, name="user")
app.add_typer(users.policies, name="policy")
app.add_typer(enterprise_projects.enterprise_projects, name="enterprise-project")
app.add_typer(audit.audit, name="audit")
registries.registries.command("held")(held.list_held)
registries.registries.command("accept")(held.accept)
registries.registries.command("purge")(held.purge)
registries.registries.command("hint-token")(hints.hint_token)
app.add_typer(history.image, name="image")
app.add_typer(history.history, name="history")
app.add_typer(registries.registries, name="registry")
app.add_typer(swr.swr, name="swr")
app.add_typer(labels.labels, name="label")
app.add_typer(schedules.schedules, name="schedule")
app.add_typer(webhooks.webhooks, name="webhook")
people.projects.command("time-zone")(schedules.time_zone)


def main() -> None:
    """Run the command; errors made on purpose are one line and exit code 1, misuse is 2."""
    if "--json" in sys.argv:
        sys.exit(_run_for_machines())
    try:
        app()
    except WharfingerError as error:
        complain(error)
        sys.exit(1)


def _run_for_machines() -> int:
    """Run the command so that standard output holds one JSON document whatever happens."""
    try:
        return app(standalone_mode=False) or 0
    except WharfingerError as error:
        print_json({"error_code": error.code, "error_msg": str(error)})
        return 1
    except typer.Abort:
        print_json({"error_code": "interrupted", "error_msg": "interrupted"})
        return 1
    except Exception as error:
        # Typer's own errors have no public class in common; this method is what they share.
        message = getattr(error, "format_message", None)
        if message is not None:
            print_json({"error_code": "usage", "error_msg": message()})
            return 2
        print_json({"error_code": "error", "error_msg": f"an error of our own: {error!r}"})
        raise
