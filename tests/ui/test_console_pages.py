"""What every page keeps to: headers, languages, permissions, and whose rows it shows."""

from __future__ import annotations

import json
import re
import uuid
from pathlib import Path

import pytest
from visitor import Visitor

from wharfinger.domain.advice import ADVICE
from wharfinger.domain.model import VerdictState
from wharfinger.http.app import create_app
from wharfinger.http.ui.assets import ASSETS, DIGEST, asset_path
from wharfinger.http.ui.registry_form import fields_of
from wharfinger.http.ui.visit import OF_ONESELF
from wharfinger.http.ui.words import LANGUAGES, catalog
from wharfinger.service.doctor import CHECKS
from wharfinger.sources import KINDS

ROOT = Path(__file__).parents[2]
DOCS = (ROOT / "docs" / "console.md").read_text("utf-8")
UI = ROOT / "src" / "wharfinger" / "http" / "ui"
ROW = re.compile(r"^\| `(GET|POST) (/console\S*)` \| `(\w+:\w+:\w+)` \|", re.MULTILINE)
DOCUMENTED = [match.groups() for match in ROW.finditer(DOCS)]
# No sign-in is asked for.
OPEN = {
    ("GET", "/console/sign-in"),
    ("POST", "/console/sign-in"),
    ("GET", "/console/static/{digest}/{name}"),
}
UNKNOWN = "00000000-0000-0000-0000-000000000000"


def routes():
    for route in create_app(None)._app.routes:
        if route.path.startswith("/console"):
            for handler in route.route_handlers:
                for method in handler.http_methods - {"OPTIONS"}:
                    path = re.sub(r":\w+\}", "}", route.path)
                    yield method, path, handler.opt.get("action")


# --- the door -------------------------------------------------------------------------------------


def test_browsers_are_sent_to_the_console(stranger):
    answer = stranger.get("/")

    assert (answer.status, answer.location) == (303, "/console")
    assert answer.headers["Vary"] == "Accept"


@pytest.mark.parametrize("accept", ["*/*", "application/json", "application/json, text/html;q=0.1"])
def test_programs_get_the_version_document(stranger, accept):
    answer = stranger.get("/", Accept=accept)

    assert answer.status == 200
    assert json.loads(answer.body)["name"] == "wharfinger"
    assert answer.headers["Vary"] == "Accept"


# --- header fields --------------------------------------------------------------------------------

PAGES = [
    "/console",
    "/console/registries",
    "/console/registries/add",
    "/console/registries/add?kind=Harbor",
    "/console/images",
    "/console/images?text=app&facets=true",
    "/console/images?at=2026-01-01T00:00",
    "/console/runs",
    "/console/changes",
    "/console/settings",
    "/console/settings/users",
    "/console/settings/users/add",
    "/console/settings/users/nobody",
    "/console/settings/credentials",
    "/console/settings/roles",
    "/console/settings/enterprise-projects",
    "/console/settings/enterprise-projects/0",
    "/console/settings/audit",
    "/console/me",
    "/console/settings/webhooks",
    "/console/settings/webhooks/add",
    "/console/settings/schedules",
    "/console/settings/labels",
    "/console/settings/labels/put",
    "/console/settings/labels/repositories",
    "/console/look",
    "/console/sign-in",
    "/console/nothing-here",
    "/console/registries/" + UNKNOWN,
]


@pytest.mark.parametrize("path", PAGES)
def test_a_page_lets_nothing_in_from_elsewhere(visitor, path):
    answer = visitor.get(path)

    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert not re.search(r"https?:|data:|\*", policy)
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "same-origin"
    assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert "camera=()" in answer.headers["Permissions-Policy"]
    assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("path", PAGES)
def test_a_page_is_made_of_our_own_files_and_nothing_inline(visitor, path):
    page = visitor.get(path).page

    assert page.inline == []
    assert page.assets
    assert all(asset.startswith(f"/console/static/{DIGEST}/") for asset in page.assets)
    assert all(link.startswith(("/console", "#", "?")) for link in page.links)
    assert len(page.ids) == len(set(page.ids))


def test_files_are_kept_for_ever_and_found_under_their_present_address_only(stranger):
    answers = {name: stranger.get(asset_path(name)) for name in ASSETS}

    assert {answer.status for answer in answers.values()} == {200}
    assert all("immutable" in answer.headers["Cache-Control"] for answer in answers.values())
    assert answers["console.css"].headers["Content-Type"] == "text/css; charset=utf-8"
    assert answers["console.js"].headers["Content-Type"] == "text/javascript; charset=utf-8"
    assert stranger.get(f"/console/static/0123456789abcdef/{'console.css'}").status == 404
    assert stranger.get(f"/console/static/{DIGEST}/pages.py").status == 404


