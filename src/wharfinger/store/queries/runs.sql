-- Tasks, runs and units. Locks are taken in one order: registry, unit, repositories, run, feed.

-- name: lock_registry
SELECT id FROM registry WHERE id = %(registry)s FOR NO KEY UPDATE

-- name: insert_task
INSERT INTO task (project_id, name, sync_type, requested, requested_by)
VALUES (%(project)s, %(name)s, %(sync_type)s, %(requested)s, %(requested_by)s)
RETURNING id

-- name: queue_run
-- One queued run per registry: a second call joins it, and asks for a full one if either does.
INSERT INTO run (project_id, registry_id, is_full)
VALUES (%(project)s, %(registry)s, %(full)s)
ON CONFLICT (registry_id) WHERE state = 'queued'
DO UPDATE SET is_full = run.is_full OR excluded.is_full, kind = 'sync'
RETURNING id, xmax = 0 AS is_new

-- name: join_task
INSERT INTO task_run (task_id, run_id, project_id) VALUES (%(task)s, %(run)s, %(project)s)

-- name: is_running
SELECT EXISTS (SELECT FROM run WHERE registry_id = %(registry)s AND state = 'running')

-- name: queued_run
SELECT id, kind FROM run WHERE registry_id = %(registry)s AND state = 'queued'

-- name: take_run
-- Starts a queued run, or takes up a running one whose worker is gone. Nothing comes back when the
-- run is finished, or another run of the registry is still going.
UPDATE run r SET
    state = 'running',
    attempt = r.attempt + 1,
    started_at = coalesce(r.started_at, now()),
    generation = CASE WHEN r.state = 'queued' THEN g.config_generation ELSE r.generation END,
    live_at_start = CASE WHEN r.state = 'queued' THEN live.images ELSE r.live_at_start END,
    retire_budget = CASE WHEN r.state = 'queued'
        THEN greatest(0, greatest(%(budget_least)s, floor(live.images * %(budget_share)s))
            - CASE WHEN r.kind = 'hint' THEN hinted.retired ELSE 0 END)
        ELSE r.retire_budget END,
    holds_everything = CASE WHEN r.state = 'queued'
        THEN g.listed_generation IS DISTINCT FROM g.config_generation
        ELSE r.holds_everything OR r.generation <> g.config_generation END,
    is_full = r.is_full OR g.fingerprint_lies > 0
FROM registry g, (
    SELECT coalesce(sum(p.live_images), 0) AS images
    FROM repository p WHERE p.registry_id = %(registry)s AND p.retired_at IS NULL
) live, (
    -- Many hints in a row share one budget, or they would empty a registry bit by bit.
    SELECT coalesce(sum(h.retired), 0) AS retired FROM run h
    WHERE h.registry_id = %(registry)s AND h.kind = 'hint' AND h.state = 'finished'
      AND h.finished_at > coalesce((
          SELECT max(s.finished_at) FROM run s
          WHERE s.registry_id = %(registry)s AND s.kind = 'sync' AND s.state = 'finished'),
          '-infinity')
) hinted
WHERE r.id = %(run)s AND g.id = r.registry_id AND r.state <> 'finished'
  AND (r.state = 'running' OR NOT EXISTS (
      SELECT FROM run o WHERE o.registry_id = r.registry_id AND o.state = 'running'))
RETURNING r.attempt, r.is_full, r.listing, r.listing_pass, r.cursor, r.generation,
    g.config_generation, r.started_at, r.repositories_total, r.kind

-- name: restart_listing
-- A new pass: the pages of the one before say nothing about absence any more. Units already made
-- stay, since a repository's own listing decides about its tags.
UPDATE run SET listing_pass = listing_pass + 1, cursor = NULL, repositories_total = 0,
    repositories_done = repositories_done - repositories_skipped, images = images - images_skipped,
    repositories_skipped = 0, images_skipped = 0
