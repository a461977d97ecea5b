drop function import_body;
drop table import_references;
drop table import_errors;
drop table import_parts;
drop table imports;
