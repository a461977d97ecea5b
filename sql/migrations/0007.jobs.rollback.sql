drop table pgqueuer;
drop table pgqueuer_log;
drop table pgqueuer_schedules;
drop table pgqueuer_statistics;
drop function fn_pgqueuer_changed();
drop type pgqueuer_status;