WHERE id = %(run)s AND attempt = %(attempt)s AND state = 'running'
RETURNING listing_pass

-- name: fence_run
-- A row lock stronger than FOR SHARE: the same transaction goes on to update the row, and an
-- upgrade could wait for a batch that waits for us.
SELECT registry_id, is_full, listing_pass FROM run
WHERE id = %(run)s AND attempt = %(attempt)s AND state = 'running' AND listing = 'open'
FOR NO KEY UPDATE

-- name: new_repositories
INSERT INTO repository (project_id, registry_id, namespace, name, owner, shared_status)
SELECT %(project)s, %(registry)s, l.namespace, l.name, l.owner, l.shared_status
FROM unnest(%(namespaces)s::text[], %(names)s::text[], %(owners)s::text[], %(shared)s::text[])
    AS l (namespace, name, owner, shared_status)
WHERE NOT EXISTS (
    SELECT FROM repository r
    WHERE r.registry_id = %(registry)s AND r.namespace = l.namespace AND r.name = l.name)
ON CONFLICT DO NOTHING

-- name: refresh_shares
UPDATE repository r SET owner = l.owner, shared_status = l.shared_status
FROM unnest(%(namespaces)s::text[], %(names)s::text[], %(owners)s::text[], %(shared)s::text[])
    AS l (namespace, name, owner, shared_status)
WHERE r.registry_id = %(registry)s AND r.namespace = l.namespace AND r.name = l.name
  AND (r.owner, r.shared_status) IS DISTINCT FROM (l.owner, l.shared_status)

-- name: match_repositories
WITH assigned AS MATERIALIZED (
    -- What a unit reads already: one of an earlier pass, or one that a hint made and that goes on.
    SELECT unnest(u.repository_ids) AS id FROM unit u
    WHERE u.run_id = %(run)s AND u.hinted AND NOT u.done
    UNION ALL
    SELECT unnest(u.repository_ids) FROM unit u
    WHERE u.run_id = %(run)s AND NOT u.hinted AND %(listing_pass)s > 1
)
SELECT r.id, r.namespace, r.name, r.fingerprint, r.suspect_fingerprint,
    r.verdict = 'complete' AND r.retired_at IS NULL AND r.held_images = 0 AS is_settled,
    r.live_images, r.id IN (SELECT id FROM assigned) AS is_assigned
FROM repository r
JOIN unnest(%(namespaces)s::text[], %(names)s::text[]) AS l (namespace, name)
    ON r.namespace = l.namespace AND r.name = l.name
WHERE r.registry_id = %(registry)s

-- name: clear_suspicion
UPDATE repository SET suspect_fingerprint = NULL
WHERE id = ANY(%(repositories)s) AND suspect_fingerprint IS NOT NULL

-- name: record_lies
UPDATE registry SET fingerprint_lies = fingerprint_lies + %(lies)s WHERE id = %(registry)s

-- name: insert_page
INSERT INTO run_page (run_id, listing_pass, page, project_id, repository_ids)
SELECT %(run)s, %(listing_pass)s, count(*), %(project)s, %(repositories)s::bigint[]
FROM run_page WHERE run_id = %(run)s AND listing_pass = %(listing_pass)s

-- name: insert_unit
INSERT INTO unit (project_id, run_id, registry_id, repository_ids, repositories)
VALUES (%(project)s, %(run)s, %(registry)s, %(repository_ids)s, %(repositories)s)
RETURNING id

-- name: advance_listing
UPDATE run SET
    cursor = %(cursor)s,
    units_total = units_total + %(units)s,
    repositories_total = repositories_total + %(listed)s,
    repositories_done = repositories_done + %(skipped)s,
    repositories_skipped = repositories_skipped + %(skipped)s,
    images = images + %(images)s,
    images_skipped = images_skipped + %(images)s,
    requests = requests + %(requests)s
WHERE id = %(run)s

