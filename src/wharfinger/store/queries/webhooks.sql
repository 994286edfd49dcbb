-- Webhooks, what they have yet to deliver, and what became of each attempt.

-- name: due
SELECT project_id, webhook_id::text FROM webhooks_due(%(most)s)

-- name: add
INSERT INTO webhook (id, project_id, name, address, sealed, allow_private_networks,
    enterprise_projects, types, registries, pattern, labels, batch, change_seq, notice_seq)
SELECT %(webhook)s, %(project)s, %(name)s, %(address)s, %(sealed)s, %(allow_private_networks)s,
    %(enterprise_projects)s::text[], %(types)s, %(registries)s::uuid[], %(pattern)s, %(labels)s,
    %(batch)s, f.seq, coalesce((SELECT n.seq FROM notice_feed n WHERE n.project_id = %(project)s), 0)
FROM tenant_feed f WHERE f.project_id = %(project)s
ON CONFLICT (project_id, name) DO NOTHING
RETURNING id::text

-- name: select
-- One that tells of more than the caller may see is out of sight.
SELECT w.id::text, w.name, w.address, w.types,
    coalesce((SELECT array_agg(g.name ORDER BY g.name) FROM registry g
              WHERE g.project_id = %(project)s AND g.id = ANY(w.registries)), '{}') AS registries,
    w.pattern, w.labels, w.batch, w.allow_private_networks,
    CASE WHEN w.pause_reason = 'asked' THEN 'paused'
         WHEN w.pause_reason IS NOT NULL THEN w.pause_reason
         WHEN w.failures > 0 THEN 'failing' ELSE 'active' END AS state,
    w.created_at, w.paused_at, w.failures, w.failing_since,
    CASE WHEN w.paused_at IS NULL AND w.failures > 0 THEN w.next_at END AS next_at,
    w.change_seq AS delivered,
    -- What lies beyond its sight is not counted.
    (SELECT f.seq FROM tenant_feed f WHERE f.project_id = %(project)s) - w.change_seq
    + (SELECT count(*) FROM notice n LEFT JOIN registry g ON g.id = n.registry_id
       WHERE n.project_id = %(project)s AND n.seq > w.notice_seq
         AND (w.enterprise_projects IS NULL
              OR g.enterprise_project_id = ANY(w.enterprise_projects))) AS behind,
    w.last_at, w.last_status
FROM webhook w
WHERE w.project_id = %(project)s
  AND (%(every)s OR w.enterprise_projects <@ %(enterprise_projects)s::text[])
  AND (%(webhook)s::text IS NULL OR w.name = %(webhook)s OR w.id::text = %(webhook)s)
ORDER BY w.name

-- name: count
SELECT count(*) FROM webhook WHERE project_id = %(project)s

-- name: sealed
SELECT sealed, allow_private_networks FROM webhook
WHERE project_id = %(project)s AND id = %(webhook)s FOR UPDATE

-- name: every_sealed
SELECT id, sealed FROM webhook WHERE project_id = %(project)s FOR UPDATE

-- name: reseal
UPDATE webhook SET sealed = %(sealed)s WHERE id = %(webhook)s AND sealed = %(before)s

-- name: change
UPDATE webhook SET name = %(name)s, address = %(address)s, sealed = %(sealed)s,
    allow_private_networks = %(allow_private_networks)s, types = %(types)s,
    registries = coalesce(%(registries)s::uuid[], registries), pattern = %(pattern)s,
    labels = %(labels)s, batch = %(batch)s
WHERE project_id = %(project)s AND id = %(webhook)s

-- name: is_taken
SELECT EXISTS (SELECT FROM webhook WHERE project_id = %(project)s AND name = %(name)s
    AND id <> %(webhook)s)

-- name: pause
UPDATE webhook SET paused_at = coalesce(paused_at, now()), pause_reason = 'asked', lease = NULL
WHERE project_id = %(project)s AND id = %(webhook)s

-- name: resume
UPDATE webhook SET paused_at = NULL, pause_reason = NULL, failures = 0, failing_since = NULL,
    next_at = now()
WHERE project_id = %(project)s AND id = %(webhook)s

-- name: remove
DELETE FROM webhook WHERE project_id = %(project)s AND id = %(webhook)s

-- name: replay
-- Whoever is just delivering has lost its turn, so that it does not move the mark back.
UPDATE webhook SET change_seq = %(change)s,
    notice_seq = coalesce(%(notice)s, (
        SELECT coalesce(max(n.seq), 0) FROM notice n
        WHERE n.project_id = %(project)s AND n.after_seq <= %(change)s)),
    lease = NULL, next_at = now()
