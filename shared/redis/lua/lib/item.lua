-- Shared by the scripts that change an item. Put between operation.lua and the script when it is loaded.
--
-- KEYS  own: item, shard's index of expiries, whose members are names of items

local ITEM, EXPIRIES = KEYS[FIRST_KEY], KEYS[FIRST_KEY + 1]

-- Write value, metadata and ttl from the operation's first three arguments; item and expiry appear together.
-- The revision is the sequence number of the change, so a tenant never uses one twice.
local function write_item(now, tenant, created_at, version)
  local value, metadata, ttl = ARGV[FIRST_ARG], ARGV[FIRST_ARG + 1], ARGV[FIRST_ARG + 2]
  local expires_at = ttl ~= '' and digits(now + ttl * 1000) or ''
  local updated_at, revision = digits(now), digits(tenant.seq + 1)
  redis.call('HSET', ITEM, 'value', value, 'metadata', metadata, 'ttl', ttl, 'created_at', created_at,
    'updated_at', updated_at, 'expires_at', expires_at, 'version', version, 'revision', revision)
  if ttl == '' then
    redis.call('PERSIST', ITEM)
    redis.call('ZREM', EXPIRIES, ITEM)
  else
    redis.call('PEXPIREAT', ITEM, expires_at)
    redis.call('ZADD', EXPIRIES, expires_at, ITEM)
  end
  return { created_at, updated_at, expires_at, digits(version), revision }
end

-- Why an item cannot be changed, nil when it can. RFC 9110, 13.2.1: a missing item is 404 before any precondition.
--   if_match, if_none_match: '' for none, '*', or ',revision,revision,'
local function check_preconditions(if_match, if_none_match)
  local revision = redis.call('HGET', ITEM, 'revision')
  if not revision then return 'not_found' end
  local function names_it(tags)
    return tags == '*' or string.find(tags, ',' .. revision .. ',', 1, true) ~= nil
  end
  if if_match ~= '' and not names_it(if_match) then return 'precondition_failed' end
  if names_it(if_none_match) then return 'precondition_failed' end
  return nil
end
