-- Who is signed in to the web console.
--
-- A session is opened by a password, a token or an access key, and closes with it: it is looked up
-- together with whatever opened it, so nothing has to be told that something was taken back.

CREATE TABLE session (
    digest bytea PRIMARY KEY, -- SHA-256 of the cookie, which has 256 bits of entropy
    project_id text NOT NULL REFERENCES project (id),
    principal_id text REFERENCES principal (id) ON DELETE CASCADE,
    token_digest bytea REFERENCES token (digest) ON DELETE CASCADE,
    access_key text REFERENCES credential (access_key) ON DELETE CASCADE,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    ended_at timestamptz
);
CREATE INDEX session_principal_idx ON session (principal_id);
CREATE INDEX session_token_idx ON session (token_digest);
CREATE INDEX session_access_key_idx ON session (access_key);
CREATE INDEX session_expires_idx ON session (expires_at);

ALTER TABLE session ENABLE ROW LEVEL SECURITY;
ALTER TABLE session FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON session TO wharfinger_app
    USING (project_id = (SELECT tenant())) WITH CHECK (project_id = (SELECT tenant()));
CREATE POLICY owner ON session TO CURRENT_USER USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON session TO wharfinger_app;

-- A session that is open, with what its holder is granted now; it comes before the tenant is known.
CREATE FUNCTION find_session(wanted bytea)
    RETURNS TABLE (project_id text, project_name text, account_id text, access_key text,
        expires_at timestamptz, user_id text, user_name text, policies jsonb,
        enterprise_projects text[])
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path FROM CURRENT
AS $$
    SELECT s.project_id, p.name, coalesce(p.account_id, p.id), s.access_key, s.expires_at,
        n.id, n.name, policies_of(n.id, s.project_id),
        enterprise_projects_of(n.id, coalesce(p.account_id, p.id))
    FROM session s
    JOIN project p ON p.id = s.project_id
    LEFT JOIN principal n ON n.id = s.principal_id
    LEFT JOIN token t ON t.digest = s.token_digest
    LEFT JOIN credential c ON c.access_key = s.access_key
    WHERE s.digest = wanted
      AND s.ended_at IS NULL
      AND s.expires_at > now()
      AND n.disabled_at IS NULL
      AND (n.id IS NULL OR n.password_changed_at <= s.created_at)
      AND t.revoked_at IS NULL
      AND (t.digest IS NULL OR t.expires_at > now())
      AND c.revoked_at IS NULL
      AND (c.expires_at IS NULL OR c.expires_at > now())
$$;
REVOKE EXECUTE ON FUNCTION find_session FROM PUBLIC;
GRANT EXECUTE ON FUNCTION find_session TO wharfinger_app;

-- What a host is known to bear, for whoever watches a sync of a registry there. It is one number
-- for all tenants, as the pace of their own syncs tells each of them anyway.
CREATE FUNCTION show_budget(wanted bytea)
    RETURNS TABLE (concurrency double precision, ceiling integer, rate double precision,
        paused_s double precision)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path FROM CURRENT
AS $$
    SELECT b.concurrency, b.ceiling, b.rate,
        greatest(0, extract(epoch FROM b.paused_until - now()))::float8
    FROM host_budget b WHERE b.host = wanted
$$;
REVOKE EXECUTE ON FUNCTION show_budget FROM PUBLIC;
GRANT EXECUTE ON FUNCTION show_budget TO wharfinger_app;
