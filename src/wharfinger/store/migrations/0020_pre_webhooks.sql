-- What happens is told to others: runs that ended and verdicts that changed get numbers as image
-- changes have them, and webhooks know how far each receiver has been told.

CREATE TABLE notice_feed (
    project_id text PRIMARY KEY REFERENCES project (id),
    seq bigint NOT NULL DEFAULT 0
);

-- What is no change of an image. Names are looked up when it is told, so that an erased registry
-- leaves none here.
CREATE TABLE notice (
    project_id text NOT NULL,
    seq bigint NOT NULL,
    -- The newest image change when it happened: where it belongs in the order of everything.
    after_seq bigint NOT NULL,
    kind text NOT NULL CHECK (kind IN ('run.finished', 'registry.verdict')),
    at timestamptz NOT NULL,
    registry_id uuid NOT NULL,
    data jsonb NOT NULL,
    PRIMARY KEY (project_id, seq)
);
CREATE INDEX notice_at_idx ON notice (project_id, at);

CREATE TABLE webhook (
    id uuid PRIMARY KEY,
    project_id text NOT NULL REFERENCES project (id),
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 128),
    address text NOT NULL, -- without the query, which may be a secret
    sealed bytea NOT NULL, -- the whole URL, and the secrets that sign
    allow_private_networks boolean NOT NULL DEFAULT false,
    enterprise_projects text[], -- what its maker may see; null: all there are and will be
    types text[] NOT NULL DEFAULT '{}', -- empty: every type
    registries uuid[] NOT NULL DEFAULT '{}', -- empty: every registry
    pattern text,
    labels jsonb NOT NULL DEFAULT '{}',
    batch integer NOT NULL DEFAULT 1 CHECK (batch BETWEEN 1 AND 100),
    created_at timestamptz NOT NULL DEFAULT now(),
    paused_at timestamptz,
    pause_reason text CHECK (pause_reason IN ('asked', 'given_up', 'gone')),
    -- All up to these numbers has been taken by the receiver, or does not concern it.
    change_seq bigint NOT NULL,
    notice_seq bigint NOT NULL,
    failures integer NOT NULL DEFAULT 0,
    failing_since timestamptz,
    next_at timestamptz NOT NULL DEFAULT now(),
    -- Whose turn it is to deliver; a worker that died holds it until then.
    lease uuid,
    leased_until timestamptz,
    last_at timestamptz,
    last_status integer,
    UNIQUE (project_id, name)
);

-- A row for every attempt.
CREATE TABLE webhook_delivery (
    id bigint GENERATED ALWAYS AS IDENTITY,
    project_id text NOT NULL,
    webhook_id uuid NOT NULL REFERENCES webhook (id) ON DELETE CASCADE,
    at timestamptz NOT NULL DEFAULT now(),
    kind text NOT NULL CHECK (kind IN ('events', 'test')),
    event_id text NOT NULL, -- the first of them
    events integer NOT NULL,
    attempt integer NOT NULL,
    status integer,
    error text NOT NULL,
    latency_ms integer NOT NULL,
    excerpt text NOT NULL CHECK (length(excerpt) <= 512),
    -- Where the webhook stood before it.
    change_seq bigint NOT NULL,
    notice_seq bigint NOT NULL,
    PRIMARY KEY (project_id, id)
);
CREATE INDEX webhook_delivery_webhook_idx ON webhook_delivery (webhook_id, id DESC);
CREATE INDEX webhook_delivery_at_idx ON webhook_delivery (project_id, at);

ALTER TABLE notice_feed ENABLE ROW LEVEL SECURITY;
ALTER TABLE notice_feed FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON notice_feed TO wharfinger_app
    USING (project_id = (SELECT tenant())) WITH CHECK (project_id = (SELECT tenant()));
CREATE POLICY owner ON notice_feed TO CURRENT_USER USING (true) WITH CHECK (true);
ALTER TABLE notice ENABLE ROW LEVEL SECURITY;
ALTER TABLE notice FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON notice TO wharfinger_app
    USING (project_id = (SELECT tenant())) WITH CHECK (project_id = (SELECT tenant()));
CREATE POLICY owner ON notice TO CURRENT_USER USING (true) WITH CHECK (true);
ALTER TABLE webhook ENABLE ROW LEVEL SECURITY;
ALTER TABLE webhook FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON webhook TO wharfinger_app
    USING (project_id = (SELECT tenant())) WITH CHECK (project_id = (SELECT tenant()));
