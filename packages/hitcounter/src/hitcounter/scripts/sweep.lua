#!lua flags=allow-oom
-- sweep: delete dead consumers: those that are silent for long and have no pending entries. It is one atomic step,
-- because deleting a consumer deletes its pending list, which must not change between check and deletion.
--
-- KEYS  1 stream
-- ARGV  1 group  2 milliseconds of silence
-- Returns the names of the deleted consumers.

local deleted = {}
if redis.call('EXISTS', KEYS[1]) == 0 then
    return deleted
end
for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
    local name, pending, idle_ms = consumer[2], consumer[4], consumer[6]
    if pending == 0 and idle_ms >= tonumber(ARGV[2]) then
        redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], name)
        deleted[#deleted + 1] = name
    end
end
return deleted
