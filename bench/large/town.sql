-- A made-up list of any size, made where it is stored: eight registries of six kinds in four
-- enterprise projects, four tenths of the images in a few large repositories, the rest twenty by
-- twenty. What is made of a number looks random and is the same each time.

-- name: registries
INSERT INTO registry (id, project_id, name, kind, address, enterprise_project_id, verdict,
    confirmed_at, read_at, listed_generation, stale_after)
SELECT md5(%(project)s || n)::uuid, %(project)s, kind || '-' || n, kind,
    'https://registry-' || n || '.example.com', CASE n %% 4 WHEN 0 THEN '0' ELSE left(md5(%(project)s || n %% 4), 12) END, 'complete', now(), now(), 1, '10 years'
FROM unnest(ARRAY['SwrPrivate', 'SwrPrivate', 'SwrPrivate', 'SwrShared', 'SwrEnterprise', 'Harbor',
    'Jfrog', 'Other']) WITH ORDINALITY AS k (kind, n)

-- name: enterprise_projects
INSERT INTO enterprise_project (id, project_id, name)
SELECT left(md5(%(project)s || n), 12), %(project)s, 'division ' || n FROM generate_series(1, 3) n

-- name: repositories
INSERT INTO repository (project_id, registry_id, namespace, name, owner, verdict, listed_at, fingerprint,
    live_images)
SELECT %(project)s, md5(%(project)s || 1 + n %% 8)::uuid,
    (ARRAY['payments', 'platform', 'logistics', 'search', 'data-science', 'mobile', 'edge', 'identity'])
        [1 + n / 8 %% 8] || '-' || n / 64 %% 50,
    CASE n %% 9973 WHEN 77 THEN 'quetzal-' ELSE '' END ||
    (ARRAY['billing', 'ledger', 'catalogue', 'checkout', 'inventory', 'notification', 'recommendation',
        'session', 'telemetry', 'warehouse']) [1 + h / 7 %% 10] || '-' ||
    (ARRAY['api', 'gateway', 'worker', 'scheduler', 'exporter', 'frontend', 'migrations'])
        [1 + h / 77 %% 7] || '-' || n,
    'team-' || n %% 40, 'complete', now(), md5(n::text), t.tags
FROM generate_series(1, %(large)s::bigint + %(small)s) n
CROSS JOIN LATERAL (SELECT abs(hashint8(n)) AS h) hashed
CROSS JOIN LATERAL (SELECT CASE WHEN n <= %(large)s THEN %(large_tags)s ELSE %(small_tags)s END AS tags) t
ORDER BY n

-- name: images
INSERT INTO image (project_id, registry_id, repository_id, tag, digest, image_id, media_type, is_index,
    size, created_at, updated_at)
SELECT %(project)s, r.registry_id, r.id,
    CASE WHEN t = 1 THEN 'latest'
        WHEN h %% 99991 = 7 THEN 'v1.' || t || '.0-cve-2026-31337'
        WHEN h %% 10 < 3 THEN 'release-2026.' || 1 + h / 10 %% 12 || '.' || t
        WHEN h %% 10 < 6 THEN 'main-' || left(md5(h::text), 10) || '-' || t
        WHEN h %% 10 < 8 THEN 'v' || h / 10 %% 9 || '.' || h / 90 %% 30 || '.' || t
        ELSE 'build-' || 100000 + h %% 900000 || '-' || t END,
    -- Every thirtieth image is a copy of another's content.
    'sha256:' || md5(content) || md5(content || 'd'), 'sha256:' || md5(content || 'c') || md5(content || 'e'),
    'application/vnd.oci.image.manifest.v1+json', h %% 20 = 0, 1000000 + h %% 900000000,
    timestamptz '2026-01-01' + make_interval(secs => h %% 20000000),
    timestamptz '2026-01-01' + make_interval(secs => h %% 20000000)
FROM repository r
CROSS JOIN LATERAL generate_series(1, r.live_images) t
CROSS JOIN LATERAL (SELECT abs(hashint8(r.id * 5000 + t)::bigint) AS h) hashed
CROSS JOIN LATERAL (SELECT CASE h %% 30 WHEN 0 THEN 'shared-' || h %% 30000
    ELSE r.id || '/' || t END AS content) contents
