-- Events to their stacks: how many of each key have each. The tables are those of ledger.sql.
SELECT
    key,
    stack,
    count(*) AS count
FROM events
JOIN chosen_keys USING (key)
WHERE stack != 0 AND shown IS NOT NULL
GROUP BY ALL
