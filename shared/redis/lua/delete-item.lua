-- Remove an item.
--
-- KEYS  own: item, shard's index of expiries
-- ARGV  own: If-Match, If-None-Match
-- Codes not_found precondition_failed

return operate(function()
  local failure = check_preconditions(ARGV[FIRST_ARG], ARGV[FIRST_ARG + 1])
  if failure then return failure end
  local version = redis.call('HGET', ITEM, 'version')
  redis.call('DEL', ITEM)
  redis.call('ZREM', EXPIRIES, ITEM)
  return 'ok', nil, tonumber(version)
end)
