#!lua flags=allow-oom
-- leave: delete a consumer, but only if it has no pending entries, because its pending list would be deleted, too.
--
-- KEYS  1 stream
-- ARGV  1 group  2 consumer
-- Returns 1 if the consumer is deleted, 0 if it has pending entries.

if #redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 1, ARGV[2]) > 0 then
    return 0
end
redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2])
return 1
