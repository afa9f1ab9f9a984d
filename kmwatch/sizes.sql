-- Events to the sizes that were asked for: how often each, by key, though not always in one row. The tables are those of
-- ledger.sql.
SELECT
    key,
    requested,
    count(*) AS count
FROM events
JOIN chosen_keys USING (key)
WHERE shown IS NOT NULL
GROUP BY ALL
UNION ALL
SELECT
    key,
    requested,
    count
FROM counted
JOIN chosen_keys USING (key)
