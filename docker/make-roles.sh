#!/bin/sh
# Run once by the image of PostgreSQL, when its data directory is made: the role that owns the tables, the role that
# serves, and their database.
set -eu

psql --no-psqlrc --set=ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" \
  --set=owner_password="$AGENTIDP_OWNER_PASSWORD" --set=service_password="$AGENTIDP_SERVICE_PASSWORD" <<'SQL'
CREATE ROLE agentidp_owner LOGIN PASSWORD :'owner_password';
CREATE ROLE agentidp_service LOGIN PASSWORD :'service_password';
CREATE DATABASE agentidp OWNER agentidp_owner;
REVOKE ALL ON DATABASE agentidp FROM PUBLIC;
GRANT CONNECT ON DATABASE agentidp TO agentidp_service;
SQL
