-- Whose it is, and what it is for: labels that people put on registries, namespaces, repositories.

CREATE TABLE label (
    project_id text NOT NULL REFERENCES project (id),
    registry_id uuid NOT NULL REFERENCES registry (id) ON DELETE CASCADE,
    namespace text, -- null: the whole registry
    repository text, -- null: the whole namespace
    key text NOT NULL CHECK (key ~ '^[a-z][a-z0-9_.-]{0,62}$'),
    value text NOT NULL CHECK (length(value) BETWEEN 1 AND 255),
    CHECK (repository IS NULL OR namespace IS NOT NULL),
    UNIQUE NULLS NOT DISTINCT (registry_id, key, namespace, repository)
);

ALTER TABLE label ENABLE ROW LEVEL SECURITY;
ALTER TABLE label FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON label TO wharfinger_app
    USING (project_id = (SELECT tenant())) WITH CHECK (project_id = (SELECT tenant()));
CREATE POLICY owner ON label TO CURRENT_USER USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON label TO wharfinger_app;
