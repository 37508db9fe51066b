#!lua flags=allow-oom
-- sample: take or keep the lease of the as-of publisher, and look at the oldest unsettled entry.
--
-- Every entry older than the sample is settled. Where the stream is empty the sample is Redis's own time; it is never
-- later than that time, for entry ids may run ahead of a clock that was set back.
--
-- KEYS  1 stream  2 lease
-- ARGV  1 who asks  2 milliseconds the lease lasts
-- Returns the sample in milliseconds, or false where another one holds the lease.

local holder = redis.call('GET', KEYS[2])
if holder and holder ~= ARGV[1] then
    return false
end
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])

local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local oldest = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
if oldest then
    return math.min(now_ms, tonumber(string.match(oldest[1], '^%d+')))
end
return now_ms
