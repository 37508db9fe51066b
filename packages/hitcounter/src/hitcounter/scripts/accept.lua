#!lua
-- accept: add one entry to the stream and count its hits in the ledger, once per (producer, sequence). Idempotent.
--
-- The line above has no allow-oom, so Redis refuses the whole script while it is full, before anything is changed.
-- Redis does not roll back a script. So keys that are written last are read first: if one has a wrong type, the script
-- fails before any change. XADD is the first write: an audit can detect an entry that is not counted, but a counted hit
-- without an entry would never arrive.
--
-- KEYS  1 stream  2 ledger  3 last sequence of this producer
-- ARGV  1 payload  2 number of hits  3 sequence  4 milliseconds to keep the sequence
-- Returns 1 if the entry was added, 0 if this batch was accepted before.

local sequence = tonumber(ARGV[3])
local last = tonumber(redis.call('GET', KEYS[3]) or '0')

if sequence == last then
    -- This is a write, so that a WAITAOF after it on a new connection also waits for the write of the first attempt.
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
