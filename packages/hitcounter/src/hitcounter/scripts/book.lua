#!lua flags=allow-oom
-- book: add what an indexer did to the ledger. This is allowed while Redis is full, because autoscaling needs it then.
--
-- KEYS  1 ledger
-- ARGV  1 milliseconds that it was busy  2 hits that it settled  3 documents that Elasticsearch sent back

for at, field in ipairs({'busy_ms', 'busy_hits', 'pushed_back'}) do
    if ARGV[at] ~= '0' then
        redis.call('HINCRBY', KEYS[1], field, ARGV[at])
    end
end
return 1
