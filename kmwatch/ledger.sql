-- Events to rows of the ledger: the one place where single events are added up.
--
-- `events` are those of a capture, as docs/capture-format.md describes them. `chosen_keys` are the keys that are wanted,
-- each with the binary logarithm of an eighth of its size class. `chosen_tasks` are the tasks that are wanted, each with
-- the one that it is shown as; where all are wanted and shown as one, it is empty, and `every_task` true. `slice` is which
-- stretch of $length nanoseconds from $origin on the events are in.
SELECT
    key,
    coalesce(shown, 0) AS task,
    ((requested - 1) >> eighth_shift) & 7 AS eighth,
    (time - $origin) // $length AS slice,
    count(*) AS count,
    sum(requested)::BIGINT AS bytes_requested,
    min(requested) AS min_request,
    max(requested) AS max_request
FROM events
JOIN chosen_keys USING (key)
LEFT JOIN chosen_tasks USING (task)
WHERE time >= $first AND time < $end
  AND ($every_task OR shown IS NOT NULL)
GROUP BY ALL
