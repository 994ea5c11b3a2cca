-- What jobs and uploads need to be taken up again, refused, expired and deleted.

-- `checkpoint` is where a retaken job goes on; `partial` lists what a job kept that was stopped; higher `priority` first;
-- `run_ms` is the time that earlier attempts ran; `obstacles` counts how often the server itself was in a job's way, which
-- then waits until `not_before_ms`.
ALTER TABLE jobs ADD COLUMN priority BIGINT NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN time_limit_ms BIGINT;
ALTER TABLE jobs ADD COLUMN run_ms BIGINT NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN obstacles BIGINT NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN not_before_ms BIGINT NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN checkpoint TEXT;
ALTER TABLE jobs ADD COLUMN partial TEXT;
DROP INDEX jobs_queued;
-- A tenant's line, its head first.
CREATE INDEX jobs_queued ON jobs (tenant, priority DESC, create_ms, id, not_before_ms) WHERE state = 'QUEUED';
CREATE INDEX jobs_active ON jobs (tenant) WHERE finish_ms IS NULL;
CREATE INDEX jobs_ended ON jobs (finish_ms) WHERE finish_ms IS NOT NULL;
CREATE INDEX jobs_model ON jobs (tenant, model);
CREATE INDEX jobs_dataset ON jobs (tenant, dataset);
CREATE INDEX jobs_extra ON jobs (tenant) WHERE extra_models <> '{}';

-- When an open upload is removed, NULL once it is complete; when it became complete.
ALTER TABLE uploads ADD COLUMN expire_ms BIGINT;
ALTER TABLE uploads ADD COLUMN complete_ms BIGINT;
UPDATE uploads SET expire_ms = create_ms + 86400000 WHERE state = 'OPEN';
UPDATE uploads SET complete_ms = create_ms WHERE state = 'COMPLETE';
CREATE INDEX uploads_digest ON uploads (tenant, digest) WHERE state = 'COMPLETE';
-- What a tenant has: counted and added up from the index alone.
CREATE INDEX uploads_usage ON uploads (tenant, state, expire_ms, size_bytes);
CREATE INDEX uploads_open ON uploads (expire_ms) WHERE state = 'OPEN';

-- Why a model or a data set is REJECTED. One that is DELETED stays as long as jobs name it, and is shown to nobody.
ALTER TABLE models ADD COLUMN failure TEXT;
ALTER TABLE datasets ADD COLUMN failure TEXT;
-- What a tenant has is counted, and what is to be checked or removed is found, without reading rows.
CREATE INDEX models_live ON models (tenant) WHERE state <> 'DELETED';
CREATE INDEX datasets_live ON datasets (tenant) WHERE state <> 'DELETED';
CREATE INDEX models_validating ON models (id) WHERE state = 'VALIDATING';
CREATE INDEX datasets_validating ON datasets (id) WHERE state = 'VALIDATING';
CREATE INDEX models_gone ON models (id) WHERE state = 'DELETED' OR state = 'REJECTED';
CREATE INDEX datasets_gone ON datasets (id) WHERE state = 'DELETED' OR state = 'REJECTED';
