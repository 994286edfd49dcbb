-- Registries of the transaction's tenant.

-- name: insert
INSERT INTO registry (id, project_id, name, kind, address, region, enterprise_project_id, options,
    ca_pem, allow_private_networks, credential_kind, credential_identity, credential_sealed)
VALUES (%(id)s, %(project)s, %(name)s, %(kind)s, %(address)s, %(region)s,
    %(enterprise_project_id)s, %(options)s, %(ca_pem)s, %(allow_private_networks)s,
    %(credential_kind)s, %(credential_identity)s, %(sealed)s)

-- name: open
SELECT id, project_id, name, kind, address, region, enterprise_project_id, options,
    config_generation AS generation, ca_pem, allow_private_networks, credential_kind,
    credential_identity, credential_sealed
FROM registry WHERE id = %(registry)s AND removed_at IS NULL

-- name: list
SELECT g.id, g.name, g.kind, g.address, g.region, g.enterprise_project_id, g.options,
    g.credential_kind, g.credential_identity,
    CASE WHEN g.verdict = 'complete' AND g.confirmed_at < now() - g.stale_after THEN 'stale'
        ELSE g.verdict END AS verdict,
    g.verdict_reasons, g.confirmed_at,
    g.read_at, g.fingerprint_lies, coalesce(c.repositories, 0) AS repositories,
    coalesce(c.images, 0) AS images, coalesce(c.held, 0) AS held
FROM registry g LEFT JOIN (
    SELECT registry_id, count(*) AS repositories, sum(live_images)::bigint AS images,
        sum(held_images)::bigint AS held
    FROM repository WHERE retired_at IS NULL GROUP BY registry_id
) c ON c.registry_id = g.id
WHERE g.removed_at IS NULL ORDER BY g.name

-- name: select
SELECT id, name, kind, enterprise_project_id FROM registry
WHERE removed_at IS NULL
  AND (%(kind)s::text IS NULL OR kind = %(kind)s)
  AND (%(names)s::text[] IS NULL OR name = ANY(%(names)s))
ORDER BY name

-- name: remove
UPDATE registry SET removed_at = now(), credential_sealed = NULL, live_images = 0, held_images = 0
WHERE id = %(registry)s AND removed_at IS NULL
RETURNING id

-- name: stop_runs
UPDATE run SET state = 'finished', outcome = 'failed', finished_at = now(),
    reasons = reasons || %(reasons)s::jsonb
WHERE registry_id = %(registry)s AND state <> 'finished'

-- name: relocate
UPDATE registry SET address = %(address)s, config_generation = config_generation + 1
WHERE id = %(registry)s AND address <> %(address)s

-- name: lock_all_repositories
SELECT id FROM repository WHERE registry_id = %(registry)s AND retired_at IS NULL
ORDER BY id FOR NO KEY UPDATE
