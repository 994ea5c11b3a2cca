-- Other models that a job's recipe speaks of: a JSON object, name in the recipe to id.
ALTER TABLE jobs ADD COLUMN extra_models TEXT NOT NULL DEFAULT '{}';
