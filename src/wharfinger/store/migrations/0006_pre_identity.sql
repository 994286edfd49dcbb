-- Who may call, in full: accounts and their users, what each user is granted, keys that end and are
-- replaced, tokens that can be taken back.
--
-- An account (Keystone's domain) is a project: the first of its projects, whose id names it. Rows
-- that belong to an account carry that id, and row-level security goes by it.

-- The tables that are changed here hold a row per project, key and token: locking them while an
-- index is built or a reference is checked takes no time.

-- squawk-ignore adding-foreign-key-constraint
ALTER TABLE project ADD COLUMN account_id text REFERENCES project (id);
-- A scope names a project by name within its account, so the name must say which one.
-- squawk-ignore require-concurrent-index-creation
CREATE UNIQUE INDEX project_name_key ON project (coalesce(account_id, id), name);

CREATE TABLE principal (
    id text PRIMARY KEY,
    project_id text NOT NULL REFERENCES project (id), -- the account
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 64),
    -- An account's principals may do everything in its projects, a user what is granted.
    kind text NOT NULL CHECK (kind IN ('account', 'user')),
    password_hash text,
    password_changed_at timestamptz NOT NULL DEFAULT now(),
    disabled_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (project_id, name)
);

CREATE TABLE policy (
    project_id text NOT NULL REFERENCES project (id), -- the account
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 64),
    document jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (project_id, name)
);

CREATE TABLE policy_grant (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    project_id text NOT NULL REFERENCES project (id), -- the account
    principal_id text NOT NULL REFERENCES principal (id) ON DELETE CASCADE,
    -- One of policy's names, or of the system's, which are in the code.
    policy text NOT NULL,
    -- The project it holds in; null for every project of the account.
    on_project_id text REFERENCES project (id),
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE NULLS NOT DISTINCT (principal_id, policy, on_project_id)
);

-- Without a principal a key or a token acts as the project's account.
ALTER TABLE credential
    -- squawk-ignore adding-foreign-key-constraint
    ADD COLUMN principal_id text REFERENCES principal (id) ON DELETE CASCADE,
    ADD COLUMN expires_at timestamptz,
    -- SHA-256 of the security token that must accompany a temporary key.
    ADD COLUMN security_digest bytea;
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX credential_principal_idx ON credential (principal_id);

ALTER TABLE token
    -- squawk-ignore adding-foreign-key-constraint
    ADD COLUMN principal_id text REFERENCES principal (id) ON DELETE CASCADE,
    -- A token of an account or without a scope lies with the account and opens no project.
    ADD COLUMN scope text NOT NULL DEFAULT 'project'
        CHECK (scope IN ('project', 'domain', 'unscoped'));
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX token_principal_idx ON token (principal_id);

DO $$
DECLARE
    t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['principal', 'policy', 'policy_grant']
    LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', t);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', t);
        EXECUTE format('CREATE POLICY tenant ON %I TO wharfinger_app'
            ' USING (project_id = (SELECT tenant())) WITH CHECK (project_id = (SELECT tenant()))', t);
        EXECUTE format('CREATE POLICY owner ON %I TO CURRENT_USER USING (true) WITH CHECK (true)', t);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %I TO wharfinger_app', t);
    END LOOP;
END
$$;

-- Look-ups that come before the tenant is known; each answers one exact key.

-- What a principal is granted in a project (for none: in all of them): [{"name", "document"}], the
-- document null of the system's policies. Null for whoever may do everything.
CREATE FUNCTION policies_of(who text, wanted_project text)
    RETURNS jsonb
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path FROM CURRENT
AS $$
    SELECT CASE WHEN p.kind = 'account' THEN NULL ELSE (
        SELECT coalesce(
            jsonb_agg(jsonb_build_object('name', g.policy, 'document', y.document)), '[]')
        FROM policy_grant g
        LEFT JOIN policy y ON y.project_id = g.project_id AND y.name = g.policy
        WHERE g.principal_id = p.id
          AND (g.on_project_id IS NULL OR g.on_project_id = wanted_project)) END
    FROM principal p WHERE p.id = who
