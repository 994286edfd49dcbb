-- Publishing a batch of finished repositories. Every statement runs in one transaction, in the
-- order of store/writing.py; the temporary tables belong to the connection.

-- name: workspace
CREATE TEMP TABLE IF NOT EXISTS incoming (
    repository_id bigint NOT NULL,
    tag text,
    digest text NOT NULL,
    image_id text,
    media_type text,
    artifact_type text,
    is_index boolean,
    size bigint,
    created_at timestamptz,
    updated_at timestamptz
) ON COMMIT DELETE ROWS;
-- What repositories never read before have: all of it is new, and numbered as it comes. n counts
-- from 1 without a gap.
CREATE TEMP TABLE IF NOT EXISTS arrival (
    n integer NOT NULL,
    id bigint NOT NULL DEFAULT nextval('image_id_seq'),
    repository_id bigint NOT NULL,
    tag text,
    digest text NOT NULL,
    image_id text NOT NULL,
    media_type text NOT NULL,
    artifact_type text NOT NULL,
    is_index boolean NOT NULL,
    size bigint NOT NULL,
    created_at timestamptz,
    updated_at timestamptz
) ON COMMIT DELETE ROWS;
CREATE TEMP TABLE IF NOT EXISTS incoming_platform (
    index_digest text NOT NULL,
    position smallint NOT NULL,
    digest text NOT NULL,
    os text NOT NULL,
    architecture text NOT NULL,
    variant text NOT NULL,
    size bigint NOT NULL,
    image_id text NOT NULL
) ON COMMIT DELETE ROWS;
CREATE TEMP TABLE IF NOT EXISTS change (
    kind text NOT NULL,
    image_id bigint NOT NULL,
    repository_id bigint NOT NULL,
    tag text,
    digest_before text,
    digest_after text,
    config_digest text,
    artifact_type text,
    is_index boolean,
    size bigint,
    updated_at timestamptz,
    -- Retired less than a day ago, and back as it was.
    flickered boolean NOT NULL DEFAULT false
) ON COMMIT DELETE ROWS;
CREATE TEMP TABLE IF NOT EXISTS absent (
    image_id bigint NOT NULL,
    repository_id bigint NOT NULL,
    held boolean NOT NULL
) ON COMMIT DELETE ROWS

-- name: fence_unit
-- FOR UPDATE rather than FOR SHARE: the same transaction marks the unit done.
SELECT u.run_id, u.registry_id, u.hinted, u.listed, u.counted, u.began_at FROM unit u JOIN run r ON r.id = u.run_id
WHERE u.id = %(unit)s AND u.attempt = %(attempt)s AND NOT u.done AND r.state = 'running'
FOR UPDATE OF u

-- name: lock_repositories
SELECT id, live_images, held_images, empty_seen_at, verdict = 'never' AS is_new,
    retired_at IS NOT NULL AS was_retired, verdict_reason IS NULL AS is_read, referrers_read
FROM repository
WHERE id = ANY(%(repositories)s) ORDER BY id FOR NO KEY UPDATE

-- name: copy_incoming
COPY incoming (repository_id, tag, digest, image_id, media_type, artifact_type, is_index, size,
    created_at, updated_at) FROM STDIN (FORMAT BINARY)

-- name: copy_arrival
COPY arrival (n, repository_id, tag, digest, image_id, media_type, artifact_type, is_index, size,
    created_at, updated_at) FROM STDIN (FORMAT BINARY)

-- name: copy_incoming_platform
COPY incoming_platform (index_digest, position, digest, os, architecture, variant, size, image_id)
FROM STDIN (FORMAT BINARY)

-- name: take_staged
-- A listing that collected over several pages. The newest page wins where one tag stands twice.
INSERT INTO incoming (repository_id, tag, digest, image_id, media_type, artifact_type, is_index,
    size, created_at, updated_at)
SELECT DISTINCT ON (l.repository_id, coalesce(s.tag, '@' || s.digest))
    l.repository_id, s.tag, s.digest, s.image_id, s.media_type, s.artifact_type, s.is_index,
    s.size, s.created_at, s.updated_at
FROM listing l JOIN listing_row s ON s.listing_id = l.id
WHERE l.id = ANY(%(listings)s)
ORDER BY l.repository_id, coalesce(s.tag, '@' || s.digest), s.page DESC

