-- What this database has been brought to.

-- name: applied_migrations
-- A process newer than its schema must not serve.
select migration_id as id from _yoyo_migration;