WHERE r.project_id = %(project)s
ORDER BY r.id, t

-- name: platforms
INSERT INTO platform (project_id, registry_id, index_digest, position, digest, os, architecture,
    variant, size, image_id)
SELECT DISTINCT ON (i.registry_id, i.digest, p) i.project_id, i.registry_id, i.digest, p - 1,
    'sha256:' || md5(i.digest || p) || md5(i.digest || p || 'd'), 'linux',
    (ARRAY['amd64', 'arm64'])[p], '', i.size / 2, 'sha256:' || md5(i.digest || p || 'c') || md5(i.digest)
FROM image i CROSS JOIN generate_series(1, 2) p
WHERE i.project_id = %(project)s AND i.is_index

-- name: latest
UPDATE repository r SET latest_image_id = (
    SELECT i.id FROM image i WHERE i.repository_id = r.id AND i.tag IS NOT NULL
    ORDER BY i.updated_at DESC, i.id DESC LIMIT 1)
WHERE r.project_id = %(project)s

-- name: versions
-- Half of the list is half a year old, the other half came in the last hour before now.
INSERT INTO image_version (image_id, project_id, from_seq, to_seq, digest, config_digest, is_index, size,
    updated_at, run_id)
SELECT i.id, i.project_id, n.seq, CASE WHEN i.id %% 10 = 0 THEN n.moved END,
    CASE WHEN i.id %% 10 = 0 THEN 'sha256:' || md5(i.digest) || md5(i.digest || 'b') ELSE i.digest END,
    i.image_id, i.is_index, i.size, i.updated_at, md5('run')::uuid
FROM image i CROSS JOIN LATERAL (
    SELECT i.id - %(first)s + 1 AS seq, %(images)s + (i.id - %(first)s) / 10 + 1 AS moved) n
WHERE i.project_id = %(project)s
UNION ALL
SELECT i.id, i.project_id, %(images)s + (i.id - %(first)s) / 10 + 1, NULL, i.digest, i.image_id, i.is_index,
    i.size, i.updated_at, md5('run')::uuid
FROM image i WHERE i.project_id = %(project)s AND i.id %% 10 = 0

-- name: events
INSERT INTO event (project_id, seq, kind, image_id, repository_id, registry_id, run_id, tag, digest_before,
    digest_after, at)
SELECT v.project_id, v.from_seq, CASE WHEN v.from_seq <= %(images)s THEN 'added' ELSE 'moved' END, v.image_id,
    i.repository_id, i.registry_id, v.run_id, i.tag,
    CASE WHEN v.from_seq > %(images)s THEN 'sha256:' || md5(i.digest) || md5(i.digest || 'b') END, v.digest,
    CASE WHEN v.from_seq <= %(images)s / 2 THEN now() - interval '100 days' ELSE now() - interval '1 hour' END
FROM image_version v JOIN image i ON i.id = v.image_id
WHERE v.project_id = %(project)s
ORDER BY v.from_seq

-- name: counts
UPDATE registry g SET live_images = c.images
FROM (SELECT registry_id, sum(live_images) AS images FROM repository GROUP BY registry_id) c
WHERE c.registry_id = g.id

-- name: feed
UPDATE tenant_feed SET seq = (SELECT max(seq) FROM event WHERE project_id = %(project)s)
WHERE project_id = %(project)s

-- name: labels
INSERT INTO label (project_id, registry_id, namespace, repository, key, value)
SELECT g.project_id, g.id, NULL, NULL, 'owner', 'division-' || g.enterprise_project_id
FROM registry g WHERE g.project_id = %(project)s
UNION ALL
SELECT DISTINCT ON (r.registry_id, r.namespace) r.project_id, r.registry_id, r.namespace, NULL, 'tier', 'gold'
FROM repository r WHERE r.project_id = %(project)s AND r.namespace LIKE 'payments%%'
UNION ALL
SELECT r.project_id, r.registry_id, r.namespace, r.name, 'owner', r.owner
FROM repository r WHERE r.project_id = %(project)s AND r.id %% 200 = 0
