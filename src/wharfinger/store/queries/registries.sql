-- Registries of the transaction's tenant.

-- name: insert
INSERT INTO registry (id, project_id, name, kind, address, region, enterprise_project_id, options,
    include, exclude, stale_after, ca_pem, allow_private_networks, hss, credential_kind,
    credential_identity, credential_sealed, credential_reference)
VALUES (%(id)s, %(project)s, %(name)s, %(kind)s, %(address)s, %(region)s,
    %(enterprise_project_id)s, %(options)s, %(include)s, %(exclude)s, %(stale_after)s, %(ca_pem)s, %(allow_private_networks)s,
    %(hss)s, %(credential_kind)s, %(credential_identity)s, %(sealed)s, %(reference)s)

-- name: open
SELECT id, project_id, name, kind, address, region, enterprise_project_id, options, include,
    exclude, config_generation AS generation, ca_pem, allow_private_networks, credential_kind,
    credential_identity, credential_sealed, credential_reference
FROM registry WHERE id = %(registry)s AND removed_at IS NULL

-- name: list
SELECT g.id, g.name, g.kind, g.address, g.region, g.enterprise_project_id, g.options,
    g.include, g.exclude, extract(epoch FROM g.stale_after)::bigint AS stale_after_s,
    g.two_strikes, g.flickers,
    g.credential_kind, g.credential_identity, g.credential_reference, g.hint_token IS NOT NULL AS takes_hints, g.hinted_at,
    CASE WHEN g.verdict = 'complete' AND g.confirmed_at < now() - g.stale_after THEN 'stale'
        ELSE g.verdict END AS verdict,
    g.verdict_reasons, g.confirmed_at,
    g.read_at, g.fingerprint_lies, coalesce(c.repositories, 0) AS repositories,
    coalesce(c.images, 0) AS images, coalesce(c.held, 0) AS held,
    last.requests, extract(epoch FROM last.finished_at - last.started_at)::float8 AS seconds
FROM registry g LEFT JOIN (
    SELECT registry_id, count(*) AS repositories, sum(live_images)::bigint AS images,
        sum(held_images)::bigint AS held
    FROM repository WHERE retired_at IS NULL GROUP BY registry_id
) c ON c.registry_id = g.id
LEFT JOIN LATERAL (
    SELECT r.requests, r.started_at, r.finished_at FROM run r
    WHERE r.registry_id = g.id AND r.kind = 'sync' AND r.state = 'finished'
    ORDER BY r.queued_at DESC LIMIT 1
) last ON true
WHERE g.project_id = %(project)s AND g.removed_at IS NULL
  AND g.enterprise_project_id = ANY(%(enterprise_projects)s)
ORDER BY g.name

-- name: select
SELECT id, name, kind, enterprise_project_id FROM registry
WHERE project_id = %(project)s AND removed_at IS NULL
  AND enterprise_project_id = ANY(%(enterprise_projects)s)
  AND (%(kind)s::text IS NULL OR kind = %(kind)s)
  AND (%(names)s::text[] IS NULL OR name = ANY(%(names)s))
ORDER BY name

-- name: remove
UPDATE registry SET removed_at = now(), credential_sealed = NULL, credential_reference = NULL,
    live_images = 0, held_images = 0
WHERE id = %(registry)s AND removed_at IS NULL
RETURNING id

-- name: stop_runs
UPDATE run SET state = 'finished', outcome = 'failed', finished_at = now(),
    reasons = reasons || %(reasons)s::jsonb
WHERE registry_id = %(registry)s AND state <> 'finished'

-- name: configuration
SELECT name, kind, address, enterprise_project_id, options, include, exclude, stale_after,
    two_strikes, ca_pem, hss,
    credential_kind, credential_identity
FROM registry WHERE id = %(registry)s AND removed_at IS NULL FOR NO KEY UPDATE

-- name: change
-- Whatever decides what a listing contains begins a new generation, whose first complete listing
-- holds all retirements, and whose cursors nobody else's are.
UPDATE registry SET address = %(address)s, enterprise_project_id = %(enterprise_project_id)s,
    options = %(options)s, include = %(include)s, exclude = %(exclude)s,
    stale_after = %(stale_after)s, two_strikes = %(two_strikes)s,
    ca_pem = %(ca_pem)s, hss = %(hss)s, config_generation = config_generation + %(generations)s,
    allow_private_networks = allow_private_networks AND %(stays_private)s
WHERE id = %(registry)s

-- name: change_credential
UPDATE registry SET credential_kind = %(kind)s, credential_identity = %(identity)s,
    credential_sealed = %(sealed)s, credential_reference = %(reference)s
WHERE id = %(registry)s

-- name: named_repositories
SELECT id, namespace, name FROM repository WHERE registry_id = %(registry)s AND retired_at IS NULL
ORDER BY id

-- name: repositories
-- Repositories with their verdicts, by id. What was not read since is as good as its registry.
SELECT r.id, r.namespace, r.name,
    CASE WHEN r.verdict = 'complete'
          AND greatest(r.listed_at, g.confirmed_at) < now() - g.stale_after THEN 'stale'
        ELSE r.verdict END AS verdict,
    r.verdict_reason, CASE WHEN r.verdict = 'complete'
        THEN greatest(r.listed_at, g.confirmed_at) ELSE r.listed_at END AS confirmed_at,
    greatest(r.listed_at, CASE WHEN r.verdict = 'complete' THEN g.read_at END) AS read_at,
    r.live_images AS images, r.held_images AS held, r.requests, r.read_ms / 1000.0::float8
FROM repository r JOIN registry g ON g.id = r.registry_id
WHERE r.registry_id = %(registry)s AND r.retired_at IS NULL AND r.id > %(after)s
  AND (%(verdict)s::text IS NULL OR %(verdict)s = CASE WHEN r.verdict = 'complete'
        AND greatest(r.listed_at, g.confirmed_at) < now() - g.stale_after THEN 'stale'
    ELSE r.verdict END)
ORDER BY r.id LIMIT %(limit)s

-- name: lock_all_repositories
SELECT id FROM repository WHERE registry_id = %(registry)s AND retired_at IS NULL
ORDER BY id FOR NO KEY UPDATE
