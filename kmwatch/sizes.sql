-- Events to the sizes that were asked for: how often each, by key. The tables are those of ledger.sql.
SELECT
    key,
    requested,
    count(*) AS count
FROM events
JOIN chosen_keys USING (key)
LEFT JOIN chosen_tasks USING (task)
WHERE time >= $first AND time < $end
  AND ($every_task OR shown IS NOT NULL)
GROUP BY ALL
