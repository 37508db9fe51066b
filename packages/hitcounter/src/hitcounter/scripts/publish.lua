#!lua flags=allow-oom
-- publish: make a sample the published as-of, unless a later one is already published: an indexer that was suspended
-- after its sample must not move it back. A published as-of ahead of the clock is from before the clock was set back,
-- and is replaced.
--
-- KEYS  1 as of
-- ARGV  1 the sample in milliseconds
-- Returns 1 if it was published.

local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local published = tonumber(redis.call('GET', KEYS[1]) or '0')
if published > tonumber(ARGV[1]) and published <= now_ms then
    return 0
end
redis.call('SET', KEYS[1], ARGV[1])
return 1
