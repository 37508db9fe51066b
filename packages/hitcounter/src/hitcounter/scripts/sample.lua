#!lua flags=allow-oom
-- sample: take or renew the lease of the as-of publisher, and return the time of the oldest unsettled entry.
--
-- Every entry older than the sample is settled, and no entry will ever get an id below it. If the stream is empty, the
-- sample is the time of Redis, and the last id of the stream is raised to it. So a clock that is set back, or the clock
-- of a promoted replica, cannot give a later entry an id before the sample.
--
-- After a clock was set back, ids can be ahead of it. While the oldest entry is ahead of the clock, times and ids
-- cannot be compared: there is no sample, and an as-of ahead of the clock is withdrawn.
--
-- KEYS  1 stream  2 lease  3 as of
-- ARGV  1 name of the publisher  2 duration of the lease in milliseconds
-- Returns the sample in milliseconds, or false if another publisher has the lease or ids are ahead of the clock.

local holder = redis.call('GET', KEYS[2])
if holder and holder ~= ARGV[1] then
    return false
end
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])

local function ms_of(id)
    return tonumber(string.match(id, '^%d+'))
end

local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local oldest = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
if oldest then
    if ms_of(oldest[1]) <= now_ms then
        return ms_of(oldest[1])
    end
    if tonumber(redis.call('GET', KEYS[3]) or '0') > now_ms then
        redis.call('DEL', KEYS[3])
    end
    return false
end

-- An error means that there is no stream: nothing was ever accepted, or everything was deleted, including the as-of.
local stream = redis.pcall('XINFO', 'STREAM', KEYS[1])
for at = 1, #stream, 2 do
    if stream[at] == 'last-generated-id' and ms_of(stream[at + 1]) < now_ms then
        redis.call('XSETID', KEYS[1], string.format('%.0f-0', now_ms))
    end
end
return now_ms