-- name: fill_known
-- Content-addressed: whatever this registry's digest was once described as, it still is.
UPDATE incoming s
SET image_id = k.image_id, media_type = k.media_type, artifact_type = k.artifact_type,
    is_index = k.is_index, size = k.size, created_at = k.created_at
FROM (
    SELECT DISTINCT ON (i.digest) i.digest, i.image_id, i.media_type, i.artifact_type, i.is_index,
        i.size, i.created_at
    FROM image i
    WHERE i.project_id = %(project)s AND i.registry_id = %(registry)s
      AND i.digest = ANY(ARRAY(SELECT DISTINCT digest FROM incoming WHERE image_id IS NULL))
    ORDER BY i.digest, i.id
) k
WHERE s.image_id IS NULL AND s.digest = k.digest

-- name: unknown_digests
SELECT d FROM unnest(%(digests)s::text[]) d
WHERE NOT EXISTS (
    SELECT FROM image i
    WHERE i.project_id = %(project)s AND i.registry_id = %(registry)s AND i.digest = d
)

-- name: add_arrived
-- Repositories never read before: images come to be only where this batch's verdict does, so there
-- is nothing to look up. A look-up would also be planned badly, for no statistics know of a table
-- that is just being filled.
INSERT INTO image (id, project_id, registry_id, repository_id, tag, digest, image_id, media_type,
    artifact_type, is_index, size, created_at, updated_at)
OVERRIDING SYSTEM VALUE
SELECT a.id, %(project)s, %(registry)s, a.repository_id, a.tag, a.digest, a.image_id, a.media_type,
    a.artifact_type, a.is_index, a.size, a.created_at, coalesce(a.updated_at, a.created_at, now())
FROM arrival a

-- name: add_new
-- The same where a listing took several pages, or left out what an image is.
WITH added AS (
    INSERT INTO image (project_id, registry_id, repository_id, tag, digest, image_id, media_type,
        artifact_type, is_index, size, created_at, updated_at)
    SELECT %(project)s, %(registry)s, s.repository_id, s.tag, s.digest, s.image_id, s.media_type,
        s.artifact_type, s.is_index, s.size, s.created_at,
        coalesce(s.updated_at, s.created_at, now())
    FROM incoming s WHERE s.repository_id = ANY(%(new)s)
    RETURNING id, repository_id, tag, digest, image_id, artifact_type, is_index, size, updated_at
)
INSERT INTO change (kind, image_id, repository_id, tag, digest_after, config_digest, artifact_type,
    is_index, size, updated_at)
SELECT 'added', id, repository_id, tag, digest, image_id, artifact_type, is_index, size, updated_at
FROM added

-- name: merge
WITH merged AS (
    MERGE INTO image t
    USING (
        SELECT s.*, o.id AS old_id, o.digest AS old_digest, o.retired_at AS old_retired_at,
            o.hidden AS old_hidden,
            CASE
                WHEN s.updated_at IS NOT NULL THEN s.updated_at
                WHEN o.digest = s.digest THEN o.updated_at
                ELSE coalesce(s.created_at, now())
            END AS new_updated_at
        FROM incoming s
        LEFT JOIN image o
            ON o.repository_id = s.repository_id
            AND o.repository_id = ANY(%(repositories)s)
            AND coalesce(o.tag, '@' || o.digest) = coalesce(s.tag, '@' || s.digest)
        WHERE s.repository_id = ANY(%(repositories)s)
    ) s
    ON t.id = s.old_id AND t.repository_id = ANY(%(repositories)s)
    WHEN MATCHED AND (
        t.retired_at IS NOT NULL OR t.held_at IS NOT NULL OR t.missing_since IS NOT NULL
        OR (t.digest, t.image_id, t.size, t.updated_at, t.media_type, t.artifact_type)
            IS DISTINCT FROM
            (s.digest, s.image_id, s.size, s.new_updated_at, s.media_type, s.artifact_type)
    ) THEN UPDATE SET
        digest = s.digest, image_id = s.image_id, size = s.size, media_type = s.media_type,
        artifact_type = s.artifact_type, is_index = s.is_index, created_at = s.created_at,
        updated_at = s.new_updated_at, held_at = NULL, retired_at = NULL, hidden = false,
        missing_since = NULL
    WHEN NOT MATCHED THEN INSERT (project_id, registry_id, repository_id, tag, digest, image_id,
        media_type, artifact_type, is_index, size, created_at, updated_at)
    VALUES (%(project)s, %(registry)s, s.repository_id, s.tag, s.digest, s.image_id,
        s.media_type, s.artifact_type, s.is_index, s.size, s.created_at, s.new_updated_at)
    RETURNING
        CASE
            WHEN s.old_id IS NULL THEN 'added'
            WHEN s.old_hidden THEN 'shown'
            WHEN s.old_retired_at IS NOT NULL THEN 'restored'
            WHEN s.old_digest <> s.digest THEN 'moved'
            ELSE 'touched'
        END AS kind,
        t.id AS image_id, t.repository_id, t.tag, s.old_digest AS digest_before,
        t.digest AS digest_after, t.image_id AS config_digest, t.artifact_type, t.is_index, t.size,
        t.updated_at,
        coalesce(NOT s.old_hidden AND s.old_digest = t.digest
            AND s.old_retired_at > now() - interval '1 day', false) AS flickered
)
INSERT INTO change (kind, image_id, repository_id, tag, digest_before, digest_after,
    config_digest, artifact_type, is_index, size, updated_at, flickered)
