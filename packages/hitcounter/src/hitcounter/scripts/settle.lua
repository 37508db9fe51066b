#!lua flags=allow-oom
-- settle: acknowledge, delete and book entries whose hits have all found their end. Allowed while Redis is full: it
-- is what makes room.
--
-- Each entry is acknowledged first, and only if that acknowledged something is the rest done: an entry that another
-- indexer has settled meanwhile books nothing a second time. A script is not rolled back, so what is to be written to
-- is looked at before anything is: a key of another type is an error, and nothing was done.
--
-- KEYS  1 stream  2 ledger  3 dead letters
-- ARGV  1 group, then for each entry:
--       entry id, hits indexed, hits duplicate, hits dead, number of dead letters, and for each dead letter:
--       reason, detail, number of hits, positions, payload
-- Returns the ids of the entries that this call settled.

local at = 1
local function take()
    at = at + 1
    return ARGV[at]
end

redis.call('HMGET', KEYS[2], 'dead')
redis.call('XLEN', KEYS[3])

local settled, totals = {}, {indexed = 0, duplicate = 0, dead = 0}
while at < #ARGV do
    local entry, indexed, duplicate, dead, letters = take(), take(), take(), take(), tonumber(take())
    local is_ours = redis.call('XACK', KEYS[1], ARGV[1], entry) == 1
    for _ = 1, letters do
        local reason, detail, hits, positions, payload = take(), take(), take(), take(), take()
        if is_ours then
            redis.call('XADD', KEYS[3], '*', 'entry', entry, 'reason', reason, 'detail', detail,
                'hits', hits, 'positions', positions, 'batch', payload)
        end
    end
    if is_ours then
        redis.call('XDEL', KEYS[1], entry)
        totals.indexed = totals.indexed + indexed
        totals.duplicate = totals.duplicate + duplicate
        totals.dead = totals.dead + dead
        settled[#settled + 1] = entry
    end
end
-- One sum for all of them: each command here goes into the append-only file and to the replicas by itself.
for _, field in ipairs({'indexed', 'duplicate', 'dead'}) do
    if totals[field] ~= 0 then
        redis.call('HINCRBY', KEYS[2], field, totals[field])
    end
end
return settled
