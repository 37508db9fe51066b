#!lua flags=allow-oom
-- group: create the stream and its consumer group if they are missing. The group starts at the first entry. This is
-- allowed while Redis is full, because an indexer that starts then will free memory.
--
-- KEYS  1 stream
-- ARGV  1 group
-- Returns 1 if the group was created, 0 if it existed.

local answer = redis.pcall('XGROUP', 'CREATE', KEYS[1], ARGV[1], '0', 'MKSTREAM')
if not answer.err then
    return 1
end
return string.find(answer.err, '^BUSYGROUP') and 0 or answer
