-- The foundation: tenants, registries, the list itself, its history, runs, and who may call.
--
-- Applied by the owner. The application's role is wharfinger_app: neither superuser nor owner nor
-- BYPASSRLS. Every table that holds a tenant's rows forces row-level security; the tenant is set
-- with set_config('wharfinger.tenant', ..., true) in every transaction.
--
-- The hot tables (image, image_version, platform, event) carry no foreign keys: a check per row
-- costs more than the row, and nothing ever deletes a repository or a registry row in normal work.

CREATE EXTENSION IF NOT EXISTS pg_trgm;

CREATE FUNCTION tenant() RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN current_setting('wharfinger.tenant', true);

-- Tenants ---------------------------------------------------------------------------------------

CREATE TABLE project (
    id text PRIMARY KEY CHECK (length(id) BETWEEN 1 AND 256),
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 64),
    created_at timestamptz NOT NULL DEFAULT now()
);

-- The last number given to an event of the tenant. Only the last step of a publishing transaction
-- takes numbers from it, so the feed has no gap and nothing arrives late.
CREATE TABLE tenant_feed (
    project_id text PRIMARY KEY REFERENCES project (id),
    seq bigint NOT NULL DEFAULT 0
);

-- Registries and the list -------------------------------------------------------------------------

CREATE TABLE registry (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    project_id text NOT NULL REFERENCES project (id),
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 128),
    kind text NOT NULL,
    address text NOT NULL,
    region text NOT NULL DEFAULT '',
    enterprise_project_id text NOT NULL DEFAULT '0',
    options jsonb NOT NULL DEFAULT '{}',
    ca_pem text,
    allow_private_networks boolean NOT NULL DEFAULT false,
    credential_kind text NOT NULL DEFAULT 'none',
    credential_identity text NOT NULL DEFAULT '',
    credential_sealed bytea,
    -- Grows with every change of address, credential or filter.
    config_generation integer NOT NULL DEFAULT 1,
    -- The generation of the last complete listing; the first one of a new generation holds all
    -- retirements.
    listed_generation integer,
    verdict text NOT NULL DEFAULT 'never' CHECK (verdict IN ('never', 'partial', 'complete')),
    verdict_reasons jsonb NOT NULL DEFAULT '[]',
    -- All repositories confirmed (by reading or by fingerprint) as of this time.
    confirmed_at timestamptz,
    -- All repositories read as of this time.
    read_at timestamptz,
    -- A listing that came up empty although there were images; a second one must agree.
    empty_seen_at timestamptz,
    -- Changes found behind a fingerprint that stood.
    fingerprint_lies bigint NOT NULL DEFAULT 0,
    live_images bigint NOT NULL DEFAULT 0,
    held_images bigint NOT NULL DEFAULT 0,
    -- A complete list older than this is stale.
    stale_after interval NOT NULL DEFAULT '26 hours',
    created_at timestamptz NOT NULL DEFAULT now(),
    removed_at timestamptz
);
CREATE UNIQUE INDEX registry_name_key ON registry (project_id, name) WHERE removed_at IS NULL;

CREATE TABLE repository (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    project_id text NOT NULL,
    registry_id uuid NOT NULL,
    namespace text NOT NULL,
    name text NOT NULL,
    owner text NOT NULL DEFAULT '',
    shared_status text NOT NULL DEFAULT '',
    fingerprint text,
    suspect_fingerprint text,
    live_images integer NOT NULL DEFAULT 0,
    held_images integer NOT NULL DEFAULT 0,
    latest_image_id bigint,
    -- When its tags were last read and found different; with registry.confirmed_at and read_at it
    -- tells when any row was last known to be right, so that rows need no last-seen time.
    listed_at timestamptz,
    verdict text NOT NULL DEFAULT 'never' CHECK (verdict IN ('never', 'partial', 'complete')),
    verdict_reason jsonb,
    empty_seen_at timestamptz,
    retired_at timestamptz,
    first_seen_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (registry_id, namespace, name)
);
CREATE INDEX repository_project_idx ON repository (project_id, namespace, name);
CREATE INDEX repository_name_trgm_idx ON repository USING gin (name gin_trgm_ops);

