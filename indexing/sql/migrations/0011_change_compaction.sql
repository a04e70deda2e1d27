-- Of each reference the log keeps the last change alone: an append finds the one before by this.
create index change_reference on change (publisher_id, reference_id);
