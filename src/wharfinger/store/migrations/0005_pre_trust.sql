-- Trust: hints, filters that hide, two strikes, and what each reading cost.

-- Hints: notifications of registries that name a repository, and who may send them.

-- A run of kind 'hint' reads the repositories that were named and nothing else: it retires no
-- repository and says nothing about the registry as a whole. A sync that joins it makes it a sync.
ALTER TABLE run ADD COLUMN kind text NOT NULL DEFAULT 'sync'
    CONSTRAINT run_kind_check CHECK (kind IN ('sync', 'hint'));

ALTER TABLE unit
    -- From a notification.
    ADD COLUMN hinted boolean NOT NULL DEFAULT false,
    -- Whether the registry's listing names its repositories.
    ADD COLUMN listed boolean NOT NULL DEFAULT true,
    -- Whether the run's total of repositories holds this unit's.
    ADD COLUMN counted boolean NOT NULL DEFAULT true,
    -- Another hint's unit that is being read; this one begins when that one has ended.
    ADD COLUMN waits_for bigint,
    -- Two units of one run may read one repository side by side: a hint does not wait for a batch.
    -- These tell whose reading is the newer one.
    ADD COLUMN began_at timestamptz,
    ADD COLUMN done_at timestamptz;
-- Small or empty: every page of a listing looks here for repositories it need not have read.
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX unit_hinted_idx ON unit (run_id) WHERE hinted;

-- Each unit collects its own pages.
-- squawk-ignore ban-drop-constraint
ALTER TABLE listing DROP CONSTRAINT listing_run_id_repository_id_key;
-- squawk-ignore require-concurrent-index-creation
CREATE UNIQUE INDEX listing_unit_key ON listing (unit_id, repository_id);
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX listing_run_idx ON listing (run_id);

ALTER TABLE registry
    -- SHA-256 of the token that this registry's notifications carry; null where none may come.
    ADD COLUMN hint_token bytea,
    ADD COLUMN hinted_at timestamptz;
-- The table has a row per registry: a scan of microseconds.
-- squawk-ignore require-concurrent-index-creation
CREATE UNIQUE INDEX registry_hint_token_key ON registry (hint_token) WHERE hint_token IS NOT NULL;

ALTER TABLE registry
    -- Patterns of repository paths; empty: everything, and nothing.
    ADD COLUMN include text[] NOT NULL DEFAULT '{}',
    ADD COLUMN exclude text[] NOT NULL DEFAULT '{}';

-- Whose token this is, before the tenant is known; one exact key.
CREATE FUNCTION find_hint_token(wanted bytea)
    RETURNS TABLE (project_id text, registry_id uuid, kind text, options jsonb, include text[],
        exclude text[])
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path FROM CURRENT
AS $$
    SELECT g.project_id, g.id, g.kind, g.options, g.include, g.exclude FROM registry g
    WHERE g.hint_token = wanted AND g.removed_at IS NULL
$$;

REVOKE EXECUTE ON FUNCTION find_hint_token FROM PUBLIC;
GRANT EXECUTE ON FUNCTION find_hint_token TO wharfinger_app;

-- Filters: what a project does not want to see is hidden, which is not the same as gone.
--
-- A hidden image is out of the list as a retired one is (retired_at), with its version closed by an
-- event of its own kind, so that every reading and the feed agree; `hidden` tells the two apart.

ALTER TABLE image ADD COLUMN hidden boolean NOT NULL DEFAULT false;

-- The rows there are satisfy the old check, hence the new one: nothing needs validating.
-- squawk-ignore ban-drop-constraint
ALTER TABLE event DROP CONSTRAINT event_kind_check;
ALTER TABLE event ADD CONSTRAINT event_kind_check
    CHECK (kind IN ('added', 'moved', 'retired', 'restored', 'hidden', 'shown')) NOT VALID;

-- Two strikes: where a source is known to answer inconsistently, an absent image is retired only
-- when a second complete listing lacks it, too.

ALTER TABLE image ADD COLUMN missing_since timestamptz;
ALTER TABLE registry
    ADD COLUMN two_strikes text NOT NULL DEFAULT 'auto'
        CONSTRAINT registry_two_strikes_check CHECK (two_strikes IN ('auto', 'on', 'off')),
    -- Images that were retired and came back unchanged within a day.
    ADD COLUMN flickers bigint NOT NULL DEFAULT 0;
ALTER TABLE run ADD COLUMN flickers bigint NOT NULL DEFAULT 0;

-- What the last reading of a repository cost that changed its row.
ALTER TABLE repository
    ADD COLUMN requests integer,
    ADD COLUMN read_ms integer;

-- As before, with the versions that hiding closed.
CREATE OR REPLACE FUNCTION prune_history(before timestamptz, most bigint)
    RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT
AS $$
DECLARE
    old_horizon bigint;
    new_horizon bigint;
    new_at timestamptz;
BEGIN
    SELECT f.horizon_seq INTO old_horizon FROM tenant_feed f
    WHERE f.project_id = tenant() FOR UPDATE;
    IF old_horizon IS NULL THEN
        RETURN 0;
    END IF;
    SELECT e.seq, e.at INTO new_horizon, new_at FROM event e
    WHERE e.project_id = tenant() AND e.at < before AND e.seq <= old_horizon + most
    ORDER BY e.seq DESC LIMIT 1;
    IF new_horizon IS NULL OR new_horizon <= old_horizon THEN
        UPDATE tenant_feed f SET pruned_at = now() WHERE f.project_id = tenant();
        RETURN 0;
    END IF;
    DELETE FROM image_version v USING event e
    WHERE e.project_id = tenant() AND e.seq > old_horizon AND e.seq <= new_horizon
      AND e.kind IN ('moved', 'retired', 'hidden')
      AND v.project_id = tenant() AND v.image_id = e.image_id AND v.to_seq = e.seq;
    DELETE FROM event e WHERE e.project_id = tenant() AND e.seq <= new_horizon;
    UPDATE tenant_feed f SET horizon_seq = new_horizon, horizon_at = new_at, pruned_at = now()
    WHERE f.project_id = tenant();
    RETURN new_horizon - old_horizon;
END
$$;
