-- Store a new API key of the tenant.
--
-- KEYS  own: API keys, their index
-- ARGV  own: key id, then name, value, … of the record's fields
-- Codes key_id_taken
-- Reply created_at, username of the creator

return operate(function(caller, now, tenant)
  local keys, index, id = KEYS[FIRST_KEY], KEYS[FIRST_KEY + 1], ARGV[FIRST_ARG]
  if redis.call('HEXISTS', keys, id .. '.hash') == 1 then return 'key_id_taken' end
  local created_at = digits(now)
  redis.call('HSET', keys, id .. '.created_at', created_at, id .. '.username', caller.username, id .. '.last_used', '')
  for i = FIRST_ARG + 1, #ARGV, 2 do
    redis.call('HSET', keys, id .. '.' .. ARGV[i], ARGV[i + 1])
  end
  redis.call('ZADD', index, tenant.seq + 1, id)
  return 'ok', { created_at, caller.username }
end)
