-- What belongs to images: whom to ask about, what is known, and what is told.

-- name: unasked
-- Of what was listed: the images whose referrers nobody has asked for, and those whose list of
-- referrers, which a tag holds, is another than before. What is no image has none that matter.
WITH listed AS (
    SELECT * FROM unnest(%(repositories)s::bigint[], %(tags)s::text[], %(digests)s::text[])
        AS l (repository_id, tag, digest)
    UNION
    SELECT l.repository_id, s.tag, s.digest
    FROM listing l JOIN listing_row s ON s.listing_id = l.id
    WHERE l.id = ANY(%(listings)s)
      AND (coalesce(s.artifact_type, '') = '' OR s.tag ~ '^sha(256|512)-[0-9a-f]+$')
), sorted AS (
    -- What names a digest, by the tag; null for what stands for itself. The length is not counted
    -- in the expression, where it would take a millisecond a row.
    SELECT l.*, CASE WHEN length(split_part(l.tag, '.', 1)) BETWEEN 71 AND 135
        THEN substring(l.tag FROM '^sha(?:256|512)-[0-9a-f]+(\.(?:sig|att|sbom)|)$') END AS suffix
    FROM listed l
), subject AS (
    SELECT s.repository_id, s.digest, NULL AS tag, s.digest AS subject FROM sorted s
    WHERE s.suffix IS NULL
    UNION
    SELECT s.repository_id, s.digest, s.tag, replace(s.tag, '-', ':') FROM sorted s
    WHERE s.suffix = ''
)
SELECT s.repository_id, s.subject,
    coalesce(array_agg(s.tag) FILTER (WHERE s.tag IS NOT NULL), '{}')
FROM subject s JOIN repository r ON r.id = s.repository_id
GROUP BY s.repository_id, s.subject
HAVING bool_or(r.id = ANY(%(again)s) OR NOT r.referrers_read OR NOT EXISTS (
    SELECT FROM image i
    WHERE i.project_id = %(project)s AND i.digest = s.digest
      AND i.repository_id = s.repository_id AND i.retired_at IS NULL))
ORDER BY s.repository_id, s.subject

-- name: artifacts
-- Those of the digests that are known to be no image.
SELECT DISTINCT i.digest FROM image i
WHERE i.project_id = %(project)s AND i.registry_id = %(registry)s
  AND i.digest = ANY(%(digests)s) AND i.artifact_type <> ''

-- name: known
SELECT repository_id, subject, digest, kind, tag FROM attachment
WHERE project_id = %(project)s AND repository_id = ANY(%(repositories)s)
  AND (tag IS NULL OR tag !~ '\.(sig|att|sbom)$')

-- name: remove
-- Of images that were listed just now: those that are absent may be held, and then keep theirs.
DELETE FROM attachment a
USING unnest(%(repositories)s::bigint[], %(subjects)s::text[], %(digests)s::text[],
    %(kinds)s::text[], %(tags)s::text[]) AS gone (repository_id, subject, digest, kind, tag)
WHERE a.project_id = %(project)s AND a.repository_id = gone.repository_id
  AND a.subject = gone.subject AND a.digest = gone.digest AND a.kind = gone.kind
  AND a.tag IS NOT DISTINCT FROM gone.tag
  AND EXISTS (
      SELECT FROM incoming s WHERE s.repository_id = a.repository_id AND s.digest = a.subject)

-- name: add
INSERT INTO attachment (project_id, registry_id, repository_id, subject, digest, kind,
    artifact_type, tag)
SELECT %(project)s, %(registry)s, * FROM unnest(%(repositories)s::bigint[], %(subjects)s::text[],
    %(digests)s::text[], %(kinds)s::text[], %(types)s::text[], %(tags)s::text[])
ON CONFLICT DO NOTHING

-- name: forget_gone
-- What belonged to images that are listed no more. Should they come back, they are asked for anew.
DELETE FROM attachment a
WHERE a.project_id = %(project)s AND a.tag IS NULL
  AND a.repository_id = ANY(ARRAY(
      SELECT c.repository_id FROM change c WHERE c.kind IN ('moved', 'retired', 'hidden')))
  AND NOT EXISTS (
      SELECT FROM image i
      WHERE i.project_id = %(project)s AND i.digest = a.subject
        AND i.repository_id = a.repository_id AND i.retired_at IS NULL)

-- name: of_images
SELECT DISTINCT a.repository_id, a.subject, a.kind, a.digest, a.artifact_type
FROM unnest(%(repositories)s::bigint[], %(digests)s::text[]) AS i (repository_id, digest)
JOIN attachment a ON a.repository_id = i.repository_id AND a.subject = i.digest
WHERE a.project_id = %(project)s
ORDER BY 1, 2, 3, 4, 5
