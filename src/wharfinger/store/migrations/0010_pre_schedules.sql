-- When registries are read without anybody asking.

-- A row per project; the lock is held for an instant.
ALTER TABLE project ADD COLUMN time_zone text NOT NULL DEFAULT 'UTC';
GRANT UPDATE (time_zone) ON project TO wharfinger_app;

-- A registry without a row has the usual schedule; the first tick that sees it plans it.
CREATE TABLE schedule (
    registry_id uuid PRIMARY KEY REFERENCES registry (id) ON DELETE CASCADE,
    project_id text NOT NULL REFERENCES project (id),
    cron text NOT NULL CHECK (length(cron) BETWEEN 1 AND 128),
    -- Which of its syncs read everything: all, none, or the first after 20 hours without one.
    full_syncs text NOT NULL DEFAULT 'daily' CHECK (full_syncs IN ('daily', 'always', 'never')),
    paused_at timestamptz,
    -- Null until it is planned, and while it is paused.
    next_at timestamptz,
    last_at timestamptz,
    last_task_id uuid
);
CREATE INDEX schedule_next_idx ON schedule (next_at) WHERE next_at IS NOT NULL;

ALTER TABLE schedule ENABLE ROW LEVEL SECURITY;
ALTER TABLE schedule FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON schedule TO wharfinger_app
    USING (project_id = (SELECT tenant())) WITH CHECK (project_id = (SELECT tenant()));
CREATE POLICY owner ON schedule TO CURRENT_USER USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON schedule TO wharfinger_app;

-- The projects in which a registry is due, or has yet to be planned; a worker asks once a minute.
CREATE FUNCTION projects_with_due_schedules()
    RETURNS TABLE (project_id text)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path FROM CURRENT
AS $$
    SELECT s.project_id FROM schedule s JOIN registry g ON g.id = s.registry_id
    WHERE s.next_at <= now() AND g.removed_at IS NULL
    UNION
    SELECT g.project_id FROM registry g LEFT JOIN schedule s ON s.registry_id = g.id
    WHERE g.removed_at IS NULL AND s.next_at IS NULL AND s.paused_at IS NULL
$$;
REVOKE EXECUTE ON FUNCTION projects_with_due_schedules FROM PUBLIC;
GRANT EXECUTE ON FUNCTION projects_with_due_schedules TO wharfinger_app;
