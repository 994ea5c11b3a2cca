-- What jobs and uploads need to be taken up again, refused, expired and deleted.

-- `checkpoint` is where a retaken job goes on; `partial` lists what a job kept that was stopped; higher `priority` first;
-- `run_ms` is the time that earlier attempts ran.
ALTER TABLE jobs ADD COLUMN priority BIGINT NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN time_limit_ms BIGINT;
ALTER TABLE jobs ADD COLUMN run_ms BIGINT NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN checkpoint TEXT;
ALTER TABLE jobs ADD COLUMN partial TEXT;
DROP INDEX jobs_queued;
CREATE INDEX jobs_queued ON jobs (priority, create_ms, id) WHERE state = 'QUEUED';

-- When an open upload is removed; NULL once it is complete.
ALTER TABLE uploads ADD COLUMN expire_ms BIGINT;
CREATE INDEX uploads_digest ON uploads (tenant, digest) WHERE state = 'COMPLETE';

-- Why a model or a data set is REJECTED. One that is DELETED stays as long as jobs name it, and is shown to nobody.
ALTER TABLE models ADD COLUMN failure TEXT;
ALTER TABLE datasets ADD COLUMN failure TEXT;
