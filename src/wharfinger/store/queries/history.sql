-- History: the feed, the list of a past moment, lives, runs, and where all of it begins.

-- name: feed
SELECT seq, horizon_seq, horizon_at FROM tenant_feed WHERE project_id = %(project)s

-- name: seq_at
-- The last number that was given by then, or the horizon. Later numbers never have an earlier time
-- and there are no gaps, so halving finds it, however many events share one time.
WITH RECURSIVE halving (low, high) AS (
    SELECT f.horizon_seq, f.seq FROM tenant_feed f WHERE f.project_id = %(project)s
    UNION ALL
    SELECT CASE WHEN asked.was_by_then THEN asked.middle ELSE asked.low END,
           CASE WHEN asked.was_by_then THEN asked.high ELSE asked.middle - 1 END
    FROM (
        -- Looked up by its number alone: a join would be planned for all events at once.
        SELECT h.low, h.high, h.middle, (
            SELECT e.at <= %(at)s FROM event e
            WHERE e.project_id = %(project)s AND e.seq = h.middle) AS was_by_then
        FROM (SELECT *, (low + high + 1) / 2 AS middle FROM halving WHERE low < high) h
    ) asked
)
SELECT h.low FROM halving h WHERE h.low = h.high

-- name: time_of
SELECT at FROM event WHERE project_id = %(project)s AND seq = %(seq)s

-- name: changes
SELECT e.seq, e.kind, e.at, e.run_id::text, e.registry_id::text, g.name, e.image_id, r.namespace,
    r.name, e.tag, e.digest_before, e.digest_after,
    e.digest_before IS NULL AND e.digest_after IS NULL AS is_purged
FROM event e
LEFT JOIN repository r ON r.id = e.repository_id
LEFT JOIN registry g ON g.id = e.registry_id
LEFT JOIN purged_registry p ON p.id = e.registry_id
WHERE e.project_id = %(project)s AND e.seq > %(after)s AND e.seq <= %(newest)s
  -- What was erased before it was remembered where, was in the default one: there was no other.
  AND coalesce(g.enterprise_project_id, p.enterprise_project_id, '0')
    = ANY(%(enterprise_projects)s)
ORDER BY e.seq LIMIT %(limit)s

-- name: recent_changes
-- A window of numbers, so that a filter that few events match reads so many and no more.
SELECT e.seq, e.kind, e.at, e.run_id::text, e.registry_id::text, g.name, e.image_id, r.namespace,
    r.name, e.tag, e.digest_before, e.digest_after,
    e.digest_before IS NULL AND e.digest_after IS NULL AS is_purged
FROM event e
LEFT JOIN repository r ON r.id = e.repository_id
LEFT JOIN registry g ON g.id = e.registry_id
LEFT JOIN purged_registry p ON p.id = e.registry_id
WHERE e.project_id = %(project)s AND e.seq > %(low)s AND e.seq < %(before)s
  AND (%(registry)s::uuid IS NULL OR e.registry_id = %(registry)s)
  AND (%(kind)s::text IS NULL OR e.kind = %(kind)s)
  -- What was erased before it was remembered where, was in the default one: there was no other.
  AND coalesce(g.enterprise_project_id, p.enterprise_project_id, '0')
    = ANY(%(enterprise_projects)s)
ORDER BY e.seq DESC LIMIT %(limit)s

-- name: images_as_of
-- One state per image holds at any number, so the primary key gives the pages in their order; the
-- rest is looked up for each, by OFFSET 0: the planner would rather walk all tenants' images. What
-- was no container image then is kept out, as from the current list.
SELECT v.image_id, g.id::text, g.name, g.kind, r.namespace, r.name, i.tag, v.digest,
    v.config_digest, v.size, v.updated_at, v.is_index, v.from_seq,
    v.run_id::text
FROM image_version v
CROSS JOIN LATERAL (
    SELECT i.tag, i.repository_id, i.registry_id FROM image i WHERE i.id = v.image_id OFFSET 0
) i
JOIN repository r ON r.id = i.repository_id
JOIN registry g ON g.id = i.registry_id
WHERE v.project_id = %(project)s AND v.image_id > %(after)s
  AND v.from_seq <= %(seq)s AND (v.to_seq IS NULL OR v.to_seq > %(seq)s)
  AND v.artifact_type = ''
  AND g.enterprise_project_id = ANY(%(enterprise_projects)s)
  AND (%(registry)s::text IS NULL OR g.name = %(registry)s)
  AND (%(kind)s::text IS NULL OR g.kind = %(kind)s)
  AND (%(namespace)s::text IS NULL OR r.namespace = %(namespace)s)
  AND (%(name_pattern)s::text IS NULL OR r.name ILIKE %(name_pattern)s)
  AND (%(tag)s::text IS NULL OR i.tag = %(tag)s)
