-- Labels of registries, namespaces and repositories.

-- name: set
INSERT INTO label (project_id, registry_id, namespace, repository, key, value)
VALUES (%(project)s, %(registry)s, %(namespace)s, %(repository)s, %(key)s, %(value)s)
ON CONFLICT (registry_id, key, namespace, repository) DO UPDATE SET value = excluded.value

-- name: remove
DELETE FROM label
WHERE project_id = %(project)s AND registry_id = %(registry)s AND key = %(key)s
  AND namespace IS NOT DISTINCT FROM %(namespace)s::text
  AND repository IS NOT DISTINCT FROM %(repository)s::text
RETURNING key

-- name: count
SELECT count(*) FROM label WHERE project_id = %(project)s

-- name: list
SELECT g.id::text, g.name, l.namespace, l.repository, l.key, l.value
FROM label l JOIN registry g ON g.id = l.registry_id
WHERE l.project_id = %(project)s AND g.removed_at IS NULL
  AND g.enterprise_project_id = ANY(%(enterprise_projects)s)
ORDER BY g.name, l.namespace NULLS FIRST, l.repository NULLS FIRST, l.key

-- name: of_repositories
-- The nearest one counts: a repository's own before its namespace's before its registry's.
SELECT DISTINCT ON (r.id, l.key) r.id, l.key, l.value
FROM repository r JOIN label l ON l.registry_id = r.registry_id
WHERE r.project_id = %(project)s AND l.project_id = %(project)s AND r.id = ANY(%(repositories)s)
  AND (l.namespace IS NULL OR l.namespace = r.namespace)
  AND (l.repository IS NULL OR l.repository = r.name)
ORDER BY r.id, l.key, l.repository NULLS LAST, l.namespace NULLS LAST