CREATE TABLE image (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    project_id text NOT NULL,
    registry_id uuid NOT NULL,
    repository_id bigint NOT NULL,
    tag text,
    digest text NOT NULL,
    image_id text NOT NULL,
    media_type text NOT NULL DEFAULT '',
    artifact_type text NOT NULL DEFAULT '',
    is_index boolean NOT NULL DEFAULT false,
    size bigint NOT NULL,
    created_at timestamptz,
    -- What HSS calls the latest update time: the registry's own, else a sane config time, else the
    -- time we first saw this digest under this tag.
    updated_at timestamptz NOT NULL,
    -- Absent from a complete listing, but over the retirement budget: listed until accepted.
    held_at timestamptz,
    retired_at timestamptz,
    first_seen_at timestamptz NOT NULL DEFAULT now()
);
-- A tag cannot begin with "@", so untagged artifacts are told apart by their digest.
CREATE UNIQUE INDEX image_key ON image (repository_id, (coalesce(tag, '@' || digest)));
CREATE INDEX image_digest_idx ON image (project_id, digest);
CREATE INDEX image_live_idx ON image (project_id, id) WHERE retired_at IS NULL;
CREATE INDEX image_registry_live_idx ON image (registry_id, id) WHERE retired_at IS NULL;

-- The state of an image over a span of event numbers [from_seq, to_seq); to_seq is null for the
-- current one. "As of" reads this and replays nothing.
CREATE TABLE image_version (
    image_id bigint NOT NULL,
    project_id text NOT NULL,
    from_seq bigint NOT NULL,
    to_seq bigint,
    digest text NOT NULL,
    config_digest text NOT NULL,
    artifact_type text NOT NULL DEFAULT '',
    is_index boolean NOT NULL DEFAULT false,
    size bigint NOT NULL,
    updated_at timestamptz NOT NULL,
    run_id uuid NOT NULL,
    PRIMARY KEY (project_id, image_id, from_seq)
);

-- The children of an index. Content-addressed, so a parent's rows never change.
CREATE TABLE platform (
    project_id text NOT NULL,
    registry_id uuid NOT NULL,
    index_digest text NOT NULL,
    position smallint NOT NULL,
    digest text NOT NULL,
    os text NOT NULL,
    architecture text NOT NULL,
    variant text NOT NULL,
    size bigint NOT NULL,
    image_id text NOT NULL,
    PRIMARY KEY (registry_id, index_digest, position)
);

CREATE TABLE event (
    project_id text NOT NULL,
    seq bigint NOT NULL,
    kind text NOT NULL CHECK (kind IN ('added', 'moved', 'retired', 'restored')),
    image_id bigint NOT NULL,
    repository_id bigint NOT NULL,
    registry_id uuid NOT NULL,
    run_id uuid,
    tag text,
    digest_before text,
    digest_after text,
    -- Taken together with the number, under the feed's lock: later numbers never have an earlier
    -- time, so that "as of" a time is "as of" a number.
    at timestamptz NOT NULL,
    PRIMARY KEY (project_id, seq)
);
CREATE INDEX event_at_idx ON event (project_id, at);

-- Tasks, runs, units ------------------------------------------------------------------------------