-- name: end_listing
UPDATE run SET listing = %(listing)s, cursor = NULL, requests = requests + %(requests)s,
    reasons = reasons || %(reasons)s::jsonb
WHERE id = %(run)s AND attempt = %(attempt)s AND state = 'running' AND listing = 'open'
RETURNING units_done = units_total AS ready

-- name: take_unit
UPDATE unit u SET attempt = u.attempt + 1, began_at = coalesce(u.began_at, now())
FROM run r
WHERE u.id = %(unit)s AND NOT u.done AND r.id = u.run_id AND r.state = 'running'
RETURNING u.attempt, u.run_id, u.registry_id, u.repositories, r.generation, u.hinted,
    u.listed, r.is_full

-- name: note_changed_configuration
-- What a batch reads under another address or credential says nothing about what was there before.
UPDATE run SET holds_everything = true
FROM registry g
WHERE run.id = %(run)s AND g.id = run.registry_id AND g.config_generation <> run.generation
  AND NOT run.holds_everything

-- name: open_listing
-- Nothing comes back to an attempt that is no longer the current one.
INSERT INTO listing (project_id, run_id, unit_id, unit_attempt, repository_id)
SELECT %(project)s, %(run)s, u.id, u.attempt, %(repository)s
FROM unit u WHERE u.id = %(unit)s AND u.attempt = %(attempt)s AND NOT u.done
ON CONFLICT (unit_id, repository_id) DO UPDATE SET unit_attempt = excluded.unit_attempt
RETURNING id, cursor, pages

-- name: fence_listing
SELECT l.id FROM listing l JOIN unit u ON u.id = l.unit_id
WHERE l.id = %(listing)s AND l.unit_id = %(unit)s AND l.unit_attempt = %(attempt)s
  AND u.attempt = %(attempt)s AND NOT u.done
FOR UPDATE OF l

-- name: empty_listing
DELETE FROM listing_row WHERE listing_id = %(listing)s

-- name: reset_listing
UPDATE listing SET cursor = NULL, pages = 0 WHERE id = %(listing)s

-- name: insert_listing_rows
-- Row-level security refuses COPY, so the rows come by way of the connection's temporary table.
INSERT INTO listing_row (listing_id, project_id, page, tag, digest, image_id, media_type,
    artifact_type, is_index, size, created_at, updated_at)
SELECT %(listing)s, %(project)s, %(page)s, tag, digest, image_id, media_type, artifact_type,
    is_index, size, created_at, updated_at
FROM incoming

-- name: advance_tag_listing
UPDATE listing SET cursor = %(cursor)s, pages = pages + 1 WHERE id = %(listing)s

-- name: has_read_images
SELECT images > images_skipped FROM run WHERE id = %(run)s

-- name: count_listing
SELECT count(DISTINCT coalesce(tag, '@' || digest)) FROM listing_row WHERE listing_id = %(listing)s

-- name: take_over_listings
-- The attempt that goes on is the one whose pages are taken from now on.
UPDATE listing SET unit_attempt = %(attempt)s WHERE unit_id = %(unit)s
RETURNING id, repository_id, cursor, pages

-- name: add_reasons
UPDATE run SET reasons = reasons || %(reasons)s::jsonb WHERE id = %(run)s

-- name: take_finish
SELECT r.registry_id, r.listing, r.listing_pass, r.is_full, r.attempt, r.started_at,
    r.repositories_total, r.repositories_failed, r.repositories_skipped, r.units_done,
    r.units_total, r.live_at_start, r.generation, r.reasons, r.held, r.retired, r.retire_budget,
    r.holds_everything, r.kind
FROM run r WHERE r.id = %(run)s AND r.state = 'running' FOR UPDATE

-- name: absent_repositories
-- Repositories that a complete listing lacks, a batch at a time.
SELECT r.id, r.live_images, r.namespace, r.name FROM repository r
WHERE r.registry_id = %(registry)s AND r.retired_at IS NULL
  AND NOT EXISTS (
    SELECT FROM (
        SELECT unnest(p.repository_ids) AS id FROM run_page p
        WHERE p.run_id = %(run)s AND p.listing_pass = %(listing_pass)s
    ) seen WHERE seen.id = r.id)
  AND r.id > %(after)s
