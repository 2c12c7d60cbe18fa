-- Create a tenant.
--
-- KEYS  1 tenant
-- ARGV  1 tenant id
-- Codes already_exists (this tenant, or another one with the same tag)

if redis.call('EXISTS', KEYS[1]) == 1 then return { 'already_exists', '' } end
redis.call('HSET', KEYS[1], 'id', ARGV[1], 'status', 'active', 'created_at', digits(now_ms()), 'seq', 0, 'at', 0)
return { 'ok', ARGV[1] }
