-- The budgets of hosts; see migrations/0003_pre_pacing.sql for what the functions do.

-- name: pace_host
-- A share that a crash forgets is asked for again within a second: no need to wait for the disk.
SELECT set_config('synchronous_commit', 'off', true), s.*
FROM pace_host(
    %(host)s, %(process)s, %(start)s, %(asks)s, %(holds)s, %(allowed)s, %(answered)s, %(grown)s,
    %(trouble)s, %(trouble_epoch)s, %(stated_rate)s, %(pause_s)s, %(slots)s, %(lease_s)s
) s

-- name: leave_host
SELECT leave_host(%(host)s, %(process)s)
