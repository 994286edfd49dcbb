-- What every process knows of a registry's host: how fast it may be asked, and who is asking.
--
-- Hosts are shared by tenants, so these rows belong to none. A host is kept as a digest only, and
-- the application may not read the tables: it calls pace_host with the digest of a host it already
-- knows, so that nobody learns from here which registries another tenant has.

CREATE TABLE host_budget (
    host bytea PRIMARY KEY CHECK (length(host) = 32), -- SHA-256 of host:port
    -- Requests at once over all processes; halves on trouble, grows by one per round of successes.
    concurrency double precision NOT NULL,
    ceiling integer NOT NULL,
    -- Grows with every lesson, so that requests under way together teach it once.
    epoch bigint NOT NULL DEFAULT 0,
    eased_at timestamptz,
    -- Requests per second, learned from refusals; null until there was one.
    rate double precision,
    -- The rate at which the host last refused: growth is slow near it.
    refused_rate double precision,
    rate_at timestamptz,
    learning_until timestamptz,
    -- The time from which on no request has been promised yet.
    next_slot_at timestamptz,
    paused_until timestamptz,
    used_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);

-- A process's share of a host, which it renews while it lives.
CREATE TABLE host_lease (
    host bytea NOT NULL,
    process uuid NOT NULL,
    asks integer NOT NULL,    -- requests it has under way or waiting
    granted integer NOT NULL, -- requests it may have under way
    answered integer NOT NULL, -- successes in the second before it last reported
    reported_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (host, process)
) WITH (fillfactor = 50);

REVOKE ALL ON host_budget, host_lease FROM PUBLIC, wharfinger_app;

-- The lesson of a refusal or of trouble. ``measured`` is the successes of the last second.
CREATE FUNCTION learn_from_trouble(
    b host_budget, throttled boolean, stated_rate double precision, measured double precision,
    at timestamptz
) RETURNS host_budget
    LANGUAGE plpgsql SET search_path FROM CURRENT
AS $$
DECLARE
    was double precision := b.rate;
BEGIN
    IF throttled AND b.rate IS NOT NULL THEN
        -- What was promised at the old rate is still on its way for a moment: that is one lesson.
        IF at < b.eased_at + interval '1 second' THEN
            RETURN b;
        END IF;
        b.refused_rate := b.rate;
        -- Below a few per second, the successes of one second are too few to count on.
        b.rate := greatest(0.02, CASE WHEN b.rate < 5 THEN b.rate * 0.8
            ELSE least(b.rate * 0.95, greatest(measured * 0.95, b.rate / 2)) END);
    ELSIF throttled AND (b.concurrency <= 4 OR stated_rate IS NOT NULL) THEN
        -- Refused although it is asked little at once: it counts requests per second. Then fewer at
        -- once is not what it wants.
        b.refused_rate := greatest(measured, 1);
        b.rate := b.refused_rate * 0.9;
        b.learning_until := at + interval '1 second';
        b.concurrency := least(b.ceiling, greatest(4, b.ceiling / 2));
    ELSE
        b.concurrency := greatest(1, b.concurrency / 2);
    END IF;
    IF throttled AND stated_rate IS NOT NULL AND stated_rate < b.rate THEN
        b.refused_rate := stated_rate;
        b.rate := stated_rate * 0.97;
        b.learning_until := NULL;
    END IF;
    IF b.rate < coalesce(was, 'infinity') * 0.8 THEN
        -- The window of a second is full of what came too fast: nothing passes until it has moved.
        b.paused_until := greatest(b.paused_until, at + interval '1 second');
    END IF;
    b.rate_at := at;
    b.eased_at := at;
    b.epoch := b.epoch + 1;
    RETURN b;
END
$$;

-- The lesson of time without a refusal, while requests had to wait for the rate.
CREATE FUNCTION probe_rate(b host_budget, at timestamptz) RETURNS host_budget
    LANGUAGE plpgsql SET search_path FROM CURRENT
