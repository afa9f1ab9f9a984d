-- Allocations to what became of them, by key: each event is paired with the next one about the same object.
--
-- `events` are those of ledger.sql. `moves` are the keys that hand out an object or take it back (`release`), whether by
-- address or by page frame number (`page`), and whether their allocations are wanted. Pointers come in `$parts` shares, of
-- which this is one: memory is bounded by a share, and each object is in one of them.
WITH moved AS (
    SELECT
        key, page, ptr, release, time, cpu, requested,
        wanted AND shown IS NOT NULL AS counted
    FROM events
    JOIN moves USING (key)
    WHERE ptr != 0 AND ptr % $parts::UBIGINT = $part::UBIGINT
),
followed AS (
    SELECT
        *,
        lead(release) OVER next AS released,
        lead(time, 1, $at::BIGINT) OVER next AS until,
        lead(cpu) OVER next AS last_cpu
    FROM moved
    -- At one time on two CPUs: what is handed out was given back before.
    WINDOW next AS (PARTITION BY page, ptr ORDER BY time, release DESC, cpu, key)
)
SELECT
    key,
    CASE WHEN released IS NULL THEN $held WHEN released THEN $released ELSE $unseen END::UTINYINT AS fate,
    -- As bucket_of() of kmwatch/held.py has it.
    least(floor(log2(greatest((until - time) >> 7, 1))), $last_bucket)::INTEGER AS bucket,
    coalesce(released AND cpu != last_cpu, false) AS elsewhere,
    count(*) AS count,
    sum(requested)::BIGINT AS requested
FROM followed
WHERE counted AND NOT release
GROUP BY ALL
