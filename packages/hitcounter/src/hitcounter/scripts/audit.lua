#!lua flags=no-writes,allow-oom
-- audit: add up the hits of some entries. This runs in Redis so that payloads are not transferred: they would need as
-- much memory in the client and in the output buffers of Redis as the entries have bytes.
--
-- KEYS  1 stream
-- ARGV  1 id to start after, or - for the beginning  2 maximum number of entries  3 bytes after which to stop
-- Returns the hits, and the id to continue after, or false at the end of the stream.

local hits, bytes, start, last = 0, 0, ARGV[1], false
if start ~= '-' then
    start = '(' .. start
end
for _ = 1, tonumber(ARGV[2]) do
    -- One at a time, because the size of the next entry is not known.
    local entry = redis.call('XRANGE', KEYS[1], start, '+', 'COUNT', 1)[1]
    if not entry then
        return {hits, false}
    end
    for at = 1, #entry[2], 2 do
        local field, value = entry[2][at], entry[2][at + 1]
        bytes = bytes + #value
        -- As in records.py: others can write to the stream, and hitcounter never writes more digits than these.
        if field == 'hits' and #value <= 6 and string.match(value, '^%d+$') then
            hits = hits + tonumber(value)
        end
    end
    last = entry[1]
    start = '(' .. last
    if bytes >= tonumber(ARGV[3]) then
        break
    end
end
return {hits, last}
