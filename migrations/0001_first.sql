-- Everything the service knows except the bytes of files. SQLite and PostgreSQL read the same text: TEXT, BIGINT and
-- partial indexes only. Times are milliseconds since 1970; the tenant is part of every key.

CREATE TABLE uploads (
  tenant         TEXT   NOT NULL,
  id             TEXT   NOT NULL,
  request_id     TEXT   NOT NULL,
  request_digest TEXT   NOT NULL,
  file_name      TEXT   NOT NULL,
  size_bytes     BIGINT NOT NULL,
  digest         TEXT   NOT NULL,
  committed_size BIGINT NOT NULL,
  state          TEXT   NOT NULL,
  revision       BIGINT NOT NULL,
  create_ms      BIGINT NOT NULL,
  PRIMARY KEY (tenant, id)
);
CREATE UNIQUE INDEX uploads_request ON uploads (tenant, request_id) WHERE request_id <> '';

-- `files` is a list of {upload, file_name, size_bytes, digest}; `detail` holds what only this kind of resource has.
CREATE TABLE models (
  tenant         TEXT   NOT NULL,
  id             TEXT   NOT NULL,
  request_id     TEXT   NOT NULL,
  request_digest TEXT   NOT NULL,
  display_name   TEXT   NOT NULL,
  files          TEXT   NOT NULL,
  detail         TEXT   NOT NULL,
  state          TEXT   NOT NULL,
  revision       BIGINT NOT NULL,
  create_ms      BIGINT NOT NULL,
  PRIMARY KEY (tenant, id)
);
CREATE UNIQUE INDEX models_request ON models (tenant, request_id) WHERE request_id <> '';

CREATE TABLE datasets (
  tenant         TEXT   NOT NULL,
  id             TEXT   NOT NULL,
  request_id     TEXT   NOT NULL,
  request_digest TEXT   NOT NULL,
  display_name   TEXT   NOT NULL,
  files          TEXT   NOT NULL,
  detail         TEXT   NOT NULL,
  state          TEXT   NOT NULL,
  revision       BIGINT NOT NULL,
  create_ms      BIGINT NOT NULL,
  PRIMARY KEY (tenant, id)
);
CREATE UNIQUE INDEX datasets_request ON datasets (tenant, request_id) WHERE request_id <> '';

-- `attempt` counts claims and fences writes; `losses` counts leases that ran out and ends poison jobs.
CREATE TABLE jobs (
  tenant           TEXT   NOT NULL,
  id               TEXT   NOT NULL,
  request_id       TEXT   NOT NULL,
  request_digest   TEXT   NOT NULL,
  model            TEXT,
  dataset          TEXT   NOT NULL,
  recipe           TEXT   NOT NULL,
  state            TEXT   NOT NULL,
  revision         BIGINT NOT NULL,
  attempt          BIGINT NOT NULL,
  losses           BIGINT NOT NULL,
  worker           TEXT,
  lease_expires_ms BIGINT,
  progress         TEXT,
  failure          TEXT,
  result           TEXT,
  create_ms        BIGINT NOT NULL,
  start_ms         BIGINT,
  finish_ms        BIGINT,
  PRIMARY KEY (tenant, id),
  FOREIGN KEY (tenant, model) REFERENCES models (tenant, id),
  FOREIGN KEY (tenant, dataset) REFERENCES datasets (tenant, id)
);
CREATE UNIQUE INDEX jobs_request ON jobs (tenant, request_id) WHERE request_id <> '';
CREATE INDEX jobs_queued ON jobs (create_ms, id) WHERE state = 'QUEUED';
CREATE INDEX jobs_leased ON jobs (lease_expires_ms) WHERE lease_expires_ms IS NOT NULL;