def test_our_files_name_no_other_host():
    for name, asset in ASSETS.items():
        found = set(re.findall(rb"(?:https?:)?//[a-z0-9.-]+\.[a-z]{2,}", asset.body))
        assert found <= {b"http://www.w3.org"}, name


# --- languages ------------------------------------------------------------------------------------


def test_every_language_says_everything():
    keys = {language: set(catalog(language)) for language in LANGUAGES}

    for language, found in keys.items():
        assert found == keys["en"], (language, found ^ keys["en"])
        assert all(text.strip() for text in catalog(language).values()), language


def test_a_translation_fills_in_the_same_values():
    for key, text in catalog("en").items():
        wanted = set(re.findall(r"\{\w+\}", text))
        for language in LANGUAGES:
            assert set(re.findall(r"\{\w+\}", catalog(language)[key])) == wanted, (language, key)


def test_every_word_that_a_page_asks_for_is_there():
    asked = set()
    for file in [*UI.rglob("*.html"), *UI.glob("*.py")]:
        asked |= set(re.findall(r"""\b(?:t|words)\(\s*"(\w+\.\w+)"[,)]""", file.read_text("utf-8")))
        asked |= set(re.findall(r"""\bt\('(\w+\.\w+)'[,)]""", file.read_text("utf-8")))
    asked |= {f"common.verdict_{state}" for state in VerdictState}
    asked |= {f"reasons.{code}{part}" for code in ADVICE for part in ("", "_advice")}
    asked |= {f"doctor.{check}" for check in CHECKS}
    asked |= {f"registries.kind_{kind}" for kind in KINDS}
    asked |= {f"options.{kind}_{field.name}" for kind in KINDS for field in fields_of(kind)}

    assert len(asked) > 150
    assert asked <= set(catalog("en")), asked - set(catalog("en"))


def test_a_form_says_of_an_option_what_the_command_line_says():
    said = {
        f"options.{kind}_{field.name}": field.help for kind in KINDS for field in fields_of(kind)
    }

    assert said == {k: text for k, text in catalog("en").items() if k.startswith("options.")}


@pytest.mark.parametrize(
    ("accepted", "language", "title"),
    [
        ("zh-CN,zh;q=0.9,en;q=0.8", "zh-Hans", "登录"),
        ("en-GB,zh;q=0.5", "en", "Sign in"),
        ("fr", "en", "Sign in"),
        ("fr,zh;q=0.1", "zh-Hans", "登录"),
        ("zh;q=nonsense", "zh-Hans", "登录"),
    ],
)
def test_a_browser_is_answered_in_the_language_it_likes_best(house, accepted, language, title):
    answer = Visitor(house.port, language=accepted).get("/console/sign-in")

    assert answer.page.language == language
    assert title in answer.page.text


def test_a_language_chosen_at_the_door_is_kept_behind_it(house, tenant, stranger):
    stranger.get("/console/sign-in?lang=zh")

    page = stranger.sign_in(tenant.token).page

    assert page.language == "zh-Hans"
    assert "概览" in page.text


def test_language_theme_and_time_zone_are_remembered(visitor, tenant):
    tenant.registry("docker", "Other", confirmed_at="2026-11-01T00:00:00Z")
    chosen = {"language": "zh", "theme": "dark", "zone": "Asia/Shanghai"}

    answer = visitor.submit(visitor.get("/console/look"), "/look", **chosen)

    assert answer.status == 303
    shown = visitor.get("/console/registries")
    assert 'data-theme="dark"' in shown.text
    assert "2026-11-01 08:00:00" in shown.text
    assert "镜像仓库" in shown.text


def test_a_time_zone_that_there_is_not_is_refused_by_name(visitor):
    chosen = {"language": "en", "theme": "light", "zone": "Mars/Olympus"}

    answer = visitor.submit(visitor.get("/console/look"), "/look", **chosen)

    assert answer.status == 400
    assert "time_zone" in answer.page.text


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    ["/console/nothing-here", f"/console/registries/{UNKNOWN}", "/console/registries/no%20such"],
)
def test_what_is_not_there_is_a_page_with_what_to_do(visitor, path):
    answer = visitor.get(path)

    assert answer.status == 404
    assert "Go back and look for it again" in answer.page.text
    assert answer.headers["X-Request-Id"] in answer.text


def test_a_fault_of_ours_is_a_page_with_the_request_id_and_nothing_else(house, visitor):
    async def fails(*args, **options):
        raise RuntimeError("what nobody outside should read")

    overview = house.services.overview
    kept, overview.standings = overview.standings, fails
    try:
        answer = visitor.get("/console/registries")
    finally:
        overview.standings = kept

    assert answer.status == 500
    assert answer.headers["X-Request-Id"] in answer.text
    assert "nobody outside" not in answer.text


