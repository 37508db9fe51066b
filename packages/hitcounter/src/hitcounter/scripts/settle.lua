#!lua flags=allow-oom
-- settle: acknowledge, delete and count entries whose hits are all done. This is allowed while Redis is full, because
-- it frees memory.
--
-- Each entry is acknowledged first. The rest happens only if this acknowledged it, so that an entry that another
-- indexer has settled meanwhile is not counted twice. Redis does not roll back a script. So all keys are read before
-- any is written: if one has a wrong type, the script fails before any change.
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
-- One sum for all entries: each command is written to the append-only file and sent to the replicas separately.
for _, field in ipairs({'indexed', 'duplicate', 'dead'}) do
    if totals[field] ~= 0 then
        redis.call('HINCRBY', KEYS[2], field, totals[field])
    end
end
return settled
