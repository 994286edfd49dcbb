from __future__ import annotations

import datetime as dt
import json
import threading

import pytest

from wharfinger.testing.content import OCI_INDEX, digest_of, image, index, index_of, wire_time
from wharfinger.testing.model import Clock, UnknownNameError, World, made_up_world
from wharfinger.testing.sample import PARTNER, sample_world


def test_the_same_calls_make_the_same_world():
    def make():
        world = World()
        world.push("team/a", "v1")
        world.push("team/a", "v2", platforms=("linux/amd64", "linux/arm64/v8"))
        world.move("team/a", "v1")
        return world

    first, second = make(), make()

    assert first.images() == second.images()
    assert first.repositories == second.repositories
    assert first.access_key() == second.access_key()


def test_a_moved_tag_keeps_its_id_and_size_and_changes_its_digest():
    world = World()
    before = world.push("team/a", "v1", platforms=("linux/amd64", "linux/arm64/v8"), size=1000)

    after = world.move("team/a", "v1")

    assert (after.id, after.content.size, after.created) == (before.id, 2000, before.created)
    assert after.content.digest != before.content.digest
    assert [child.variant for child in after.content.children] == ["", "v8"]
    assert after.updated > before.updated


def test_the_row_follows_the_tags_unless_the_change_is_quiet():
    world = World()
    world.push("team/a", "v1", size=10)
    loud = world.push("team/a", "v2", size=5)
    repository = world.repository("team/a")
    row = (repository.size, repository.num_images, repository.updated)

    world.push("team/a", "v3", quiet=True)
    world.delete_tag("team/a", "v1", quiet=True)

    assert row == (15, 2, loud.updated)
    assert (repository.size, repository.num_images, repository.updated) == row
    assert set(repository.tags) == {"v2", "v3"}


def test_deleting_counts_back():
    world = World()
    world.push("team/a", "v1", size=10)
    world.push("team/a", "v2", size=5)

    world.delete_tag("team/a", "v1")
    row = (world.repository("team/a").size, world.repository("team/a").num_images)
    world.delete_namespace("team")

    assert row == (5, 1)
    assert world.owned() == []


def test_what_is_not_there_is_named():
    world = World()
    world.push("team/a", "v1")

    for call in (
        lambda: world.tag("team/a", "v9"),
        lambda: world.delete_tag("team/b", "v1"),
        lambda: world.delete_repository("team/b"),
        lambda: world.delete_namespace("nobody"),
        lambda: world.unshare("team/a", "nobody"),
    ):
        with pytest.raises(UnknownNameError):
            call()


def test_a_share_lasts_until_it_expires_or_is_taken_back():
    world = World()
    world.push("lent/a", "v1", account=PARTNER)
    repository = world.repository("lent/a")
    world.share("lent/a", "acme", expires=world.clock.now() + dt.timedelta(hours=1))
    valid = world.share_is_valid(repository, "acme")

    world.clock.advance(3601)
    expired = world.share_is_valid(repository, "acme")
    world.unshare("lent/a", "acme")

    assert (valid, expired) == (True, False)
    assert world.shared_with("acme") == []


def test_pushes_from_many_threads_are_all_there():
    world = World()

    def push(worker):
        for number in range(50):
            world.push(f"team/app-{worker}", f"v{number}")

    threads = [threading.Thread(target=push, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    ids = [tag.id for repository in world.owned() for tag in repository.tags.values()]
    assert len(set(ids)) == 200
    assert all(repository.num_images == 50 for repository in world.owned())


@pytest.mark.parametrize(
    ("moment", "nanoseconds", "text"),
    [
        (dt.datetime(2024, 1, 2, 3, 4, 5, tzinfo=dt.UTC), 7, "2024-01-02T03:04:05Z"),
        (dt.datetime(2024, 1, 2, 3, 4, 5, 120_000, tzinfo=dt.UTC), 0, "2024-01-02T03:04:05.12Z"),
        (dt.datetime(2024, 1, 2, 3, 4, 5, 1, tzinfo=dt.UTC), 9, "2024-01-02T03:04:05.000001009Z"),
        (dt.datetime(1, 1, 1, tzinfo=dt.UTC), 0, "0001-01-01T00:00:00Z"),
        ("yesterday", 0, "yesterday"),
    ],
)
def test_times_have_up_to_nine_digits(moment, nanoseconds, text):
    assert wire_time(moment, nanoseconds) == text


def test_content_hashes_to_its_digests_and_adds_up():
    made = index("seed", created="2024-01-01T00:00:00Z", platforms=("linux/amd64", "linux/arm/v7"))

    everything = [made, *made.children]
    assert all(digest_of(content.manifest) == content.digest for content in everything)
    assert all(digest_of(child.config) == child.image_id for child in made.children)
    for child in made.children:
        manifest = json.loads(child.manifest)
        layers = sum(layer["size"] for layer in manifest["layers"])
        assert manifest["config"]["size"] + layers == child.size
    assert json.loads(made.manifest)["manifests"][1]["platform"]["variant"] == "v7"


def test_an_index_can_be_nested_and_share_children():
    child = image("child", created="2024-01-01T00:00:00Z")
    inner = index_of("inner", (child,), created="2024-01-01T00:00:00Z", media_type=OCI_INDEX)

    outer = index_of("outer", (inner, child), created="2024-01-01T00:00:00Z", media_type=OCI_INDEX)

    listed = [row["digest"] for row in json.loads(outer.manifest)["manifests"]]
    assert listed == [inner.digest, child.digest]


def test_a_clock_stands_moves_and_follows():
    clock = Clock(dt.datetime(2024, 1, 1, tzinfo=dt.UTC))
    clock.advance(60)
    moved = clock.now()

    clock.follow_real_time()

    assert moved == dt.datetime(2024, 1, 1, 0, 1, tzinfo=dt.UTC)
    assert abs(clock.now() - dt.datetime.now(dt.UTC)) < dt.timedelta(seconds=5)


def test_the_sample_is_believable_and_the_same_every_time():
    world, again = sample_world(), sample_world()
    repositories = world.owned()

    assert world.repositories == again.repositories
    assert 280 <= len(repositories) <= 320
    assert 3000 <= len(world.images()) <= 4000
    assert sum("/" in repository.name for repository in repositories) > 20
    kinds = [tag.content.is_index for r in repositories for tag in r.tags.values()]
    assert sum(kinds) > 20
    assert len(world.shared_with()) == 12
    assert world.clock.now() < dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    assert all(len(tag.name) <= 128 for r in repositories for tag in r.tags.values())


def test_a_large_world_is_made_quickly():
    begun = dt.datetime.now(dt.UTC)

    world = made_up_world(500, 20)

    assert len(world.images()) == 10_000
    assert dt.datetime.now(dt.UTC) - begun < dt.timedelta(seconds=10)
