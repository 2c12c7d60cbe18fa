-- Decide a login whose password has been checked, and leave its audit entry.
--
-- KEYS  1 tenant   2 users   3 outbox   4 pending   5 backlog
-- ARGV  1 user id   2 the epoch that was read with the password hash   3 '1' when the password matched
--       4 a new password hash, '' to keep the stored one   5 entries that the outbox holds at most
--       6 when it is full: 'refuse', or 'continue' without an entry
--       7, 8 the caller's part of the audit entry (JSON) for success and for failure
-- Codes tenant_unknown outbox_full user_unknown wrong_password (or changed meanwhile: that starts a new epoch)
--       user_disabled tenant_suspended
-- Reply role, epoch; then what append answered, and how many entries were left out

local tenant = read_tenant()
if not tenant then return { 'tenant_unknown', '' } end
local leave_out = ARGV[6] == 'continue' and ARGV[5] or nil
if not leave_out and outbox_is_full(ARGV[5]) then return { 'outbox_full', tenant.id } end

local id = ARGV[1]
local username, role, disabled, epoch = unpack(redis.call('HMGET', KEYS[2],
  id .. '.username', id .. '.role', id .. '.disabled', id .. '.epoch'))

local code = 'ok'
if not username then
  code = 'user_unknown'
elseif ARGV[3] ~= '1' or epoch ~= ARGV[2] then
  code = 'wrong_password'
elseif disabled == '1' then
  code = 'user_disabled'
elseif tenant.status ~= 'active' then
  code = 'tenant_suspended'
elseif ARGV[4] ~= '' then
  redis.call('HSET', KEYS[2], id .. '.password', ARGV[4])
end

local success = code == 'ok'
local appended = append(tenant, { at = now_ms(), outcome = success and 'success' or 'denied', reason = success and '' or code,
  actor = 'user:' .. id, username = username or '', context = success and ARGV[7] or ARGV[8] },
  leave_out)
return { code, tenant.id, { role or '', epoch or '' }, appended, unaudited }
