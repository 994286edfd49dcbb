-- What monitoring is told; see migrations/0019_pre_observe.sql for what the functions do. Nothing
-- here looks at an image: the cost is that of the registries, the open runs and the queue.

-- name: add
-- Counts that a crash forgets are not worth a wait for the disk.
SELECT set_config('synchronous_commit', 'off', true), add_to_totals(%(added)s, %(most_hosts)s)

-- name: totals
SELECT name, labels, value FROM list_totals()

-- name: registries
SELECT kind, verdict, registries, images, held, lies, confirmed_age_s, read_age_s
FROM observe_registries()

-- name: runs
SELECT state, runs, oldest_s FROM observe_runs()

-- name: budgets
SELECT host, concurrency, ceiling, rate, paused_s FROM observe_budgets()

-- name: projects
SELECT projects, events FROM observe_projects()

-- name: jobs
SELECT queue_name, status, count(*)
FROM (SELECT queue_name, status::text FROM procrastinate_jobs
      WHERE status IN ('todo', 'doing') LIMIT 100000) waiting
GROUP BY queue_name, status

-- name: oldest_jobs
-- A job that waits has been due since it was enqueued, or since the time it was put off to.
SELECT j.queue_name,
    extract(epoch FROM now() - greatest(j.scheduled_at, (
        SELECT min(e.at) FROM procrastinate_events e WHERE e.job_id = j.id)))::double precision
FROM (
    SELECT DISTINCT ON (queue_name) id, queue_name, scheduled_at FROM (
        SELECT id, queue_name, scheduled_at FROM procrastinate_jobs
        WHERE status = 'todo' AND coalesce(scheduled_at <= now(), true)
        ORDER BY id LIMIT 1000) first
    ORDER BY queue_name, id
) j

-- name: workers
-- A worker process is two workers of the job engine, one for each queue.
SELECT (count(*) + 1) / 2 FROM procrastinate_workers WHERE last_heartbeat > now() - interval '10 seconds'
