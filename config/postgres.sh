#!/bin/sh
# Run once by the PostgreSQL image, when its volume is empty: the role of the service, which is no superuser, and its
# database, whose character type is what search in Amharic stands on.
set -eu
psql --no-psqlrc --username "$POSTGRES_USER" --dbname postgres --set ON_ERROR_STOP=1 <<'SQL'
\getenv password DATABASE_PASSWORD
create role k2k login password :'password';
create database k2k owner k2k template template0 encoding 'UTF8' locale 'C.UTF-8';
revoke connect on database k2k from public;
SQL
