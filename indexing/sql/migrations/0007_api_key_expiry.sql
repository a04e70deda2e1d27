-- Keys that end by themselves: null for those that never do.
alter table api_key add column expire_time timestamptz;
