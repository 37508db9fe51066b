#!lua
-- accept: add one entry to the stream and book its hits, once per (producer, sequence).
--
-- Without allow-oom in the line above, Redis refuses the whole script while it is full, before anything is done.
-- A script is not rolled back, so what is written to last is looked at first: a key of another type is an error, and
-- nothing was done. XADD comes first of the writes: an entry without its booking can be seen by an audit, a booking
-- without its entry would be a hit that never arrives.
--
-- KEYS  1 stream  2 ledger  3 last sequence of this producer
-- ARGV  1 payload  2 number of hits  3 sequence  4 milliseconds to remember the sequence
-- Returns 1 if the entry was added, 0 if this batch had been accepted before.

local sequence = tonumber(ARGV[3])
local last = tonumber(redis.call('GET', KEYS[3]) or '0')

if sequence == last then
    -- A write, so that a WAITAOF behind it on a new connection waits for the first attempt's write, too.
    redis.call('PEXPIRE', KEYS[3], ARGV[4])
    return 0
end
if sequence < last then
    return redis.error_reply('STALESEQUENCE batch ' .. ARGV[3] .. ' came after batch ' .. last)
end

redis.call('HMGET', KEYS[2], 'accepted')
redis.call('XADD', KEYS[1], '*', 'batch', ARGV[1], 'hits', ARGV[2])
redis.call('SET', KEYS[3], ARGV[3], 'PX', ARGV[4])
redis.call('HINCRBY', KEYS[2], 'accepted', ARGV[2])
return 1
