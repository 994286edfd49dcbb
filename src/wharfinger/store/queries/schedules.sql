-- When registries are read without anybody asking.

-- name: projects
SELECT project_id FROM projects_with_due_schedules()

-- name: time_zone
SELECT time_zone, now() FROM project WHERE id = %(project)s

-- name: set_time_zone
UPDATE project SET time_zone = %(time_zone)s WHERE id = %(project)s RETURNING id

-- name: unplan
-- A tick, or the next look, plans them anew.
UPDATE schedule SET next_at = NULL WHERE project_id = %(project)s AND paused_at IS NULL

-- name: unplanned
SELECT g.id::text, coalesce(s.cron, %(usual)s)
FROM registry g LEFT JOIN schedule s ON s.registry_id = g.id
WHERE g.project_id = %(project)s AND g.removed_at IS NULL
  AND s.next_at IS NULL AND s.paused_at IS NULL
ORDER BY g.id

-- name: plan
-- Whoever comes second leaves what the first has planned.
INSERT INTO schedule (registry_id, project_id, cron, next_at)
VALUES (%(registry)s, %(project)s, %(cron)s, %(next_at)s)
ON CONFLICT (registry_id) DO UPDATE SET next_at = excluded.next_at
WHERE schedule.next_at IS NULL AND schedule.paused_at IS NULL

-- name: due
-- One that another worker is just dealing with is left to it.
SELECT s.registry_id::text, s.cron,
    CASE s.full_syncs
        WHEN 'always' THEN true
        WHEN 'never' THEN false
        ELSE g.read_at IS NULL OR g.read_at < now() - interval '20 hours'
    END
FROM schedule s JOIN registry g ON g.id = s.registry_id
WHERE s.project_id = %(project)s AND s.next_at <= now() AND g.removed_at IS NULL
ORDER BY s.registry_id
FOR UPDATE OF s SKIP LOCKED

-- name: ran
UPDATE schedule SET last_at = now(), last_task_id = %(task)s, next_at = %(next_at)s
WHERE registry_id = %(registry)s

-- name: list
SELECT g.id::text, g.name, coalesce(s.cron, %(usual)s), coalesce(s.full_syncs, 'daily'),
    s.paused_at, s.next_at, s.last_at, s.last_task_id::text
FROM registry g LEFT JOIN schedule s ON s.registry_id = g.id
WHERE g.project_id = %(project)s AND g.removed_at IS NULL
  AND g.enterprise_project_id = ANY(%(enterprise_projects)s)
  AND (%(registry)s::uuid IS NULL OR g.id = %(registry)s)
ORDER BY g.name

-- name: change
INSERT INTO schedule (registry_id, project_id, cron, full_syncs, paused_at, next_at)
VALUES (%(registry)s, %(project)s, %(cron)s, %(full_syncs)s,
    CASE WHEN %(paused)s THEN now() END, %(next_at)s)
ON CONFLICT (registry_id) DO UPDATE SET
    cron = excluded.cron, full_syncs = excluded.full_syncs,
    paused_at = CASE WHEN %(paused)s THEN coalesce(schedule.paused_at, now()) END,
    next_at = excluded.next_at
