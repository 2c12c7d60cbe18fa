-- Take entries out of a tenant's outbox, because Loki has them.
--
-- KEYS  1 outbox   2 shard's pending tenants   3 shard's backlog
-- ARGV  1 tenant id   then stream ids, 1000 at most
-- Reply how many were there

return settle(2, #ARGV)
