-- Shared by every authenticated operation: authenticate, authorize, run, stamp and audit, in one atomic step.
-- Put between outbox.lua and the script when it is loaded.
--
-- KEYS  1 tenant   2 credentials: the tenant's users or API keys   3 outbox   4 pending   5 backlog
--       6 for API keys only: what is kept of this key after its deletion
--       then the operation's own, from KEYS[FIRST_KEY]
-- ARGV  1 'user' or 'api_key'   2 tenant id (users; '' for API keys, whose tenant the KEYS say)
--       3 id of the user or key
--       4 users: token epoch. API keys: ' <pepper>:<hash>' for each pepper, the current one first
--       5 users: ',role,role,' that may. API keys: the scope that is needed, '' when keys are not accepted
--       6 entries that the outbox holds at most   7 the caller's part of the audit entry, JSON
--       then the operation's own, from ARGV[FIRST_ARG]
--
-- Every operation answers {code, tenant id or '', reply, what append answered}. Codes besides 'ok' and the operation's own:
--   tenant_unknown user_unknown user_disabled token_revoked tenant_suspended
--   key_unknown key_mismatch key_deleted key_disabled key_expired insufficient_scope outbox_full
-- Without an entry in the trail remain: outbox_full, where there is no room, and tenant_unknown, key_unknown and
-- key_mismatch, which anybody could produce without ever having had a credential.

local FIRST_KEY = ARGV[1] == 'api_key' and 7 or 6
local FIRST_ARG = 8

-- Equal or not, in a time that does not depend on where they differ.
local function same(a, b)
  if #a ~= #b then return false end
  local difference = 0
  for i = 1, #a do
    difference = bit.bor(difference, bit.bxor(string.byte(a, i), string.byte(b, i)))
  end
  return difference == 0
end

local function hash_under(pepper)
  return string.match(ARGV[4], ' ' .. pepper .. ':(%S+)')
end

-- Each returns who it is (nil when that is not proven) and the reason why not, nil when allowed.
local function authenticate_user(tenant)
  local id = ARGV[3]
  local username, role, disabled, epoch = unpack(redis.call('HMGET', KEYS[2],
    id .. '.username', id .. '.role', id .. '.disabled', id .. '.epoch'))
  local caller = { actor = 'user:' .. id, username = username or '' }
  if not username then return caller, 'user_unknown' end
  if disabled == '1' then return caller, 'user_disabled' end
  if epoch ~= ARGV[4] then return caller, 'token_revoked' end
  if tenant.status ~= 'active' then return caller, 'tenant_suspended' end
  if not string.find(ARGV[5], ',' .. role .. ',', 1, true) then return caller, 'insufficient_scope' end
  return caller, nil
end

local function authenticate_api_key(tenant, now)
  local id = ARGV[3]
  local hash, pepper, username, disabled, expires_at, scopes = unpack(redis.call('HMGET', KEYS[2],
    id .. '.hash', id .. '.pepper', id .. '.username', id .. '.disabled', id .. '.expires_at', id .. '.scopes'))
  local deleted = not hash
  if deleted then
    hash, pepper, username = unpack(redis.call('HMGET', KEYS[6], 'hash', 'pepper', 'username'))
    if not hash then return nil, 'key_unknown' end
  end
  local sent = hash_under(pepper)
  if not sent or not same(sent, hash) then return nil, 'key_mismatch' end

  local caller = { actor = 'api_key:' .. id, username = username }
  if deleted then return caller, 'key_deleted' end
  redis.call('HSET', KEYS[2], id .. '.last_used', digits(now))
  local current, current_hash = string.match(ARGV[4], '^ ([^:]+):(%S+)')
  if pepper ~= current then
    redis.call('HSET', KEYS[2], id .. '.pepper', current, id .. '.hash', current_hash)
  end
  if disabled == '1' then return caller, 'key_disabled' end
  if expires_at ~= '' and tonumber(expires_at) <= now then return caller, 'key_expired' end
  if tenant.status ~= 'active' then return caller, 'tenant_suspended' end
  if ARGV[5] == '' or not string.find(' ' .. scopes .. ' ', ' ' .. ARGV[5] .. ' ', 1, true) then
    return caller, 'insufficient_scope'
  end
  return caller, nil
end

-- Run an operation for its caller.
--   run(caller, now, tenant) -> code ('ok' or why it failed), reply, version of the item for the audit entry
local function operate(run)
  local tenant = read_tenant()
  local is_user = ARGV[1] == 'user'
  if not tenant or (is_user and tenant.id ~= ARGV[2]) then return { 'tenant_unknown', '' } end

  local now = now_ms()
  local caller, reason
  if is_user then
    caller, reason = authenticate_user(tenant)
  else
    caller, reason = authenticate_api_key(tenant, now)
  end
  if not caller then return { reason, tenant.id } end
  if outbox_is_full(ARGV[6]) then return { reason or 'outbox_full', tenant.id } end

  local outcome, reply, version = 'denied', nil, nil
  if not reason then
    reason, reply, version = run(caller, now, tenant)
    outcome = reason == 'ok' and 'success' or 'failure'
  end
  local appended = append(tenant, { at = now, outcome = outcome, reason = reason == 'ok' and '' or reason,
    actor = caller.actor, username = caller.username, context = ARGV[7], version = version })
  return { reason, tenant.id, reply or false, appended }
end
