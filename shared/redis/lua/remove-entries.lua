-- Take entries out of a tenant's outbox, because Loki has them.
--
-- KEYS  1 outbox   2 shard's pending tenants   3 shard's backlog
-- ARGV  1 tenant id   then sequence numbers, 1000 at most
-- Reply how many were there

local ids = {}
for i = 2, #ARGV do
  ids[#ids + 1] = ARGV[i] .. '-0'
end
return settle(ids)
