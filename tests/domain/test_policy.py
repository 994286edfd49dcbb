"""What policies allow, and what of the cloud's JSON form is taken."""

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wharfinger.domain.errors import InvalidParameterError, NotAllowedError
from wharfinger.domain.model import Caller
from wharfinger.domain.policy import SYSTEM_POLICIES, covers, may, read_policy


def policy(*statements, version="1.1"):
    document = {
        "Version": version,
        "Statement": [{"Effect": effect, "Action": actions} for effect, actions in statements],
    }
    return read_policy(json.dumps(document))


def test_what_nobody_mentions_is_not_allowed():
    assert not may([], "hss:images:list")
    assert not may([policy(("Allow", ["hss:hosts:list"]))], "hss:images:list")
    assert may([policy(("Allow", ["hss:images:list"]))], "hss:images:list")


def test_a_deny_wins_wherever_it_stands():
    allow, deny = policy(("Allow", ["*:*:*"])), policy(("Deny", ["hss:images:*"]))
    both = policy(("Deny", ["hss:images:list"]), ("Allow", ["hss:images:list"]))

    for order in itertools.permutations([allow, deny]):
        assert not may(order, "hss:images:list")
    assert not may([both, allow], "hss:images:list")
    assert may([allow, deny], "hss:imageTasks:list")


@pytest.mark.parametrize(
    ("pattern", "matches"),
    [
        ("*:*:*", True),
        ("hss:*:list", True),
        ("hss:image*:list", True),
        ("hss:*ages:l*t", True),
        ("hss:*a*e*s:list", True),
        ("HSS:Images:LIST", True),
        ("hss:images:lis", False),
        ("hss:image*s*s:list", False),
        ("hss:*imagess:list", False),
        ("swr:*:*", False),
        ("hss:images:get", False),
    ],
)
def test_a_star_stands_for_any_text_within_a_part(pattern, matches):
    assert may([policy(("Allow", [pattern]))], "hss:images:list") is matches


@given(st.text("ab*", max_size=8), st.text("ab", max_size=8))
def test_stars_match_as_they_do_everywhere_else(pattern, part):
    import fnmatch

    if not pattern or not part:
        return
    allowed = may([policy(("Allow", [f"hss:images:{pattern}"]))], f"hss:images:{part}")

    assert allowed is fnmatch.fnmatchcase(part, pattern)


def test_many_stars_take_no_time():
    pattern = "*a" * 32

    assert not may([policy(("Allow", [f"hss:{pattern}:list"]))], f"hss:{'a' * 31}:list")


def test_reading_is_not_writing():
    held = [SYSTEM_POLICIES["read-only"]]

    assert may(held, "hss:images:list")
    assert may(held, "wharfinger:runs:get")
    assert not may(held, "hss:images:synchronize")
    assert not may(held, "wharfinger:heldImages:accept")
    assert not may([SYSTEM_POLICIES["full-access"]], "iam:tokens:get")
    assert may([SYSTEM_POLICIES["administrator"]], "iam:tokens:get")


def test_identity_policies_need_no_allow_where_the_cloud_asks_for_none():
    unrelated = policy(("Allow", ["ecs:servers:list"]), version="5.0")
    deny = policy(("Deny", ["hss:images:synchronize"]), version="5.0")
    older = policy(("Allow", ["ecs:servers:list"]))

    assert may([unrelated], "hss:images:synchronize", free=True)
    assert not may([unrelated], "wharfinger:changes:list")
    assert not may([unrelated, deny], "hss:images:synchronize", free=True)
    assert not may([older], "hss:images:synchronize", free=True)
    assert not may([], "hss:images:synchronize", free=True)


