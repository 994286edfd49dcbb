"""What a run leaves behind, fit to be compared with what another one left."""

from __future__ import annotations

from serving import Database

ENDS_S = 60.0

FINISHED = "SELECT state = 'finished' FROM run ORDER BY queued_at DESC LIMIT 1"
# Whose list is left behind is told by rows that do not depend on the order of its batches.
IMAGES = """
SELECT r.namespace || '/' || r.name, i.tag, i.digest, i.retired_at IS NOT NULL, i.held_at IS NULL,
    r.live_images, r.retired_at IS NOT NULL, r.fingerprint, r.verdict
FROM image i JOIN repository r ON r.id = i.repository_id ORDER BY 1, 2
"""
EVENTS = """
SELECT e.kind, r.namespace || '/' || r.name, e.tag, e.digest_before, e.digest_after
FROM event e JOIN repository r ON r.id = e.repository_id ORDER BY 2, 3, e.seq
"""
VERSIONS = """
SELECT r.namespace || '/' || r.name, i.tag, v.digest, b.kind, e.kind
FROM image_version v JOIN image i ON i.id = v.image_id JOIN repository r ON r.id = i.repository_id
LEFT JOIN event b ON b.seq = v.from_seq AND b.image_id = i.id
LEFT JOIN event e ON e.seq = v.to_seq AND e.image_id = i.id
ORDER BY 1, 2, v.from_seq
"""
RUN = """
SELECT outcome, listing, repositories_total, repositories_done, repositories_failed, images, added,
    moved, retired, restored, held, reasons FROM run ORDER BY queued_at DESC LIMIT 1
"""
REGISTRY = "SELECT verdict, verdict_reasons, live_images, held_images FROM registry"
LEFT_OVER = """
SELECT (SELECT count(*) FROM unit), (SELECT count(*) FROM listing),
    (SELECT count(*) FROM listing_row), (SELECT count(*) FROM run_page)
"""


def expect_one_end(database: Database) -> None:
    assert database.rows("SELECT state, count(*) FROM run GROUP BY 1") == [("finished", 2)]
    assert database.rows(LEFT_OVER) == [(0, 0, 0, 0)]
    (numbers,) = database.rows("SELECT count(*), min(seq), max(seq) FROM event")
    assert numbers == (numbers[0], 1, numbers[0])
    assert database.rows("SELECT seq FROM tenant_feed") == [(numbers[0],)]


def account(database: Database) -> dict[str, list]:
    """All that is stored of the list, its history and the run, fit to be compared."""
    queries = {"images": IMAGES, "events": EVENTS, "versions": VERSIONS}
    queries |= {"run": RUN, "registry": REGISTRY}
    return {what: [list(row) for row in database.rows(query)] for what, query in queries.items()}
