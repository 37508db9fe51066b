#!lua flags=allow-oom
-- publish: make a sample the published as-of, if the publisher still holds its lease.
-- One that slept after its sample must not set back what its successor has published.
--
-- KEYS  1 lease  2 as of
-- ARGV  1 who publishes  2 the sample in milliseconds
-- Returns 1 if it was published.

if redis.call('GET', KEYS[1]) ~= ARGV[1] then
    return 0
end
redis.call('SET', KEYS[2], ARGV[2])
return 1
