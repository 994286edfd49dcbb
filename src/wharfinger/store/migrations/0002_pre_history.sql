-- History that ends somewhere, and an audit.

-- Where a tenant's history begins: what happened up to number horizon_seq is forgotten, and the
-- list as of horizon_seq is the oldest that can still be told.
ALTER TABLE tenant_feed
    ADD COLUMN horizon_seq bigint NOT NULL DEFAULT 0,
    ADD COLUMN horizon_at timestamptz,
    ADD COLUMN pruned_at timestamptz;

-- Partial and almost always empty: one scan, in the transaction of the other changes.
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX image_held_idx ON image (registry_id, id) WHERE held_at IS NOT NULL;

-- What people decided, and with which effect. Nobody rewrites it.
CREATE TABLE audit (
    id bigint GENERATED ALWAYS AS IDENTITY,
    project_id text NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    principal text NOT NULL,
    action text NOT NULL,
    target text NOT NULL,
    outcome text NOT NULL,
    details jsonb NOT NULL DEFAULT '{}',
    PRIMARY KEY (project_id, id)
);

ALTER TABLE audit ENABLE ROW LEVEL SECURITY;
ALTER TABLE audit FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON audit TO wharfinger_app
    USING (project_id = (SELECT tenant())) WITH CHECK (project_id = (SELECT tenant()));
CREATE POLICY owner ON audit TO CURRENT_USER USING (true) WITH CHECK (true);
GRANT SELECT, INSERT ON audit TO wharfinger_app;

-- Forgets what happened before a moment, at most so many events at a time; returns how many.
--
-- Only versions that an event up to the new horizon closed are removed: an open version, and one
-- that was still open at the horizon, stays. Events may not be deleted by the application's role,
-- so this is the only way, and it knows only its own tenant.
CREATE FUNCTION prune_history(before timestamptz, most bigint)
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
      AND e.kind IN ('moved', 'retired')
      AND v.project_id = tenant() AND v.image_id = e.image_id AND v.to_seq = e.seq;
    DELETE FROM event e WHERE e.project_id = tenant() AND e.seq <= new_horizon;
    UPDATE tenant_feed f SET horizon_seq = new_horizon, horizon_at = new_at, pruned_at = now()
    WHERE f.project_id = tenant();
    RETURN new_horizon - old_horizon;
END
$$;

-- Erases a removed registry. Its events keep their numbers and kinds, so that the feed has no gap,
-- and lose everything that says what they were about. Returns the number of images, or null where
-- the tenant has no such removed registry.
CREATE FUNCTION purge_registry(wanted uuid)
    RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT
AS $$
DECLARE
    images bigint;
BEGIN
    PERFORM FROM registry g
    WHERE g.id = wanted AND g.project_id = tenant() AND g.removed_at IS NOT NULL FOR UPDATE;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    -- The feed's lock, so that nobody reads half of it while it is being blanked or pruned.
    PERFORM FROM tenant_feed f WHERE f.project_id = tenant() FOR UPDATE;
    DELETE FROM image_version v USING image i
    WHERE i.registry_id = wanted AND v.project_id = tenant() AND v.image_id = i.id;
    DELETE FROM image i WHERE i.registry_id = wanted;
    GET DIAGNOSTICS images = ROW_COUNT;
    UPDATE event e SET tag = NULL, digest_before = NULL, digest_after = NULL
    WHERE e.project_id = tenant() AND e.registry_id = wanted;
    DELETE FROM platform p WHERE p.registry_id = wanted;
    DELETE FROM listing_row l USING listing g, run r
    WHERE r.registry_id = wanted AND g.run_id = r.id AND l.listing_id = g.id;
    DELETE FROM listing g USING run r WHERE r.registry_id = wanted AND g.run_id = r.id;
    DELETE FROM run_page p USING run r WHERE r.registry_id = wanted AND p.run_id = r.id;
    DELETE FROM unit u USING run r WHERE r.registry_id = wanted AND u.run_id = r.id;
    DELETE FROM task_run t USING run r WHERE r.registry_id = wanted AND t.run_id = r.id;
    DELETE FROM run r WHERE r.registry_id = wanted;
    DELETE FROM repository p WHERE p.registry_id = wanted;
    DELETE FROM registry g WHERE g.id = wanted;
    RETURN images;
END
$$;

REVOKE EXECUTE ON FUNCTION prune_history, purge_registry FROM PUBLIC;
GRANT EXECUTE ON FUNCTION prune_history, purge_registry TO wharfinger_app;
