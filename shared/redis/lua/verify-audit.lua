-- What the store knows of a tenant's trail: what was given out, what waits, what was set aside.
--
-- KEYS  own: quarantine
-- ARGV  own: how many waiting entries are looked at, newest first
-- Reply when the tenant was created (ms), the last number given out, quarantined numbers,
--       a list of {stream id, {field, value, …}}

return operate(function(_, _, tenant)
  return 'ok', { redis.call('HGET', KEYS[1], 'created_at'), digits(tenant.seq), redis.call('HKEYS', KEYS[FIRST_KEY]),
    redis.call('XREVRANGE', KEYS[3], '+', '-', 'COUNT', ARGV[FIRST_ARG]) }
end)
