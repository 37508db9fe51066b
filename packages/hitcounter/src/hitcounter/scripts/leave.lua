#!lua flags=allow-oom
-- leave: delete a consumer, but only one with nothing pending: deleting a consumer deletes its pending list too.
--
-- KEYS  1 stream
-- ARGV  1 group  2 consumer
-- Returns 1 if the consumer is gone, 0 if entries of it are pending.

if #redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 1, ARGV[2]) > 0 then
    return 0
end
redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2])
return 1
