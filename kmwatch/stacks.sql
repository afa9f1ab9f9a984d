-- Events to their stacks: how many of each key have each. The tables are those of ledger.sql.
SELECT
    key,
    stack,
    count(*) AS count
FROM events
JOIN chosen_keys USING (key)
LEFT JOIN chosen_tasks USING (task)
WHERE time >= $first AND time < $end AND stack != 0
  AND ($every_task OR shown IS NOT NULL)
GROUP BY ALL
