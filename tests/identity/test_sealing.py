"""Secrets at rest."""

import stat

import pytest

from wharfinger.domain.errors import SetupError
from wharfinger.store.sealing import Sealer, new_key_line


@pytest.fixture
def path(tmp_path):
    return tmp_path / "data" / "secret.key"


def test_the_key_file_is_made_for_its_owner_alone(path):
    Sealer.from_file(path)

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["secret.key"]


def test_a_secret_comes_back_in_its_own_context_only(path):
    sealer = Sealer.from_file(path)

    sealed = sealer.seal("hush", context=b"a")

    assert b"hush" not in sealed
    assert Sealer.from_file(path).unseal(sealed, context=b"a") == "hush"
    with pytest.raises(SetupError, match="changed or moved"):
        sealer.unseal(sealed, context=b"b")


def test_equal_secrets_look_different(path):
    sealer = Sealer.from_file(path)

    assert sealer.seal("hush", context=b"") != sealer.seal("hush", context=b"")


@pytest.mark.parametrize("position", [5, 17, -1])
def test_a_changed_byte_is_noticed(path, position):
    sealer = Sealer.from_file(path)
    sealed = bytearray(sealer.seal("hush", context=b"a"))

    sealed[position] ^= 1

    with pytest.raises(SetupError):
        sealer.unseal(bytes(sealed), context=b"a")


def test_the_newest_key_seals_and_older_ones_still_unseal(path):
    before = Sealer.from_file(path).seal("hush", context=b"")
    with path.open("a") as file:
        file.write(new_key_line())

    both = Sealer.from_file(path)
    after = both.seal("hush", context=b"")

    assert before[1:5] != after[1:5]
    assert both.unseal(before, context=b"") == both.unseal(after, context=b"") == "hush"


def test_a_secret_under_a_lost_key_is_said_to_be_so(path, tmp_path):
    sealed = Sealer.from_file(path).seal("hush", context=b"")

    with pytest.raises(SetupError, match="lacks the key"):
        Sealer.from_file(tmp_path / "other.key").unseal(sealed, context=b"")


def test_a_key_file_that_others_may_read_is_refused(path):
    Sealer.from_file(path)
    path.chmod(0o640)

    with pytest.raises(SetupError, match="chmod 600"):
        Sealer.from_file(path)


@pytest.mark.parametrize("text", ["", "\n", "zz zz\n", "00112233 AAAA\n", "one two three\n"])
def test_a_key_file_without_a_key_is_refused(path, text):
    path.parent.mkdir()
    path.touch(mode=0o600)
    path.write_text(text)

    with pytest.raises(SetupError, match="secret key file"):
        Sealer.from_file(path)