SELECT kind, image_id, repository_id, tag, digest_before, digest_after, config_digest,
    artifact_type, is_index, size, updated_at, flickered
FROM merged

-- name: find_absent
INSERT INTO absent (image_id, repository_id, held)
SELECT i.id, i.repository_id, i.held_at IS NOT NULL
FROM image i
WHERE i.repository_id = ANY(%(repositories)s) AND i.retired_at IS NULL
  AND NOT EXISTS (
    SELECT FROM incoming s
    WHERE s.repository_id = i.repository_id
      AND coalesce(s.tag, '@' || s.digest) = coalesce(i.tag, '@' || i.digest)
  )

-- name: keep_held
-- What was held once stays held, also where a later run's budget would have room for it.
DELETE FROM absent WHERE held AND repository_id <> ALL(%(decided)s::bigint[])

-- name: has_two_strikes
SELECT two_strikes = 'on' OR two_strikes = 'auto' AND flickers >= %(flickers)s
FROM registry WHERE id = %(registry)s

-- name: strike
-- What is absent for the first time stays; its repository is read again, whatever it says of
-- itself, so that a second listing can decide. What is held was absent before.
WITH struck AS (
    UPDATE image i SET missing_since = now()
    FROM absent a
    WHERE i.id = a.image_id AND i.repository_id = ANY(%(repositories)s) AND i.missing_since IS NULL
      AND NOT a.held
    RETURNING i.id, i.repository_id
), doubted AS (
    UPDATE repository r SET fingerprint = NULL
    WHERE r.id IN (SELECT repository_id FROM struck) AND r.fingerprint IS NOT NULL
)
DELETE FROM absent a USING struck WHERE a.image_id = struck.id

-- name: hide
WITH gone AS (
    UPDATE image i SET retired_at = now(), held_at = NULL, missing_since = NULL, hidden = true
    FROM absent a
    WHERE i.id = a.image_id AND i.repository_id = ANY(%(repositories)s)
    RETURNING i.id, i.repository_id, i.tag, i.digest
)
INSERT INTO change (kind, image_id, repository_id, tag, digest_before)
SELECT 'hidden', id, repository_id, tag, digest FROM gone

-- name: forget_hidden
-- Hidden once, shown again, and gone meanwhile: it was not listed and is not, so nothing is told.
UPDATE image SET hidden = false
WHERE repository_id = ANY(%(repositories)s) AND hidden AND retired_at IS NOT NULL

-- name: count_absent
SELECT repository_id, count(*) FROM absent GROUP BY repository_id

-- name: lock_run
SELECT retired, retire_budget, holds_everything FROM run WHERE id = %(run)s FOR UPDATE

-- name: retire
WITH gone AS (
    UPDATE image i SET retired_at = now(), held_at = NULL, missing_since = NULL
    FROM absent a
    WHERE i.id = a.image_id AND i.repository_id = a.repository_id
      AND i.repository_id = ANY(%(repositories)s)
    RETURNING i.id, i.repository_id, i.tag, i.digest
)
INSERT INTO change (kind, image_id, repository_id, tag, digest_before)
SELECT 'retired', id, repository_id, tag, digest FROM gone

