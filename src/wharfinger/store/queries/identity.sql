-- Who may call: keys, tokens, users, and what users are granted.

-- name: insert_project
INSERT INTO project (id, name, account_id) VALUES (%(id)s, %(name)s, %(account)s)
RETURNING created_at

-- name: insert_feed
INSERT INTO tenant_feed (project_id) VALUES (%(id)s)

-- name: list_projects
SELECT id, name, created_at, registries, images FROM list_projects()

-- name: find_project
SELECT id, name, account_id FROM find_project(%(project)s)

-- name: projects_of
SELECT id, name FROM projects_of(%(account)s, %(user)s)

-- name: find_credential
SELECT access_key, project_id, project_name, account_id, secret_sealed, expires_at,
    security_digest, user_id, user_name, policies, enterprise_projects
FROM find_credential(%(access_key)s)

-- name: insert_credential
INSERT INTO credential (access_key, project_id, secret_sealed, principal_id, expires_at,
    security_digest)
VALUES (%(access_key)s, %(project)s, %(sealed)s, %(user)s, now() + %(life)s, %(security_digest)s)
RETURNING expires_at

-- name: forget_temporary_credentials
DELETE FROM credential WHERE security_digest IS NOT NULL AND expires_at < now() - interval '1 day'

-- name: list_credentials
SELECT c.access_key, c.created_at, c.expires_at, c.revoked_at, p.name AS user_name
FROM credential c LEFT JOIN LATERAL find_principal(c.principal_id, NULL, NULL) p ON true
WHERE c.project_id = %(project)s AND c.security_digest IS NULL
ORDER BY c.created_at, c.access_key

-- name: lock_credential
SELECT principal_id FROM credential
WHERE project_id = %(project)s AND access_key = %(access_key)s
  AND revoked_at IS NULL AND security_digest IS NULL AND (expires_at IS NULL OR expires_at > now())
FOR UPDATE

-- name: end_credential
UPDATE credential SET expires_at = least(expires_at, now() + %(keep)s)
WHERE project_id = %(project)s AND access_key = %(access_key)s
RETURNING expires_at

-- name: revoke_credential
UPDATE credential SET revoked_at = now()
WHERE project_id = %(project)s AND access_key = %(access_key)s AND revoked_at IS NULL
RETURNING access_key

-- name: find_token
SELECT project_id, project_name, account_id, scope, created_at, expires_at, revoked,
    user_id, user_name, policies, enterprise_projects
FROM find_token(%(digest)s)

-- name: insert_token
INSERT INTO token (project_id, digest, expires_at, principal_id, scope)
VALUES (%(project)s, %(digest)s, now() + %(life)s, %(user)s, %(scope)s)
RETURNING created_at, expires_at

-- name: forget_tokens
-- Kept for a while after their end: until then a caller is told to renew, not that it is unknown.
DELETE FROM token WHERE expires_at < now() - interval '30 days'

-- name: revoke_token
UPDATE token SET revoked_at = now() WHERE digest = %(digest)s AND revoked_at IS NULL

-- name: find_principal
SELECT id, account_id, name, kind, password_hash, disabled
FROM find_principal(%(id)s, %(account)s, %(name)s)

-- name: insert_user
INSERT INTO principal (id, project_id, name, kind, password_hash)
VALUES (%(id)s, %(account)s, %(name)s, %(kind)s, %(password_hash)s)

-- name: list_users
SELECT p.id, p.name, p.kind, p.password_hash IS NOT NULL AS has_password,
    p.disabled_at IS NOT NULL AS disabled, p.created_at,
    coalesce((
        SELECT jsonb_agg(jsonb_build_object('policy', g.policy, 'project', g.on_project_id)
            ORDER BY g.id)
        FROM policy_grant g
        WHERE g.project_id = %(account)s AND g.principal_id = p.id), '[]') AS grants,
    ARRAY(
        SELECT coalesce(g.enterprise_project_id, '*') FROM enterprise_project_grant g
        WHERE g.project_id = %(account)s AND g.principal_id = p.id
        ORDER BY 1) AS enterprise_projects
FROM principal p WHERE p.project_id = %(account)s ORDER BY p.created_at, p.id

-- name: set_password
-- Tokens issued before are of the old password, and end with it.
UPDATE principal SET password_hash = %(password_hash)s, password_changed_at = now()
WHERE project_id = %(account)s AND name = %(name)s RETURNING id

-- name: disable_user
UPDATE principal SET disabled_at = now()
WHERE project_id = %(account)s AND name = %(name)s RETURNING id

-- name: enable_user
-- Tokens from before the user was disabled stay closed.
UPDATE principal SET disabled_at = NULL, password_changed_at = now()
WHERE project_id = %(account)s AND name = %(name)s RETURNING id

-- name: lock_users
-- One change of the account's users at a time, where it depends on all of them.
SELECT id FROM principal WHERE project_id = %(account)s ORDER BY id FOR NO KEY UPDATE

-- name: last_sign_ins
-- When each user last proved who they are in a project, as far as that is still kept.
SELECT s.principal_id AS user_id, max(s.created_at) AS at FROM (
    SELECT n.principal_id, n.created_at FROM session n WHERE n.project_id = %(project)s
    UNION ALL
    SELECT t.principal_id, t.created_at FROM token t WHERE t.project_id = %(project)s) s
WHERE s.principal_id IS NOT NULL GROUP BY s.principal_id

-- name: find_user
SELECT id FROM principal WHERE project_id = %(account)s AND name = %(name)s FOR KEY SHARE

-- name: lock_policy
SELECT name FROM policy WHERE project_id = %(account)s AND name = %(policy)s FOR KEY SHARE

-- name: granted_in
SELECT policy FROM policy_grant
WHERE project_id = %(account)s AND principal_id = %(user)s AND on_project_id = %(project)s

-- name: insert_grant
INSERT INTO policy_grant (project_id, principal_id, policy, on_project_id)
VALUES (%(account)s, %(user)s, %(policy)s, %(project)s)
ON CONFLICT DO NOTHING

-- name: delete_grant
DELETE FROM policy_grant
WHERE project_id = %(account)s AND principal_id = %(user)s AND policy = %(policy)s
  AND on_project_id IS NOT DISTINCT FROM %(project)s::text
RETURNING id

-- name: insert_policy
INSERT INTO policy (project_id, name, document) VALUES (%(account)s, %(name)s, %(document)s)

-- name: list_policies
SELECT name, document FROM policy WHERE project_id = %(account)s ORDER BY name

-- name: drop_policy
DELETE FROM policy WHERE project_id = %(account)s AND name = %(name)s RETURNING name

-- name: is_granted
SELECT EXISTS (
    SELECT FROM policy_grant WHERE project_id = %(account)s AND policy = %(name)s)

-- name: sealed_credentials
SELECT access_key, secret_sealed FROM credential
WHERE %(after)s::text IS NULL OR access_key > %(after)s ORDER BY access_key LIMIT 500

-- name: reseal_credential
UPDATE credential SET secret_sealed = %(sealed)s
WHERE access_key = %(access_key)s AND secret_sealed = %(before)s

-- name: sealed_registries
SELECT id, credential_sealed FROM registry WHERE credential_sealed IS NOT NULL ORDER BY id

-- name: reseal_registry
UPDATE registry SET credential_sealed = %(sealed)s
WHERE id = %(registry)s AND credential_sealed = %(before)s
