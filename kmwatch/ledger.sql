-- Events to rows of the ledger: the one place where single events are added up.
--
-- `events` are those of a capture, as docs/capture-format.md describes them. `chosen_keys` are the keys that are wanted,
-- each with the binary logarithm of an eighth of its size class. `chosen_tasks` are the tasks wanted.
SELECT
    key,
    CASE WHEN $by_task THEN task ELSE 0 END AS task,
    ((requested - 1) >> eighth_shift) & 7 AS eighth,
    count(*) AS count,
    sum(requested)::BIGINT AS bytes_requested,
    min(requested) AS min_request,
    max(requested) AS max_request
FROM events
JOIN chosen_keys USING (key)
WHERE time >= $first AND time < $end
  AND ($every_task OR task IN (SELECT task FROM chosen_tasks))
GROUP BY ALL
