-- Entries of the tenant's outbox, newest first; the entry of this look itself comes after it.
--
-- ARGV  own: number below which the page lies ('' for the first), how many
-- Reply when the tenant was created (ms), the last number given out, a list of {stream id, {field, value, …}}

return operate(function(_, _, tenant)
  local below = ARGV[FIRST_ARG]
  local entries = redis.call('XREVRANGE', KEYS[3], below == '' and '+' or '(' .. below .. '-0', '-',
    'COUNT', ARGV[FIRST_ARG + 1])
  return 'ok', { redis.call('HGET', KEYS[1], 'created_at'), digits(tenant.seq), entries }
end)
