#!lua
-- replay: move a dead letter back into the stream, with its positions, and its hits from dead to backlog. Redis does
-- not roll back a script, so the key that is written last is read first: otherwise a ledger of a wrong type would leave
-- the letter in both streams.
--
-- KEYS  1 stream  2 ledger  3 dead letters
-- ARGV  1 id of the dead letter
-- Returns 1 if it was moved, 0 if it does not exist.

local letter = redis.call('XRANGE', KEYS[3], ARGV[1], ARGV[1])[1]
if not letter then
    return 0
end
local fields = {}
for at = 1, #letter[2], 2 do
    fields[letter[2][at]] = letter[2][at + 1]
end
redis.call('HMGET', KEYS[2], 'dead')
redis.call('XADD', KEYS[1], '*', 'batch', fields['batch'], 'hits', fields['hits'], 'positions', fields['positions'])
redis.call('HINCRBY', KEYS[2], 'dead', -tonumber(fields['hits']))
redis.call('HINCRBY', KEYS[2], 'replayed', fields['hits'])
redis.call('XDEL', KEYS[3], ARGV[1])
return 1
