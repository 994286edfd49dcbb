-- Hints: repositories that a registry's notification names become units of a run. The registry's
-- row is locked first, then the run's, as everywhere; a unit's row is never waited for under them.

-- name: set_token
UPDATE registry SET hint_token = %(digest)s WHERE id = %(registry)s AND removed_at IS NULL

-- name: find_token
SELECT project_id, registry_id, kind, options, include, exclude FROM find_hint_token(%(digest)s)

-- name: note
UPDATE registry SET hinted_at = now() WHERE id = %(registry)s AND removed_at IS NULL RETURNING id

-- name: open_run
-- The run that is going, else the one that waits. It cannot end or begin: both need the registry.
SELECT id, state, kind FROM run
WHERE registry_id = %(registry)s AND state <> 'finished'
ORDER BY state = 'running' DESC LIMIT 1
FOR NO KEY UPDATE

-- name: queue_run
INSERT INTO run (project_id, registry_id, kind) VALUES (%(project)s, %(registry)s, 'hint')
RETURNING id

-- name: named
-- Each repository with the newest hint's unit that has still to end with it, if any. What has not
-- been begun when this is read, begins after the hint, so it needs no second reading.
SELECT r.id, r.namespace, r.name, u.id, u.attempt
FROM repository r
LEFT JOIN LATERAL (
    SELECT u.id, u.attempt FROM unit u
    WHERE u.run_id = %(run)s AND u.hinted AND NOT u.done AND r.id = ANY(u.repository_ids)
    ORDER BY u.id DESC LIMIT 1
) u ON true
WHERE r.registry_id = %(registry)s
  AND (r.namespace, r.name) IN (
      SELECT * FROM unnest(%(namespaces)s::text[], %(names)s::text[]))

-- name: insert_unit
INSERT INTO unit (project_id, run_id, registry_id, repository_ids, repositories, hinted, listed,
    counted, waits_for)
VALUES (%(project)s, %(run)s, %(registry)s, %(repository_ids)s, %(repositories)s, true, %(listed)s,
    %(counted)s, %(waits_for)s)
RETURNING id

-- name: grow_run
UPDATE run SET units_total = units_total + %(units)s,
    repositories_total = repositories_total + %(repositories)s
WHERE id = %(run)s

-- name: begin_run
-- A run of hints has nothing to list: its repositories are those that were named.
UPDATE run SET listing = 'complete', repositories_total = units_total WHERE id = %(run)s

-- name: count_units
UPDATE unit SET counted = true WHERE run_id = %(run)s

-- name: adopt
-- The listing names a repository that a hint is already having read: one reading serves both.
UPDATE unit u SET listed = true, counted = true
WHERE u.run_id = %(run)s AND u.hinted AND NOT u.done
  AND u.repository_ids && %(repositories)s::bigint[]
  AND NOT EXISTS (
    SELECT FROM unit n WHERE n.run_id = u.run_id AND n.hinted AND NOT n.done AND n.id > u.id
      AND n.repository_ids && u.repository_ids)

-- name: overtaken
-- Repositories of a unit that another unit of the run has published since this one began to read.
-- One of two that overlap is a hint's; batches never do, so a batch looks at hints alone, of which
-- an index knows, and not at all the units of a large run.
SELECT b.id FROM unit n CROSS JOIN LATERAL unnest(n.repository_ids) AS b (id)
WHERE n.run_id = %(run)s AND n.hinted AND n.done AND n.done_at > %(began_at)s
  AND n.id <> %(unit)s AND n.repository_ids && %(repositories)s::bigint[]
  AND b.id = ANY(%(repositories)s)
UNION
SELECT b.id FROM unit n CROSS JOIN LATERAL unnest(n.repository_ids) AS b (id)
WHERE %(hinted)s AND n.run_id = %(run)s AND NOT n.hinted AND n.done AND n.done_at > %(began_at)s
  AND n.repository_ids && %(repositories)s::bigint[] AND b.id = ANY(%(repositories)s)

-- name: release
UPDATE unit SET waits_for = NULL
WHERE run_id = %(run)s AND hinted AND waits_for = %(unit)s
RETURNING id

-- name: forget_unknown
-- A name nobody had heard of, or that is gone already, and the registry knows nothing of either.
UPDATE repository SET retired_at = coalesce(retired_at, now())
WHERE id = ANY(%(repositories)s) AND (verdict = 'never' OR retired_at IS NOT NULL)
RETURNING id

-- name: settle_registry
UPDATE registry g SET flickers = g.flickers + r.flickers
FROM run r WHERE r.id = %(run)s AND g.id = %(registry)s AND r.flickers > 0

-- name: tell_held
UPDATE registry SET verdict_reasons = verdict_reasons || %(reasons)s::jsonb
WHERE id = %(registry)s AND NOT verdict_reasons @> '[{"code": "held"}]'