-- name: hold
UPDATE image i SET held_at = now()
FROM absent a
WHERE i.id = a.image_id AND NOT a.held AND i.repository_id = ANY(%(repositories)s)

-- name: add_platforms
INSERT INTO platform (project_id, registry_id, index_digest, position, digest, os, architecture,
    variant, size, image_id)
SELECT %(project)s, %(registry)s, index_digest, position, digest, os, architecture, variant, size,
    image_id
FROM incoming_platform
ON CONFLICT DO NOTHING

-- name: settle_repositories
-- Written only where something differs, so that an unchanged registry costs no row.
WITH listed AS (
    SELECT * FROM unnest(%(repositories)s::bigint[], %(fingerprints)s::text[],
        %(requests)s::integer[], %(read_ms)s::integer[], %(referrers_read)s::boolean[])
        AS l (id, fingerprint, requests, read_ms, referrers_read)
), counted AS MATERIALIZED (
    -- Counted once: the planner, which does not know how many rows a fresh temporary table has,
    -- would otherwise count them again for each repository.
    SELECT i.repository_id,
        count(*) FILTER (WHERE i.artifact_type = '') AS live,
        count(*) FILTER (WHERE i.held_at IS NOT NULL) AS held,
        count(*) FILTER (WHERE i.missing_since IS NOT NULL) AS struck,
        (array_agg(i.id ORDER BY i.updated_at DESC, i.id DESC)
            FILTER (WHERE i.artifact_type = ''))[1] AS latest
    FROM image i
    WHERE %(known)s::bigint[] <> '{}'
      AND i.repository_id = ANY(%(known)s) AND i.retired_at IS NULL
    GROUP BY i.repository_id
    UNION ALL
    -- What a new repository has, this batch has brought.
    SELECT c.repository_id,
        count(*) FILTER (WHERE c.artifact_type = ''), 0, 0,
        (array_agg(c.image_id ORDER BY c.updated_at DESC, c.image_id DESC)
            FILTER (WHERE c.artifact_type = ''))[1]
    FROM change c WHERE c.repository_id = ANY(%(new)s)
    GROUP BY c.repository_id
    UNION ALL
    SELECT a.repository_id,
        count(*) FILTER (WHERE a.artifact_type = ''), 0, 0,
        (array_agg(a.id ORDER BY coalesce(a.updated_at, a.created_at, now()) DESC, a.id DESC)
            FILTER (WHERE a.artifact_type = ''))[1]
    FROM arrival a
    GROUP BY a.repository_id
)
UPDATE repository r SET
    live_images = coalesce(c.live, 0),
    held_images = coalesce(c.held, 0),
    latest_image_id = c.latest,
    -- A repository with rows in doubt is read again, so that a second listing can decide.
    fingerprint = CASE WHEN coalesce(c.held + c.struck, 0) = 0 AND r.id <> ALL(%(short)s::bigint[])
        THEN l.fingerprint END,
    requests = l.requests, read_ms = l.read_ms, referrers_read = l.referrers_read,
    verdict = 'complete', verdict_reason = NULL, listed_at = %(began)s, retired_at = NULL,
    empty_seen_at = CASE WHEN r.id = ANY(%(came_up_empty)s) THEN coalesce(r.empty_seen_at, now())
        END,
    -- A change behind a fingerprint that stood. The next listing tells: if the fingerprint still
    -- stands then, nothing but a lie explains it; a push during the read would have moved it.
    suspect_fingerprint = CASE WHEN r.id = ANY(%(stood)s) THEN (
        SELECT l.fingerprint FROM change c WHERE c.repository_id = r.id AND c.kind <> 'touched'
        LIMIT 1) END
FROM listed l LEFT JOIN counted c ON c.repository_id = l.id
WHERE r.id = l.id AND (
    r.verdict <> 'complete' OR r.retired_at IS NOT NULL OR r.verdict_reason IS NOT NULL
    OR (r.live_images, r.held_images, r.latest_image_id) IS DISTINCT FROM
        (coalesce(c.live, 0), coalesce(c.held, 0), c.latest)
    OR r.fingerprint IS DISTINCT FROM
        CASE WHEN coalesce(c.held + c.struck, 0) = 0 AND r.id <> ALL(%(short)s::bigint[])
            THEN l.fingerprint END
    OR (r.empty_seen_at IS NULL) = (r.id = ANY(%(came_up_empty)s))
    OR r.referrers_read <> l.referrers_read
    OR r.id IN (SELECT repository_id FROM change)
)

