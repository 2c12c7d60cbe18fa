-- Remove an item.
--
-- KEYS  own: item, shard's index of expiries
-- ARGV  own: If-Match ('' for none, '*', or ',revision,revision,')
-- Codes not_found precondition_failed

return operate(function()
  local failure = check_precondition(ARGV[FIRST_ARG])
  if failure then return failure end
  local version = redis.call('HGET', ITEM, 'version')
  redis.call('DEL', ITEM)
  redis.call('ZREM', EXPIRIES, ITEM)
  return 'ok', nil, tonumber(version)
end)