ORDER BY v.image_id LIMIT %(limit)s

-- name: verdicts_then
SELECT g.id::text, g.name, g.kind, last.outcome, last.reasons, good.started_at AS confirmed_at,
    whole.started_at AS read_at, extract(epoch FROM g.stale_after)::bigint, last.id::text,
    last.requests, extract(epoch FROM last.finished_at - last.started_at)::float8,
    %(at)s - good.started_at > g.stale_after AS is_stale,
    EXISTS (
        SELECT FROM run r WHERE r.registry_id = g.id AND r.kind = 'sync' AND r.outcome <> 'failed'
          AND r.finished_at <= %(at)s AND r.finished_seq <= %(seq)s
    ) AS was_ever_listed
FROM registry g
LEFT JOIN LATERAL (
    SELECT r.* FROM run r WHERE r.registry_id = g.id AND r.kind = 'sync'
      AND r.finished_at <= %(at)s AND r.finished_seq <= %(seq)s
    ORDER BY r.finished_at DESC LIMIT 1
) last ON true
LEFT JOIN LATERAL (
    SELECT r.started_at FROM run r WHERE r.registry_id = g.id AND r.kind = 'sync'
      AND r.finished_at <= %(at)s AND r.finished_seq <= %(seq)s
      AND r.outcome IN ('complete', 'held')
    ORDER BY r.finished_at DESC LIMIT 1
) good ON true
LEFT JOIN LATERAL (
    SELECT r.started_at FROM run r WHERE r.registry_id = g.id AND r.kind = 'sync'
      AND r.finished_at <= %(at)s AND r.finished_seq <= %(seq)s
      AND r.outcome IN ('complete', 'held') AND r.repositories_skipped = 0
    ORDER BY r.finished_at DESC LIMIT 1
) whole ON true
WHERE g.project_id = %(project)s AND g.created_at <= %(at)s 
  AND (g.removed_at IS NULL OR g.removed_at > %(at)s)
  AND g.enterprise_project_id = ANY(%(enterprise_projects)s)
ORDER BY g.name, g.id

-- name: verdicts_now
SELECT g.id::text, g.name, g.kind,
    CASE WHEN g.verdict = 'complete' AND g.confirmed_at < now() - g.stale_after THEN 'stale'
        ELSE g.verdict END,
    g.verdict_reasons, g.confirmed_at, g.read_at, extract(epoch FROM g.stale_after)::bigint,
    last.id::text, last.requests,
    extract(epoch FROM last.finished_at - last.started_at)::float8,
    (SELECT count(*) FROM repository r WHERE r.registry_id = g.id AND r.retired_at IS NULL),
    g.live_images, g.held_images
FROM registry g
LEFT JOIN LATERAL (
    SELECT r.* FROM run r
    WHERE r.registry_id = g.id AND r.kind = 'sync' AND r.state = 'finished'
    ORDER BY r.queued_at DESC LIMIT 1
) last ON true
WHERE g.project_id = %(project)s AND g.removed_at IS NULL
  AND g.enterprise_project_id = ANY(%(enterprise_projects)s)
ORDER BY g.name

-- name: image
SELECT i.id, g.id::text, g.name, g.kind, r.namespace, r.name, i.tag, i.first_seen_at, i.held_at,
    i.retired_at
FROM image i
JOIN repository r ON r.id = i.repository_id
JOIN registry g ON g.id = i.registry_id
WHERE i.project_id = %(project)s AND i.id = %(image)s
  AND g.enterprise_project_id = ANY(%(enterprise_projects)s)

-- name: find_image
-- Removed registries too: their images' lives are what history is for.
SELECT i.id FROM image i
JOIN repository r ON r.id = i.repository_id
JOIN registry g ON g.id = i.registry_id
WHERE i.project_id = %(project)s AND g.enterprise_project_id = ANY(%(enterprise_projects)s)
  AND g.name = %(registry)s AND i.tag = %(tag)s
  AND %(path)s = CASE WHEN r.namespace = '' THEN r.name ELSE r.namespace || '/' || r.name END
ORDER BY g.removed_at DESC NULLS FIRST LIMIT 1

