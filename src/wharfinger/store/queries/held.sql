-- What was held back, and what people decide about it.

-- name: find_registry
SELECT id, name FROM registry
WHERE project_id = %(project)s AND removed_at IS NULL
  AND enterprise_project_id = ANY(%(enterprise_projects)s)
  AND (%(id)s::uuid IS NULL OR id = %(id)s) AND (%(name)s::text IS NULL OR name = %(name)s)

-- name: list
SELECT i.id, r.namespace, r.name, i.tag, i.digest, i.held_at
FROM image i JOIN repository r ON r.id = i.repository_id
WHERE i.registry_id = %(registry)s AND i.held_at IS NOT NULL AND i.retired_at IS NULL
  AND i.id > %(after)s
ORDER BY i.id LIMIT %(limit)s

-- name: next
-- What is held later than somebody's word is not meant by it.
SELECT id FROM image
WHERE registry_id = %(registry)s AND held_at IS NOT NULL AND retired_at IS NULL
  AND held_at <= %(until)s AND id > %(after)s
ORDER BY id LIMIT %(limit)s

-- name: repositories
-- Locked before the rows are looked at again: a batch that un-holds some of them takes this lock.
SELECT id FROM repository
WHERE id IN (
    SELECT i.repository_id FROM image i
    WHERE i.registry_id = %(registry)s AND i.held_at IS NOT NULL
      AND i.id = ANY(%(images)s::bigint[]))
ORDER BY id FOR NO KEY UPDATE

-- name: absent
INSERT INTO absent (image_id, repository_id, held)
SELECT i.id, i.repository_id, true FROM image i
WHERE i.registry_id = %(registry)s AND i.held_at IS NOT NULL AND i.retired_at IS NULL
  AND i.repository_id = ANY(%(repositories)s)
  AND i.id = ANY(%(images)s::bigint[])
RETURNING image_id

-- name: count_repositories
UPDATE repository r SET live_images = coalesce(c.live, 0), held_images = coalesce(c.held, 0),
    latest_image_id = c.latest,
    -- What is stored no longer is what stood behind the fingerprint: the tags are read again.
    fingerprint = NULL
FROM unnest(%(repositories)s::bigint[]) AS l (id) LEFT JOIN (
    SELECT i.repository_id,
        count(*) FILTER (WHERE i.artifact_type = '') AS live,
        count(*) FILTER (WHERE i.held_at IS NOT NULL) AS held,
        (array_agg(i.id ORDER BY i.updated_at DESC, i.id DESC)
            FILTER (WHERE i.artifact_type = ''))[1] AS latest
    FROM image i
    WHERE i.repository_id = ANY(%(repositories)s) AND i.retired_at IS NULL
    GROUP BY i.repository_id
) c ON c.repository_id = l.id
WHERE r.id = l.id

-- name: count_registry
UPDATE registry g SET live_images = c.live, held_images = c.held,
    verdict_reasons = CASE WHEN c.held > 0 THEN g.verdict_reasons ELSE (
        SELECT coalesce(jsonb_agg(reason), '[]') FROM jsonb_array_elements(g.verdict_reasons) reason
        WHERE reason ->> 'code' NOT IN ('held', 'suspiciously_empty')) END
FROM (
    SELECT coalesce(sum(live_images), 0) AS live, coalesce(sum(held_images), 0) AS held
    FROM repository WHERE registry_id = %(registry)s AND retired_at IS NULL
) c
WHERE g.id = %(registry)s

-- name: removed_registries
SELECT id FROM registry
WHERE project_id = %(project)s AND name = %(name)s AND removed_at IS NOT NULL
  AND enterprise_project_id = ANY(%(enterprise_projects)s)
ORDER BY removed_at
