-- Reading at a million images: an index a page of ids is read from, a search in tags that may use
-- an index, and totals that need not look at every repository.

-- Image rows are not written while these are built, some seconds for each million; readers go on.

-- What a list walks, whole: which registry a row is of is told without looking at the row.
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX image_listed_idx ON image (project_id, id) INCLUDE (registry_id)
    WHERE retired_at IS NULL AND artifact_type = '';
-- squawk-ignore require-concurrent-index-deletion
DROP INDEX image_live_idx;
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX image_tag_trgm_idx ON image USING gin (tag gin_trgm_ops)
    -- A sync appends to the index's pending list, which costs it a third of sorting each tag in;
    -- refresh_statistics does that afterwards, and vacuum at times.
    WITH (gin_pending_list_limit = 65536)
    WHERE retired_at IS NULL AND artifact_type = '';

-- As before, and what a search would have to read from end to end is sorted in.
CREATE OR REPLACE FUNCTION refresh_statistics() RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT
AS $$
BEGIN
    PERFORM gin_clean_pending_list('image_tag_trgm_idx');
    ANALYZE repository, image, image_version;
END
$$;

-- Substring search in tags, as search_repositories is for names: it sees to the tenant itself. The
-- first `most` ids after one, in their order.
--
-- Where much matches, ids are best looked for in their order, and where little does, in the index.
-- The planner cannot tell which it is, for under row-level security it may not use what it knows of
-- the tags. So the order comes first, for a few thousand rows; if they were not enough, a sample of
-- the table says whether going on makes sense, for a while; and then the index has it all.
CREATE FUNCTION search_tags(
    pattern text, registries uuid[], one_by_one boolean, after bigint, most bigint
)
    RETURNS SETOF bigint
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path FROM CURRENT
AS $$
DECLARE
    listed CONSTANT text := 'i.project_id = $1 AND i.retired_at IS NULL AND i.artifact_type = '''''
        ' AND i.id > $4';
    -- One registry after the other where they are a small part of what the tenant has.
    walk CONSTANT text := 'SELECT count(*), max(w.id),
            array_agg(w.id ORDER BY w.id) FILTER (WHERE w.tag ILIKE $2) FROM (' ||
        CASE WHEN one_by_one THEN
            'SELECT of_one.id, of_one.tag FROM unnest($3) AS g (id) CROSS JOIN LATERAL (
                SELECT i.id, i.tag FROM image i WHERE i.registry_id = g.id AND ' || listed ||
                ' ORDER BY i.id LIMIT $5) of_one ORDER BY of_one.id'
        ELSE
            'SELECT i.id, i.tag FROM image i WHERE i.registry_id = ANY($3) AND ' || listed ||
            ' ORDER BY i.id'
        END || ' LIMIT $5) w';
    steps bigint[] := ARRAY[most * 10, 5000];
    step bigint;
    passed bigint;
    last bigint := after;
    reached bigint;
    more bigint[];
    found bigint[] := '{}';
    part real;
    share real;
BEGIN
    FOR n IN 1 .. 8 LOOP
        step := steps[n];
        EXECUTE walk INTO passed, reached, more USING tenant(), pattern, registries, last, step;
        found := found || coalesce(more, '{}');
        IF cardinality(found) >= most OR passed < step THEN
            RETURN QUERY SELECT f.id FROM unnest(found[1:most]) AS f (id);
            RETURN;
        END IF;
        last := reached;
        IF n = 2 THEN
            SELECT 200000 / greatest(c.reltuples, 2000) INTO part
            FROM pg_class c WHERE c.oid = 'image'::regclass;
            SELECT avg((i.tag ILIKE pattern)::integer) INTO share
            FROM image i TABLESAMPLE SYSTEM (part) REPEATABLE (0) WHERE i.project_id = tenant();
            EXIT WHEN coalesce(share, 0) < 0.01;
            steps := steps || array_fill(20000::bigint, ARRAY[6]);
        END IF;
    END LOOP;
    RETURN QUERY EXECUTE
        'SELECT f.id FROM (SELECT i.id FROM image i
            WHERE i.tag ILIKE $2 AND i.registry_id = ANY($3) AND ' || listed || ' OFFSET 0) f
        ORDER BY f.id LIMIT $5'
        USING tenant(), pattern, registries, after, most;
END
$$;

-- How many images are listed, by registry and namespace. Whoever changes a repository's count adds
-- the difference here, so that nobody waits for anybody's row; the sum is the count, at any moment.
-- fold_live_counts makes one row of many.
CREATE TABLE live_count (
    project_id text NOT NULL,
    registry_id uuid NOT NULL,
    namespace text NOT NULL,
    images bigint NOT NULL
);
CREATE INDEX live_count_registry_idx ON live_count (registry_id, namespace);

ALTER TABLE live_count ENABLE ROW LEVEL SECURITY;
ALTER TABLE live_count FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON live_count TO wharfinger_app
    USING (project_id = (SELECT tenant())) WITH CHECK (project_id = (SELECT tenant()));
CREATE POLICY owner ON live_count TO CURRENT_USER USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, DELETE ON live_count TO wharfinger_app;

CREATE FUNCTION note_live_counts() RETURNS trigger
    LANGUAGE plpgsql SET search_path FROM CURRENT
AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO live_count (project_id, registry_id, namespace, images)
        SELECT n.project_id, n.registry_id, n.namespace, sum(n.live_images)
        FROM after_it n WHERE n.live_images <> 0
        GROUP BY n.project_id, n.registry_id, n.namespace;
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO live_count (project_id, registry_id, namespace, images)
        SELECT o.project_id, o.registry_id, o.namespace, -sum(o.live_images)
        FROM before_it o WHERE o.live_images <> 0
        GROUP BY o.project_id, o.registry_id, o.namespace;
    ELSE
        INSERT INTO live_count (project_id, registry_id, namespace, images)
        SELECT n.project_id, n.registry_id, n.namespace, sum(n.live_images - o.live_images)
        FROM after_it n JOIN before_it o ON o.id = n.id
        WHERE n.live_images <> o.live_images
        GROUP BY n.project_id, n.registry_id, n.namespace
        HAVING sum(n.live_images - o.live_images) <> 0;
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER live_counts_of_new AFTER INSERT ON repository
    REFERENCING NEW TABLE AS after_it FOR EACH STATEMENT EXECUTE FUNCTION note_live_counts();
CREATE TRIGGER live_counts_of_changed AFTER UPDATE ON repository
    REFERENCING OLD TABLE AS before_it NEW TABLE AS after_it
    FOR EACH STATEMENT EXECUTE FUNCTION note_live_counts();
CREATE TRIGGER live_counts_of_gone AFTER DELETE ON repository
    REFERENCING OLD TABLE AS before_it FOR EACH STATEMENT EXECUTE FUNCTION note_live_counts();

-- The triggers hold the lock that keeps writers out until this has been committed.
INSERT INTO live_count (project_id, registry_id, namespace, images)
SELECT r.project_id, r.registry_id, r.namespace, sum(r.live_images)
FROM repository r WHERE r.live_images <> 0
GROUP BY r.project_id, r.registry_id, r.namespace;

-- What others add meanwhile stays; what another one folds at the same time is folded once.
CREATE FUNCTION fold_live_counts(wanted uuid) RETURNS void
    LANGUAGE plpgsql SET search_path FROM CURRENT
AS $$
BEGIN
    IF (SELECT count(*) > 100 + 2 * count(DISTINCT c.namespace)
        FROM live_count c WHERE c.registry_id = wanted) THEN
        WITH gone AS (
            DELETE FROM live_count c WHERE c.registry_id = wanted
            RETURNING c.project_id, c.namespace, c.images
        )
        INSERT INTO live_count (project_id, registry_id, namespace, images)
        SELECT g.project_id, wanted, g.namespace, sum(g.images)
        FROM gone g GROUP BY g.project_id, g.namespace HAVING sum(g.images) <> 0;
    END IF;
END
$$;

REVOKE EXECUTE ON FUNCTION search_tags, note_live_counts, fold_live_counts FROM PUBLIC;
GRANT EXECUTE ON FUNCTION search_tags, fold_live_counts TO wharfinger_app;