WHERE project_id = %(project)s AND id = %(webhook)s

-- name: delivery
SELECT change_seq, notice_seq FROM webhook_delivery
WHERE project_id = %(project)s AND webhook_id = %(webhook)s AND id = %(delivery)s
  AND kind = 'events'

-- name: deliveries
SELECT d.id, d.at, d.kind, d.event_id, d.events, d.attempt, d.status, d.error, d.latency_ms,
    d.excerpt
FROM webhook_delivery d
WHERE d.project_id = %(project)s AND d.webhook_id = %(webhook)s
  AND (%(before)s::bigint IS NULL OR d.id < %(before)s)
ORDER BY d.id DESC LIMIT %(limit)s

-- name: claim
UPDATE webhook SET lease = %(lease)s, leased_until = now() + make_interval(secs => %(lease_s)s)
WHERE project_id = %(project)s AND id = %(webhook)s AND paused_at IS NULL AND next_at <= now()
  AND (lease IS NULL OR lease = %(lease)s OR leased_until < now())
RETURNING sealed, allow_private_networks, enterprise_projects, types, registries::text[], pattern,
    labels, batch, change_seq, notice_seq, failures

-- name: release
UPDATE webhook SET lease = NULL
WHERE project_id = %(project)s AND id = %(webhook)s AND lease = %(lease)s

-- name: advance
UPDATE webhook SET change_seq = %(change)s, notice_seq = %(notice)s
WHERE project_id = %(project)s AND id = %(webhook)s AND lease = %(lease)s

-- name: delivered
UPDATE webhook SET change_seq = %(change)s, notice_seq = %(notice)s, failures = 0,
    failing_since = NULL, last_at = now(), last_status = %(status)s
WHERE project_id = %(project)s AND id = %(webhook)s AND lease = %(lease)s

-- name: failed
UPDATE webhook SET failures = failures + 1, failing_since = coalesce(failing_since, now()),
    next_at = now() + make_interval(secs => %(wait_s)s), last_at = now(),
    last_status = %(status)s, lease = NULL,
    paused_at = CASE WHEN %(gone)s OR failing_since < now() - make_interval(days => %(patience_days)s)
        THEN now() END,
    pause_reason = CASE WHEN %(gone)s THEN 'gone'
        WHEN failing_since < now() - make_interval(days => %(patience_days)s) THEN 'given_up' END
WHERE project_id = %(project)s AND id = %(webhook)s AND lease = %(lease)s
RETURNING pause_reason

-- name: log
INSERT INTO webhook_delivery (project_id, webhook_id, kind, event_id, events, attempt, status,
    error, latency_ms, excerpt, change_seq, notice_seq)
SELECT %(project)s, w.id, %(kind)s, %(event_id)s, %(events)s, %(attempt)s, %(status)s, %(error)s,
    %(latency_ms)s, %(excerpt)s, %(change)s, %(notice)s
FROM webhook w WHERE w.project_id = %(project)s AND w.id = %(webhook)s
RETURNING id, at, kind, event_id, events, attempt, status, error, latency_ms, excerpt

-- name: newest
SELECT f.seq, f.horizon_seq FROM tenant_feed f WHERE f.project_id = %(project)s

-- name: next_changes
SELECT e.seq, e.kind, e.at, e.run_id::text, e.registry_id::text, g.name, g.enterprise_project_id,
    e.image_id, e.repository_id, r.namespace, r.name, e.tag, e.digest_before, e.digest_after
FROM event e
LEFT JOIN registry g ON g.id = e.registry_id
LEFT JOIN repository r ON r.id = e.repository_id
WHERE e.project_id = %(project)s AND e.seq > %(change)s AND e.seq <= %(newest)s
ORDER BY e.seq LIMIT %(limit)s

-- name: next_notices
SELECT n.seq, n.after_seq, n.kind, n.at, n.registry_id::text, g.name, g.enterprise_project_id,
    n.data
FROM notice n LEFT JOIN registry g ON g.id = n.registry_id
WHERE n.project_id = %(project)s AND n.seq > %(notice)s
ORDER BY n.seq LIMIT %(limit)s

-- name: prune_deliveries
DELETE FROM webhook_delivery WHERE project_id = %(project)s AND at < %(before)s

-- name: prune_notices
DELETE FROM notice WHERE project_id = %(project)s AND at < %(before)s
