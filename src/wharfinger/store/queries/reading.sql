-- name: covered
-- The registries a reading covers, what their list is worth, and how many images they and all the
-- tenant's have, which choose how to read. Besides the number of the newest event, state has
-- everything that an answer is made of and that changes without one.
WITH every AS MATERIALIZED (
    SELECT g.*, g.removed_at IS NULL
      AND g.enterprise_project_id = ANY(%(enterprise_projects)s)
      AND (%(registry_name)s::text IS NULL OR g.name = %(registry_name)s)
      AND (%(kinds)s::text[] IS NULL OR g.kind = ANY(%(kinds)s))
      AND (%(instance_id)s::text IS NULL OR g.options ->> 'instance_id' = %(instance_id)s)
      AND (%(instance_name)s::text IS NULL OR g.options ->> 'instance_name' = %(instance_name)s)
      AS is_covered
    FROM registry g WHERE g.project_id = %(project_id)s
), covered AS (
    SELECT array_agg(e.id ORDER BY e.id) FILTER (WHERE e.is_covered) AS ids,
           array_agg(DISTINCT CASE
               WHEN e.verdict = 'complete' AND e.confirmed_at < now() - e.stale_after THEN 'stale'
               ELSE e.verdict END) FILTER (WHERE e.is_covered) AS verdicts,
           coalesce(sum(e.live_images) FILTER (WHERE e.is_covered), 0)::bigint AS images,
           coalesce(sum(e.live_images), 0)::bigint AS images_of_all,
           md5(string_agg(concat_ws('/', e.id, e.name, e.kind, e.verdict, e.confirmed_at,
               e.enterprise_project_id), ',' ORDER BY e.id) FILTER (WHERE e.is_covered)) AS state
    FROM every e
)
SELECT coalesce(f.seq, 0), concat_ws('/', f.seq, f.revision, c.state), c.ids, c.verdicts, c.images,
       c.images_of_all, EXISTS (SELECT FROM label l WHERE l.project_id = %(project_id)s),
       EXISTS (SELECT FROM attachment a WHERE a.project_id = %(project_id)s)
FROM covered c LEFT JOIN tenant_feed f ON f.project_id = %(project_id)s

-- name: platforms
-- The children of indexes. A child is a row of the list itself only where it is listed untagged.
SELECT x.id, p.digest, p.os, p.architecture, p.variant, p.size, p.image_id, (
    SELECT i.id FROM image i
    WHERE i.project_id = %(project_id)s AND i.digest = p.digest
      AND i.repository_id = x.repository_id AND i.tag IS NULL AND i.retired_at IS NULL)
FROM unnest(%(ids)s::bigint[], %(registry_ids)s::uuid[], %(repository_ids)s::bigint[],
    %(digests)s::text[]) AS x (id, registry_id, repository_id, digest)
JOIN platform p ON p.registry_id = x.registry_id AND p.index_digest = x.digest
WHERE p.project_id = %(project_id)s
ORDER BY x.id, p.position

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
