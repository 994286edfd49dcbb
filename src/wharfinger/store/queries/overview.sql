-- What the first pages of the console show; made of counts that are kept, whatever their size.

-- name: registries
SELECT g.id::text, g.name, g.kind, g.address,
    CASE WHEN g.verdict = 'complete' AND g.confirmed_at < now() - g.stale_after THEN 'stale'
        ELSE g.verdict END AS verdict,
    g.verdict_reasons AS reasons, g.confirmed_at, g.live_images AS images, g.held_images AS held,
    s.paused_at, running.id::text AS run_id
FROM registry g
LEFT JOIN schedule s ON s.registry_id = g.id
LEFT JOIN LATERAL (
    SELECT r.id FROM run r WHERE r.registry_id = g.id AND r.state <> 'finished'
    ORDER BY r.state DESC LIMIT 1
) running ON true
WHERE g.project_id = %(project)s AND g.removed_at IS NULL
  AND g.enterprise_project_id = ANY(%(enterprise_projects)s)
ORDER BY g.name, g.id

-- name: today
SELECT coalesce(sum(r.added), 0)::bigint AS added, coalesce(sum(r.moved), 0)::bigint AS moved,
    coalesce(sum(r.retired), 0)::bigint AS retired,
    coalesce(sum(r.restored), 0)::bigint AS restored
FROM registry g JOIN run r ON r.registry_id = g.id
WHERE g.project_id = %(project)s AND r.project_id = %(project)s AND g.removed_at IS NULL
  AND g.enterprise_project_id = ANY(%(enterprise_projects)s)
  AND r.finished_at > now() - interval '24 hours'

-- name: days
-- Of each registry and day the last run: how many images were live when it began. The index knows
-- when a run was asked for; one that waited for a worker longer than a week is left out.
SELECT DISTINCT ON (r.registry_id, day)
    r.registry_id::text, (r.started_at AT TIME ZONE %(zone)s)::date AS day,
    r.live_at_start AS images
FROM registry g
CROSS JOIN LATERAL (
    SELECT r.registry_id, r.started_at, r.live_at_start FROM run r
    WHERE r.registry_id = g.id AND r.project_id = %(project)s
      AND r.queued_at > now() - make_interval(days => %(days)s + 7)
      AND r.kind = 'sync' AND r.started_at > now() - make_interval(days => %(days)s)
    OFFSET 0
) r
WHERE g.project_id = %(project)s AND g.removed_at IS NULL
  AND g.enterprise_project_id = ANY(%(enterprise_projects)s)
ORDER BY r.registry_id, day, r.started_at DESC

-- name: changes_by_day
-- From the counts that runs keep, never from events. As above for what waited.
SELECT r.day, sum(r.added)::bigint AS added, sum(r.moved)::bigint AS moved,
    sum(r.retired)::bigint AS retired, sum(r.restored)::bigint AS restored
FROM registry g
CROSS JOIN LATERAL (
    SELECT (r.finished_at AT TIME ZONE %(zone)s)::date AS day, r.added, r.moved, r.retired,
        r.restored
    FROM run r
    WHERE r.registry_id = g.id AND r.project_id = %(project)s
      AND r.queued_at > now() - make_interval(days => %(days)s + 7)
      AND r.finished_at > now() - make_interval(days => %(days)s)
    OFFSET 0
) r
WHERE g.project_id = %(project)s AND g.removed_at IS NULL
  AND (%(registry)s::uuid IS NULL OR g.id = %(registry)s)
  AND g.enterprise_project_id = ANY(%(enterprise_projects)s)
GROUP BY r.day ORDER BY r.day

-- name: took
SELECT g.id::text AS registry_id, g.name AS registry, r.outcome, r.started_at,
    extract(epoch FROM r.finished_at - r.started_at)::float8 AS seconds
FROM registry g JOIN run r ON r.registry_id = g.id
WHERE g.project_id = %(project)s AND r.project_id = %(project)s AND g.id = %(registry)s
  AND g.enterprise_project_id = ANY(%(enterprise_projects)s)
  AND r.kind = 'sync' AND r.outcome IS NOT NULL AND r.started_at IS NOT NULL
ORDER BY r.queued_at DESC LIMIT %(limit)s

-- name: slowest
SELECT g.id::text AS registry_id, g.name AS registry, r.outcome, r.started_at,
    extract(epoch FROM r.finished_at - r.started_at)::float8 AS seconds
FROM registry g
CROSS JOIN LATERAL (
    SELECT r.outcome, r.started_at, r.finished_at FROM run r
    WHERE r.registry_id = g.id AND r.project_id = %(project)s
      AND r.kind = 'sync' AND r.outcome IS NOT NULL AND r.started_at IS NOT NULL
    ORDER BY r.queued_at DESC LIMIT 1
) r
WHERE g.project_id = %(project)s AND g.removed_at IS NULL
  AND g.enterprise_project_id = ANY(%(enterprise_projects)s)
ORDER BY seconds DESC, g.name LIMIT %(limit)s

-- name: progress
-- The run that is going, else the one that waits, else the last one.
SELECT r.id::text AS run_id, r.kind, r.state, r.outcome, r.listing = 'open' AS listing,
    r.repositories_total, r.repositories_done, r.repositories_failed, r.images, r.requests,
    r.added, r.moved, r.retired, r.restored, r.held, r.queued_at, r.started_at, r.finished_at,
    extract(epoch FROM coalesce(r.finished_at, now()) - r.started_at)::float8 AS seconds,
    b.concurrency, b.ceiling, b.rate, b.paused_s
FROM registry g JOIN run r ON r.registry_id = g.id
LEFT JOIN LATERAL show_budget(%(host)s) b ON true
WHERE g.project_id = %(project)s AND r.project_id = %(project)s AND g.id = %(registry)s
  AND g.removed_at IS NULL AND g.enterprise_project_id = ANY(%(enterprise_projects)s)
ORDER BY r.state = 'running' DESC, r.state = 'queued' DESC, r.queued_at DESC LIMIT 1
