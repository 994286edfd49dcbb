-- Sessions of the web console.

-- name: find
SELECT project_id, project_name, account_id, access_key, expires_at, user_id, user_name, policies,
    enterprise_projects
FROM find_session(%(digest)s)

-- name: insert
INSERT INTO session (digest, project_id, principal_id, token_digest, access_key, expires_at)
VALUES (%(digest)s, %(project)s, %(user)s, %(token_digest)s, %(access_key)s,
    least(now() + %(life)s, %(ends)s))
RETURNING expires_at

-- name: forget
DELETE FROM session WHERE expires_at < now() - interval '1 day'

-- name: end
UPDATE session SET ended_at = now() WHERE digest = %(digest)s AND ended_at IS NULL
