-- Events to rows of the ledger: the one place where single events are added up.
--
-- `events` are those of a capture that happened in the span wanted, as docs/capture-format.md describes them, with the
-- task that each is `shown` as: NULL where it is not wanted. `chosen_keys` are the keys that are wanted, each with the
-- binary logarithm of an eighth of its size class. `slice` is which stretch of $length nanoseconds from $origin on the
-- events are in; where $length is 0, that is 0 for all.
--
-- Events of one key and one size are counted first, since there are many of each; what is left is little work. `counted`
-- are those that their file has counted already, where that is all that is asked: they are not in `events`.
WITH alike AS (
    SELECT
        key,
        requested,
        shown AS task,
        CASE WHEN $length > 0 THEN (time - $origin) // $length ELSE 0 END AS slice,
        count(*) AS count
    FROM events
    WHERE shown IS NOT NULL
    GROUP BY ALL
    UNION ALL
    SELECT
        key,
        requested,
        task,
        slice,
        count
    FROM counted
)
SELECT
    key,
    task,
    ((requested - 1) >> eighth_shift) & 7 AS eighth,
    slice,
    sum(count)::BIGINT AS count,
    sum(count * requested)::BIGINT AS bytes_requested,
    min(requested) AS min_request,
    max(requested) AS max_request
FROM alike
JOIN chosen_keys USING (key)
GROUP BY ALL