-- name: versions
SELECT v.from_seq, b.at, b.kind, v.run_id::text, v.to_seq, z.at, z.kind, z.run_id::text, v.digest,
    v.config_digest, v.size, v.updated_at
FROM image_version v
LEFT JOIN event b ON b.project_id = v.project_id AND b.seq = v.from_seq
LEFT JOIN event z ON z.project_id = v.project_id AND z.seq = v.to_seq
WHERE v.project_id = %(project)s AND v.image_id = %(image)s
ORDER BY v.from_seq

-- name: runs
SELECT r.id::text, r.registry_id::text, g.name AS registry, r.kind, r.state,
    r.outcome, r.is_full AS full, r.repositories_total, r.repositories_done, r.repositories_failed, r.images,
    r.requests, r.added, r.moved, r.retired, r.restored, r.held, r.queued_at, r.started_at,
    r.finished_at, extract(epoch FROM r.finished_at - r.started_at)::float8 AS seconds,
    r.finished_seq, r.reasons
FROM run r JOIN registry g ON g.id = r.registry_id
WHERE r.project_id = %(project)s AND g.enterprise_project_id = ANY(%(enterprise_projects)s)
  AND (%(run)s::uuid IS NULL OR r.id = %(run)s)
  AND (%(registry)s::uuid IS NULL OR r.registry_id = %(registry)s)
  AND (%(outcome)s::text IS NULL OR coalesce(r.outcome, r.state) = %(outcome)s)
  AND (%(queued_at)s::timestamptz IS NULL OR (r.queued_at, r.id) < (%(queued_at)s, %(last)s::uuid))
ORDER BY r.queued_at DESC, r.id DESC LIMIT %(limit)s

-- name: differences
-- The first event of an image after one run tells what it was then, the last one what it became.
WITH touched AS (
    SELECT e.image_id, min(e.seq) AS first_seq, max(e.seq) AS last_seq FROM event e
    WHERE e.project_id = %(project)s AND e.seq > %(low)s AND e.seq <= %(high)s
      AND e.registry_id = %(registry)s AND e.image_id > %(after)s
    GROUP BY e.image_id
), net AS (
    SELECT t.image_id,
        CASE WHEN a.kind NOT IN ('added', 'restored', 'shown') THEN a.digest_before END AS digest_before,
        CASE WHEN z.kind NOT IN ('retired', 'hidden') THEN z.digest_after END AS digest_after
    FROM touched t
    JOIN event a ON a.project_id = %(project)s AND a.seq = t.first_seq
    JOIN event z ON z.project_id = %(project)s AND z.seq = t.last_seq
)
SELECT n.image_id, r.namespace, r.name, i.tag, n.digest_before, n.digest_after
FROM net n JOIN image i ON i.id = n.image_id JOIN repository r ON r.id = i.repository_id
WHERE n.digest_before IS DISTINCT FROM n.digest_after
ORDER BY n.image_id LIMIT %(limit)s

-- name: prune
SELECT prune_history(%(before)s, %(most)s)

-- name: prune_runs
-- The newest of those before the horizon stays: it gives the verdict of the oldest moment that can
-- be told, and the newest complete ones give its times.
DELETE FROM run r
WHERE r.state = 'finished' AND r.finished_at < %(before)s
  AND EXISTS (
    SELECT FROM run n WHERE n.registry_id = r.registry_id AND n.kind = 'sync'
      AND n.state = 'finished' AND n.finished_at < %(before)s AND n.finished_at > r.finished_at
      AND n.outcome IN ('complete', 'held'))
  AND NOT EXISTS (SELECT FROM unit u WHERE u.run_id = r.id)
RETURNING r.id

-- name: prune_task_runs
-- Tasks first let go of runs that are about to be forgotten.
DELETE FROM task_run t USING run r
WHERE r.id = t.run_id AND r.state = 'finished' AND r.finished_at < %(before)s
  AND EXISTS (
    SELECT FROM run n WHERE n.registry_id = r.registry_id AND n.kind = 'sync'
      AND n.state = 'finished' AND n.finished_at < %(before)s AND n.finished_at > r.finished_at
      AND n.outcome IN ('complete', 'held'))

-- name: prune_tasks
DELETE FROM task t
WHERE t.created_at < %(before)s AND NOT EXISTS (SELECT FROM task_run r WHERE r.task_id = t.id)

-- name: is_due
SELECT coalesce(pruned_at < now() - interval '1 day', true) FROM tenant_feed
WHERE project_id = %(project)s
