"""The pages of webhooks: what they show, what their forms do, and a secret that is shown once."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import uuid

import pytest
from visitor import Visitor

from leaks import LEAKS
from wharfinger.domain.errors import UnreachableError
from wharfinger.domain.ports import Reply
from wharfinger.domain.webhooks import TYPES
from wharfinger.http.ui.webhooks import CAME, STATES
from wharfinger.http.ui.words import catalog

EVIL = "<script>alert(1)</script>"
PLACE = "/console/settings/webhooks"
URL = "https://hooks.example.com/in?token=of-the-url"
EVERYTHING = {"Effect": "Allow", "Action": ["*:*:*"]}


class Receiver:
    """Answers in the place of the network, and keeps what was sent."""

    def __init__(self):
        self.log = []
        self.status = 204
        self.body = b""

    async def __call__(self, request, *, allow_private):
        self.log.append(request)
        if self.status is None:
            raise UnreachableError("hooks.example.com did not answer")
        return Reply(status=self.status, headers={}, body=self.body, url=request.url)


@pytest.fixture
def receiver(house, monkeypatch):
    found = Receiver()
    monkeypatch.setattr(house.services.webhooks, "_send", found)
    return found


@pytest.fixture
def hook(house, tenant, visitor):
    """A webhook that was added by its form; ``secret`` is what the answer showed."""
    tenant.registry_id = str(tenant.registry("docker", "Other"))
    tenant.hook, tenant.secret = add(visitor)
    return tenant


def add(visitor, name="chat", **fields):
    answer = filled_in(visitor, name=name, url=URL, **fields)
    assert answer.status == 200, answer.page.text
    (secret,) = re.findall(r"whsec_[A-Za-z0-9+/=]+", answer.page.text)
    # From here on no other answer may hold it.
    LEAKS.learn(secret)
    (webhook_id,) = set(re.findall(rf'"{PLACE}/([0-9a-f-]{{36}})"', answer.text))
    return f"{PLACE}/{webhook_id}", secret


def filled_in(visitor, path=f"{PLACE}/add", **fields):
    return visitor.submit(visitor.get(path), path, **fields)


def stored(tenant):
    return tenant.sql.execute(
        "SELECT name, types, pattern, labels, batch, pause_reason, change_seq, address"
        " FROM webhook WHERE project_id = %s ORDER BY name",
        (tenant.id,),
    ).fetchall()


def is_signed(request, secret):
    key = base64.b64decode(secret.removeprefix("whsec_"))
    said = f"{request.headers['webhook-id']}.{request.headers['webhook-timestamp']}.".encode()
    mac = base64.b64encode(hmac.digest(key, said + request.body, hashlib.sha256)).decode()
    return f"v1,{mac}" in request.headers["webhook-signature"].split()


def actions(tenant):
    return tenant.sql.execute(
        "SELECT action, target_name, source <> '' FROM audit WHERE project_id = %s"
        " AND action LIKE 'webhook.%%' ORDER BY id",
        (tenant.id,),
    ).fetchall()


# --- the secret -----------------------------------------------------------------------------------


def test_a_secret_is_shown_in_the_answer_to_its_making_and_never_again(visitor, tenant, receiver):
    answer = filled_in(visitor, name="chat", url=URL)
    (secret,) = re.findall(r"whsec_[A-Za-z0-9+/=]+", answer.page.text)

    assert (answer.status, answer.headers["Cache-Control"]) == (200, "no-store")
    assert "only time" in answer.page.text
    (webhook_id,) = set(re.findall(rf'"{PLACE}/([0-9a-f-]{{36}})"', answer.text))
    later = [visitor.get(PLACE + path) for path in ("", f"/{webhook_id}", f"/{webhook_id}/edit")]
    assert [one.status for one in later] == [200, 200, 200]
    assert not any(secret in one.text for one in later)
    visitor.submit(later[1], "/test")
    assert is_signed(receiver.log[0], secret)


def test_an_old_secret_signs_beside_the_new_one_for_as_long_as_was_asked(visitor, hook, receiver):
    for hours, is_kept in ((1, True), (0, False)):
        answer = visitor.submit(visitor.get(hook.hook), "/secret", keep_old_hours=hours)
        (secret,) = re.findall(r"whsec_[A-Za-z0-9+/=]+", answer.page.text)

        assert (answer.status, answer.headers["Cache-Control"]) == (200, "no-store")
        assert ("signs beside it for 1 hours" in answer.page.text) is is_kept
        assert secret not in visitor.get(hook.hook).text
        visitor.submit(visitor.get(hook.hook), "/test")
        assert is_signed(receiver.log[-1], secret)
        assert is_signed(receiver.log[-1], hook.secret) is is_kept
        hook.secret = secret


@pytest.mark.parametrize("hours", ["721", "-1", "a day", "9" * 19])
def test_an_old_secret_that_should_sign_for_too_long_is_refused_beside_the_field(
    visitor, hook, receiver, hours
):
    answer = visitor.submit(visitor.get(hook.hook), "/secret", keep_old_hours=hours)

    assert answer.status == 400
    assert "keep_old_hours-wrong" in answer.page.ids
    visitor.submit(visitor.get(hook.hook), "/test")
    assert is_signed(receiver.log[0], hook.secret)


def test_the_secret_part_of_a_url_is_shown_to_nobody_and_stays(visitor, hook, receiver):
    pages = [visitor.get(path) for path in (PLACE, hook.hook, f"{hook.hook}/edit")]

    answer = visitor.submit(pages[2], "/edit", name="other")

    assert answer.status == 303
    assert not any("of-the-url" in page.text for page in [*pages, visitor.follow(answer)])
    assert all("https://hooks.example.com/in" in page.text for page in pages)
    visitor.submit(visitor.get(hook.hook), "/test")
    assert receiver.log[0].url == URL


# --- forms ----------------------------------------------------------------------------------------


def test_a_webhook_tells_what_its_form_says(visitor, hook):
    hook.registry("other", "Other")
    path = f"{PLACE}/add"
    fields = visitor.get(path).page.form(path).fields | {"name": "narrow", "url": URL}
    fields |= {"pattern": "team/*", "labels": "owner=payments\r\n\r\nenvironment=live"}
    ticked = {"types": ["run.finished", "image.added"], "registries": ["docker"]}

    answer = visitor.post(path, fields | ticked | {"batch": "7"})

    LEAKS.learn(re.findall(r"whsec_[A-Za-z0-9+/=]+", answer.page.text)[0])
    labels = {"owner": "payments", "environment": "live"}
    assert stored(hook)[1] == (
        "narrow",
        ["image.added", "run.finished"],
        "team/*",
        labels,
        7,
        None,
        0,
        "https://hooks.example.com/in",
    )
    (registries,) = hook.sql.execute(
        "SELECT registries::text[] FROM webhook WHERE project_id = %s AND name = 'narrow'",
        (hook.id,),
    ).fetchone()
    assert registries == [hook.registry_id]


def test_what_is_not_ticked_any_more_is_not_asked_for_any_more(visitor, hook):
    path, _ = add(
        visitor,
        "narrow",
        types="image.added",
        registries="docker",
        pattern="team/*",
        labels="owner=payments",
    )
    form = visitor.get(f"{path}/edit").page.form("/edit").fields
    assert (form["types"], form["registries"]) == ("image.added", "docker")
    assert (form["pattern"], form["labels"]) == ("team/*", "owner=payments")

    kept = {name: form[name] for name in ("form_token", "name", "batch")}
    answer = visitor.post(f"{path}/edit", kept)

    assert answer.status == 303
    assert stored(hook)[1][1:4] == ([], None, {})
    assert "docker" not in visitor.get(path).text


def test_a_registry_that_was_removed_does_not_keep_a_webhook_from_being_changed(visitor, hook):
    path, _ = add(visitor, "narrow", registries="docker")
    hook.sql.execute("UPDATE registry SET removed_at = now() WHERE id = %s", (hook.registry_id,))

    answer = filled_in(visitor, f"{path}/edit", pattern="team/*")

    assert answer.status == 303, answer.page.text
    assert stored(hook)[1][2] == "team/*"


WRONG = [
    ({"name": ""}, "name", 400),
    ({"name": "chat"}, "name", 409),
    ({"url": ""}, "url", 400),
    ({"url": "http://hooks.example.com/"}, "url", 400),
    ({"url": "https://user:password@hooks.example.com/"}, "url", 400),
    ({"types": "image.burnt"}, "types", 400),
    ({"registries": "no such"}, "registries", 400),
    ({"registries": "no\0such"}, "registries", 400),
    ({"labels": "payments"}, "labels", 400),
    ({"labels": "Owner=payments"}, "labels", 400),
    ({"labels": "owner=a\nowner=b"}, "labels", 400),
    ({"pattern": "x" * 513}, "pattern", 400),
    ({"batch": "101"}, "batch", 400),
    ({"batch": "some"}, "batch", 400),
    ({"from_number": "99"}, "from_number", 400),
]


@pytest.mark.parametrize(("fields", "field", "status"), WRONG, ids=[str(one[0]) for one in WRONG])
def test_what_is_wrong_is_said_beside_its_field_and_the_rest_stays_filled_in(
    visitor, hook, fields, field, status
):
    given = {"name": "other", "url": URL, "pattern": "team/*"} | fields

    answer = filled_in(visitor, **given)

    assert answer.status == status, answer.page.text
    # Where no registry is to be chosen there is no such field, and the page says it at its top.
    assert f"{field}-wrong" in answer.page.ids, answer.page.ids
    form = answer.page.form("/add").fields
    assert form["pattern"] == given["pattern"]
    assert [row[0] for row in stored(hook)] == ["chat"]


def test_a_change_that_is_wrong_changes_nothing_and_says_where(visitor, hook):
    add(visitor, "other")

    taken = filled_in(visitor, f"{hook.hook}/edit", name="other")
    wrong = filled_in(visitor, f"{hook.hook}/edit", batch="0", name="third")

    assert (taken.status, wrong.status) == (409, 400)
    assert "name-wrong" in taken.page.ids
    assert "batch-wrong" in wrong.page.ids
    assert [row[0] for row in stored(hook)] == ["chat", "other"]


def test_a_webhook_may_tell_what_has_already_happened(visitor, hook):
    hook.sql.execute("UPDATE tenant_feed SET seq = 9 WHERE project_id = %s", (hook.id,))

    add(visitor, "early", from_number="4")
    add(visitor, "late")

    assert {row[0]: row[6] for row in stored(hook)} == {"chat": 0, "early": 3, "late": 9}


# --- what can be done with one --------------------------------------------------------------------


def test_a_webhook_is_paused_and_goes_on(visitor, hook):
    paused = visitor.submit(visitor.get(hook.hook), "/state")
    assert stored(hook)[0][5] == "asked"
    assert "paused" in visitor.follow(paused).page.text

    resumed = visitor.submit(visitor.get(hook.hook), "/state")

    assert stored(hook)[0][5] is None
    assert "goes on where it stopped" in visitor.follow(resumed).page.text


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (204, "taken"),
        (302, "Redirects are not followed"),
        (401, "has the present secret"),
        (404, "takes POST"),
        (410, "wants nothing more"),
        (429, "asked for patience"),
        (500, "receiver's own log"),
        (None, "did not answer"),
    ],
)
def test_a_test_says_what_came_back_and_what_to_do(visitor, hook, receiver, status, said):
    receiver.status, receiver.body = status, EVIL.encode()

    answer = visitor.submit(visitor.get(hook.hook), "/test")

    assert answer.status == 200
    assert said in answer.page.text
    assert b'"wharfinger.test"' in receiver.log[0].body
    assert EVIL not in answer.text
    assert "test event" in visitor.get(hook.hook).page.text


def _deliver(tenant, n=1, **columns):
    given = {
        "kind": "events",
        "event_id": f"change-{n}",
        "events": 1,
        "attempt": 1,
        "status": 500,
        "error": "",
        "latency_ms": 12,
        "excerpt": "no",
        "change_seq": n - 1,
        "notice_seq": 0,
    }
    given |= {"project_id": tenant.id, "webhook_id": tenant.hook.rpartition("/")[2]}
    return tenant._insert("webhook_delivery", given | columns)


def test_deliveries_are_turned_over_without_leaving_one_out(visitor, hook, monkeypatch):
    monkeypatch.setattr("wharfinger.http.ui.webhooks._DELIVERIES", 2)
    ids = [_deliver(hook, n) for n in range(1, 6)]

    found, path = [], hook.hook
    while path:
        answer = visitor.get(path)
        found += re.findall(r'<th scope="row" class="number">(\d+)</th>', answer.text)
        path = next((link for link in answer.page.links if "before=" in link), None)

    assert found == [str(one) for one in reversed(ids)]


def test_everything_is_told_again_from_a_delivery_or_a_number_on(visitor, hook):
    hook.sql.execute("UPDATE tenant_feed SET seq = 9 WHERE project_id = %s", (hook.id,))
    hook.sql.execute("UPDATE webhook SET change_seq = 9 WHERE project_id = %s", (hook.id,))
    _deliver(hook, 4)
    page = visitor.get(hook.hook)

    first = visitor.submit(page, "/replay")
    assert stored(hook)[0][6] == 3
    token = page.page.form("/test").fields
    second = visitor.post(f"{hook.hook}/replay", token | {"from_number": "8"})

    assert stored(hook)[0][6] == 7
    assert "told again" in visitor.follow(first).page.text
    assert second.status == 303


@pytest.mark.parametrize(
    ("fields", "status", "field"),
    [
        ({"from_number": "99"}, 400, "from_number-wrong"),
        ({"from_number": "soon"}, 400, "from_number-wrong"),
        ({}, 400, "from_number-wrong"),
        ({"delivery": "1234567"}, 404, "content"),
        ({"delivery": "9" * 19}, 400, "content"),
        ({"delivery": "the last"}, 400, "content"),
    ],
)
def test_a_replay_from_nowhere_moves_nothing(visitor, hook, fields, status, field):
    token = visitor.get(hook.hook).page.form("/test").fields

    answer = visitor.post(f"{hook.hook}/replay", token | fields)

    assert answer.status == status
    assert field in answer.page.ids
    assert stored(hook)[0][6] == 0


def test_a_webhook_goes_with_its_log_once_its_name_is_typed(visitor, hook):
    _deliver(hook)
    refused = visitor.submit(visitor.get(hook.hook), "/remove", name="chad")
    assert refused.status == 400
    assert "name-wrong" in refused.page.ids
    assert len(stored(hook)) == 1

    removed = visitor.submit(visitor.get(hook.hook), "/remove", name="chat")

    assert stored(hook) == []
    query = "SELECT count(*) FROM webhook_delivery WHERE project_id = %s"
    assert hook.sql.execute(query, (hook.id,)).fetchone() == (0,)
    assert "was removed" in visitor.follow(removed).page.text
    assert visitor.get(hook.hook).status == 404


def test_everything_that_is_done_is_in_the_audit(visitor, hook, receiver):
    _deliver(hook)
    for form, fields in (
        ("/state", {}),
        ("/test", {}),
        ("/replay", {}),
        ("/secret", {}),
        ("/remove", {"name": "chat"}),
    ):
        answer = visitor.submit(visitor.get(hook.hook), form, **fields)
        for secret in re.findall(r"whsec_[A-Za-z0-9+/=]+", answer.text):
            LEAKS.learn(secret)

    done = ["add", "set", "test", "replay", "rotate_secret", "remove"]
    assert actions(hook) == [(f"webhook.{one}", "chat", True) for one in done]


# --- what is shown, and to whom -------------------------------------------------------------------


def test_how_a_webhook_stands_is_said_in_words(visitor, hook):
    change = "UPDATE webhook SET {} WHERE project_id = %s"
    failing = "failures = 3, failing_since = now(), next_at = now() + interval '1 minute',"
    hook.sql.execute(change.format(f"{failing} last_at = now(), last_status = 503"), (hook.id,))
    shown = [visitor.get(PLACE).page.text, visitor.get(hook.hook).page.text]
    assert all("failing" in text for text in shown)
    assert "503" in shown[0]
    assert "3 attempts in a row" in shown[1]

    for reason, said in (("given_up", "was given up"), ("gone", "gone for good")):
        paused = f"paused_at = now(), pause_reason = '{reason}'"
        hook.sql.execute(change.format(paused), (hook.id,))
        page = visitor.get(hook.hook).page
        assert said in page.text
        assert page.form("/state").fields["paused"] == "false"


def test_every_state_type_and_answer_has_words():
    known = set(catalog("en"))

    assert {f"webhooks.type_{one.replace('.', '_')}" for one in TYPES} <= known
    assert {f"webhooks.{part}_{one}" for one in STATES for part in ("state", "meaning")} <= known
    assert {f"webhooks.came_{one}" for one in CAME} <= known
    assert {f"webhooks.came_{one}_advice" for one in CAME if one != "taken"} <= known


def test_what_others_have_written_is_text(visitor, hook):
    hook.sql.execute(
        "UPDATE webhook SET name = %s, pattern = %s, labels = jsonb_build_object('owner', %s::text)"
        " WHERE project_id = %s",
        (EVIL, EVIL, EVIL, hook.id),
    )
    _deliver(hook, error=EVIL, excerpt=EVIL, event_id=EVIL)
    hook.registry(EVIL, "Other")

    for path in (PLACE, hook.hook, f"{hook.hook}/edit"):
        answer = visitor.get(path)
        assert answer.status == 200
        assert answer.page.inline == []
        assert EVIL in answer.page.text
        assert EVIL not in answer.text


def test_whoever_may_only_look_is_offered_nothing_to_do(house, hook, add_user):
    _deliver(hook)
    reader = Visitor(house.port)
    reader.sign_in(add_user("reader", {"Effect": "Allow", "Action": ["wharfinger:*:list"]}))

    pages = [reader.get(path).page for path in (PLACE, hook.hook)]

    for page in pages:
        assert [form.action for form in page.forms] == ["/console/sign-out"]
        assert not any(link.endswith(("/add", "/edit")) for link in page.links)
    assert "chat" in pages[0].text


def test_a_webhook_that_is_not_ones_own_cannot_be_told_from_none(house, hook, add_user):
    stranger, narrow = Visitor(house.port), Visitor(house.port)
    stranger.sign_in(house.tenant().token)
    narrow.sign_in(add_user("bob", EVERYTHING, every=False))

    for visitor in (stranger, narrow):
        token = visitor.get("/console").page.form("/sign-out").fields
        assert "chat" not in visitor.get(PLACE).text
        for place in (hook.hook, f"{PLACE}/{uuid.uuid4()}"):
            looked = [visitor.get(place), visitor.get(f"{place}/edit")]
            done = [
                visitor.post(f"{place}/{form}", token | {"name": "chat"})
                for form in ("edit", "state", "secret", "test", "replay", "remove")
            ]
            assert {answer.status for answer in (*looked, *done)} == {404}
    assert [row[0] for row in stored(hook)] == ["chat"]