@pytest.mark.parametrize(
    ("document", "parameter"),
    [
        ("", "policy"),
        ("[]", "policy"),
        ('{"Statement": []}', "policy"),
        ('{"Version": "2", "Statement": [{"Effect": "Allow", "Action": ["a:b:c"]}]}', "Version"),
        ('{"Version": "1.1", "Statement": []}', "Statement"),
        (
            '{"Version": "1.1", "Statement": [{"Effect": "Maybe", "Action": ["a:b:c"]}]}',
            "Statement.Effect",
        ),
        (
            '{"Version": "1.1", "Statement": [{"Effect": "Allow", "Action": ["a:b"]}]}',
            "Statement.Action",
        ),
        (
            '{"Version": "1.1", "Statement": [{"Effect": "Allow", "Action": []}]}',
            "Statement.Action",
        ),
        (
            (
                '{"Version": "1.1", "Statement": [{"Effect": "Allow", "Action": ["a:b:c"],'
                ' "Condition": {}}]}'
            ),
            "Statement.Condition",
        ),
        (
            (
                '{"Version": "1.1", "Statement": [{"Effect": "Allow", "Action": ["a:b:c"],'
                ' "Resource": ["hss:*:*:image:1"]}]}'
            ),
            "Statement.Resource",
        ),
        ('{"Version": "1.1", "Statement": ["x"]}', "Statement[0]"),
        ('{"Version": "1.1", "Depends": [], "Statement": []}', "Depends"),
    ],
)
def test_what_would_not_be_weighed_is_refused_by_name(document, parameter):
    with pytest.raises(InvalidParameterError) as refused:
        read_policy(document)

    assert refused.value.parameter == parameter


def test_a_refusal_names_the_action():
    caller = Caller(project_id="p", project_name="p", principal="x", policies=())

    with pytest.raises(NotAllowedError, match="hss:images:list"):
        caller.require("hss:images:list")


# --- who may give what ----------------------------------------------------------------------------

EVERYTHING = policy(("Allow", ["*:*:*"]))


@pytest.mark.parametrize(
    ("held", "wanted", "is_covered"),
    [
        ([EVERYTHING], [SYSTEM_POLICIES["full-access"]], True),
        ([SYSTEM_POLICIES["full-access"]], [SYSTEM_POLICIES["read-only"]], True),
        ([SYSTEM_POLICIES["full-access"]], [EVERYTHING], False),
        ([SYSTEM_POLICIES["read-only"]], [SYSTEM_POLICIES["full-access"]], False),
        ([], [policy(("Deny", ["*:*:*"]))], True),
        ([], [], True),
        ([policy(("Allow", ["hss:i*:list"]))], [policy(("Allow", ["hss:image*:list"]))], True),
        ([policy(("Allow", ["hss:image*:list"]))], [policy(("Allow", ["hss:i*:list"]))], False),
        # A Deny of one's own counts where the other speaks of what it denies.
        ([EVERYTHING, policy(("Deny", ["hss:images:*"]))], [EVERYTHING], False),
        (
            [EVERYTHING, policy(("Deny", ["*:*:*set"]))],
            [policy(("Allow", ["hss:images:re*"]))],
            False,
        ),
        (
            [EVERYTHING, policy(("Deny", ["*:*:*set"]))],
            [policy(("Allow", ["hss:images:list"]))],
            True,
        ),
        (
            [EVERYTHING, policy(("Deny", ["hss:images:*"]))],
            [EVERYTHING, policy(("Deny", ["hss:*:*"]))],
            True,
        ),
        # An identity policy opens HSS without saying so.
        ([SYSTEM_POLICIES["read-only"]], [policy(("Deny", ["x:y:z"]), version="5.0")], False),
        ([policy(("Deny", ["x:y:z"]), version="5.0")], [policy(("Allow", ["hss:*:*"]))], True),
    ],
)
def test_policies_cover_what_allows_no_more(held, wanted, is_covered):
    assert covers(held, wanted) is is_covered


words = st.sampled_from(
    ["".join(part) for n in (1, 2, 3) for part in itertools.product("ab*", repeat=n)]
)
statements = st.tuples(st.sampled_from(["Allow", "Deny"]), st.lists(words, min_size=1, max_size=2))
some_policies = st.lists(
    st.builds(
        lambda parts, version: policy(
            *(
                (effect, [f"s:{a}:{b}" for a, b in itertools.pairwise([*acts, acts[0]])])
                for effect, acts in parts
            ),
            version=version,
        ),
        st.lists(statements, min_size=1, max_size=2),
        st.sampled_from(["1.1", "5.0"]),
    ),
    max_size=2,
)
ACTIONS = [
    f"s:{a}:{b}"
    for a, b in itertools.product(
        ["".join(p) for n in (1, 2, 3) for p in itertools.product("ab", repeat=n)], repeat=2
    )
]


@given(some_policies, some_policies)
def test_whoever_is_covered_may_do_nothing_that_the_other_may_not(held, wanted):
    if covers(held, wanted):
        assert [a for a in ACTIONS if may(wanted, a) and not may(held, a)] == []


@given(some_policies)
def test_everybody_covers_themselves(held):
    assert covers(held, held)
