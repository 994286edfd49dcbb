"""The routes of the console, below ``/console``."""

from __future__ import annotations

from litestar import Router
from litestar.di import Provide

from wharfinger.domain.errors import WharfingerError
from wharfinger.http.ui import (
    audit,
    changes,
    credentials,
    enterprise_projects,
    images,
    labels,
    oneself,
    overview,
    plots,
    progress,
    registries,
    roles,
    runs,
    schedules,
    settings,
    sign_in,
    users,
    webhooks,
)
from wharfinger.http.ui.assets import show_asset
from wharfinger.http.ui.failures import PREFIX, answer_page_failure
from wharfinger.http.ui.pages import HEADERS
from wharfinger.http.ui.visit import visit_of

PAGES = (
    show_asset,
    sign_in.show_sign_in,
    sign_in.sign_in,
    sign_in.sign_out,
    sign_in.show_look,
    sign_in.set_look,
    overview.show_overview,
    plots.show_growth,
    registries.list_registries,
    registries.show_add_form,
    registries.add_registry,
    registries.sync_all,
    registries.show_registry,
    registries.list_repositories,
    registries.show_edit_form,
    registries.change_registry,
    registries.remove_registry,
    registries.sync_registry,
    registries.pause_or_resume,
    registries.examine_registry,
    registries.accept_held,
    progress.watch_progress,
    images.list_images,
    images.export_images,
    images.show_image,
    runs.list_runs,
    runs.show_run,
    runs.show_differences,
    changes.list_changes,
    settings.show_settings,
    webhooks.list_webhooks,
    webhooks.show_webhook_form,
    webhooks.add_webhook,
    webhooks.show_webhook,
    webhooks.show_webhook_change,
    webhooks.change_webhook,
    webhooks.remove_webhook,
    webhooks.pause_or_resume_webhook,
    webhooks.rotate_webhook_secret,
    webhooks.test_webhook,
    webhooks.replay_webhook,
    schedules.list_schedules,
    schedules.set_schedule_time_zone,
    schedules.show_schedule,
    schedules.change_schedule,
    labels.list_labels,
    labels.list_labelled_repositories,
    labels.show_label_form,
    labels.put_label,
    labels.remove_label,
    users.list_users,
    users.show_add_user,
    users.add_user,
    users.show_user,
    users.set_roles,
    users.set_password,
    users.set_disabled,
    credentials.list_credentials,
    credentials.create_credential,
    credentials.replace_credential,
    credentials.revoke_credential,
    roles.show_roles,
    enterprise_projects.list_enterprise_projects,
    enterprise_projects.add_enterprise_project,
    enterprise_projects.show_enterprise_project,
    enterprise_projects.change_enterprise_project,
    enterprise_projects.grant_enterprise_project,
    enterprise_projects.revoke_enterprise_project,
    audit.list_audit,
    oneself.show_oneself,
    oneself.change_own_password,
    oneself.create_own_key,
    oneself.revoke_own_key,
)


def make_console() -> Router:
    """The pages with what they have in common."""
    return Router(
        path=PREFIX,
        route_handlers=PAGES,
        dependencies={"visit": Provide(visit_of)},
        response_headers=HEADERS,
        exception_handlers={
            WharfingerError: answer_page_failure,
            Exception: answer_page_failure,
        },
        include_in_schema=False,
    )