AS $$
DECLARE
    elapsed double precision := extract(epoch FROM at - b.rate_at);
BEGIN
    b.rate_at := at;
    -- Demand below the rate proves nothing: nobody waits for the next slot then.
    IF coalesce(b.next_slot_at <= at, true) OR b.paused_until > at THEN
        RETURN b;
    END IF;
    b.rate := b.rate * exp(least(elapsed, 1) * CASE
        WHEN b.rate < b.refused_rate * 0.95 THEN 0.01
        WHEN b.rate < b.refused_rate * 1.1 THEN 0.0025
        ELSE 0.05 END);
    IF b.rate > b.refused_rate * 10 THEN
        -- Ten times what was once too much passes: that limit is gone.
        b.rate := NULL;
        b.refused_rate := NULL;
    END IF;
    RETURN b;
END
$$;

-- How many of ``places`` a process is due, so that nobody gets more than an equal share while
-- another asks for more; what nobody asks for is spread, so that it need not be asked for first.
CREATE FUNCTION due_share(of_host bytea, of_process uuid, places integer, at timestamptz)
    RETURNS integer
    LANGUAGE plpgsql STABLE SET search_path FROM CURRENT
AS $$
DECLARE
    claim record;
    remaining integer := places;
    claims integer;
    share integer := 0;
    due integer := 0;
BEGIN
    SELECT count(*) INTO claims FROM host_lease l WHERE l.host = of_host;
    FOR claim IN
        -- Who gets the odd place, or the only one, changes every two seconds.
        SELECT l.process, l.asks FROM host_lease l WHERE l.host = of_host
        ORDER BY l.asks,
            hashtextextended(l.process::text, floor(extract(epoch FROM at) / 2)::bigint)
    LOOP
        share := least(claim.asks, remaining / claims);
        remaining := remaining - share;
        claims := claims - 1;
        IF claim.process = of_process THEN
            due := share;
        END IF;
    END LOOP;
    SELECT count(*) INTO claims FROM host_lease l WHERE l.host = of_host;
    RETURN due + remaining / claims;
END
$$;

-- Reports what a process met at a host and renews its share. The lock on the host's row is held
-- for this one statement only, so a process that is stopped or slow makes nobody wait.
CREATE FUNCTION pace_host(
    of_host bytea, of_process uuid, start integer,
    asks integer,              -- requests under way or waiting
    holds integer,             -- requests under way
    allowed integer,           -- requests it may have had under way until now
    answered integer,          -- successes of the last second
    grown integer,             -- successes while all of its places were in use
    trouble text,              -- '', 'trouble' or 'throttled'
    trouble_epoch bigint,
    stated_rate double precision,
    pause_s double precision,
    slots_wanted integer,
    lease_s double precision,
    OUT places integer, OUT epoch bigint, OUT rate double precision,
    OUT slots integer, OUT first_slot_s double precision, OUT paused_s double precision
)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT
AS $$
DECLARE
    b host_budget;
    at timestamptz;
    measured double precision;
    others integer;
    waiting integer;
    first timestamptz;
