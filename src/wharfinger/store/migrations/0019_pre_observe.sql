-- What the operator's monitoring is told: counts that every process adds to, and how things stand.
--
-- The counts belong to no tenant, and name the hosts of all of them: the application may not read
-- the table. What it may call says nothing of single projects or registries.

CREATE TABLE metric_total (
    name text NOT NULL,
    labels text[] NOT NULL,
    value double precision NOT NULL DEFAULT 0,
    at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (name, labels)
) WITH (fillfactor = 50);

REVOKE ALL ON metric_total FROM PUBLIC, wharfinger_app;

-- Adds to counts: [{"name", "labels", "value"}, ...]. What names a host, in its first label, is
-- kept apart for so many hosts; those beyond are counted together.
CREATE FUNCTION add_to_totals(added jsonb, most_hosts integer) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT
AS $$
BEGIN
    WITH given AS (
        SELECT g.name, g.labels, g.value
        FROM jsonb_to_recordset(added) AS g (name text, labels text[], value double precision)
    ), known AS (
        SELECT DISTINCT m.labels[1] AS host FROM metric_total m WHERE m.name LIKE 'upstream_%'
    ), fresh AS (
        SELECT n.host, row_number() OVER (ORDER BY n.host) AS place
        FROM (SELECT DISTINCT g.labels[1] AS host FROM given g WHERE g.name LIKE 'upstream_%') n
        WHERE n.host NOT IN (SELECT k.host FROM known k)
    ), beyond AS (
        SELECT f.host FROM fresh f
        WHERE f.place + (SELECT count(*) FROM known k WHERE k.host <> 'other') > most_hosts
    )
    INSERT INTO metric_total AS m (name, labels, value)
    SELECT c.name, c.labels, sum(c.value)
    FROM (
        SELECT g.name, g.value, CASE
            WHEN g.name LIKE 'upstream_%' AND g.labels[1] IN (SELECT b.host FROM beyond b)
            THEN ARRAY['other'] || g.labels[2:] ELSE g.labels END AS labels
        FROM given g
    ) c
    GROUP BY c.name, c.labels
    -- In one order, so that two processes that add the same counts cannot deadlock.
    ORDER BY c.name, c.labels
    ON CONFLICT (name, labels) DO UPDATE SET value = m.value + excluded.value, at = now();

    IF random() < 0.001 THEN
        DELETE FROM metric_total m
        WHERE m.name LIKE 'upstream_%' AND m.at < now() - interval '90 days';
    END IF;
END
$$;

CREATE FUNCTION list_totals()
    RETURNS TABLE (name text, labels text[], value double precision)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path FROM CURRENT
AS $$
    SELECT m.name, m.labels, m.value FROM metric_total m ORDER BY m.name, m.labels
$$;

-- The registries of all projects, by kind and by what their lists are worth. The counts of images
-- are those that each registry's row keeps: no image is looked at.
CREATE FUNCTION observe_registries()
    RETURNS TABLE (kind text, verdict text, registries bigint, images bigint, held bigint,
        lies bigint, confirmed_age_s double precision, read_age_s double precision)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path FROM CURRENT
AS $$
    SELECT g.kind,
        CASE WHEN g.verdict = 'complete' AND g.confirmed_at < now() - g.stale_after THEN 'stale'
            ELSE g.verdict END AS worth,
        count(*), sum(g.live_images)::bigint, sum(g.held_images)::bigint,
        sum(g.fingerprint_lies)::bigint,
        extract(epoch FROM now() - min(g.confirmed_at))::double precision,
        extract(epoch FROM now() - min(g.read_at))::double precision
    FROM registry g WHERE g.removed_at IS NULL GROUP BY g.kind, worth ORDER BY g.kind, worth
$$;

-- Runs that have not ended. Two arms for two partial indexes.
CREATE FUNCTION observe_runs()
    RETURNS TABLE (state text, runs bigint, oldest_s double precision)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path FROM CURRENT
AS $$
    SELECT 'queued', count(*), extract(epoch FROM now() - min(r.queued_at))::double precision
    FROM run r WHERE r.state = 'queued'
    UNION ALL
    SELECT 'running', count(*),
        extract(epoch FROM now() - min(coalesce(r.started_at, r.queued_at)))::double precision
    FROM run r WHERE r.state = 'running'
$$;

-- What was learned of the hosts that were asked. Budgets are kept under a digest of the host.
CREATE FUNCTION observe_budgets()
    RETURNS TABLE (host text, concurrency double precision, ceiling integer,
        rate double precision, paused_s double precision)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path FROM CURRENT
AS $$
    SELECT k.host, b.concurrency, b.ceiling, b.rate,
        greatest(0, extract(epoch FROM b.paused_until - now()))::double precision
    FROM (SELECT DISTINCT m.labels[1] AS host FROM metric_total m
          WHERE m.name LIKE 'upstream_%') k
    JOIN host_budget b ON b.host = sha256(convert_to(k.host, 'UTF8'))
    ORDER BY k.host
$$;

CREATE FUNCTION observe_projects()
    RETURNS TABLE (projects bigint, events bigint)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path FROM CURRENT
AS $$
    SELECT (SELECT count(*) FROM project),
        (SELECT coalesce(sum(f.seq), 0)::bigint FROM tenant_feed f)
$$;

REVOKE EXECUTE ON FUNCTION add_to_totals, list_totals, observe_registries, observe_runs,
    observe_budgets, observe_projects FROM PUBLIC;
GRANT EXECUTE ON FUNCTION add_to_totals, list_totals, observe_registries, observe_runs,
    observe_budgets, observe_projects TO wharfinger_app;
