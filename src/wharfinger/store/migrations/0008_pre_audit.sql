-- The audit in full: who did what, from where, and what was refused.

-- An entry tells who by three marks, and from where. Only changes were written so far.
ALTER TABLE audit
    ADD COLUMN kind text NOT NULL DEFAULT 'change' CHECK (kind IN ('change', 'refusal')),
    ADD COLUMN user_id text NOT NULL DEFAULT '',
    ADD COLUMN user_name text NOT NULL DEFAULT '',
    ADD COLUMN access_key text NOT NULL DEFAULT '',
    ADD COLUMN source text NOT NULL DEFAULT '',
    ADD COLUMN user_agent text NOT NULL DEFAULT '',
    ADD COLUMN request_id text NOT NULL DEFAULT '',
    ADD COLUMN target_name text NOT NULL DEFAULT '';
UPDATE audit SET target_name = details ->> 'name' WHERE details ? 'name';
-- A table of decisions made by people so far: short.
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX audit_at_idx ON audit (project_id, at);

-- The time and the number are the database's own, whoever writes.
REVOKE INSERT ON audit FROM wharfinger_app;
GRANT INSERT (project_id, kind, principal, user_id, user_name, access_key, source, user_agent,
    request_id, action, target, target_name, outcome, details) ON audit TO wharfinger_app;

-- Calls of nobody we know belong to no tenant. How many there were, by minute, reason and network:
CREATE TABLE refusal_count (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT now(),
    minute timestamptz NOT NULL,
    reason text NOT NULL,
    network text NOT NULL,
    calls bigint NOT NULL CHECK (calls > 0)
);
CREATE INDEX refusal_count_at_idx ON refusal_count (at);

-- ... and a few of them each minute, as they came.
CREATE TABLE refusal_sample (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT now(),
    reason text NOT NULL,
    source text NOT NULL,
    method text NOT NULL,
    route text NOT NULL,
    user_agent text NOT NULL,
    request_id text NOT NULL
);
CREATE INDEX refusal_sample_at_idx ON refusal_sample (at);

GRANT SELECT ON refusal_count, refusal_sample TO wharfinger_app;
GRANT INSERT (minute, reason, network, calls) ON refusal_count TO wharfinger_app;
GRANT INSERT (reason, source, method, route, user_agent, request_id) ON refusal_sample
    TO wharfinger_app;

-- Forgetting is the only way out of the audit, and it never takes what is younger than 30 days:
-- whoever has got hold of the application's role cannot wipe out how.

-- Forgets a tenant's entries from before a moment, at most so many; returns how many.
CREATE FUNCTION prune_audit(before timestamptz, most bigint)
    RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT
AS $$
DECLARE
    forgotten bigint;
BEGIN
    DELETE FROM audit a WHERE a.project_id = tenant() AND a.id IN (
        SELECT o.id FROM audit o
        WHERE o.project_id = tenant() AND o.at < least(before, now() - interval '30 days')
        ORDER BY o.at LIMIT most);
    GET DIAGNOSTICS forgotten = ROW_COUNT;
    RETURN forgotten;
END
$$;

-- The same of refused calls of nobody we know.
CREATE FUNCTION prune_refusals(before timestamptz, most bigint)
    RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT
AS $$
DECLARE
    counts bigint;
    samples bigint;
BEGIN
    DELETE FROM refusal_count c WHERE c.id IN (
        SELECT o.id FROM refusal_count o
        WHERE o.at < least(before, now() - interval '30 days') ORDER BY o.at LIMIT most);
    GET DIAGNOSTICS counts = ROW_COUNT;
    DELETE FROM refusal_sample s WHERE s.id IN (
        SELECT o.id FROM refusal_sample o
        WHERE o.at < least(before, now() - interval '30 days') ORDER BY o.at LIMIT most);
    GET DIAGNOSTICS samples = ROW_COUNT;
    RETURN counts + samples;
END
$$;

REVOKE EXECUTE ON FUNCTION prune_audit, prune_refusals FROM PUBLIC;
GRANT EXECUTE ON FUNCTION prune_audit, prune_refusals TO wharfinger_app;