ORDER BY r.id LIMIT %(limit)s

-- name: count_absent_images
SELECT count(*) FROM image i
WHERE i.repository_id = ANY(%(repositories)s) AND i.retired_at IS NULL

-- name: absent_images
INSERT INTO absent (image_id, repository_id, held)
SELECT i.id, i.repository_id, i.held_at IS NOT NULL FROM image i
WHERE i.repository_id = ANY(%(repositories)s) AND i.retired_at IS NULL

-- name: retire_repositories
-- Those of whose images none is left; held ones keep theirs.
UPDATE repository SET retired_at = now(), live_images = 0, held_images = 0,
    latest_image_id = NULL, fingerprint = NULL, suspect_fingerprint = NULL
WHERE id = ANY(%(repositories)s) AND NOT EXISTS (
    SELECT FROM image i WHERE i.repository_id = repository.id AND i.retired_at IS NULL)

-- name: note_empty_registry
UPDATE registry SET empty_seen_at = CASE WHEN %(empty)s THEN coalesce(empty_seen_at, now()) END
WHERE id = %(registry)s
RETURNING empty_seen_at IS NOT NULL
    AND empty_seen_at <= now() - make_interval(secs => %(second_look_s)s) AS agreed

-- name: confirm_repositories
-- After a partial run the registry as a whole is not confirmed, but what was read still is.
UPDATE repository r SET listed_at = %(began)s
FROM (
    SELECT unnest(p.repository_ids) AS id FROM run_page p
    WHERE p.run_id = %(run)s AND p.listing_pass = %(listing_pass)s
) seen
WHERE r.id = seen.id AND r.verdict = 'complete' AND r.verdict_reason IS NULL
  AND r.listed_at < %(began)s

-- name: count_held
SELECT coalesce(sum(held_images), 0) FROM repository
WHERE registry_id = %(registry)s AND retired_at IS NULL

-- name: finish_run
UPDATE run SET state = 'finished', outcome = %(outcome)s, held = %(held)s, finished_at = now(),
    finished_seq = (SELECT seq FROM tenant_feed WHERE project_id = %(project)s)
WHERE id = %(run)s

-- name: kind_and_duration
SELECT g.kind, extract(epoch FROM r.finished_at - coalesce(r.started_at, r.queued_at))::float8
FROM run r JOIN registry g ON g.id = r.registry_id
WHERE r.id = %(run)s

-- name: settle_registry
UPDATE registry g SET
    verdict = CASE WHEN %(outcome)s IN ('complete', 'held') THEN 'complete'
        WHEN %(outcome)s = 'failed' AND g.verdict = 'never' THEN 'never'
        ELSE 'partial' END,
    verdict_reasons = %(reasons)s,
    confirmed_at = CASE WHEN %(outcome)s IN ('complete', 'held') THEN %(began)s
        ELSE g.confirmed_at END,
    read_at = CASE WHEN %(outcome)s IN ('complete', 'held') AND %(read_all)s THEN %(began)s
        ELSE g.read_at END,
    listed_generation = CASE WHEN %(listed)s THEN %(generation)s ELSE g.listed_generation END,
    -- A quiet day is no proof of consistency, as an honest fingerprint is none of honesty.
    flickers = g.flickers + (SELECT r.flickers FROM run r WHERE r.id = %(run)s),
    live_images = counted.live, held_images = counted.held
FROM (
    SELECT coalesce(sum(live_images), 0) AS live, coalesce(sum(held_images), 0) AS held
    FROM repository WHERE registry_id = %(registry)s AND retired_at IS NULL
) counted
WHERE g.id = %(registry)s

