#!lua flags=allow-oom
-- group: create the stream and its consumer group where they are missing, from the stream's first entry on. Allowed
-- while Redis is full: an indexer that starts only then is what will make room.
--
-- KEYS  1 stream
-- ARGV  1 group
-- Returns 1 if the group was created, 0 if it was there.

local answer = redis.pcall('XGROUP', 'CREATE', KEYS[1], ARGV[1], '0', 'MKSTREAM')
if not answer.err then
    return 1
end
return string.find(answer.err, '^BUSYGROUP') and 0 or answer
