-- What belongs to an image: signatures, SBOMs and attestations, of which a registry tells by tags
-- that are named after the image's digest, or in a list of referrers.

-- Like the other tables that a batch writes, it carries no foreign keys: besides their cost, they
-- would take locks out of their order.
CREATE TABLE attachment (
    project_id text NOT NULL,
    registry_id uuid NOT NULL,
    repository_id bigint NOT NULL,
    subject text NOT NULL, -- the image's digest
    digest text NOT NULL, -- the artifact's
    kind text NOT NULL CHECK (kind IN ('signature', 'sbom', 'attestation', 'chart', 'other')),
    artifact_type text NOT NULL DEFAULT '',
    tag text, -- that tells of it; null where the registry's list of referrers does
    UNIQUE NULLS NOT DISTINCT (repository_id, subject, kind, digest, tag)
);
CREATE INDEX attachment_tag_idx ON attachment (repository_id, tag) WHERE tag IS NOT NULL;

ALTER TABLE attachment ENABLE ROW LEVEL SECURITY;
ALTER TABLE attachment FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON attachment TO wharfinger_app
    USING (project_id = (SELECT tenant())) WITH CHECK (project_id = (SELECT tenant()));
CREATE POLICY owner ON attachment TO CURRENT_USER USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, DELETE ON attachment TO wharfinger_app;

-- Whether the registry was asked for the referrers of every image that the repository had then, and
-- answered. Where it was, only new digests are asked for.
ALTER TABLE repository ADD COLUMN referrers_read boolean NOT NULL DEFAULT false;

-- What cosign's tags say, as long as they are listed. Tags come to be, move, are retired, hidden,
-- restored and erased in many places; none of them can forget this. A tag without a suffix lists
-- whatever belongs to the image, so its coming tells nothing of kinds, but its going does.
--
-- A connection keeps the plan that it made when the table was all but empty; without the setting
-- that is a scan, and a batch of signatures becomes quadratic.
CREATE FUNCTION follow_attached_tag()
    RETURNS trigger
    LANGUAGE plpgsql SET search_path FROM CURRENT SET enable_seqscan = off
AS $$
DECLARE
    suffix text;
BEGIN
    IF TG_OP = 'UPDATE' AND (NEW.digest, NEW.artifact_type, NEW.retired_at IS NULL)
        = (OLD.digest, OLD.artifact_type, OLD.retired_at IS NULL) THEN
        RETURN NULL;
    END IF;
    -- Counting in the expression ({64,128}) would take a millisecond a row.
    suffix := CASE WHEN length(split_part(NEW.tag, '.', 1)) BETWEEN 71 AND 135
        THEN substring(NEW.tag FROM '^sha(?:256|512)-[0-9a-f]+(\.(?:sig|att|sbom)|)$') END;
    IF TG_OP = 'UPDATE' AND (suffix <> '' OR NEW.retired_at IS NOT NULL) THEN
        DELETE FROM attachment a WHERE a.repository_id = NEW.repository_id AND a.tag = NEW.tag;
    END IF;
    IF suffix <> '' AND NEW.retired_at IS NULL THEN
        INSERT INTO attachment (project_id, registry_id, repository_id, subject, digest, kind,
            artifact_type, tag)
        VALUES (NEW.project_id, NEW.registry_id, NEW.repository_id,
            replace(split_part(NEW.tag, '.', 1), '-', ':'), NEW.digest,
            CASE suffix WHEN '.sig' THEN 'signature' WHEN '.att' THEN 'attestation' ELSE 'sbom' END,
            NEW.artifact_type, NEW.tag);
    END IF;
    RETURN NULL;
END
$$;
REVOKE EXECUTE ON FUNCTION follow_attached_tag FROM PUBLIC;
-- Two of them, for what an update looks at is not there in an insert.
CREATE TRIGGER follow_attached_tag AFTER INSERT ON image
    FOR EACH ROW WHEN (NEW.tag LIKE 'sha%-%') EXECUTE FUNCTION follow_attached_tag();
CREATE TRIGGER follow_attached_tag_moved AFTER UPDATE ON image
    FOR EACH ROW WHEN (NEW.tag LIKE 'sha%-%') EXECUTE FUNCTION follow_attached_tag();

-- What is erased with its registry.
CREATE FUNCTION forget_attachments()
    RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT
AS $$
BEGIN
    DELETE FROM attachment a WHERE a.registry_id = OLD.id;
    RETURN NULL;
END
$$;
REVOKE EXECUTE ON FUNCTION forget_attachments FROM PUBLIC;
CREATE TRIGGER forget_attachments AFTER DELETE ON registry
    FOR EACH ROW EXECUTE FUNCTION forget_attachments();

-- What is listed already.
INSERT INTO attachment (project_id, registry_id, repository_id, subject, digest, kind,
    artifact_type, tag)
SELECT i.project_id, i.registry_id, i.repository_id,
    replace(split_part(i.tag, '.', 1), '-', ':'), i.digest,
    CASE split_part(i.tag, '.', 2)
        WHEN 'sig' THEN 'signature' WHEN 'att' THEN 'attestation' ELSE 'sbom' END,
    i.artifact_type, i.tag
FROM image i
WHERE i.tag ~ '^sha(256|512)-[0-9a-f]+\.(sig|att|sbom)$'
  AND length(split_part(i.tag, '.', 1)) BETWEEN 71 AND 135 AND i.retired_at IS NULL;

-- As before, with the new table.
CREATE OR REPLACE FUNCTION refresh_statistics() RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT
AS $$
BEGIN
    ANALYZE repository, image, image_version, attachment;
END
$$;