-- name: sweep_listing_rows
DELETE FROM listing_row WHERE listing_id IN (SELECT id FROM listing WHERE run_id = %(run)s)

-- name: sweep_listings
DELETE FROM listing WHERE run_id = %(run)s

-- name: sweep_units
DELETE FROM unit WHERE run_id = %(run)s

-- name: sweep_pages
DELETE FROM run_page WHERE run_id = %(run)s

-- name: open_units
SELECT id FROM unit WHERE run_id = %(run)s AND NOT done AND waits_for IS NULL

-- name: run_state
SELECT state, listing, units_done = units_total FROM run WHERE id = %(run)s

-- name: progress
SELECT r.id, r.registry_id, g.name, g.kind, r.state, r.outcome, r.is_full, r.repositories_total,
    r.repositories_done, r.repositories_failed, r.images, r.requests, r.added, r.moved, r.retired,
    r.restored, r.held, r.queued_at, r.started_at, r.finished_at, r.reasons, t.task_id
FROM task_run t JOIN run r ON r.id = t.run_id JOIN registry g ON g.id = r.registry_id
WHERE t.project_id = %(project)s AND t.task_id = ANY(%(tasks)s)
  AND g.enterprise_project_id = ANY(%(enterprise_projects)s)
ORDER BY g.name, r.id

-- name: orphaned_runs
-- Open runs without a job that would carry them on: none of their own, and for a queued run none
-- of a running one before it.
SELECT o.id, o.project_id, o.registry_id FROM list_open_runs() o
WHERE NOT EXISTS (
    SELECT FROM procrastinate_jobs j
    WHERE j.status IN ('todo', 'doing') AND j.args ->> 'run_id' = o.id::text
) AND (o.state = 'running' OR NOT EXISTS (
    SELECT FROM list_open_runs() b WHERE b.registry_id = o.registry_id AND b.state = 'running'))

-- name: still_orphaned
SELECT EXISTS (SELECT FROM run WHERE id = %(run)s AND state <> 'finished')
    AND NOT EXISTS (SELECT FROM procrastinate_jobs j
        WHERE j.status IN ('todo', 'doing') AND j.args ->> 'run_id' = %(run)s::text)

-- name: list_tasks
-- A task is visible when one of its runs is in an enterprise project that was asked for, and so far
-- as they are.
SELECT t.id, t.name, t.sync_type, t.created_at, count(*) OVER () AS total,
    coalesce((t.requested ->> 'all')::boolean, t.requested -> 'names' = '[]', false)
FROM task t
WHERE t.project_id = %(project)s
  AND (%(task_id)s::uuid IS NULL OR t.id = %(task_id)s)
  AND (%(name_pattern)s::text IS NULL OR t.name ILIKE %(name_pattern)s)
  AND (%(sync_type)s::text IS NULL OR t.sync_type = %(sync_type)s)
  AND (%(created_from)s::timestamptz IS NULL OR t.created_at >= %(created_from)s)
  AND (%(created_to)s::timestamptz IS NULL OR t.created_at <= %(created_to)s)
  AND EXISTS (
    SELECT FROM task_run tr JOIN run r ON r.id = tr.run_id JOIN registry g ON g.id = r.registry_id
    WHERE tr.task_id = t.id AND g.enterprise_project_id = ANY(%(enterprise_projects)s))
  AND (%(unfinished)s::boolean IS NULL OR %(unfinished)s = EXISTS (
    SELECT FROM task_run tr JOIN run r ON r.id = tr.run_id JOIN registry g ON g.id = r.registry_id
    WHERE tr.task_id = t.id AND r.state <> 'finished'
      AND g.enterprise_project_id = ANY(%(enterprise_projects)s)))
ORDER BY t.created_at DESC, t.id
LIMIT %(limit)s OFFSET %(offset)s

-- name: changed_much
SELECT added + moved + retired + restored >= greatest(%(least)s, live_at_start / 10)
FROM run WHERE id = %(run)s
