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
--       6 entries that the outbox holds at most   7 when it is full: 'refuse', or 'continue' without an entry
--       8 the caller's part of the audit entry, JSON
--       then the operation's own, from ARGV[FIRST_ARG]
--
-- Every operation answers {code, tenant id or '', reply, what append answered, how many entries were left out}.
-- Codes besides 'ok' and the operation's own:
--   tenant_unknown user_unknown user_disabled token_revoked tenant_suspended
--   key_unknown key_mismatch key_deleted key_disabled key_expired insufficient_scope outbox_full
-- Without an entry in the trail remain: outbox_full, where there is no room; with 'continue' what finds no room and is
-- carried out nevertheless, which leaves a gap in the numbers; tenant_unknown, user_unknown, key_unknown and
-- key_mismatch, which nobody is there to answer for; and what a dead credential is used for beyond DENIALS.

-- A credential that is dead (deleted, disabled, expired, revoked, suspended) leaves this many entries a minute at most:
-- whoever still holds it must not be able to fill the tenant's outbox.
local DENIALS, DENIALS_WINDOW = 20, 60000

local FIRST_KEY = ARGV[1] == 'api_key' and 7 or 6
local FIRST_ARG = 9

-- For append and record_expiry: where to leave entries out. With 'refuse' an operation that was let in is written.
local LEAVE_OUT = ARGV[7] == 'continue' and ARGV[6] or nil

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

-- Count a denial in the fields of a credential's hash; answers whether it still gets an entry.
local function has_room_for_denial(hash, prefix, now)
  local since, count = unpack(redis.call('HMGET', hash, prefix .. 'denied_since', prefix .. 'denied_count'))
  if not since or now - since >= DENIALS_WINDOW then
    redis.call('HSET', hash, prefix .. 'denied_since', digits(now), prefix .. 'denied_count', 1)
    return true
  end
  if tonumber(count) >= DENIALS then return false end
  redis.call('HINCRBY', hash, prefix .. 'denied_count', 1)
  return true
end

-- Each returns who it is (nil when that is not proven or has had its denials) and the reason why not, nil when allowed.
local function authenticate_user(tenant, now)
  local id = ARGV[3]
  local username, role, disabled, epoch = unpack(redis.call('HMGET', KEYS[2],
    id .. '.username', id .. '.role', id .. '.disabled', id .. '.epoch'))
  if not username then return nil, 'user_unknown' end
  local caller = { actor = 'user:' .. id, username = username }
  local dead = disabled == '1' and 'user_disabled'
    or epoch ~= ARGV[4] and 'token_revoked'
    or tenant.status ~= 'active' and 'tenant_suspended'
  if dead then return has_room_for_denial(KEYS[2], id .. '.', now) and caller or nil, dead end
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
  if deleted then return has_room_for_denial(KEYS[6], '', now) and caller or nil, 'key_deleted' end
  redis.call('HSET', KEYS[2], id .. '.last_used', digits(now))
  local current, current_hash = string.match(ARGV[4], '^ ([^:]+):(%S+)')
  if pepper ~= current then
    redis.call('HSET', KEYS[2], id .. '.pepper', current, id .. '.hash', current_hash)
  end
  local dead = disabled == '1' and 'key_disabled'
    or expires_at ~= '' and tonumber(expires_at) <= now and 'key_expired'
    or tenant.status ~= 'active' and 'tenant_suspended'
  if dead then return has_room_for_denial(KEYS[2], id .. '.', now) and caller or nil, dead end
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
    caller, reason = authenticate_user(tenant, now)
  else
    caller, reason = authenticate_api_key(tenant, now)
  end
  if not caller then return { reason, tenant.id } end
  if not LEAVE_OUT and outbox_is_full(ARGV[6]) then return { reason or 'outbox_full', tenant.id } end

  local outcome, reply, version = 'denied', nil, nil
  if not reason then
    reason, reply, version = run(caller, now, tenant)
    outcome = reason == 'ok' and 'success' or 'failure'
  end
  local appended = append(tenant, { at = now, outcome = outcome, reason = reason == 'ok' and '' or reason,
    actor = caller.actor, username = caller.username, context = ARGV[8], version = version },
    LEAVE_OUT)
  return { reason, tenant.id, reply or false, appended, unaudited }
end
