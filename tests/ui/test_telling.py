"""What the service says in English is said in the viewer's language, as far as there are words."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from visitor import Visitor

from wharfinger.domain.advice import ADVICE
from wharfinger.domain.examination import Diagnosis, Grade, Observation, Phrase
from wharfinger.domain.findings import SENTENCES, STEPS, in_english
from wharfinger.http.ui.words import Words, catalog
from wharfinger.service import doctor

SOURCE = Path(doctor.__file__).parents[1]
CHINESE = Words("zh")
EVERY_VALUE = re.compile(r"\{\w+\}")
LATIN = re.compile(r"[A-Za-z]{4,}")


def part(language, name) -> dict[str, str]:
    """The words of one file."""
    found = catalog(language).items()
    return {key.partition(".")[2]: text for key, text in found if key.startswith(f"{name}.")}


def literals() -> set[str]:
    """Every text in the code, with {} where a value stands."""
    found = set()
    for file in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
            elif isinstance(node, ast.JoinedStr):
                parts = (p.value if isinstance(p, ast.Constant) else "{}" for p in node.values)
                found.add("".join(parts))
    return found


@pytest.fixture
def chinese(house, tenant) -> Visitor:
    """The tenant's account, signed in, by a browser that likes Chinese best."""
    visitor = Visitor(house.port, language="zh-CN")
    visitor.sign_in(tenant.token)
    return visitor


def test_only_sentences_that_the_service_says_are_waited_for():
    said = literals()
    # A number that the code names may stand as one.
    shapes = {re.sub(r"\d+", "{}", text) for text in said} | said

    waited = {EVERY_VALUE.sub("{}", text) for text in part("en", "sentences").values()}

    assert {text for text in waited if re.sub(r"\d+", "{}", text) not in shapes} == set()


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("must be 1 to 64 characters", "须为 1 到 64 个字符"),
        ("must be given at most 7 times", "最多给出 7 次"),
        (
            "12 absent images are held: the registry listed nothing where 40 images were",
            CHINESE(
                "sentences.absent_held",
                count=12,
                why=CHINESE("sentences.listed_nothing", count=40),
            ),
        ),
        (
            "the project has a registry named 'a {b} c' already",
            "项目中已有名为 'a {b} c' 的镜像仓库",
        ),
        ("what nobody foresaw", None),
        ("must be 1 to 64 characters, or so", None),
    ],
)
def test_a_sentence_is_known_by_its_shape(said, expected):
    assert CHINESE.told(said) == expected
    assert Words("en").told(said) == said


def test_a_form_says_what_is_wrong_in_the_viewers_language(chinese):
    form = chinese.get("/console/registries/add?kind=Harbor")
    good = {"name": "depot", "address": "https://depot.example", "credential": "none"}
    wrong = [
        {"name": ""},
        {"address": "ftp://depot.example"},
        {"address": "https://u:p@depot.example"},
        {"credential": "basic", "identity": "", "secret": "x"},
        {"credential": "basic", "identity": "me", "secret": ""},
        {"credential": "access_key", "identity": "me", "secret": "x"},
        {"stale_after_hours": "never"},
        {"stale_after_hours": "0.001"},
        {"include": "x" * 600},
    ]

    for fields in wrong:
        answer = chinese.submit(form, "/add", **good | fields)
        problems = re.findall(r'<p class="problem".*?</p>', answer.text)
        assert answer.status == 400, fields
        assert problems, fields
        assert all(re.search("[\u4e00-\u9fff]", text) for text in problems), problems
        assert 'lang="en"' not in "".join(problems), problems


def test_a_page_that_fails_says_why_in_the_viewers_language(chinese, house, tenant, add_user):
    reader = Visitor(house.port, language="zh-CN")
    reader.sign_in(add_user("reader", {"Effect": "Allow", "Action": ["hss:images:list"]}))

    refused = reader.get("/console/registries")
    missing = chinese.get("/console/registries/no-such-one")

    assert "您的策略不允许 hss:imageRegistries:list" in refused.page.text
    assert "没有镜像仓库 no-such-one" in missing.page.text.replace("'", "")


def test_what_a_registry_says_itself_is_marked_as_english(chinese, tenant):
    said = '[{"code": "forbidden", "message": "denied: requested access"}]'
    tenant.registry("depot", "Other", verdict="partial", verdict_reasons=said)

    text = chinese.get("/console").text

    assert '<span class="said" lang="en">denied: requested access</span>' in text


# --- the doctor -----------------------------------------------------------------------------------


def phrase(code) -> Phrase:
    """A phrase with something for each of its values."""
    names = re.findall(r"\{(\w+)\}", SENTENCES[code])
    values = dict.fromkeys(names, 7) | {"duration": Phrase(code="under_a_second")}
    return Phrase(code=code, values={name: values[name] for name in names})


def diagnosis() -> Diagnosis:
    """One that says all there is to say."""
    said = [Observation(check="rate", grade=Grade.NOTE, said=(phrase(code),)) for code in SENTENCES]
    advised = [
        Observation(check="clock", grade=Grade.NOTE, said=(phrase("no_end"),), advice=code)
        for code in (*STEPS, *ADVICE)
    ]
    two = Observation(
        check="rate", grade=Grade.NOTE, said=(phrase("refused"), phrase("limit_stated"))
    )
    failed = Observation(
        check="catalog",
        grade=Grade.FAILED,
        error_code="forbidden",
        advice="forbidden",
        told="denied by the registry",
    )
    observations = (*said, *advised, two, failed)
    return Diagnosis(
        registry="depot", kind="Other", observations=observations, requests=3, seconds=0.5
    )


def test_the_console_has_words_for_all_that_the_doctor_may_say():
    english = part("en", "doctor")

    assert {k[5:]: text for k, text in english.items() if k.startswith("said_")} == SENTENCES
    assert {k[7:] for k in english if k.startswith("advice_")} == set(STEPS)
    code = Path(doctor.__file__).read_text("utf-8")
    named = set(re.findall(r'Phrase\(\s*code="(\w+)"', code))
    assert len(named) > 20
    assert named <= set(SENTENCES)
    assert set(re.findall(r'advice="(\w+)"', code)) <= {*STEPS, *ADVICE}


def test_the_command_line_and_the_api_are_told_in_english():
    *_, two, failed = in_english(diagnosis()).findings

    assert two.message == "7 requests were refused; the registry states a limit"
    assert (failed.message, failed.advice) == ("denied by the registry", ADVICE["forbidden"])


def test_the_doctors_report_is_in_the_viewers_language(chinese, house, tenant, monkeypatch):
    registry_id = tenant.registry("depot", "Other")

    async def found(caller, registry):
        return diagnosis()

    monkeypatch.setattr(house.services.doctor, "diagnose", found)
    page = chinese.get(f"/console/registries/{registry_id}")

    answer = chinese.submit(page, "/examination")

    table = answer.text.partition('id="examination"')[2].partition("</table>")[0]
    rows = re.findall(r"<tr>(<th scope=\"row\">.*?)</tr>", table)
    assert len(rows) == len(diagnosis().observations)
    both = (CHINESE("doctor.said_refused", count=7), CHINESE("doctor.said_limit_stated"))
    assert CHINESE("doctor.and").join(both) in table
    assert '<span class="said" lang="en">denied by the registry</span>' in rows[-1]
    names = {"https", "Docker", "Content", "Digest", "WHARFINGER", "ALLOW", "NETWORKS", "SBOM"}
    for row in rows[:-1]:
        assert set(LATIN.findall(re.sub(r"<[^>]*>", " ", row))) <= names, row
