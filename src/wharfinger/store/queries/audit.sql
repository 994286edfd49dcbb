-- The audit: written with what it tells of, read by its project, rewritten by nobody.

-- name: record
-- The entry lies with the tenant of the transaction.
INSERT INTO audit (project_id, kind, principal, user_id, user_name, access_key, source, user_agent,
    request_id, action, target, target_name, outcome, details)
VALUES (tenant(), %(kind)s, %(principal)s, %(user_id)s, %(user_name)s, %(access_key)s, %(source)s,
    %(user_agent)s, %(request_id)s, %(action)s, %(target)s, %(name)s, %(outcome)s, %(details)s)

-- name: matching
-- The entries that a caller asks for. What a filter leaves null is not asked for. Who does not see
-- every enterprise project is told of their own doing, and of the registries that they see.
FROM audit a
WHERE a.project_id = %(project)s
  AND (%(everything)s OR (a.user_id <> '' AND a.user_id = %(me)s) OR a.target = ANY(ARRAY(
    SELECT 'registry ' || g.id::text FROM registry g
    WHERE g.project_id = %(project)s AND g.enterprise_project_id = ANY(%(enterprise_projects)s))))
  AND (%(before)s::bigint IS NULL OR a.id < %(before)s)
  AND (%(kind)s::text IS NULL OR a.kind = %(kind)s)
  AND (%(action)s::text IS NULL OR a.action = %(action)s)
  AND (%(outcome)s::text IS NULL OR a.outcome = %(outcome)s)
  AND (%(source)s::text IS NULL OR a.source = %(source)s)
  AND (%(request_id)s::text IS NULL OR a.request_id = %(request_id)s)
  AND (%(user)s::text IS NULL OR coalesce(nullif(a.user_name, ''), a.principal) = %(user)s)
  AND (%(target_type)s::text IS NULL OR split_part(a.target, ' ', 1) = %(target_type)s)
  AND (%(target_name)s::text IS NULL
    OR coalesce(nullif(a.target_name, ''), substr(a.target, strpos(a.target, ' ') + 1))
        = %(target_name)s)
  AND (%(since)s::timestamptz IS NULL OR a.at >= %(since)s)
  AND (%(until)s::timestamptz IS NULL OR a.at <= %(until)s)

-- name: list
-- Newest first, of those that match.
SELECT a.id, a.at, a.kind, a.principal, a.user_id, a.user_name, a.access_key, a.source,
    a.user_agent, a.request_id, a.action, a.target, a.target_name, a.outcome, a.details

-- name: newest
ORDER BY a.id DESC LIMIT %(limit)s OFFSET %(offset)s

-- name: prune
SELECT prune_audit(%(before)s, %(most)s)

-- name: count_refused
INSERT INTO refusal_count (minute, reason, network, calls)
VALUES (%(minute)s, %(reason)s, %(network)s, %(calls)s)

-- name: sample_refused
INSERT INTO refusal_sample (reason, source, method, route, user_agent, request_id)
VALUES (%(reason)s, %(source)s, %(method)s, %(route)s, %(user_agent)s, %(request_id)s)

-- name: refusal_counts
SELECT reason, network, sum(calls)::bigint AS calls, min(minute) AS first, max(minute) AS last
FROM refusal_count WHERE at >= %(since)s
GROUP BY reason, network ORDER BY calls DESC, reason, network LIMIT %(limit)s

-- name: refusal_samples
SELECT at, reason, source, method, route, user_agent, request_id
FROM refusal_sample WHERE at >= %(since)s ORDER BY id DESC LIMIT %(limit)s

-- name: prune_refusals
SELECT prune_refusals(%(before)s, %(most)s)
