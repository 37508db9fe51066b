#!lua flags=no-writes,allow-oom
-- status: a consistent snapshot of ledger, stream and as-of. It is a script and not a transaction, because Redis 7.0
-- refuses every command of a transaction while it is full, and then the status is needed most.
--
-- KEYS  1 stream  2 ledger  3 as of
-- ARGV  1 group, then the fields of the ledger
-- Returns the counters, the number of entries, the id of the oldest, the as-of, Redis's time in milliseconds, and the
-- number of entries in flight.

local oldest = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
local time = redis.call('TIME')
-- An error means that there is no group yet, or no permission to read it: then all entries count as queued.
local pending = redis.pcall('XPENDING', KEYS[1], ARGV[1])
return {
    redis.call('HMGET', KEYS[2], unpack(ARGV, 2)),
    redis.call('XLEN', KEYS[1]),
    oldest and oldest[1] or false,
    redis.call('GET', KEYS[3]),
    time[1] * 1000 + math.floor(time[2] / 1000),
    pending.err and 0 or pending[1],
}