CREATE TABLE task (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    project_id text NOT NULL REFERENCES project (id),
    name text NOT NULL,
    sync_type text NOT NULL CHECK (sync_type IN ('manualSync', 'autoSync')),
    requested jsonb NOT NULL DEFAULT '{}',
    requested_by text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX task_project_idx ON task (project_id, created_at DESC);

CREATE TABLE run (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    project_id text NOT NULL,
    registry_id uuid NOT NULL REFERENCES registry (id),
    state text NOT NULL DEFAULT 'queued' CHECK (state IN ('queued', 'running', 'finished')),
    outcome text CHECK (outcome IN ('complete', 'held', 'partial', 'failed')),
    is_full boolean NOT NULL DEFAULT false,
    -- Grows whenever a worker takes up the listing; what an older attempt writes is refused.
    attempt integer NOT NULL DEFAULT 0,
    generation integer NOT NULL DEFAULT 0,
    -- The listing of repositories: 'open', 'complete', or 'failed'.
    listing text NOT NULL DEFAULT 'open' CHECK (listing IN ('open', 'complete', 'failed')),
    listing_pass integer NOT NULL DEFAULT 1,
    cursor jsonb,
    live_at_start bigint NOT NULL DEFAULT 0,
    retire_budget bigint NOT NULL DEFAULT 0,
    holds_everything boolean NOT NULL DEFAULT false,
    repositories_skipped bigint NOT NULL DEFAULT 0,
    units_total integer NOT NULL DEFAULT 0,
    units_done integer NOT NULL DEFAULT 0,
    repositories_total bigint NOT NULL DEFAULT 0,
    repositories_done bigint NOT NULL DEFAULT 0,
    repositories_failed bigint NOT NULL DEFAULT 0,
    images bigint NOT NULL DEFAULT 0,
    images_skipped bigint NOT NULL DEFAULT 0,
    requests bigint NOT NULL DEFAULT 0,
    added bigint NOT NULL DEFAULT 0,
    moved bigint NOT NULL DEFAULT 0,
    retired bigint NOT NULL DEFAULT 0,
    restored bigint NOT NULL DEFAULT 0,
    held bigint NOT NULL DEFAULT 0,
    reasons jsonb NOT NULL DEFAULT '[]',
    -- The last event number of the tenant when the run ended: the list as this run left it.
    finished_seq bigint,
    queued_at timestamptz NOT NULL DEFAULT now(),
    started_at timestamptz,
    finished_at timestamptz
);
CREATE UNIQUE INDEX run_one_running_key ON run (registry_id) WHERE state = 'running';
CREATE UNIQUE INDEX run_one_queued_key ON run (registry_id) WHERE state = 'queued';
CREATE INDEX run_registry_idx ON run (registry_id, queued_at DESC);

CREATE TABLE task_run (
    task_id uuid NOT NULL REFERENCES task (id),
    run_id uuid NOT NULL REFERENCES run (id),
    project_id text NOT NULL,
    PRIMARY KEY (task_id, run_id)
);
CREATE INDEX task_run_run_idx ON task_run (run_id);

-- One page of a run's listing: the repositories it named. Removed when the run ends.
CREATE TABLE run_page (
    run_id uuid NOT NULL,
    listing_pass integer NOT NULL,
    page integer NOT NULL,
    project_id text NOT NULL,
    repository_ids bigint[] NOT NULL,
    PRIMARY KEY (run_id, listing_pass, page)
);

-- A batch of repositories to read, published in one transaction. repositories holds what the
-- registry's listing said of each: [{"id", "namespace", "name", "fingerprint", "images", ...}].
CREATE TABLE unit (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    project_id text NOT NULL,
    run_id uuid NOT NULL REFERENCES run (id),
    registry_id uuid NOT NULL,
    repository_ids bigint[] NOT NULL,
    repositories jsonb NOT NULL,
    attempt integer NOT NULL DEFAULT 0,
    done boolean NOT NULL DEFAULT false
);
CREATE INDEX unit_run_idx ON unit (run_id);

-- A tag listing longer than one page collects here, each page in the transaction of its cursor.
CREATE TABLE listing (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    project_id text NOT NULL,
    run_id uuid NOT NULL,
    unit_id bigint NOT NULL,
    unit_attempt integer NOT NULL,
    repository_id bigint NOT NULL,
    cursor jsonb,
    pages integer NOT NULL DEFAULT 0,
    UNIQUE (run_id, repository_id)
);
CREATE TABLE listing_row (
    listing_id bigint NOT NULL,
    project_id text NOT NULL,
    page integer NOT NULL,
    tag text,
    digest text NOT NULL,
    image_id text,
    media_type text,
    artifact_type text,
    is_index boolean,
    size bigint,
    created_at timestamptz,
    updated_at timestamptz
);
CREATE INDEX listing_row_idx ON listing_row (listing_id);

-- Who may call ------------------------------------------------------------------------------------

CREATE TABLE credential (
    access_key text PRIMARY KEY,
    project_id text NOT NULL REFERENCES project (id),
    secret_sealed bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    revoked_at timestamptz
);

CREATE TABLE token (
    digest bytea PRIMARY KEY, -- SHA-256; a token has 256 bits of entropy, so nothing slower is needed
    project_id text NOT NULL REFERENCES project (id),
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    revoked_at timestamptz
);

-- Row-level security --------------------------------------------------------------------------------

DO $$
DECLARE
    t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['tenant_feed', 'registry', 'repository', 'image', 'image_version',
        'platform', 'event', 'task', 'run', 'task_run', 'run_page', 'unit', 'listing',
        'listing_row', 'credential', 'token']
    LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', t);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', t);
        EXECUTE format('CREATE POLICY tenant ON %I TO wharfinger_app'
            ' USING (project_id = (SELECT tenant())) WITH CHECK (project_id = (SELECT tenant()))', t);
        -- The owner runs migrations and owns the few functions below that look across tenants.
        EXECUTE format('CREATE POLICY owner ON %I TO CURRENT_USER USING (true) WITH CHECK (true)', t);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %I TO wharfinger_app', t);
    END LOOP;
    ALTER TABLE project ENABLE ROW LEVEL SECURITY;
    ALTER TABLE project FORCE ROW LEVEL SECURITY;
    CREATE POLICY tenant ON project TO wharfinger_app
        USING (id = (SELECT tenant())) WITH CHECK (id = (SELECT tenant()));
    CREATE POLICY owner ON project TO CURRENT_USER USING (true) WITH CHECK (true);
    GRANT SELECT, INSERT ON project TO wharfinger_app;
    -- Nobody rewrites history.
    REVOKE UPDATE, DELETE ON event FROM wharfinger_app;
