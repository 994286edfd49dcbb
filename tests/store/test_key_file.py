"""Who may be able to read the file of the keys."""

from __future__ import annotations

import pytest

from wharfinger.domain.errors import SetupError
from wharfinger.store import sealing
from wharfinger.store.sealing import Sealer, new_key_line


@pytest.fixture
def key(tmp_path):
    file = tmp_path / "secret.key"
    file.write_text(new_key_line())
    return file


def test_ones_own_file_is_nobody_elses(key):
    key.chmod(0o440)

    with pytest.raises(SetupError, match="has mode 0440"):
        Sealer.from_file(key)


def is_accepted(key):
    try:
        Sealer.from_file(key)
    except SetupError:
        return False
    return True


@pytest.mark.parametrize(("mode", "accepted"), [(0o440, True), (0o444, False), (0o460, False)])
def test_a_file_of_another_user_may_come_through_a_group(key, monkeypatch, mode, accepted):
    """A cluster mounts secrets as files of root's that the pod's group may read."""
    monkeypatch.setattr(sealing.os, "geteuid", lambda: key.stat().st_uid + 1)
    key.chmod(mode)

    assert is_accepted(key) is accepted