CREATE POLICY owner ON webhook TO CURRENT_USER USING (true) WITH CHECK (true);
ALTER TABLE webhook_delivery ENABLE ROW LEVEL SECURITY;
ALTER TABLE webhook_delivery FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON webhook_delivery TO wharfinger_app
    USING (project_id = (SELECT tenant())) WITH CHECK (project_id = (SELECT tenant()));
CREATE POLICY owner ON webhook_delivery TO CURRENT_USER USING (true) WITH CHECK (true);
GRANT SELECT ON notice_feed TO wharfinger_app;
GRANT SELECT, DELETE ON notice TO wharfinger_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON webhook TO wharfinger_app;
GRANT SELECT, INSERT, DELETE ON webhook_delivery TO wharfinger_app;

-- Numbers are given at the very end of a transaction, and the row that counts them is then locked
-- until the commit: so they have no gaps and no late arrivals, and no lock is waited for after it.
CREATE FUNCTION note_run() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT
AS $$
DECLARE
    number bigint;
BEGIN
    INSERT INTO notice_feed AS f (project_id, seq) VALUES (NEW.project_id, 1)
    ON CONFLICT (project_id) DO UPDATE SET seq = f.seq + 1 RETURNING f.seq INTO number;
    INSERT INTO notice (project_id, seq, after_seq, kind, at, registry_id, data)
    SELECT NEW.project_id, number,
        coalesce((SELECT t.seq FROM tenant_feed t WHERE t.project_id = NEW.project_id), 0),
        'run.finished', clock_timestamp(), NEW.registry_id,
        jsonb_build_object('run_id', NEW.id, 'kind', NEW.kind, 'outcome', NEW.outcome,
            'full', NEW.is_full, 'repositories', NEW.repositories_total,
            'repositories_failed', NEW.repositories_failed, 'images', NEW.images,
            'requests', NEW.requests, 'added', NEW.added, 'moved', NEW.moved,
            'retired', NEW.retired, 'restored', NEW.restored, 'held', NEW.held,
            'started_at', NEW.started_at, 'finished_at', NEW.finished_at);
    RETURN NULL;
END
$$;

CREATE FUNCTION note_verdict() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT
AS $$
DECLARE
    number bigint;
BEGIN
    INSERT INTO notice_feed AS f (project_id, seq) VALUES (NEW.project_id, 1)
    ON CONFLICT (project_id) DO UPDATE SET seq = f.seq + 1 RETURNING f.seq INTO number;
    INSERT INTO notice (project_id, seq, after_seq, kind, at, registry_id, data)
    SELECT NEW.project_id, number,
        coalesce((SELECT t.seq FROM tenant_feed t WHERE t.project_id = NEW.project_id), 0),
        'registry.verdict', clock_timestamp(), NEW.id,
        jsonb_build_object('verdict_before', OLD.verdict, 'verdict', NEW.verdict,
            'confirmed_at', NEW.confirmed_at);
    RETURN NULL;
END
$$;

CREATE CONSTRAINT TRIGGER run_finished AFTER UPDATE OF state ON run
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN (OLD.state <> 'finished' AND NEW.state = 'finished') EXECUTE FUNCTION note_run();
CREATE CONSTRAINT TRIGGER registry_verdict AFTER UPDATE OF verdict ON registry
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN (OLD.verdict <> NEW.verdict) EXECUTE FUNCTION note_verdict();

-- Webhooks that have something to deliver now, whoever's they are; workers ask every second.
CREATE FUNCTION webhooks_due(most integer)
    RETURNS TABLE (project_id text, webhook_id uuid)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path FROM CURRENT
AS $$
    SELECT w.project_id, w.id
    FROM webhook w
    JOIN tenant_feed f ON f.project_id = w.project_id
    LEFT JOIN notice_feed n ON n.project_id = w.project_id
    WHERE w.paused_at IS NULL AND w.next_at <= now()
      AND (w.lease IS NULL OR w.leased_until < now())
      AND (f.seq > w.change_seq OR n.seq > w.notice_seq)
    ORDER BY w.next_at, w.id LIMIT most
$$;
REVOKE EXECUTE ON FUNCTION webhooks_due, note_run, note_verdict FROM PUBLIC;
GRANT EXECUTE ON FUNCTION webhooks_due TO wharfinger_app;