END
$$;

-- Look-ups that come before the tenant is known. Each answers one exact key, or is the operator's.

CREATE FUNCTION find_credential(wanted text)
    RETURNS TABLE (access_key text, project_id text, project_name text, secret_sealed bytea)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path FROM CURRENT
AS $$
    SELECT c.access_key, c.project_id, p.name, c.secret_sealed
    FROM credential c JOIN project p ON p.id = c.project_id
    WHERE c.access_key = wanted AND c.revoked_at IS NULL
$$;

CREATE FUNCTION find_token(wanted bytea)
    RETURNS TABLE (project_id text, project_name text, expires_at timestamptz)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path FROM CURRENT
AS $$
    SELECT t.project_id, p.name, t.expires_at
    FROM token t JOIN project p ON p.id = t.project_id
    WHERE t.digest = wanted AND t.revoked_at IS NULL
$$;

-- The operator's own list (command line); no HTTP route calls it.
CREATE FUNCTION list_projects()
    RETURNS TABLE (id text, name text, created_at timestamptz, registries bigint, images bigint)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path FROM CURRENT
AS $$
    SELECT p.id, p.name, p.created_at, count(r.id), coalesce(sum(r.live_images), 0)::bigint
    FROM project p LEFT JOIN registry r ON r.project_id = p.id AND r.removed_at IS NULL
    GROUP BY p.id ORDER BY p.created_at, p.id
$$;

-- Runs that are not finished, over all tenants, for the caretaker that finds runs without a job.
CREATE FUNCTION list_open_runs()
    RETURNS TABLE (id uuid, project_id text, registry_id uuid, state text)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path FROM CURRENT
AS $$
    SELECT r.id, r.project_id, r.registry_id, r.state FROM run r WHERE r.state <> 'finished'
$$;

-- Substring search on repository names. ILIKE is not leakproof, so under row-level security the
-- planner may not use the trigram index; this function does, and checks the tenant itself.
CREATE FUNCTION search_repositories(pattern text)
    RETURNS TABLE (id bigint)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path FROM CURRENT
AS $$
    SELECT r.id FROM repository r
    WHERE r.project_id = tenant() AND r.name ILIKE pattern AND r.retired_at IS NULL
$$;

REVOKE EXECUTE ON FUNCTION find_credential, find_token, list_projects, list_open_runs,
    search_repositories FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tenant, find_credential, find_token, list_projects, list_open_runs,
    search_repositories TO wharfinger_app;
