-- Hints: notifications of registries that name a repository, and who may send them.

-- A run of kind 'hint' reads the repositories that were named and nothing else: it retires no
-- repository and says nothing about the registry as a whole. A sync that joins it makes it a sync.
ALTER TABLE run ADD COLUMN kind text NOT NULL DEFAULT 'sync'
    CONSTRAINT run_kind_check CHECK (kind IN ('sync', 'hint'));

ALTER TABLE unit
    -- From a notification, not from the registry's listing.
    ADD COLUMN hinted boolean NOT NULL DEFAULT false,
    -- Whether the run's total of repositories holds this unit's.
    ADD COLUMN counted boolean NOT NULL DEFAULT true,
    -- A unit of the same repository that is being read; this one begins when that one has ended.
    ADD COLUMN waits_for bigint;
-- Small or empty: every page of a listing looks here for repositories it need not have read.
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX unit_hinted_idx ON unit (run_id) WHERE hinted AND NOT done;

ALTER TABLE registry
    -- SHA-256 of the token that this registry's notifications carry; null where none may come.
    ADD COLUMN hint_token bytea,
    ADD COLUMN hinted_at timestamptz;
-- The table has a row per registry: a scan of microseconds.
-- squawk-ignore require-concurrent-index-creation
CREATE UNIQUE INDEX registry_hint_token_key ON registry (hint_token) WHERE hint_token IS NOT NULL;

-- Whose token this is, before the tenant is known; one exact key.
CREATE FUNCTION find_hint_token(wanted bytea)
    RETURNS TABLE (project_id text, registry_id uuid, kind text, options jsonb)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path FROM CURRENT
AS $$
    SELECT g.project_id, g.id, g.kind, g.options FROM registry g
    WHERE g.hint_token = wanted AND g.removed_at IS NULL
$$;

REVOKE EXECUTE ON FUNCTION find_hint_token FROM PUBLIC;
GRANT EXECUTE ON FUNCTION find_hint_token TO wharfinger_app;
