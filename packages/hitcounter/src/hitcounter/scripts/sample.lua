#!lua flags=allow-oom
-- sample: take or keep the lease of the as-of publisher, and look at the oldest unsettled entry.
--
-- Every entry older than the sample is settled, and no entry will ever get an id below it. Where the stream is empty
-- the sample is Redis's own time, and the stream's last id is raised to it: then a clock that is set back, or the clock
-- of a replica that takes over, cannot give a later entry an id from before the sample.
--
-- Ids may run ahead of a clock that was set back. While the oldest entry does, nobody can say what was accepted before
-- which time: there is no sample, and an as-of that lies ahead of the clock is withdrawn.
--
-- KEYS  1 stream  2 lease  3 as of
-- ARGV  1 who asks  2 milliseconds the lease lasts
-- Returns the sample in milliseconds, or false where another one holds the lease or ids run ahead of the clock.

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

-- An error is the lack of a stream: nothing was ever accepted, or all was deleted, the as-of with it.
local stream = redis.pcall('XINFO', 'STREAM', KEYS[1])
for at = 1, #stream, 2 do
    if stream[at] == 'last-generated-id' and ms_of(stream[at + 1]) < now_ms then
        redis.call('XSETID', KEYS[1], string.format('%.0f-0', now_ms))
    end
end
return now_ms
