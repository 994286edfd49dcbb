-- name: scope
-- The registries a reading covers.
SELECT g.id, CASE WHEN g.verdict = 'complete' AND g.confirmed_at < now() - g.stale_after
    THEN 'stale' ELSE g.verdict END
FROM registry g
WHERE g.project_id = %(project_id)s
  AND g.removed_at IS NULL
  AND g.enterprise_project_id = ANY(%(enterprise_projects)s)
  AND (%(registry_name)s::text IS NULL OR g.name = %(registry_name)s)
  AND (%(kinds)s::text[] IS NULL OR g.kind = ANY(%(kinds)s))
  AND (%(instance_id)s::text IS NULL OR g.options ->> 'instance_id' = %(instance_id)s)
  AND (%(instance_name)s::text IS NULL OR g.options ->> 'instance_name' = %(instance_name)s)
ORDER BY g.id

-- name: as_of
-- Besides the number, everything that an answer is made of and that changes without an event.
SELECT f.seq, concat_ws('/', f.seq, f.revision, (
    SELECT md5(string_agg(
        concat_ws('/', g.id, g.name, g.kind, g.verdict, g.confirmed_at, g.enterprise_project_id),
        ',' ORDER BY g.id))
    FROM registry g WHERE g.project_id = %(project_id)s AND g.id = ANY(%(registry_ids)s)))
FROM tenant_feed f WHERE f.project_id = %(project_id)s

-- name: platforms
-- The children of indexes. A child is a row of the list itself only where it is listed untagged.
SELECT p.registry_id, p.index_digest, p.digest, p.os, p.architecture, p.variant, p.size,
       p.image_id
FROM platform p
WHERE p.project_id = %(project_id)s
  AND p.registry_id = ANY(%(registry_ids)s)
  AND p.index_digest = ANY(%(digests)s)
ORDER BY p.registry_id, p.index_digest, p.position

-- name: children
SELECT i.repository_id, i.digest, i.id
FROM image i
WHERE i.project_id = %(project_id)s
  AND i.repository_id = ANY(%(repository_ids)s)
  AND i.digest = ANY(%(digests)s)
  AND i.tag IS NULL
  AND i.retired_at IS NULL

-- name: registries
-- A reason that names no repository speaks of the registry as a whole: it could not be read.
WITH known AS (
    SELECT g.id, g.name, g.kind, g.address, g.verdict, g.hss,
           CASE WHEN g.verdict = 'complete' AND g.confirmed_at < now() - g.stale_after
                THEN 'stale' ELSE g.verdict END AS worth,
           CASE WHEN g.credential_kind = 'basic' THEN g.credential_identity ELSE '' END AS user_name,
           greatest(g.confirmed_at, g.read_at) AS synced_at,
           (SELECT coalesce(e ->> 'code', '') FROM jsonb_array_elements(g.verdict_reasons) e
            WHERE e ->> 'repository' IS NULL LIMIT 1) AS reason_code
    FROM registry g
    WHERE g.project_id = %(project_id)s
      AND g.removed_at IS NULL
      AND g.enterprise_project_id = ANY(%(enterprise_projects)s)
      AND (%(registry_name)s::text IS NULL OR g.name = %(registry_name)s)
      AND (%(kinds)s::text[] IS NULL OR g.kind = ANY(%(kinds)s))
      AND (%(registry_id)s::text IS NULL OR g.id::text = lower(%(registry_id)s))
      AND (%(address)s::text IS NULL OR rtrim(%(address)s, '/') IN
           (rtrim(g.address, '/'), regexp_replace(rtrim(g.address, '/'), '^[a-z]+://', '')))
), judged AS (
    SELECT k.*,
           CASE WHEN k.verdict = 'complete' THEN 'success'
                WHEN k.reason_code IS NOT NULL THEN 'fail'
                WHEN k.verdict = 'never' THEN 'accessing'
                ELSE 'success' END AS status
    FROM known k
), matching AS (
    SELECT * FROM judged j WHERE %(status)s::text IS NULL OR j.status = %(status)s
), page AS (
    SELECT m.*,
           (SELECT coalesce(sum(r.live_images), 0)::bigint FROM repository r
            WHERE r.project_id = %(project_id)s AND r.registry_id = m.id) AS images
    FROM matching m ORDER BY m.name, m.id OFFSET %(offset)s LIMIT %(limit)s
)
SELECT (SELECT count(*) FROM matching),
       coalesce((SELECT f.seq FROM tenant_feed f WHERE f.project_id = %(project_id)s), 0),
       (SELECT coalesce(array_agg(DISTINCT m.worth), '{}') FROM matching m),
       p.id::text, p.name, p.kind, p.address, p.user_name, p.status, p.reason_code, p.images,
       p.synced_at, p.hss
FROM (SELECT) one LEFT JOIN page p ON true
ORDER BY p.name, p.id

-- name: addresses
SELECT g.id::text, g.options ->> 'instance_url', g.address
FROM registry g WHERE g.project_id = %(project_id)s
