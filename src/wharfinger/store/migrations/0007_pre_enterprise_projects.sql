-- Enterprise projects: parts of an account, to which registries belong and which users are granted.
--
-- They belong to the account (its first project), and row-level security goes by it. The default
-- one, whose id is '0', always exists and has no row.

CREATE TABLE enterprise_project (
    id text PRIMARY KEY,
    project_id text NOT NULL REFERENCES project (id), -- the account
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 64),
    -- A disabled one takes no registry in; what it holds stays in every list.
    disabled_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (project_id, name)
);

CREATE TABLE enterprise_project_grant (
    project_id text NOT NULL REFERENCES project (id), -- the account
    principal_id text NOT NULL REFERENCES principal (id) ON DELETE CASCADE,
    -- Null for every one of the account, later ones too.
    enterprise_project_id text,
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE NULLS NOT DISTINCT (principal_id, enterprise_project_id)
);

-- Users keep what they could see until now. What is granted is what is written here and nothing
-- else, so that taking a grant back never shows more than before.
INSERT INTO enterprise_project_grant (project_id, principal_id, enterprise_project_id)
SELECT project_id, id, '0' FROM principal WHERE kind = 'user';

-- Where an erased registry was: the feed keeps the numbers of its events, for those who saw them.
CREATE TABLE purged_registry (
    id uuid PRIMARY KEY,
    project_id text NOT NULL,
    enterprise_project_id text NOT NULL
);

DO $$
DECLARE
    t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['enterprise_project', 'enterprise_project_grant', 'purged_registry']
    LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', t);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', t);
        EXECUTE format('CREATE POLICY tenant ON %I TO wharfinger_app'
            ' USING (project_id = (SELECT tenant())) WITH CHECK (project_id = (SELECT tenant()))', t);
        EXECUTE format('CREATE POLICY owner ON %I TO CURRENT_USER USING (true) WITH CHECK (true)', t);
    END LOOP;
    GRANT SELECT, INSERT, UPDATE ON enterprise_project TO wharfinger_app;
    GRANT SELECT, INSERT, DELETE ON enterprise_project_grant TO wharfinger_app;
    GRANT SELECT ON purged_registry TO wharfinger_app;
END
$$;

CREATE FUNCTION remember_purged_registry()
    RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT
AS $$
BEGIN
    INSERT INTO purged_registry (id, project_id, enterprise_project_id)
    VALUES (OLD.id, OLD.project_id, OLD.enterprise_project_id);
    RETURN OLD;
END
$$;
CREATE TRIGGER remember_purged BEFORE DELETE ON registry
    FOR EACH ROW EXECUTE FUNCTION remember_purged_registry();

-- One of the account that the transaction's project belongs to.
CREATE FUNCTION find_enterprise_project(wanted text)
    RETURNS TABLE (id text, name text, disabled boolean)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path FROM CURRENT
AS $$
    SELECT e.id, e.name, e.disabled_at IS NOT NULL
    FROM enterprise_project e JOIN project p ON coalesce(p.account_id, p.id) = e.project_id
    WHERE p.id = tenant() AND e.id = wanted
$$;

-- What a principal is granted, without one what the account is, which is everything: '*' comes
-- first then, before the ids of all there are.
CREATE FUNCTION enterprise_projects_of(who text, account text)
    RETURNS text[]
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path FROM CURRENT
AS $$
    SELECT CASE
        WHEN who IS NULL
            OR (SELECT p.kind = 'account' FROM principal p WHERE p.id = who)
            OR EXISTS (SELECT FROM enterprise_project_grant g
                WHERE g.principal_id = who AND g.enterprise_project_id IS NULL)
        THEN ARRAY['*', '0'] || ARRAY(
            SELECT e.id FROM enterprise_project e WHERE e.project_id = account ORDER BY e.id)
        ELSE ARRAY(
            SELECT g.enterprise_project_id FROM enterprise_project_grant g
            WHERE g.principal_id = who ORDER BY 1)
    END
$$;

-- As before, with what is granted.
-- squawk-ignore ban-drop-function
DROP FUNCTION find_credential(text);
CREATE FUNCTION find_credential(wanted text)
    RETURNS TABLE (access_key text, project_id text, project_name text, account_id text,
        secret_sealed bytea, expires_at timestamptz, security_digest bytea,
        user_id text, user_name text, policies jsonb, enterprise_projects text[])
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path FROM CURRENT
AS $$
    SELECT c.access_key, c.project_id, p.name, coalesce(p.account_id, p.id), c.secret_sealed,
        c.expires_at, c.security_digest, n.id, n.name, policies_of(n.id, c.project_id),
        enterprise_projects_of(n.id, coalesce(p.account_id, p.id))
    FROM credential c
    JOIN project p ON p.id = c.project_id
    LEFT JOIN principal n ON n.id = c.principal_id
    WHERE c.access_key = wanted AND c.revoked_at IS NULL AND n.disabled_at IS NULL
$$;

-- squawk-ignore ban-drop-function
DROP FUNCTION find_token(bytea);
CREATE FUNCTION find_token(wanted bytea)
    RETURNS TABLE (project_id text, project_name text, account_id text, scope text,
        created_at timestamptz, expires_at timestamptz, revoked boolean,
        user_id text, user_name text, policies jsonb, enterprise_projects text[])
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path FROM CURRENT
AS $$
    SELECT t.project_id, p.name, coalesce(p.account_id, p.id), t.scope,
        t.created_at, t.expires_at,
        t.revoked_at IS NOT NULL
            OR coalesce(n.disabled_at IS NOT NULL OR n.password_changed_at > t.created_at, false),
        n.id, n.name, policies_of(n.id, CASE WHEN t.scope = 'project' THEN t.project_id END),
        enterprise_projects_of(n.id, coalesce(p.account_id, p.id))
    FROM token t
    JOIN project p ON p.id = t.project_id
    LEFT JOIN principal n ON n.id = t.principal_id
    WHERE t.digest = wanted
$$;

REVOKE EXECUTE ON FUNCTION remember_purged_registry, find_enterprise_project,
    enterprise_projects_of, find_credential, find_token FROM PUBLIC;
GRANT EXECUTE ON FUNCTION find_enterprise_project, enterprise_projects_of, find_credential,
    find_token TO wharfinger_app;