-- name: mark_failed
UPDATE repository r SET
    verdict = CASE WHEN r.verdict = 'never' THEN 'never' ELSE 'partial' END,
    verdict_reason = f.reason, requests = f.requests, read_ms = f.read_ms
FROM unnest(%(repositories)s::bigint[], %(reasons)s::jsonb[], %(requests)s::integer[],
    %(read_ms)s::integer[]) AS f (id, reason, requests, read_ms)
WHERE r.id = f.id

-- name: count_changes
SELECT kind, count(*), count(*) FILTER (WHERE flickered) FROM change GROUP BY kind

-- name: finish_unit
UPDATE unit SET done = true, done_at = clock_timestamp() WHERE id = %(unit)s

-- name: count_into_run
UPDATE run SET
    units_done = units_done + %(units_done)s,
    repositories_done = repositories_done + %(repositories_done)s,
    repositories_failed = repositories_failed + %(repositories_failed)s,
    images = images + %(images)s,
    requests = requests + %(requests)s,
    added = added + %(added)s,
    moved = moved + %(moved)s,
    retired = retired + %(retired)s,
    restored = restored + %(restored)s,
    held = held + %(held)s,
    flickers = flickers + %(flickers)s,
    reasons = CASE WHEN jsonb_array_length(reasons) < 1000 THEN reasons || %(reasons)s::jsonb
        ELSE reasons END
WHERE id = %(run)s AND state = 'running'
RETURNING listing <> 'open' AND units_done = units_total AS ready

-- name: take_numbers
UPDATE tenant_feed SET seq = seq + %(count)s WHERE project_id = %(project)s RETURNING seq, clock_timestamp()

-- name: touch_feed
-- No event, but no longer the same list: what an image is, or as of when it is known, has changed.
-- An event's number says so by itself.
UPDATE tenant_feed SET revision = revision + 1 WHERE project_id = %(project)s

-- name: close_versions
-- Before write_events, with the same numbers. The images are named, not only joined: whatever the
-- planner thinks of the table's size, it looks at theirs alone.
UPDATE image_version v SET to_seq = n.seq
FROM (
    SELECT c.image_id, c.kind,
        %(base)s + row_number() OVER (ORDER BY c.repository_id, c.image_id) AS seq
    FROM change c WHERE c.kind <> 'touched'
) n
WHERE n.kind IN ('moved', 'retired', 'hidden') AND v.project_id = %(project)s
  AND v.image_id = ANY(ARRAY(
      SELECT image_id FROM change WHERE kind IN ('moved', 'retired', 'hidden')))
  AND v.image_id = n.image_id AND v.to_seq IS NULL

-- name: write_events
WITH numbered AS (
    SELECT c.*, %(base)s + row_number() OVER (ORDER BY c.repository_id, c.image_id) AS seq
    FROM change c WHERE c.kind <> 'touched'
), told AS (
    INSERT INTO event (project_id, seq, kind, image_id, repository_id, registry_id, run_id, tag,
        digest_before, digest_after, at)
    SELECT %(project)s, seq, kind, image_id, repository_id, %(registry)s, %(run)s, tag,
        digest_before, digest_after, %(at)s
    FROM numbered
)
INSERT INTO image_version (image_id, project_id, from_seq, digest, config_digest, artifact_type,
    is_index, size, updated_at, run_id)
SELECT image_id, %(project)s, seq, digest_after, config_digest, artifact_type, is_index, size,
    updated_at, %(run)s
FROM numbered WHERE kind NOT IN ('retired', 'hidden')

-- name: tell_arrived
-- The first numbers of a transaction are theirs.
WITH told AS (
    INSERT INTO event (project_id, seq, kind, image_id, repository_id, registry_id, run_id, tag,
        digest_after, at)
    SELECT %(project)s, %(base)s + a.n, 'added', a.id, a.repository_id, %(registry)s, %(run)s,
        a.tag, a.digest, %(at)s
    FROM arrival a
)
INSERT INTO image_version (image_id, project_id, from_seq, digest, config_digest, artifact_type,
    is_index, size, updated_at, run_id)
SELECT a.id, %(project)s, %(base)s + a.n, a.digest, a.image_id, a.artifact_type, a.is_index,
    a.size, coalesce(a.updated_at, a.created_at, now()), %(run)s
FROM arrival a
