-- Enterprise projects of an account, and who is granted which. The transaction's tenant is the
-- account, but for `find`.

-- name: find
SELECT id, name, disabled FROM find_enterprise_project(%(id)s)

-- name: every
SELECT enterprise_projects_of(NULL, %(account)s)

-- name: list
SELECT id, name, disabled_at IS NOT NULL AS disabled, created_at FROM enterprise_project
WHERE project_id = %(account)s ORDER BY created_at, id

-- name: insert
INSERT INTO enterprise_project (id, project_id, name) VALUES (%(id)s, %(account)s, %(name)s)
RETURNING id, name, false AS disabled, created_at

-- name: change
UPDATE enterprise_project SET name = coalesce(%(name)s, name),
    disabled_at = CASE WHEN %(disabled)s::boolean IS NULL THEN disabled_at
        WHEN %(disabled)s THEN coalesce(disabled_at, now()) END
WHERE project_id = %(account)s AND id = %(id)s
RETURNING id, name, disabled_at IS NOT NULL AS disabled, created_at

-- name: find_user
SELECT id FROM principal WHERE project_id = %(account)s AND name = %(user)s FOR KEY SHARE

-- name: grants
SELECT p.name AS user, g.enterprise_project_id IS NULL AS every
FROM enterprise_project_grant g JOIN principal p ON p.id = g.principal_id
WHERE g.project_id = %(account)s
  AND (g.enterprise_project_id IS NULL OR g.enterprise_project_id = %(id)s)
ORDER BY p.name, every

-- name: grant
INSERT INTO enterprise_project_grant (project_id, principal_id, enterprise_project_id)
VALUES (%(account)s, %(principal)s, %(id)s)
ON CONFLICT DO NOTHING

-- name: revoke
DELETE FROM enterprise_project_grant
WHERE project_id = %(account)s AND principal_id = %(principal)s
  AND enterprise_project_id IS NOT DISTINCT FROM %(id)s::text
RETURNING principal_id