def test_nonsense_in_a_form_or_address_is_a_page_too(visitor):
    form = visitor.get("/console").page.form("/sign-out").fields

    answers = [
        visitor.get("/console?note=1&note=2"),
        visitor.get("/console/registries/add?kind=Nonsense"),
        visitor.post("/console/registries/add", {**form, "kind": "Nonsense"}),
        visitor.ask("POST", "/console/look", b"\xff\xfe=%ff", Origin=visitor.origin),
        visitor.post("/console/look", {**form, "language": "xx"}),
    ]

    assert [answer.status for answer in answers] == [400, 400, 400, 400, 400]
    assert all(answer.page.text for answer in answers)


# --- who may see what -----------------------------------------------------------------------------


def test_every_page_asks_for_an_action_that_the_docs_name():
    found = {(method, path, action) for method, path, action in routes()}

    asking = {row for row in found if row[2] != OF_ONESELF and row[:2] not in OPEN}
    assert all(action for _, _, action in asking)
    assert set(DOCUMENTED) == asking


@pytest.mark.parametrize(("method", "path", "action"), DOCUMENTED)
def test_a_page_is_closed_without_its_action_and_opened_by_it(
    house, tenant, add_user, method, path, action
):
    registry_id = str(tenant.registry("docker", "Other"))
    # There is no doctor in this house.
    which = UNKNOWN if path.endswith("/examination") else registry_id
    filled = re.sub(r"\{\w+\}", which, path)
    everything_else = add_user(
        "alice", {"Effect": "Allow", "Action": ["*:*:*"]}, {"Effect": "Deny", "Action": [action]}
    )
    only_this = add_user("bob", {"Effect": "Allow", "Action": [action]})
    answers = []
    for token in (everything_else, only_this):
        visitor = Visitor(house.port)
        visitor.post("/console/sign-in", {"way": "token", "token": token})
        form = visitor.get("/console/look").page.form("/sign-out").fields
        path = filled + ("?seconds=0" if filled.endswith("/progress") else "")
        answers.append(visitor.get(path) if method == "GET" else visitor.post(filled, form))

    assert answers[0].status == 403
    assert action in answers[0].text
    assert answers[1].status not in (401, 403, 500), answers[1].text


def test_what_may_not_be_done_is_not_offered(house, tenant, add_user):
    registry_id = tenant.registry("docker", "Other")
    visitor = Visitor(house.port)
    actions = ["hss:*:list", "wharfinger:*:list"]
    visitor.sign_in(add_user("reader", {"Effect": "Allow", "Action": actions}))

    page = visitor.get(f"/console/registries/{registry_id}").page

    assert [form.action for form in page.forms] == ["/console/sign-out"]
    assert not any(link.endswith("/edit") for link in page.links)


def test_another_tenants_registry_cannot_be_told_from_none(house, tenant, visitor):
    other = house.tenant()
    registry_id = other.registry("theirs", "Other")
    form = visitor.get("/console").page.form("/sign-out").fields

    for path in ("", "/edit", "/repositories", "/progress?seconds=0"):
        theirs, none = (
            visitor.get(f"/console/registries/{one}{path}") for one in (registry_id, UNKNOWN)
        )
        assert (theirs.status, none.status) == (404, 404), path
        assert "theirs" not in theirs.text
    for action in ("sync", "schedule", "examination", "accept", "remove", "edit"):
        answer = visitor.post(f"/console/registries/{registry_id}/{action}", form)
        assert answer.status == 404, action
    assert "theirs" not in visitor.get("/console/registries").text
    assert "theirs" not in visitor.get("/console").text


def test_an_enterprise_project_that_is_not_granted_is_not_shown(house, tenant, add_user):
    marshes = str(uuid.uuid4())
    house.run(_make_enterprise_project(house, tenant, marshes))
    tenant.registry("hidden-one", "Other", enterprise_project_id=marshes)
    tenant.registry("seen-one", "Other")
    token = add_user("bob", {"Effect": "Allow", "Action": ["*:*:*"]}, every=False)
    visitor = Visitor(house.port)

    pages = [visitor.sign_in(token), visitor.get("/console/registries")]

    assert "seen-one" in pages[1].text
    assert not any("hidden-one" in page.text for page in pages)


async def _make_enterprise_project(house, tenant, number):
    async with house.database.tenant(tenant.id) as tx:
        await tx.execute(
            "INSERT INTO enterprise_project (id, project_id, name) VALUES (%s, %s, 'marshes')",
            (number, tenant.id),
        )