$$;

-- They answer with more columns than before, and know of ends that the old ones would overlook.
-- squawk-ignore ban-drop-function
DROP FUNCTION find_credential(text);
CREATE FUNCTION find_credential(wanted text)
    RETURNS TABLE (access_key text, project_id text, project_name text, account_id text,
        secret_sealed bytea, expires_at timestamptz, security_digest bytea,
        user_id text, user_name text, policies jsonb)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path FROM CURRENT
AS $$
    SELECT c.access_key, c.project_id, p.name, coalesce(p.account_id, p.id), c.secret_sealed,
        c.expires_at, c.security_digest, n.id, n.name, policies_of(n.id, c.project_id)
    FROM credential c
    JOIN project p ON p.id = c.project_id
    LEFT JOIN principal n ON n.id = c.principal_id
    WHERE c.access_key = wanted AND c.revoked_at IS NULL AND n.disabled_at IS NULL
$$;

-- Also of a token that was taken back, so that it can be told from one that never was.
-- squawk-ignore ban-drop-function
DROP FUNCTION find_token(bytea);
CREATE FUNCTION find_token(wanted bytea)
    RETURNS TABLE (project_id text, project_name text, account_id text, scope text,
        created_at timestamptz, expires_at timestamptz, revoked boolean,
        user_id text, user_name text, policies jsonb)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path FROM CURRENT
AS $$
    SELECT t.project_id, p.name, coalesce(p.account_id, p.id), t.scope,
        t.created_at, t.expires_at,
        t.revoked_at IS NOT NULL
            OR coalesce(n.disabled_at IS NOT NULL OR n.password_changed_at > t.created_at, false),
        n.id, n.name, policies_of(n.id, CASE WHEN t.scope = 'project' THEN t.project_id END)
    FROM token t
    JOIN project p ON p.id = t.project_id
    LEFT JOIN principal n ON n.id = t.principal_id
    WHERE t.digest = wanted
$$;

-- A user who wants to log in, by id, or by name within an account.
CREATE FUNCTION find_principal(wanted_id text, wanted_account text, wanted_name text)
    RETURNS TABLE (id text, account_id text, name text, kind text, password_hash text,
        disabled boolean)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path FROM CURRENT
AS $$
    SELECT p.id, p.project_id, p.name, p.kind, p.password_hash, p.disabled_at IS NOT NULL
    FROM principal p
    WHERE p.id = wanted_id
       OR (wanted_id IS NULL AND p.project_id = wanted_account AND p.name = wanted_name)
$$;

-- The projects of an account that a principal may enter; without one, all of them.
CREATE FUNCTION projects_of(wanted_account text, who text)
    RETURNS TABLE (id text, name text)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path FROM CURRENT
AS $$
    SELECT p.id, p.name FROM project p
    WHERE coalesce(p.account_id, p.id) = wanted_account
      AND (who IS NULL
        OR EXISTS (SELECT FROM principal n
            WHERE n.id = who AND n.project_id = wanted_account AND n.kind = 'account')
        OR EXISTS (SELECT FROM policy_grant g
            WHERE g.principal_id = who AND g.project_id = wanted_account
              AND (g.on_project_id IS NULL OR g.on_project_id = p.id)))
    ORDER BY p.created_at, p.id
$$;

-- A project by its id, whoever asks; for tokens that another identity service vouches for.
CREATE FUNCTION find_project(wanted text)
    RETURNS TABLE (id text, name text, account_id text)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path FROM CURRENT
AS $$
    SELECT p.id, p.name, coalesce(p.account_id, p.id) FROM project p WHERE p.id = wanted
$$;

REVOKE EXECUTE ON FUNCTION policies_of, find_credential, find_token, find_principal, projects_of,
    find_project FROM PUBLIC;
GRANT EXECUTE ON FUNCTION policies_of, find_credential, find_token, find_principal, projects_of,
    find_project TO wharfinger_app;
