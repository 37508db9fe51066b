#!lua flags=no-writes,allow-oom
-- status: a consistent snapshot of ledger, stream and as-of. It is a script and not a transaction, because Redis 7.0
-- refuses every command of a transaction while it is full, and then the status is needed most.
--
-- KEYS  1 stream  2 ledger  3 as of
-- ARGV  1 group, then the fields of the ledger
-- Returns the counters, the number of entries, the id of the oldest, the as-of, Redis's time in milliseconds, the
-- number of entries in flight, and the number of consumers.

local oldest = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
local time = redis.call('TIME')
local in_flight, consumers = 0, 0
-- An error means that there is no stream yet, or no permission to read it: then all entries count as queued.
local groups = redis.pcall('XINFO', 'GROUPS', KEYS[1])
for _, group in ipairs(groups.err and {} or groups) do
    local found = {}
    for at = 1, #group, 2 do
        found[group[at]] = group[at + 1]
    end
    if found.name == ARGV[1] then
        in_flight, consumers = found.pending, found.consumers
    end
end
return {
    redis.call('HMGET', KEYS[2], unpack(ARGV, 2)),
    redis.call('XLEN', KEYS[1]),
    oldest and oldest[1] or false,
    redis.call('GET', KEYS[3]),
    time[1] * 1000 + math.floor(time[2] / 1000),
    in_flight,
    consumers,
}