BEGIN
    SELECT * INTO b FROM host_budget h WHERE h.host = of_host FOR UPDATE;
    IF NOT FOUND THEN
        -- A host that nobody asks any more is forgotten, so that the table does not grow for ever.
        DELETE FROM host_budget h WHERE h.used_at < now() - interval '90 days';
        INSERT INTO host_budget (host, concurrency, ceiling) VALUES (of_host, start, start)
        ON CONFLICT DO NOTHING;
        SELECT * INTO b FROM host_budget h WHERE h.host = of_host FOR UPDATE;
    END IF;
    -- After the lock: now() is the time before the wait for it.
    at := clock_timestamp();
    IF start <> b.ceiling THEN
        b.concurrency := CASE WHEN b.concurrency >= b.ceiling THEN start
            ELSE least(b.concurrency, start) END;
        b.ceiling := start;
    END IF;

    DELETE FROM host_lease l
    WHERE l.host = of_host AND l.expires_at < at AND l.process <> of_process;
    SELECT coalesce(sum(l.granted), 0), coalesce(sum(l.asks), 0),
           pace_host.answered + coalesce(
               sum(l.answered) FILTER (WHERE l.reported_at > at - interval '1 second'), 0)
    INTO others, waiting, measured
    FROM host_lease l WHERE l.host = of_host AND l.process <> of_process;

    IF trouble <> '' AND trouble_epoch = b.epoch THEN
        b := learn_from_trouble(b, trouble = 'throttled', stated_rate, measured, at);
    ELSIF grown > 0 AND asks + waiting >= floor(b.concurrency) THEN
        b.concurrency := least(b.ceiling,
            b.concurrency + least(b.concurrency, grown / b.concurrency));
    END IF;
    IF at < b.learning_until AND measured * 0.9 > b.rate THEN
        -- Others met the same limit and only now report what had passed.
        b.refused_rate := measured;
        b.rate := measured * 0.9;
    END IF;
    IF pause_s > 0 THEN
        b.paused_until := greatest(b.paused_until, at + make_interval(secs => pause_s));
    END IF;

    slots := 0;
    first_slot_s := 0;
    IF b.rate IS NOT NULL AND slots_wanted > 0 THEN
        b := probe_rate(b, at);
    END IF;
    IF b.rate IS NOT NULL AND slots_wanted > 0 THEN
        first := greatest(b.next_slot_at, b.paused_until, at);
        -- Nobody is promised a time far ahead: a lower rate or a new process must show soon.
        IF first < greatest(b.paused_until, at)
            + make_interval(secs => greatest(0.5, 2 / b.rate)) THEN
            SELECT least(slots_wanted, greatest(1, ceil(b.rate * 0.3 / (1 + count(*)))))
            INTO slots
            FROM host_lease l WHERE l.host = of_host AND l.process <> of_process AND l.asks > 0;
            first_slot_s := extract(epoch FROM first - at);
            b.next_slot_at := first + make_interval(secs => slots / b.rate);
        END IF;
    END IF;

    INSERT INTO host_lease AS l (host, process, asks, granted, answered, reported_at, expires_at)
    VALUES (of_host, of_process, asks, 0, answered, at, at + make_interval(secs => lease_s))
    ON CONFLICT (host, process) DO UPDATE SET asks = excluded.asks, answered = excluded.answered,
        reported_at = excluded.reported_at, expires_at = excluded.expires_at;
    places := floor(b.concurrency);
    places := greatest(0, least(due_share(of_host, of_process, places, at), places - others));
    -- Until its next report it may begin as many as it was allowed before this answer reached it.
    UPDATE host_lease l SET granted = greatest(places, holds, allowed)
    WHERE l.host = of_host AND l.process = of_process;

    UPDATE host_budget h SET concurrency = b.concurrency, ceiling = b.ceiling, epoch = b.epoch,
        eased_at = b.eased_at, rate = b.rate, refused_rate = b.refused_rate, rate_at = b.rate_at,
        learning_until = b.learning_until, next_slot_at = b.next_slot_at,
        paused_until = b.paused_until, used_at = at
    WHERE h.host = of_host;
    epoch := b.epoch;
    rate := b.rate;
    paused_s := coalesce(greatest(0, extract(epoch FROM b.paused_until - at)), 0);
END
$$;

-- Gives a process's share back at once.
CREATE FUNCTION leave_host(of_host bytea, of_process uuid) RETURNS void
    LANGUAGE sql SECURITY DEFINER SET search_path FROM CURRENT
AS $$
    DELETE FROM host_lease WHERE host = of_host AND process = of_process
$$;

REVOKE EXECUTE ON FUNCTION learn_from_trouble, probe_rate, due_share, pace_host, leave_host
    FROM PUBLIC;
GRANT EXECUTE ON FUNCTION pace_host, leave_host TO wharfinger_app;
